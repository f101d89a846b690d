"""The migrations make exactly the schema that the statements are written for."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text

from services.common.database import sqlalchemy_url
from services.common.migrations import migrate
from services.image.adapters.tables import SCHEMA, metadata

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ROOT / "services" / "image" / "migrations"


def differences(connection: Connection) -> list[object]:
    options = {"include_schemas": True, "include_name": _ours, "version_table_schema": SCHEMA}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def _ours(name: str | None, kind: str, parents: object) -> bool:
    return kind != "schema" or name == SCHEMA


async def test_the_migrated_schema_is_the_one_in_the_code(database_url: str) -> None:
    await migrate(database_url, SCHEMA, VERSIONS)
    engine = create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection:
        assert differences(connection) == []
        constraints = text("SELECT conname FROM pg_constraint WHERE connamespace = 'image'::regnamespace")
        found = set(connection.execute(constraints).scalars())
    engine.dispose()
    expected = {str(constraint.name) for table in metadata.tables.values() for constraint in table.constraints}
    assert expected <= found


async def test_bytes_in_the_spool_are_not_compressed_again(database_url: str) -> None:
    await migrate(database_url, SCHEMA, VERSIONS)
    engine = create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection:
        storage = (
            "SELECT attstorage::text FROM pg_attribute WHERE attrelid = 'image.spool'::regclass AND attname = 'content'"
        )
        assert connection.execute(text(storage)).scalar_one() == "e"
    engine.dispose()


async def test_the_command_line_migrates(database_url: str) -> None:
    done = await asyncio.to_thread(command, "migrate", DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    engine = create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM image.generation")).scalar_one() == 0
    engine.dispose()


async def test_models_that_are_set_up_wrongly_stop_the_start_and_are_named(database_url: str) -> None:
    done = await asyncio.to_thread(command, DATABASE_URL=database_url, IMAGE_MODEL="dall-e-3")
    assert done.returncode == 2
    assert "IMAGE_MODEL" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_missing_database_is_named() -> None:
    done = await asyncio.to_thread(command)
    assert done.returncode == 2
    assert "DATABASE_URL" in done.stderr


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.image", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
