"""Alembic without its command line: one schema, one lock, one transaction."""

import asyncio
import hashlib
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateSchema

from services.common.database import connect_arguments, sqlalchemy_url

ENVIRONMENT = Path(__file__).parent / "alembic_environment"
LOCK_WAIT_SECONDS = 300

# Alembic keeps the migration being run in module globals: within one process they go one by one.
_one_at_a_time = threading.Lock()


async def migrate(database_url: str, schema: str, versions: Path, *, revision: str = "head") -> None:
    """Brings `schema` up to `revision` by the version files in `versions`.

    Any number of processes may call it at once: an advisory lock taken first in the transaction lets them through
    one after the other, and all but the first find nothing to do. Everything is one transaction, so a failing
    migration leaves the schema as it was.
    """
    await asyncio.to_thread(_migrate, database_url, schema, versions, revision)


def _migrate(database_url: str, schema: str, versions: Path, revision: str) -> None:
    engine = create_engine(
        sqlalchemy_url(database_url),
        poolclass=NullPool,
        connect_args=connect_arguments(connect_timeout=10, application_name=f"migrate-{schema}"),
    )
    try:
        with _one_at_a_time, engine.begin() as connection:
            _upgrade(connection, schema, versions, revision)
    finally:
        engine.dispose()


def _upgrade(connection: Connection, schema: str, versions: Path, revision: str) -> None:
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_SECONDS}s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key(schema)})
    connection.execute(CreateSchema(schema, if_not_exists=True))
    config = Config()
    config.set_main_option("script_location", str(ENVIRONMENT))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(versions).replace("%", "%%"))
    config.attributes.update(connection=connection, schema=schema)
    command.upgrade(config, revision)


def lock_key(schema: str) -> int:
    """The advisory lock of a schema's migrations: a signed 64-bit number."""
    digest = hashlib.sha256(f"contentlab.migrate.{schema}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
