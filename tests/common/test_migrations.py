"""Migrations against a real Postgres."""

import asyncio
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.migrations import ENVIRONMENT, lock_key, migrate

ROOT = Path(__file__).resolve().parents[2]

VERSION = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {down!r}


def upgrade() -> None:
    op.execute("SELECT pg_sleep({pause})")
    {body}
"""


def write_version(
    directory: Path, schema: str, revision: str, down: str | None, *, pause: float = 0, body: str = ""
) -> None:
    create = f'op.create_table("t{revision}", sa.Column("id", sa.Text, primary_key=True), schema="{schema}")'
    text = VERSION.format(revision=revision, down=down, pause=pause, body=body or create)
    (directory / f"{revision}_step.py").write_text(text)


@pytest.fixture
def versions(tmp_path: Path, schema: str) -> Path:
    # A percent sign and a space: a checkout may stand anywhere.
    directory = tmp_path / "a 100% checkout" / "migrations"
    directory.mkdir(parents=True)
    (directory / "__init__.py").touch()
    write_version(directory, schema, "0001", None, pause=0.3)
    write_version(directory, schema, "0002", "0001")
    return directory


async def tables(engine: AsyncEngine, schema: str) -> set[str]:
    async with engine.connect() as connection:
        query = sa.text("SELECT table_name FROM information_schema.tables WHERE table_schema = :schema")
        return set((await connection.execute(query, {"schema": schema})).scalars())


async def revision_of(engine: AsyncEngine, schema: str) -> str | None:
    async with engine.connect() as connection:
        rows = await connection.execute(sa.text(f"TABLE {schema}.alembic_version"))
        revision: str | None = rows.scalar_one_or_none()
        return revision


async def test_an_empty_database_is_brought_up_to_date(
    engine: AsyncEngine, database_url: str, schema: str, versions: Path
) -> None:
    await migrate(database_url, schema, versions)
    assert await tables(engine, schema) == {"alembic_version", "t0001", "t0002"}
    assert await revision_of(engine, schema) == "0002"


async def test_migrating_again_changes_nothing_and_a_new_version_is_added(
    engine: AsyncEngine, database_url: str, schema: str, versions: Path
) -> None:
    await migrate(database_url, schema, versions)
    await migrate(database_url, schema, versions)
    write_version(versions, schema, "0003", "0002")
    await migrate(database_url, schema, versions)
    assert await revision_of(engine, schema) == "0003"


async def test_three_processes_at_once_all_succeed(
    engine: AsyncEngine, database_url: str, schema: str, versions: Path
) -> None:
    """Without the advisory lock two of three fail."""
    program = (
        "import asyncio, pathlib, sys; from services.common.migrations import migrate; "
        "asyncio.run(migrate(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])))"
    )
    command = [sys.executable, "-c", program, database_url, schema, str(versions)]
    processes = [
        await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, cwd=ROOT) for _ in range(3)
    ]
    async with asyncio.timeout(60):
        outputs = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert await tables(engine, schema) == {"alembic_version", "t0001", "t0002"}


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    engine: AsyncEngine, database_url: str, schema: str, versions: Path
) -> None:
    await migrate(database_url, schema, versions)
    write_version(versions, schema, "0003", "0002")
    write_version(versions, schema, "0004", "0003", body='op.execute("SELECT broken")')
    with pytest.raises(sa.exc.ProgrammingError):
        await migrate(database_url, schema, versions)
    assert await tables(engine, schema) == {"alembic_version", "t0001", "t0002"}
    assert await revision_of(engine, schema) == "0002"


async def test_a_migration_can_stop_at_a_revision(
    engine: AsyncEngine, database_url: str, schema: str, versions: Path
) -> None:
    await migrate(database_url, schema, versions, revision="0001")
    assert await revision_of(engine, schema) == "0001"


async def test_services_keep_their_versions_apart(
    engine: AsyncEngine, database_url: str, schema: str, versions: Path, tmp_path: Path
) -> None:
    other = f"{schema}_other"
    directory = tmp_path / "other"
    directory.mkdir()
    write_version(directory, other, "0001", None)
    try:
        await asyncio.gather(migrate(database_url, schema, versions), migrate(database_url, other, directory))
        assert await revision_of(engine, schema) == "0002"
        assert await revision_of(engine, other) == "0001"
    finally:
        async with engine.begin() as connection:
            await connection.execute(sa.schema.DropSchema(other, cascade=True, if_exists=True))


async def test_migrating_does_not_block_the_event_loop(database_url: str, schema: str, versions: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await migrate(database_url, schema, versions)  # sleeps for 0.3 s in the database
    ticking.cancel()
    assert ticks > 5


def test_every_schema_has_a_lock_of_its_own() -> None:
    keys = {lock_key(schema) for schema in ("image", "video", "gallery", "usage")}
    assert len(keys) == 4
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_the_environment_and_the_template_are_where_alembic_looks() -> None:
    assert {path.name for path in ENVIRONMENT.iterdir() if path.is_file()} == {"env.py", "script.py.mako"}
