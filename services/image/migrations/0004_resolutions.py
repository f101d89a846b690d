"""What people said of calls whose outcome was unknown."""

from collections.abc import Sequence

from services.models.paid_calls.migrations import create_resolution_table

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Adds a table of the paid-call protocol."""
    create_resolution_table("image")
