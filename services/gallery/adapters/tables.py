"""The index's tables. Changes go through a new file in `services/gallery/migrations/`; a test compares the two."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR

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
_NO_TEXTS = sa.text("'{}'::text[]")
_CLOCK = sa.func.clock_timestamp()
_SHOWN = sa.text("delete_time IS NULL")

SORTED_NAME: sa.ColumnElement[str] = sa.literal_column("left(display_name, 100)", sa.Text)
"""What names are sorted by, as the index has it: see `domain.listing.SORTED_NAME_CHARACTERS`."""

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
    # Assets directly in it that are not deleted; kept by the journal.
    sa.Column("asset_count", sa.BigInteger, nullable=False, server_default="0"),
    # The revision that the folder's document holds.
    sa.Column("document_revision", sa.BigInteger, nullable=False, server_default="0"),
    sa.UniqueConstraint("owner", "path_key"),
    sa.CheckConstraint("document_revision <= revision", name="document_revision"),
    sa.Index("ix_folder_undocumented", "update_time", postgresql_where=sa.text("document_revision < revision")),
)

asset = sa.Table(
    "asset",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    # Sorted by code points, as ids are.
    sa.Column("display_name", sa.Text(collation="C"), nullable=False),
    # No foreign key: its locks on folders would wait for storage. The owner's lock keeps the two in step (journal.py).
    sa.Column("folder_id", _Id),
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
    sa.Column("tags", ARRAY(sa.Text), nullable=False, server_default=_NO_TEXTS),
    sa.Column("labels", JSONB, nullable=False, server_default=_NOTHING),
    sa.Column("favorite", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("revision", sa.BigInteger, nullable=False, server_default="1"),
    # The revision that `asset.json` holds; behind `revision` until the mirror has caught up.
    sa.Column("document_revision", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("create_time", _Time, nullable=False, server_default=_NOW),
    sa.Column("update_time", _Time, nullable=False, server_default=_NOW),
    sa.Column("delete_time", _Time),
    sa.Column("purge_time", _Time),
    # Words with weights, made by `domain/search.py`; the version says by which rules.
    sa.Column("search", TSVECTOR, nullable=False, server_default=sa.text("''::tsvector")),
    sa.Column("search_version", sa.SmallInteger, nullable=False, server_default="0"),
    # Derivatives that are stored, and when to try the next ones (null: never).
    sa.Column("variants", ARRAY(sa.Text), nullable=False, server_default=_NO_TEXTS),
    sa.Column("derive_time", _Time, server_default=_CLOCK),
    sa.Column("derive_attempts", sa.SmallInteger, nullable=False, server_default="0"),
    # The newest annotations, request id and digest of the content: each counts once.
    sa.Column("annotations", ARRAY(sa.Text), nullable=False, server_default=_NO_TEXTS),
    sa.CheckConstraint("media_type IN ('image', 'video')", name="media_type"),
    sa.CheckConstraint("size_bytes > 0", name="size_bytes"),
    sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
    sa.CheckConstraint("document_revision <= revision", name="document_revision"),
    sa.CheckConstraint("(delete_time IS NULL) = (purge_time IS NULL)", name="delete_time"),
    # One for each way to page, of what is shown: deleted rows, however many and new, cost lists nothing. A backward
    # scan serves the descending orders.
    sa.Index("ix_asset_newest", "owner", "create_time", "id", postgresql_where=_SHOWN),
    sa.Index("ix_asset_updated", "owner", "update_time", "id", postgresql_where=_SHOWN),
    sa.Index("ix_asset_name", "owner", SORTED_NAME, "id", postgresql_where=_SHOWN),
    sa.Index("ix_asset_size", "owner", "size_bytes", "id", postgresql_where=_SHOWN),
    sa.Index("ix_asset_media_type", "owner", "media_type", "create_time", "id", postgresql_where=_SHOWN),
    sa.Index(
        "ix_asset_model",
        *("owner", "model", "create_time", "id"),
        postgresql_where=sa.text("delete_time IS NULL AND model <> ''"),
    ),
    sa.Index(
        "ix_asset_origin",
        *("owner", "origin", "create_time", "id"),
        postgresql_where=sa.text("delete_time IS NULL AND origin <> ''"),
    ),
    sa.Index(
        "ix_asset_favorite",
        *("owner", "create_time", "id"),
        postgresql_where=sa.text("delete_time IS NULL AND favorite"),
    ),
    # Deleted rows too, because a folder is emptied of them as well; those that are shown lie together and in order.
    sa.Index("ix_asset_folder", "owner", "folder_id", sa.text("(delete_time IS NULL)"), "create_time", "id"),
    # What lists of everything merge with what is shown.
    sa.Index("ix_asset_deleted", "owner", "create_time", "id", postgresql_where=sa.text("delete_time IS NOT NULL")),
    # Inserts wait in a list that every search reads: a short one.
    sa.Index("ix_asset_search", "search", postgresql_using="gin", postgresql_with={"gin_pending_list_limit": 256}),
    # Rows of older rules than `domain.search.VERSION`: a new version renews it in a migration.
    sa.Index("ix_asset_search_version", "id", postgresql_where=sa.text("search_version < 1")),
    sa.Index("ix_asset_tags", "tags", postgresql_using="gin"),
    sa.Index("ix_asset_purge_time", "purge_time", postgresql_where=sa.text("purge_time IS NOT NULL")),
    sa.Index("ix_asset_undocumented", "update_time", postgresql_where=sa.text("document_revision < revision")),
    sa.Index("ix_asset_derive_time", "derive_time", postgresql_where=sa.text("derive_time IS NOT NULL")),
)

tag = sa.Table(
    "tag",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("tag", sa.String(collation="C"), primary_key=True),
    sa.Column("asset_count", sa.BigInteger, nullable=False),
    # Most used first, ties by name: both ascending, so that a page begins with one comparison.
    sa.Index("ix_tag_most_used", "owner", sa.text("(-asset_count)"), "tag"),
)
"""How many assets of an owner, deleted ones left out, carry a tag."""

total = sa.Table(
    "total",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("image_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("video_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("deleted_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("size_bytes", sa.BigInteger, nullable=False, server_default="0"),
)
"""What an owner has; the bytes are those of deleted assets too."""

asset_change = sa.Table(
    "asset_change",
    metadata,
    sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("asset_id", _Id, nullable=False),
    sa.Column("change", sa.Text, nullable=False),
    sa.Column("time", _Time, nullable=False, server_default=_CLOCK),
    sa.CheckConstraint("change IN ('created', 'updated', 'deleted', 'purged')", name="change"),
    sa.Index(None, "owner", "sequence"),
    sa.Index(None, "time"),
)
"""What happened; one owner's rows become visible in the order of their sequence."""

incarnation = sa.Table(
    "incarnation",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.func.gen_random_uuid()),
    sa.Column("create_time", _Time, nullable=False, server_default=_CLOCK),
)
"""One row: sets the sequences of this database apart from those of one that was lost."""

upload = sa.Table(
    "upload",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("tags", ARRAY(sa.Text), nullable=False),
    sa.Column("create_time", _Time, nullable=False, server_default=_CLOCK),
    sa.Column("expire_time", _Time, nullable=False),
    sa.Column("complete_time", _Time),
    # The version of the staged bytes that were read in full and refused last, and the refusal.
    sa.Column("refused", JSONB(none_as_null=True)),
    # When what was staged is next to be swept; ahead of the time while a sweep is at work.
    sa.Column("sweep_time", _Time, nullable=False),
    sa.Index(None, "sweep_time"),
    sa.Index(None, "owner", "expire_time"),
)
"""Uploads that go straight to storage; the asset gets the upload's id."""

pending = sa.Table(
    "pending",
    metadata,
    sa.Column("asset_id", _Id, primary_key=True),
    sa.Column("attempt", sa.Uuid, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("create_time", _Time, nullable=False, server_default=_CLOCK),
    sa.Index(None, "create_time"),
)
"""Assets whose bytes may be in storage without a row; committed before the first byte is stored."""

asset_removal = sa.Table(
    "asset_removal",
    metadata,
    sa.Column("asset_id", _Id, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("create_time", _Time, nullable=False, server_default=_CLOCK),
    # When to delete next; moved ahead by whoever is at it.
    sa.Column("try_time", _Time, nullable=False, server_default=_CLOCK),
    sa.Column("remove_time", _Time),
    sa.CheckConstraint("cause IN ('purged', 'abandoned')", name="cause"),
    sa.Index("ix_asset_removal_waiting", "try_time", postgresql_where=sa.text("remove_time IS NULL")),
    sa.Index("ix_asset_removal_done", "remove_time", postgresql_where=sa.text("remove_time IS NOT NULL")),
)
"""Assets whose blobs have to go; a purged one's row stays as long as its id may be sent again."""

folder_removal = sa.Table(
    "folder_removal",
    metadata,
    sa.Column("folder_id", _Id, primary_key=True),
    sa.Column("create_time", _Time, nullable=False, server_default=_CLOCK),
    sa.Column("try_time", _Time, nullable=False, server_default=_CLOCK),
    sa.Index(None, "try_time"),
)
"""Folders whose document has to go."""
