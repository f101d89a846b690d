"""Generations, their pictures, the spool, and the tables of the paid-call protocol."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from services.models.paid_calls.migrations import create_paid_call_tables

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCHEMA = "image"
_NOW = sa.text("now()")
_EMPTY = sa.text("''")


def upgrade() -> None:
    """Creates the service's tables and those of the protocol."""
    create_paid_call_tables(SCHEMA)
    _create_generation()
    _create_picture()
    _create_spool()


def _create_generation() -> None:
    op.create_table(
        "generation",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("request_id", sa.Uuid, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("final_prompt", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("parameters", JSONB, nullable=False),
        sa.Column("placement", JSONB, nullable=False),
        sa.Column("usage", JSONB),
        sa.Column("cost_source", sa.Text),
        sa.Column("cost_micro_usd", sa.BigInteger),
        sa.Column("error", JSONB),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("end_time", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_generation"),
        sa.CheckConstraint(
            "state IN ('PENDING', 'RUNNING', 'STORING', 'SUCCEEDED', 'PARTIALLY_SUCCEEDED', 'FAILED', "
            "'OUTCOME_UNKNOWN')",
            name="ck_generation_state",
        ),
        schema=SCHEMA,
    )
    op.create_index("ix_generation_owner_id", "generation", ["owner", "id"], schema=SCHEMA)
    op.create_index("ix_generation_owner_state_id", "generation", ["owner", "state", "id"], schema=SCHEMA)


def _create_picture() -> None:
    op.create_table(
        "picture",
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("asset_id", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("sha256", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("size_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("mime_type", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("width_px", sa.Integer),
        sa.Column("height_px", sa.Integer),
        sa.Column("has_transparency", sa.Boolean),
        sa.Column("usage", JSONB),
        sa.Column("cost_source", sa.Text),
        sa.Column("cost_micro_usd", sa.BigInteger),
        sa.Column("error", JSONB),
        sa.PrimaryKeyConstraint("generation", "index", name="pk_picture"),
        sa.ForeignKeyConstraint(
            ["generation"], [f"{SCHEMA}.generation.id"], name="fk_picture_generation_generation", ondelete="CASCADE"
        ),
        sa.CheckConstraint("state IN ('STORED', 'SPOOLED', 'FAILED')", name="ck_picture_state"),
        schema=SCHEMA,
    )


def _create_spool() -> None:
    op.create_table(
        "spool",
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("next_attempt_time", sa.DateTime(timezone=True)),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.PrimaryKeyConstraint("generation", "index", name="pk_spool"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_spool_due",
        "spool",
        ["next_attempt_time"],
        schema=SCHEMA,
        postgresql_where=sa.text("next_attempt_time IS NOT NULL"),
    )
    # Pictures are compressed already: trying again costs 10 ms a megabyte and gains nothing.
    op.execute(f"ALTER TABLE {SCHEMA}.spool ALTER COLUMN content SET STORAGE EXTERNAL")
    # Every row is deleted within moments, so dead bytes pile up quickly: vacuum by count, not by share of the table.
    for prefix in ("", "toast."):
        op.execute(
            f"ALTER TABLE {SCHEMA}.spool SET ({prefix}autovacuum_vacuum_scale_factor = 0, "
            f"{prefix}autovacuum_vacuum_threshold = {5000 if prefix else 100})"
        )
