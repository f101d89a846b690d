"""Whose process the database server is. PostgreSQL refuses to run as root."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.postgres.errors import PostgresError
from deploy.local.spec import Account

SYSTEM_USER = "contentlab"
# Used when no system user can be made, in this order.
EXISTING_USERS = ("postgres", "nobody")
CLEAN_ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def server_account(data: Path) -> Account | None:
    """The account for the server of a data directory; None means the caller's own.

    Root must use another: the owner of the data when there is some, else the system user ``contentlab``, which is
    created, else an unprivileged user that exists.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat().st_uid) != 0:
        return _by_uid(owner)
    for name in (SYSTEM_USER, *EXISTING_USERS):
        account = _by_name(name)
        if account is None and name == SYSTEM_USER:
            account = _create(name)
        if account is not None and account.uid != 0:
            return account
    raise PostgresError("PostgreSQL does not run as root, and no other user exists or could be created")


def run_as(
    account: Account | None, command: Sequence[str | Path], *, seconds: float, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end as that account, in an environment of its own: the caller's LANG must not matter."""
    return subprocess.run(
        command,
        check=False,
        cwd="/",
        env=CLEAN_ENVIRONMENT,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=() if account else None,
    )


def can_reach(account: Account | None, path: Path) -> bool:
    """Whether the account may pass through, or execute, ``path``: asked of the kernel, by trying as that user."""
    return run_as(account, ["test", "-x", path], seconds=10).returncode == 0


def _by_uid(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(str(uid), uid, uid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _by_name(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create(name: str) -> Account | None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        return None
    subprocess.run(
        [useradd, "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", name],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # Whatever useradd said: another starter may have won the race for the same name.
    return _by_name(name)
