"""Which assets' documents are behind their rows. Several processes may ask at once: each asset goes to one of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import asset
from services.gallery.domain.assets import Asset

CLAIM_CHOICE = 20
"""So many mirrors can be at work at once."""

# "galm": sets these advisory locks apart from others in the database.
_MIRROR = 0x67616C6D
_IS_UNDOCUMENTED = asset.c.document_revision < asset.c.revision


class Mirror:
    """The rows that `asset.json` has yet to follow."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def undocumented(self) -> AsyncIterator[Asset | None]:
        """An asset whose `asset.json` is older than its row; marked as written when the block ends well.

        Meanwhile no other mirror gets it, and anybody may change it: it is then behind again. None: there is none, or
        others are at it.
        """
        async with self._engine.begin() as connection:
            claimed = await connection.scalar(_claim_undocumented())
            # Read once it is claimed: the mirror that had it before has perhaps just written it.
            query = select_assets(full=True).where(asset.c.id == claimed, _IS_UNDOCUMENTED)
            row = (await connection.execute(query)).mappings().one_or_none()
            yield to_asset(row) if row is not None else None
            if row is not None:
                written = sa.update(asset).where(asset.c.id == row["id"])
                await connection.execute(written.values(document_revision=row["revision"]))


def _claim_undocumented() -> sa.Select[tuple[str]]:
    """Locks no row, which changes would wait for as long as storage is slow."""
    oldest = sa.select(asset.c.id).where(_IS_UNDOCUMENTED).order_by(asset.c.update_time).limit(CLAIM_CHOICE).subquery()
    # A lock is tried for as many rows as this reads: one by one until one is free.
    free = sa.func.pg_try_advisory_xact_lock(sa.func.hashtextextended(oldest.c.id, _MIRROR))
    return sa.select(oldest.c.id).where(free).limit(1)
