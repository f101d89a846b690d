"""The service's schema."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from services.common.database import metadata_for
from services.models.paid_calls import paid_call_tables

SCHEMA = "image"

metadata = metadata_for(SCHEMA)
paid_calls = paid_call_tables(metadata)

_time = DateTime(timezone=True)

generation = Table(
    "generation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("request_id", Uuid(as_uuid=False), nullable=False),
    Column("operation", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("final_prompt", Text, nullable=False, server_default=text("''")),
    Column("model", Text, nullable=False),
    Column("parameters", JSONB, nullable=False),
    # Folder, tags and display name as they were asked for.
    Column("placement", JSONB, nullable=False),
    # Of an edit, the pictures it was made from: part, and asset or digest. Never bytes.
    Column("inputs", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    # The steps of language models that were asked for, and what those before the main call made of the request.
    Column("pipeline", JSONB, nullable=False, server_default=text("'{}'")),
    Column("revisions", JSONB, nullable=False, server_default=text("'[]'")),
    Column("suggested_name", Text, nullable=False, server_default=text("''")),
    # What steps that failed and were optional have to say.
    Column("notes", JSONB, nullable=False, server_default=text("'[]'")),
    Column("usage", JSONB),
    Column("cost_source", Text),
    Column("cost_micro_usd", BigInteger),
    Column("error", JSONB),
    Column("create_time", _time, nullable=False, server_default=text("now()")),
    Column("update_time", _time, nullable=False, server_default=text("now()")),
    Column("end_time", _time),
    CheckConstraint(
        "state IN ('PENDING', 'RUNNING', 'STORING', 'SUCCEEDED', 'PARTIALLY_SUCCEEDED', 'FAILED', 'OUTCOME_UNKNOWN')",
        name="state",
    ),
    Index(None, "owner", "id"),
    Index(None, "owner", "state", "id"),
)

picture = Table(
    "picture",
    metadata,
    Column("generation", Text, ForeignKey(generation.c.id, ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("asset_id", Text, nullable=False, server_default=text("''")),
    Column("sha256", Text, nullable=False, server_default=text("''")),
    Column("size_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("mime_type", Text, nullable=False, server_default=text("''")),
    Column("width_px", Integer),
    Column("height_px", Integer),
    Column("has_transparency", Boolean),
    Column("usage", JSONB),
    Column("cost_source", Text),
    Column("cost_micro_usd", BigInteger),
    Column("error", JSONB),
    CheckConstraint("state IN ('STORED', 'SPOOLED', 'FAILED')", name="state"),
)

# Finished bytes that the gallery has not acknowledged. Rows live for milliseconds, or as long as the gallery is away.
spool = Table(
    "spool",
    metadata,
    Column("generation", Text, primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # When whoever is free may deliver it; NULL: the gallery refused it for good, and it is kept for the operator.
    Column("next_attempt_time", _time),
    Column("create_time", _time, nullable=False, server_default=text("now()")),
    Index("ix_spool_due", "next_attempt_time", postgresql_where=text("next_attempt_time IS NOT NULL")),
)

# What language models wrote, so that an intent that comes again finds it; and, at the first call of an intent, what
# its request was answered. Goes with the paid call.
answer = Table(
    "answer",
    metadata,
    Column(
        "paid_call",
        Text,
        ForeignKey(paid_calls.paid_call.c.id, name="fk_answer_paid_call_paid_call", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("content", Text),
    Column("result", JSONB),
)

# Stored pictures that are still to be analysed, by whoever is free when it is time.
analysis = Table(
    "analysis",
    metadata,
    Column("generation", Text, primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_time", _time, nullable=False),
    ForeignKeyConstraint(
        ["generation", "index"],
        [picture.c.generation, picture.c.index],
        name="fk_analysis_generation_picture",
        ondelete="CASCADE",
    ),
    Index(None, "next_attempt_time"),
)
