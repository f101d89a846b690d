"""Assets and folders."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCHEMA = "gallery"


def upgrade() -> None:
    """Creates both tables."""
    _create_folder()
    _create_asset()
    _create_asset_indexes()


def _times() -> tuple[sa.Column[datetime], sa.Column[datetime]]:
    now = sa.text("statement_timestamp()")
    return (
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=now),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, server_default=now),
    )


def _create_folder() -> None:
    op.create_table(
        "folder",
        sa.Column("id", sa.String(collation="C"), nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("path_key", sa.LargeBinary, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
        *_times(),
        sa.PrimaryKeyConstraint("id", name="pk_folder"),
        sa.UniqueConstraint("owner", "path_key", name="uq_folder_owner_path_key"),
        schema=SCHEMA,
    )


def _create_asset() -> None:
    empty_object, empty_list = sa.text("'{}'::jsonb"), sa.text("'[]'::jsonb")
    op.create_table(
        "asset",
        sa.Column("id", sa.String(collation="C"), nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("folder_id", sa.String(collation="C")),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("mime_type", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("width_px", sa.Integer),
        sa.Column("height_px", sa.Integer),
        sa.Column("duration_micros", sa.BigInteger),
        sa.Column("has_transparency", sa.Boolean),
        sa.Column("has_content_credentials", sa.Boolean),
        sa.Column("prompt", sa.Text, nullable=False, server_default=""),
        sa.Column("prompt_revisions", postgresql.JSONB, nullable=False, server_default=empty_list),
        sa.Column("model", sa.Text, nullable=False, server_default=""),
        sa.Column("parameters", postgresql.JSONB, nullable=False, server_default=empty_object),
        sa.Column("origin", sa.Text, nullable=False, server_default=""),
        sa.Column("parents", postgresql.JSONB, nullable=False, server_default=empty_list),
        sa.Column("usage", postgresql.JSONB),
        sa.Column("cost_source", sa.Text),
        sa.Column("cost_micro_usd", sa.BigInteger),
        sa.Column("analysis", postgresql.JSONB),
        sa.Column("tags", postgresql.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'::text[]")),
        sa.Column("labels", postgresql.JSONB, nullable=False, server_default=empty_object),
        sa.Column("favorite", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("document_revision", sa.BigInteger, nullable=False, server_default="1"),
        *_times(),
        sa.Column("delete_time", sa.DateTime(timezone=True)),
        sa.Column("purge_time", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_asset"),
        sa.ForeignKeyConstraint(["folder_id"], [f"{SCHEMA}.folder.id"], name="fk_asset_folder_id_folder"),
        sa.CheckConstraint("media_type IN ('image', 'video')", name="ck_asset_media_type"),
        sa.CheckConstraint("size_bytes > 0", name="ck_asset_size_bytes"),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="ck_asset_sha256"),
        sa.CheckConstraint("document_revision <= revision", name="ck_asset_document_revision"),
        sa.CheckConstraint("(delete_time IS NULL) = (purge_time IS NULL)", name="ck_asset_delete_time"),
        schema=SCHEMA,
    )


def _create_asset_indexes() -> None:
    newest = ["create_time", "id"]
    partial = {
        "ix_asset_owner_model": (["owner", "model", *newest], "model <> ''"),
        "ix_asset_owner_origin": (["owner", "origin", *newest], "origin <> ''"),
        "ix_asset_favorite": (["owner", *newest], "favorite"),
        "ix_asset_purge_time": (["purge_time"], "purge_time IS NOT NULL"),
        "ix_asset_undocumented": (["update_time"], "document_revision < revision"),
    }
    whole = {
        "ix_asset_owner_create_time_id": ["owner", *newest],
        "ix_asset_owner_media_type_create_time_id": ["owner", "media_type", *newest],
        "ix_asset_owner_folder_id_create_time_id": ["owner", "folder_id", *newest],
    }
    for name, columns in whole.items():
        op.create_index(name, "asset", columns, schema=SCHEMA)
    for name, (columns, condition) in partial.items():
        op.create_index(name, "asset", columns, schema=SCHEMA, postgresql_where=sa.text(condition))
    op.create_index("ix_asset_tags", "asset", ["tags"], schema=SCHEMA, postgresql_using="gin")
