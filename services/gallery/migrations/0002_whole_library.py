"""What the whole library needs: counts, a log of changes, uploads under way, removals, derivatives, search.

Folders lose their foreign key and the full constraint on their path: see `adapters/journal.py` for the locks that take
their place.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCHEMA = "gallery"

_ID = sa.String(collation="C")
_TIME = sa.DateTime(timezone=True)
_NOW = sa.text("clock_timestamp()")
_NO_TEXTS = sa.text("'{}'::text[]")


def upgrade() -> None:
    """Adds columns and tables, and counts what is there."""
    _extend_folder()
    _extend_asset()
    _create_counts()
    _create_changes()
    _create_uploads()
    _create_removals()
    _count()


def _extend_folder() -> None:
    for column in (
        sa.Column("asset_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("document_revision", sa.BigInteger, nullable=False, server_default="0"),
    ):
        op.add_column("folder", column, schema=SCHEMA)
    op.create_check_constraint("ck_folder_document_revision", "folder", "document_revision <= revision", schema=SCHEMA)
    op.drop_constraint("fk_asset_folder_id_folder", "asset", schema=SCHEMA)
    op.create_index(
        "ix_folder_undocumented",
        "folder",
        ["update_time"],
        schema=SCHEMA,
        postgresql_where=sa.text("document_revision < revision"),
    )


def _extend_asset() -> None:
    for column in (
        sa.Column("search", postgresql.TSVECTOR, nullable=False, server_default=sa.text("''::tsvector")),
        sa.Column("search_version", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("variants", postgresql.ARRAY(sa.Text), nullable=False, server_default=_NO_TEXTS),
        sa.Column("derive_time", _TIME, server_default=_NOW),
        sa.Column("derive_attempts", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("annotations", postgresql.ARRAY(sa.Text), nullable=False, server_default=_NO_TEXTS),
    ):
        op.add_column("asset", column, schema=SCHEMA)
    op.create_index(
        "ix_asset_derive_time",
        "asset",
        ["derive_time"],
        schema=SCHEMA,
        postgresql_where=sa.text("derive_time IS NOT NULL"),
    )


def _create_counts() -> None:
    op.create_table(
        "tag",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("tag", sa.String(collation="C"), nullable=False),
        sa.Column("asset_count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("owner", "tag", name="pk_tag"),
        schema=SCHEMA,
    )
    op.create_index("ix_tag_owner_asset_count_tag", "tag", ["owner", "asset_count", "tag"], schema=SCHEMA)
    op.create_table(
        "total",
        sa.Column("owner", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in _TOTALS),
        sa.PrimaryKeyConstraint("owner", name="pk_total"),
        schema=SCHEMA,
    )


def _create_changes() -> None:
    op.create_table(
        "asset_change",
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("asset_id", _ID, nullable=False),
        sa.Column("change", sa.Text, nullable=False),
        sa.Column("time", _TIME, nullable=False, server_default=_NOW),
        sa.PrimaryKeyConstraint("sequence", name="pk_asset_change"),
        sa.CheckConstraint("change IN ('created', 'updated', 'deleted', 'purged')", name="ck_asset_change_change"),
        schema=SCHEMA,
    )
    op.create_index("ix_asset_change_owner_sequence", "asset_change", ["owner", "sequence"], schema=SCHEMA)
    op.create_index("ix_asset_change_time", "asset_change", ["time"], schema=SCHEMA)
    op.create_table(
        "incarnation",
        sa.Column("id", sa.Uuid, nullable=False, server_default=sa.text("gen_random_uuid()")),
        sa.Column("create_time", _TIME, nullable=False, server_default=_NOW),
        sa.PrimaryKeyConstraint("id", name="pk_incarnation"),
        schema=SCHEMA,
    )
    op.execute(f"INSERT INTO {SCHEMA}.incarnation DEFAULT VALUES")


def _create_uploads() -> None:
    op.create_table(
        "upload",
        sa.Column("id", _ID, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("create_time", _TIME, nullable=False, server_default=_NOW),
        sa.Column("expire_time", _TIME, nullable=False),
        sa.Column("complete_time", _TIME),
        sa.Column("refused", postgresql.JSONB),
        sa.Column("sweep_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
        schema=SCHEMA,
    )
    op.create_index("ix_upload_sweep_time", "upload", ["sweep_time"], schema=SCHEMA)
    op.create_index("ix_upload_owner_expire_time", "upload", ["owner", "expire_time"], schema=SCHEMA)
    op.create_table(
        "pending",
        sa.Column("asset_id", _ID, nullable=False),
        sa.Column("attempt", sa.Uuid, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("create_time", _TIME, nullable=False, server_default=_NOW),
        sa.PrimaryKeyConstraint("asset_id", "attempt", name="pk_pending"),
        schema=SCHEMA,
    )
    op.create_index("ix_pending_create_time", "pending", ["create_time"], schema=SCHEMA)


def _create_removals() -> None:
    op.create_table(
        "asset_removal",
        sa.Column("asset_id", _ID, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("create_time", _TIME, nullable=False, server_default=_NOW),
        sa.Column("try_time", _TIME, nullable=False, server_default=_NOW),
        sa.Column("remove_time", _TIME),
        sa.PrimaryKeyConstraint("asset_id", name="pk_asset_removal"),
        sa.CheckConstraint("cause IN ('purged', 'abandoned')", name="ck_asset_removal_cause"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_asset_removal_waiting",
        "asset_removal",
        ["try_time"],
        schema=SCHEMA,
        postgresql_where=sa.text("remove_time IS NULL"),
    )
    op.create_index(
        "ix_asset_removal_done",
        "asset_removal",
        ["remove_time"],
        schema=SCHEMA,
        postgresql_where=sa.text("remove_time IS NOT NULL"),
    )
    op.create_table(
        "folder_removal",
        sa.Column("folder_id", _ID, nullable=False),
        sa.Column("create_time", _TIME, nullable=False, server_default=_NOW),
        sa.Column("try_time", _TIME, nullable=False, server_default=_NOW),
        sa.PrimaryKeyConstraint("folder_id", name="pk_folder_removal"),
        schema=SCHEMA,
    )
    op.create_index("ix_folder_removal_try_time", "folder_removal", ["try_time"], schema=SCHEMA)


_TOTALS = ("image_count", "video_count", "deleted_count", "size_bytes")

_COUNTS = (
    """
    UPDATE gallery.folder f SET asset_count = c.n FROM (
        SELECT folder_id, count(*) AS n FROM gallery.asset WHERE delete_time IS NULL GROUP BY folder_id
    ) c WHERE f.id = c.folder_id
    """,
    """
    INSERT INTO gallery.tag (owner, tag, asset_count)
    SELECT owner, unnest(tags), count(*) FROM gallery.asset WHERE delete_time IS NULL GROUP BY 1, 2
    """,
    """
    INSERT INTO gallery.total (owner, image_count, video_count, deleted_count, size_bytes)
    SELECT owner,
           count(*) FILTER (WHERE delete_time IS NULL AND media_type = 'image'),
           count(*) FILTER (WHERE delete_time IS NULL AND media_type = 'video'),
           count(*) FILTER (WHERE delete_time IS NOT NULL),
           sum(size_bytes)
    FROM gallery.asset GROUP BY owner
    """,
)


def _count() -> None:
    for statement in _COUNTS:
        op.execute(statement)
