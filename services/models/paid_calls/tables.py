"""The protocol's tables, in the schema of the service that pays."""

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

NOW = func.statement_timestamp()
"""The database's clock: leases of different machines are compared, clocks of different machines are not."""


@dataclass(frozen=True, slots=True)
class PaidCallTables:
    """`paid_call` has a row for each intent, `usage_outbox` an event for each settlement, `resolution` one for each
    word of a person."""

    paid_call: Table
    usage_outbox: Table
    resolution: Table


def paid_call_tables(metadata: MetaData) -> PaidCallTables:
    """Adds the tables to the caller's MetaData."""
    calls = _paid_call(metadata)
    return PaidCallTables(calls, _usage_outbox(metadata), _resolution(metadata, calls))


def _paid_call(metadata: MetaData) -> Table:
    timestamp = DateTime(timezone=True)
    return Table(
        "paid_call",
        metadata,
        Column("id", Text, primary_key=True),
        Column("principal", Text, nullable=False),
        Column("method", Text, nullable=False),
        Column("request_id", Uuid(as_uuid=False), nullable=False),
        Column("fingerprint", LargeBinary, nullable=False),
        Column("operation", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("endpoint", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("billed", Text, nullable=False),
        # Numbers the owners of the row: whoever holds an older one changes nothing any more.
        Column("fence", Integer, nullable=False),
        Column("lease_expires_at", timestamp, nullable=False),
        Column("provider_request_id", Text, nullable=False, server_default=text("''")),
        Column("usage", JSONB),
        Column("raw_usage", JSONB),
        Column("cost_source", Text),
        Column("cost_micro_usd", BigInteger),
        Column("price_date", Date),
        Column("error", JSONB),
        Column("resolution_note", Text, nullable=False, server_default=text("''")),
        Column("resolve_time", timestamp),
        Column("create_time", timestamp, nullable=False, server_default=text("now()")),
        Column("call_time", timestamp),
        Column("end_time", timestamp),
        UniqueConstraint("principal", "method", "request_id"),
        CheckConstraint("state IN ('PLANNED', 'CALLING', 'SUCCEEDED', 'FAILED', 'OUTCOME_UNKNOWN')", name="state"),
        CheckConstraint("billed IN ('no', 'yes', 'unknown')", name="billed"),
        # Whether money was spent is unknown exactly while nobody can know it.
        CheckConstraint("(billed = 'unknown') = (state IN ('CALLING', 'OUTCOME_UNKNOWN'))", name="billed_is_known"),
        CheckConstraint("(cost_micro_usd IS NULL) = (cost_source IS NULL OR cost_source = 'unpriced')", name="cost"),
        Index(None, "principal", "id"),
        Index(None, "principal", "state", "id"),
        Index(None, "subject"),
        Index("ix_paid_call_lease", "lease_expires_at", postgresql_where=text("state IN ('PLANNED', 'CALLING')")),
    )


def _usage_outbox(metadata: MetaData) -> Table:
    """Events in the order of `id`; a later one of the same call corrects the earlier."""
    return Table(
        "usage_outbox",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("paid_call", Text, nullable=False),
        Column("principal", Text, nullable=False),
        Column("operation", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("endpoint", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("billed", Text, nullable=False),
        Column("usage", JSONB),
        Column("cost_source", Text),
        Column("cost_micro_usd", BigInteger),
        Column("price_date", Date),
        Column("occur_time", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Index(None, "paid_call"),
    )


def _resolution(metadata: MetaData, calls: Table) -> Table:
    """So that a word that is given twice counts once."""
    return Table(
        "resolution",
        metadata,
        Column("principal", Text, primary_key=True),
        Column("method", Text, primary_key=True),
        Column("request_id", Uuid(as_uuid=False), primary_key=True),
        Column("fingerprint", LargeBinary, nullable=False),
        Column("paid_call", Text, ForeignKey(calls.c.id, ondelete="CASCADE"), nullable=False),
        Column("create_time", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Index(None, "paid_call"),
    )
