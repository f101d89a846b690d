"""The database cluster of one home: where its files are, how they come to be, and its passwords."""

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.postgres.account import can_reach, run_as, server_account
from deploy.local.postgres.binaries import Binaries, find_binaries, make_public
from deploy.local.postgres.errors import PostgresError
from deploy.local.spec import Account
from deploy.local.state import AlreadyLockedError, exclusive

# For root only: copies of the programs, and clusters of homes that the database's user cannot enter.
OUTSIDE = Path("/var/lib/contentlab")
ROLE = "contentlab"
DATABASE = "contentlab"
INITIALISING = "initialising-"
INITDB_SECONDS = 300
LOCK_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Cluster:
    """``base`` holds ``data`` (the server's own) and the two passwords (the caller's, mode 0600)."""

    base: Path
    account: Account | None
    binaries: Binaries

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.base / "data"

    def url(self, port: int) -> str:
        """The address of the suite's database for the role that owns it (which is no superuser)."""
        password = password_file(self.base, ROLE).read_text(encoding="ascii")
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{port}/{DATABASE}"


def locate(home: Path, environment: Mapping[str, str], outside: Path = OUTSIDE) -> Cluster:
    """Find or make the place of this home's cluster, with its passwords. Raises PostgresError.

    Normally ``home/postgres``. When root runs the suite below a directory that other users cannot enter, the files
    live under ``outside`` and ``home/postgres`` is a link to them.
    """
    home.mkdir(parents=True, exist_ok=True)
    with starter_lock(home):
        base = home / "postgres"
        if base.is_symlink():
            base = _linked(home, base)
        elif not base.exists():
            base = _made(home, base, outside)
        base = base.resolve()
        if base.stat().st_uid != os.geteuid():
            raise PostgresError(f"{base} belongs to another user; run as that user, or set CONTENTLAB_HOME")
        account = server_account(base / "data")
        if not can_reach(account, base):
            who = account.name if account else "you"
            raise PostgresError(f"{base}: user {who}, whom the database runs as, may not enter one of its parents")
        for role in ("postgres", ROLE):
            _ensure_password(password_file(base, role))
        return Cluster(base, account, find_binaries(environment, account, outside))


def password_file(base: Path, role: str) -> Path:
    """Where a role's password is kept, beside the data that it opens."""
    return base / f"{role}.password"


@contextmanager
def starter_lock(home: Path) -> Iterator[None]:
    """One starter at a time; others wait."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            with exclusive(home / "postgres.lock"):
                yield
                return
        except AlreadyLockedError:
            if time.monotonic() > deadline:
                raise PostgresError(f"another process has been starting the database in {home} for too long") from None
            time.sleep(0.05)


def ensure_initialised(cluster: Cluster) -> None:
    """Create the cluster unless it is there: built under another name, then renamed. Raises PostgresError."""
    version_file = cluster.data / "PG_VERSION"
    if version_file.exists():
        found = int(version_file.read_text(encoding="ascii").split(".")[0])
        if found != cluster.binaries.major:
            raise PostgresError(
                f"{cluster.data} was made by PostgreSQL {found}, but the programs in {cluster.binaries.directory} "
                f"are version {cluster.binaries.major}. Point PG_BIN at version {found}, or dump and restore."
            )
        return
    for unfinished in cluster.base.glob(f"{INITIALISING}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    # A name of its own: an initdb whose starter was killed may still be writing to the last one.
    work = cluster.base / f"{INITIALISING}{secrets.token_hex(4)}"
    work.mkdir(mode=0o700)
    pwfile = work / "superuser-password"
    pwfile.touch(mode=0o600)
    pwfile.write_text(password_file(cluster.base, "postgres").read_text(encoding="ascii"), encoding="ascii")
    if cluster.account:
        for path in (work, pwfile):
            os.chown(path, cluster.account.uid, cluster.account.gid)
    _initdb(cluster, work / "data", pwfile)
    _create_role_and_database(cluster, work / "data")
    (work / "data").rename(cluster.data)
    shutil.rmtree(work)


def _initdb(cluster: Cluster, data: Path, pwfile: Path) -> None:
    command = [str(cluster.binaries.program("initdb")), "-D", str(data), "-U", "postgres", f"--pwfile={pwfile}"]
    command += ["--auth=scram-sha-256", "-E", "UTF8", "--data-checksums", *_locale(cluster.binaries.major)]
    _run(cluster, command)


def _locale(major: int) -> list[str]:
    # Full Unicode case rules and a sort order by code point, the same on every machine whatever its LANG.
    if major >= 17:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C.UTF-8"]


def _create_role_and_database(cluster: Cluster, data: Path) -> None:
    """In single-user mode, before anyone can connect, so that a cluster is whole from its first moment."""
    password = password_file(cluster.base, ROLE).read_text(encoding="ascii")
    # The services own their database and may make others (tests do), but are no superusers: nor are they on Azure.
    statements = f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}';\nCREATE DATABASE {DATABASE} OWNER {ROLE};\n"
    postgres = str(cluster.binaries.program("postgres"))
    command = [postgres, "--single", "-c", "exit_on_error=on", "-D", str(data), "postgres"]
    _run(cluster, command, statements)


def _run(cluster: Cluster, command: list[str], stdin: str = "") -> None:
    done = run_as(cluster.account, command, seconds=INITDB_SECONDS, stdin=stdin)
    if done.returncode != 0:
        raise PostgresError(f"{Path(command[0]).name} failed ({done.returncode}):\n{done.stdout.strip()}")


def _linked(home: Path, link: Path) -> Path:
    """The place that an earlier start chose outside the home, if it is still this home's."""
    base = link.readlink()
    if not base.is_dir():
        raise PostgresError(f"{link} points to {base}, which is gone; remove the link to begin an empty database")
    owner_file = base / "home"
    owner = Path(owner_file.read_text(encoding="utf-8"))
    if owner == home:
        return base
    if (owner / "postgres").is_symlink() and (owner / "postgres").readlink() == base:
        raise PostgresError(
            f"{home} is a copy of {owner}, whose database is in {base}; remove {link} to begin an empty database"
        )
    owner_file.write_text(str(home), encoding="utf-8")  # the home was moved
    return base


def _made(home: Path, base: Path, outside: Path) -> Path:
    if can_reach(server_account(base / "data"), home):
        make_public(base)
        return base
    target = outside / "clusters" / secrets.token_hex(8)
    for path in (outside, target.parent, target):
        make_public(path)
    (target / "home").write_text(str(home), encoding="utf-8")
    base.symlink_to(target)
    return target


def _ensure_password(path: Path) -> None:
    if not path.exists():
        scratch = path.with_suffix(".new")
        scratch.unlink(missing_ok=True)
        scratch.touch(mode=0o600)
        scratch.write_text(secrets.token_urlsafe(24), encoding="ascii")
        scratch.replace(path)
