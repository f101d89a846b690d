"""The index's schema: what the migrations make is what the code believes."""

from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from services import gallery as package
from services.common.database import sqlalchemy_url
from services.common.migrations import migrate
from services.gallery.adapters.tables import SCHEMA, metadata

MIGRATIONS = Path(package.__file__).parent / "migrations"


async def test_the_migrations_make_the_tables_that_the_code_declares(database_url: str) -> None:
    await migrate(database_url, SCHEMA, MIGRATIONS)
    await migrate(database_url, SCHEMA, MIGRATIONS)
    engine = sa.create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection:
        options = {
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
            "version_table_schema": SCHEMA,
            "compare_type": True,
            "compare_server_default": True,
        }
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        constraints = set(
            connection.scalars(
                sa.text(
                    "SELECT conname FROM pg_constraint WHERE connamespace = 'gallery'::regnamespace AND contype = 'c'"
                )
            )
        )
    engine.dispose()
    assert differences == []
    declared = {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    assert constraints == declared
