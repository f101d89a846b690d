"""The index's schema: what the migrations make is what the code believes."""

from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from services import gallery as package
from services.common.database import sqlalchemy_url
from services.common.migrations import migrate
from services.gallery.adapters.tables import SCHEMA, metadata
from tests.gallery.harness import Client
from tests.support.media import png

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


async def test_pages_and_filters_walk_an_index_and_sort_nothing(user: Client) -> None:
    """Seen at the plans: a page costs what it shows, however many assets there are."""
    await user.upload(png(4, 4), tags=["rare"])
    columns = "owner, display_name, media_type, mime_type, size_bytes, sha256"
    await user.gallery.execute(
        f"INSERT INTO gallery.asset (id, {columns}, model, origin, create_time) "  # noqa: S608 - our own names
        f"SELECT 'plan-' || n, {columns}, 'm' || mod(n, 100), 'o' || mod(n, 5000), now() - n * interval '1 s' "
        "FROM gallery.asset, generate_series(1, 20000) n WHERE owner = %s AND id NOT LIKE 'plan-%%'",
        user.principal,
    )
    await user.gallery.execute("ANALYZE gallery.asset")
    deep = "(create_time, id) < (now() - interval '2 h', 'x')"
    for condition, index in (
        ("delete_time IS NULL", "ix_asset_owner_create_time_id"),
        (f"delete_time IS NULL AND {deep}", "ix_asset_owner_create_time_id"),
        ("delete_time IS NULL AND origin = 'o7' AND origin <> ''", "ix_asset_owner_origin"),
        ("delete_time IS NULL AND media_type = 'video'", "ix_asset_owner_media_type_create_time_id"),
    ):
        plan = await user.gallery.plan(
            f"SELECT * FROM gallery.asset WHERE owner = %s AND {condition} "  # noqa: S608 - our own conditions
            "ORDER BY create_time DESC, id DESC LIMIT 51",
            user.principal,
        )
        assert index in plan, plan
        assert "Sort" not in plan, plan


async def test_a_page_costs_the_same_number_of_queries_whatever_it_shows(user: Client) -> None:
    for number in range(6):
        await user.upload(png(4, 4), folder=f"f{number}", tags=["t"])
    queries: list[str] = []

    def note(*arguments: object) -> None:
        statement = str(arguments[2])
        # The mirror of changes asks for its own sake, in the background.
        if "gallery.asset" in statement and "document_revision <" not in statement:
            queries.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        for size in (1, 6):
            queries.clear()
            assert len((await user.page(page_size=size)).assets) == size
            assert len(queries) == 2, "one for the page, one for the number of all"
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
