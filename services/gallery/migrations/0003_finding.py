"""Indexes to find by: text, orders, and lists that stay fast however many of the newest assets are deleted.

What is listed is mostly what is not deleted, so the indexes that lists walk have nothing else in them.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCHEMA = "gallery"

_REPLACED = (
    "ix_asset_owner_create_time_id",
    "ix_asset_owner_media_type_create_time_id",
    "ix_asset_owner_folder_id_create_time_id",
    "ix_asset_owner_model",
    "ix_asset_owner_origin",
    "ix_asset_favorite",
)

_SHOWN = "delete_time IS NULL"

# Name: columns behind the owner, and what else must be true of a row.
_LISTS: dict[str, tuple[list[str | sa.TextClause], str]] = {
    "ix_asset_newest": (["create_time", "id"], _SHOWN),
    "ix_asset_updated": (["update_time", "id"], _SHOWN),
    "ix_asset_name": ([sa.text("left(display_name, 100)"), "id"], _SHOWN),
    "ix_asset_size": (["size_bytes", "id"], _SHOWN),
    "ix_asset_media_type": (["media_type", "create_time", "id"], _SHOWN),
    "ix_asset_model": (["model", "create_time", "id"], f"{_SHOWN} AND model <> ''"),
    "ix_asset_origin": (["origin", "create_time", "id"], f"{_SHOWN} AND origin <> ''"),
    "ix_asset_favorite": (["create_time", "id"], f"{_SHOWN} AND favorite"),
    "ix_asset_deleted": (["create_time", "id"], "delete_time IS NOT NULL"),
}


def upgrade() -> None:
    """Replaces the indexes of lists, and adds those of text and tags."""
    for name in _REPLACED:
        op.drop_index(name, "asset", schema=SCHEMA)
    op.alter_column("asset", "display_name", type_=sa.Text(collation="C"), schema=SCHEMA)
    for name, (columns, condition) in _LISTS.items():
        op.create_index(name, "asset", ["owner", *columns], schema=SCHEMA, postgresql_where=sa.text(condition))
    folder_columns: list[str | sa.TextClause] = [
        "owner",
        "folder_id",
        sa.text("(delete_time IS NULL)"),
        "create_time",
        "id",
    ]
    op.create_index("ix_asset_folder", "asset", folder_columns, schema=SCHEMA)
    op.create_index(
        "ix_asset_search",
        "asset",
        ["search"],
        schema=SCHEMA,
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": 256},
    )
    op.create_index(
        "ix_asset_search_version", "asset", ["id"], schema=SCHEMA, postgresql_where=sa.text("search_version < 1")
    )
    op.drop_index("ix_tag_owner_asset_count_tag", "tag", schema=SCHEMA)
    op.create_index("ix_tag_most_used", "tag", ["owner", sa.text("(-asset_count)"), "tag"], schema=SCHEMA)
