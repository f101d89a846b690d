"""Creates the protocol's tables, called by a version file of the service. What is released never changes: add to it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB


def create_paid_call_tables(schema: str) -> None:
    """`paid_call` and `usage_outbox` as of version 0.1."""
    timestamp = sa.DateTime(timezone=True)
    op.create_table(
        "paid_call",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("request_id", sa.Uuid, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("billed", sa.Text, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("lease_expires_at", timestamp, nullable=False),
        sa.Column("provider_request_id", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("usage", JSONB),
        sa.Column("raw_usage", JSONB),
        sa.Column("cost_source", sa.Text),
        sa.Column("cost_micro_usd", sa.BigInteger),
        sa.Column("price_date", sa.Date),
        sa.Column("error", JSONB),
        sa.Column("resolution_note", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("resolve_time", timestamp),
        sa.Column("create_time", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.Column("call_time", timestamp),
        sa.Column("end_time", timestamp),
        sa.PrimaryKeyConstraint("id", name="pk_paid_call"),
        sa.UniqueConstraint("principal", "method", "request_id", name="uq_paid_call_principal_method_request_id"),
        sa.CheckConstraint(
            "state IN ('PLANNED', 'CALLING', 'SUCCEEDED', 'FAILED', 'OUTCOME_UNKNOWN')", name="ck_paid_call_state"
        ),
        sa.CheckConstraint("billed IN ('no', 'yes', 'unknown')", name="ck_paid_call_billed"),
        sa.CheckConstraint(
            "(billed = 'unknown') = (state IN ('CALLING', 'OUTCOME_UNKNOWN'))", name="ck_paid_call_billed_is_known"
        ),
        sa.CheckConstraint(
            "(cost_micro_usd IS NULL) = (cost_source IS NULL OR cost_source = 'unpriced')", name="ck_paid_call_cost"
        ),
        schema=schema,
    )
    op.create_index("ix_paid_call_principal_id", "paid_call", ["principal", "id"], schema=schema)
    op.create_index("ix_paid_call_principal_state_id", "paid_call", ["principal", "state", "id"], schema=schema)
    op.create_index("ix_paid_call_subject", "paid_call", ["subject"], schema=schema)
    op.create_index(
        "ix_paid_call_lease",
        "paid_call",
        ["lease_expires_at"],
        schema=schema,
        postgresql_where=sa.text("state IN ('PLANNED', 'CALLING')"),
    )
    op.create_table(
        "usage_outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("paid_call", sa.Text, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("billed", sa.Text, nullable=False),
        sa.Column("usage", JSONB),
        sa.Column("cost_source", sa.Text),
        sa.Column("cost_micro_usd", sa.BigInteger),
        sa.Column("price_date", sa.Date),
        sa.Column("occur_time", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", name="pk_usage_outbox"),
        schema=schema,
    )
    op.create_index("ix_usage_outbox_paid_call", "usage_outbox", ["paid_call"], schema=schema)


def create_resolution_table(schema: str) -> None:
    """`resolution`, which came after the others."""
    op.create_table(
        "resolution",
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("request_id", sa.Uuid, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("paid_call", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("principal", "method", "request_id", name="pk_resolution"),
        sa.ForeignKeyConstraint(
            ["paid_call"], [f"{schema}.paid_call.id"], name="fk_resolution_paid_call_paid_call", ondelete="CASCADE"
        ),
        schema=schema,
    )
    op.create_index("ix_resolution_paid_call", "resolution", ["paid_call"], schema=schema)
