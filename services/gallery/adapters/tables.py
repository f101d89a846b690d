"""The index's tables. Changes go through a new file in `services/gallery/migrations/`; a test compares the two."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.common.database import metadata_for

SCHEMA = "gallery"

metadata = metadata_for(SCHEMA)

# Ids sort by bytes on every server, whatever its locale: keyset pages depend on it.
_Id = sa.String(collation="C")
_Time = sa.DateTime(timezone=True)
# The same for every column of a row, unlike the clock; later than the transaction's begin, unlike now().
_NOW = sa.func.statement_timestamp()
_NOTHING = sa.text("'{}'::jsonb")
_NONE = sa.text("'[]'::jsonb")

folder = sa.Table(
    "folder",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    # SHA-256 of the path: a path of 1,024 characters can be larger than an index entry may be (2,704 bytes).
    sa.Column("path_key", sa.LargeBinary, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("create_time", _Time, nullable=False, server_default=_NOW),
    sa.Column("update_time", _Time, nullable=False, server_default=_NOW),
    sa.UniqueConstraint("owner", "path_key"),
)

asset = sa.Table(
    "asset",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("folder_id", _Id, sa.ForeignKey(folder.c.id)),
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
    sa.Column("prompt_revisions", JSONB, nullable=False, server_default=_NONE),
    sa.Column("model", sa.Text, nullable=False, server_default=""),
    sa.Column("parameters", JSONB, nullable=False, server_default=_NOTHING),
    sa.Column("origin", sa.Text, nullable=False, server_default=""),
    sa.Column("parents", JSONB, nullable=False, server_default=_NONE),
    sa.Column("usage", JSONB(none_as_null=True)),
    sa.Column("cost_source", sa.Text),
    sa.Column("cost_micro_usd", sa.BigInteger),
    sa.Column("analysis", JSONB(none_as_null=True)),
    sa.Column("tags", ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'::text[]")),
    sa.Column("labels", JSONB, nullable=False, server_default=_NOTHING),
    sa.Column("favorite", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
    # The revision that `asset.json` holds; behind `revision` until the mirror has caught up.
    sa.Column("document_revision", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("create_time", _Time, nullable=False, server_default=_NOW),
    sa.Column("update_time", _Time, nullable=False, server_default=_NOW),
    sa.Column("delete_time", _Time),
    sa.Column("purge_time", _Time),
    sa.CheckConstraint("media_type IN ('image', 'video')", name="media_type"),
    sa.CheckConstraint("size_bytes > 0", name="size_bytes"),
    sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
    sa.CheckConstraint("document_revision <= revision", name="document_revision"),
    sa.CheckConstraint("(delete_time IS NULL) = (purge_time IS NULL)", name="delete_time"),
    # One for each way to page; a backward scan serves newest first.
    sa.Index(None, "owner", "create_time", "id"),
    sa.Index(None, "owner", "media_type", "create_time", "id"),
    sa.Index(None, "owner", "folder_id", "create_time", "id"),
    sa.Index("ix_asset_owner_model", "owner", "model", "create_time", "id", postgresql_where=sa.text("model <> ''")),
    sa.Index("ix_asset_owner_origin", "owner", "origin", "create_time", "id", postgresql_where=sa.text("origin <> ''")),
    sa.Index("ix_asset_favorite", "owner", "create_time", "id", postgresql_where=sa.text("favorite")),
    sa.Index("ix_asset_tags", "tags", postgresql_using="gin"),
    sa.Index("ix_asset_purge_time", "purge_time", postgresql_where=sa.text("purge_time IS NOT NULL")),
    sa.Index("ix_asset_undocumented", "update_time", postgresql_where=sa.text("document_revision < revision")),
)
