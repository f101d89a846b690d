"""Assets that go for good: the row at once, the blobs by what `asset_removal` orders (see `attempts.py`)."""

from collections import defaultdict
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.gallery.adapters.attempts import give_up_attempts, lock_asset, order_removal
from services.gallery.adapters.journal import Change, record
from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import asset
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.removals import Cause

_IS_OVERDUE = asset.c.purge_time <= sa.func.clock_timestamp()


class Purges:
    """Removes soft-deleted assets from the index."""

    def __init__(self, engine: AsyncEngine, transactions: Transactions) -> None:
        self._transactions = transactions
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def purge(self, owner: str, asset_id: str) -> None:
        """Removes a soft-deleted asset for good.

        Raises:
            NotFound: ASSET_NOT_FOUND.
            FailedPrecondition: ASSET_NOT_DELETED.
        """
        async with self._transactions.of_owner(owner) as connection:
            found = await _select(connection, asset.c.owner == owner, asset.c.id == asset_id)
            if not found:
                raise failures.asset_not_found(f"assets/{asset_id}")
            if found[0].delete_time is None:
                raise failures.purge_of_kept(found[0].name)
            await _purge(connection, found)

    async def purge_overdue(self, number: int) -> int:
        """Removes assets whose purge time has passed, `number` or fewer; how many."""
        query = sa.select(asset.c.owner, asset.c.id).where(_IS_OVERDUE).order_by(asset.c.purge_time).limit(number)
        by_owner: dict[str, list[str]] = defaultdict(list)
        async with self._reading.connect() as connection:
            for owner, asset_id in await connection.execute(query):
                by_owner[owner].append(asset_id)
        return sum([await self._purge_overdue(owner, asset_ids) for owner, asset_ids in by_owner.items()])

    async def _purge_overdue(self, owner: str, asset_ids: Sequence[str]) -> int:
        async with self._transactions.of_owner(owner) as connection:
            # Looked at again under the lock: its owner may just have undeleted one.
            found = await _select(connection, asset.c.owner == owner, asset.c.id.in_(asset_ids), _IS_OVERDUE)
            await _purge(connection, found)
            return len(found)


async def _select(connection: AsyncConnection, *conditions: sa.ColumnElement[bool]) -> list[Asset]:
    rows = await connection.execute(select_assets(full=True).where(*conditions).order_by(asset.c.id))
    return [to_asset(row) for row in rows.mappings()]


async def _purge(connection: AsyncConnection, assets: Sequence[Asset]) -> None:
    for gone in assets:
        await lock_asset(connection, gone.id)
        await give_up_attempts(connection, gone.id)
        await order_removal(connection, gone.id, gone.owner, Cause.PURGED)
        await connection.execute(sa.delete(asset).where(asset.c.id == gone.id))
    await record(connection, [Change(gone, None) for gone in assets])
