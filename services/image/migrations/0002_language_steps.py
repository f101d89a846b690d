"""What language models answered, the steps that a generation asks them for, and analyses that are still to be made."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCHEMA = "image"


def upgrade() -> None:
    """Adds two tables, and columns to the generations."""
    _create_answer()
    _extend_generation()
    _create_analysis()


def _create_answer() -> None:
    op.create_table(
        "answer",
        sa.Column("paid_call", sa.Text, nullable=False),
        sa.Column("content", sa.Text),
        sa.Column("result", JSONB),
        sa.PrimaryKeyConstraint("paid_call", name="pk_answer"),
        sa.ForeignKeyConstraint(
            ["paid_call"], [f"{SCHEMA}.paid_call.id"], name="fk_answer_paid_call_paid_call", ondelete="CASCADE"
        ),
        schema=SCHEMA,
    )


def _extend_generation() -> None:
    empty_object, empty_list, empty_text = sa.text("'{}'"), sa.text("'[]'"), sa.text("''")
    for column in (
        sa.Column("pipeline", JSONB, nullable=False, server_default=empty_object),
        sa.Column("revisions", JSONB, nullable=False, server_default=empty_list),
        sa.Column("suggested_name", sa.Text, nullable=False, server_default=empty_text),
        sa.Column("notes", JSONB, nullable=False, server_default=empty_list),
    ):
        op.add_column("generation", column, schema=SCHEMA)


def _create_analysis() -> None:
    op.create_table(
        "analysis",
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("next_attempt_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("generation", "index", name="pk_analysis"),
        sa.ForeignKeyConstraint(
            ["generation", "index"],
            [f"{SCHEMA}.picture.generation", f"{SCHEMA}.picture.index"],
            name="fk_analysis_generation_picture",
            ondelete="CASCADE",
        ),
        schema=SCHEMA,
    )
    op.create_index("ix_analysis_next_attempt_time", "analysis", ["next_attempt_time"], schema=SCHEMA)
