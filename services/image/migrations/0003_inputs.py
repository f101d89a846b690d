"""What an edit was made from."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Adds the inputs of edits; generations made before have none."""
    empty = sa.text("'[]'::jsonb")
    op.add_column("generation", sa.Column("inputs", JSONB, nullable=False, server_default=empty), schema="image")
