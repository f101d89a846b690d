"""Blobs that have to go, as the index orders it. Several processes may ask at once: each removal goes to one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.gallery.adapters.mirror import CLAIM_CHOICE, lock_of_asset_document, lock_of_folder_document
from services.gallery.adapters.tables import asset_removal, folder, folder_removal
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain.removals import Cause, Removal

RETRY = timedelta(seconds=30)
"""After storage could not be reached for a removal."""

_NOW = sa.func.clock_timestamp()


@dataclass
class RemovalBatch:
    """What was claimed, and of what the blobs are gone; the rest is tried again."""

    items: Sequence[Removal]
    gone: list[Removal] = field(default_factory=list)


class Removals:
    """The removals that wait. A batch holds one database connection and the locks of the documents, but no row.

    `settle`: for so long after a removal was ordered, something may still have been on its way to storage.
    """

    def __init__(self, engine: AsyncEngine, transactions: Transactions, *, settle: timedelta) -> None:
        self._engine = engine
        self._transactions = transactions
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._settle = settle

    @asynccontextmanager
    async def of_assets(self, number: int) -> AsyncIterator[RemovalBatch]:
        """Assets whose blobs are to be removed now; settled when the block ends well."""
        table, key = asset_removal, asset_removal.c.asset_id
        due = sa.select(key, table.c.cause, table.c.create_time).where(table.c.remove_time.is_(None))
        async with self._transactions.beside_storage() as connection:
            rows = await _claim(connection, due, table, lock_of_asset_document, number)
            batch = RemovalBatch([Removal(row.asset_id, Cause(row.cause), row.create_time) for row in rows])
            yield batch
            await self._settle_all(connection, table, key, batch)

    @asynccontextmanager
    async def of_folders(self, number: int) -> AsyncIterator[RemovalBatch]:
        """Folders whose document is to be removed now, and that are still gone; settled when the block ends well."""
        table, key = folder_removal, folder_removal.c.folder_id
        async with self._transactions.beside_storage() as connection:
            due = sa.select(key, table.c.create_time)
            rows = await _claim(connection, due, table, lock_of_folder_document, number)
            claimed = [Removal(row.folder_id, None, row.create_time) for row in rows]
            # `rebuild-index` may have brought a folder back: its mirror waits for the lock of the document.
            ids = folder.c.id.in_([removal.id for removal in claimed])
            present = set(await connection.scalars(sa.select(folder.c.id).where(ids))) if claimed else set()
            batch = RemovalBatch([removal for removal in claimed if removal.id not in present])
            yield batch
            await self._settle_all(connection, table, key, batch)
            for removal in claimed:
                if removal.id in present:
                    this = (key == removal.id) & (table.c.create_time == removal.create_time)
                    await connection.execute(sa.delete(table).where(this))

    async def count_waiting(self) -> int:
        """How many assets' removals have not been done once yet, or have to be tried again."""
        waiting = sa.select(sa.func.count()).select_from(asset_removal)
        due = waiting.where(asset_removal.c.remove_time.is_(None), asset_removal.c.try_time < _NOW)
        async with self._reading.connect() as connection:
            return await connection.scalar(due) or 0

    async def trim(self, age: timedelta) -> int:
        """Forgets purged assets whose blobs have been gone for so long; how many."""
        async with self._engine.begin() as connection:
            old = sa.delete(asset_removal).where(asset_removal.c.remove_time < _NOW - age)
            return (await connection.execute(old)).rowcount

    async def _settle_all(
        self, connection: AsyncConnection, table: sa.Table, key: sa.Column[str], batch: RemovalBatch
    ) -> None:
        now = (await connection.execute(sa.select(_NOW))).scalar_one().astimezone(UTC)
        for removal in batch.items:
            # Unless it was ordered anew meanwhile.
            this = (key == removal.id) & (table.c.create_time == removal.create_time)
            again = removal.second_look(now, self._settle) if removal in batch.gone else now + RETRY
            await connection.execute(_outcome(table, removal, again, now).where(this))


def _outcome(table: sa.Table, removal: Removal, again: datetime | None, now: datetime) -> Any:
    if again is not None:
        return sa.update(table).values(try_time=again)
    if removal.cause is Cause.PURGED:  # stays as a tombstone
        return sa.update(table).values(remove_time=now)
    return sa.delete(table)


async def _claim(
    connection: AsyncConnection, query: sa.Select[Any], table: sa.Table, lock: Any, number: int
) -> Sequence[Any]:
    due = query.where(table.c.try_time <= _NOW).order_by(table.c.try_time).limit(CLAIM_CHOICE).subquery()
    claimed = (await connection.scalars(sa.select(due.c[0]).where(lock(due.c[0])).limit(number))).all()
    if not claimed:
        return []
    # Read once they are claimed: who had one before has perhaps just done it.
    key = table.primary_key.columns[0]
    return list(await connection.execute(query.where(table.c.try_time <= _NOW, key.in_(claimed))))
