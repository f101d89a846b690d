"""Which documents are behind their rows. Several processes may ask at once: each document goes to one of them.

The lock of a document is held while storage works, unlike the asset's (`attempts.py`). Removals take it as well: after
a removal no mirror writes the document again, because it reads the row under the lock, and the row is gone.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import asset, folder
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain.assets import Asset
from services.gallery.domain.folders import FolderRecord

CLAIM_CHOICE = 1000
"""Claims are made among so many of the oldest: enough for all mirrors at work."""

FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 30.0
KNOWN_SETBACKS = 10_000
"""The oldest are forgotten, and tried again at once."""

# "galm" and "galf": set these advisory locks apart from others in the database.
_ASSET_DOCUMENT = 0x67616C6D
_FOLDER_DOCUMENT = 0x67616C66

T = TypeVar("T", Asset, FolderRecord)


@dataclass
class Batch(Generic[T]):
    """What was claimed, and what of it has been written."""

    items: Sequence[T]
    written: list[T] = field(default_factory=list)


def lock_of_asset_document(asset_id: sa.ColumnElement[str] | str) -> sa.ColumnElement[bool]:
    """Tries the lock of `asset.json` until the transaction's end."""
    return sa.func.pg_try_advisory_xact_lock(sa.func.hashtextextended(asset_id, _ASSET_DOCUMENT))


def lock_of_folder_document(folder_id: sa.ColumnElement[str] | str) -> sa.ColumnElement[bool]:
    """Tries the lock of a folder's document until the transaction's end."""
    return sa.func.pg_try_advisory_xact_lock(sa.func.hashtextextended(folder_id, _FOLDER_DOCUMENT))


class Setbacks:
    """Documents that could not be written: each is left alone for a while, longer every time, and others go first."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}

    @property
    def resting(self) -> list[str]:
        """Ids of those whose while is not over."""
        now = time.monotonic()
        return [item_id for item_id, (until, _) in self._known.items() if until > now]

    def note(self, batch: Batch[Any]) -> None:
        """What came of a batch."""
        written = {item.id for item in batch.written}
        for item in batch.items:
            _, last = self._known.pop(item.id, (0.0, FIRST_REST_SECONDS / 2))
            if item.id not in written:
                rest = min(2 * last, LONGEST_REST_SECONDS)
                self._known[item.id] = (time.monotonic() + rest, rest)
        for item_id in list(self._known)[: max(0, len(self._known) - KNOWN_SETBACKS)]:
            del self._known[item_id]


class Mirror:
    """The rows that documents have yet to follow.

    A batch holds one database connection and no row: anybody may change what is in it, and it is then behind again.
    What the block has put in `written` counts as written when the block ends well.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._assets, self._folders = Setbacks(), Setbacks()

    @asynccontextmanager
    async def assets(self, number: int) -> AsyncIterator[Batch[Asset]]:
        """At most `number` assets whose `asset.json` is older than its row, and that no other mirror has."""
        async with self._transactions.beside_storage() as connection:
            claimed = await _claim(connection, asset, lock_of_asset_document, number, self._assets.resting)
            # Read once they are claimed: the mirror that had one before has perhaps just written it.
            rows = await _behind(connection, select_assets(full=True), asset, claimed)
            batch = Batch([to_asset(row) for row in rows])
            yield batch
            self._assets.note(batch)
            await _mark(connection, asset, batch.written)

    @asynccontextmanager
    async def folders(self, number: int) -> AsyncIterator[Batch[FolderRecord]]:
        """The same for folders."""
        async with self._transactions.beside_storage() as connection:
            claimed = await _claim(connection, folder, lock_of_folder_document, number, self._folders.resting)
            rows = await _behind(connection, sa.select(folder), folder, claimed)
            batch = Batch([to_folder(row) for row in rows])
            yield batch
            self._folders.note(batch)
            await _mark(connection, folder, batch.written)


def to_folder(row: RowMapping) -> FolderRecord:
    """The folder of a row."""
    return FolderRecord(
        id=row["id"],
        owner=row["owner"],
        path=row["path"],
        asset_count=row["asset_count"],
        revision=row["revision"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


async def _claim(
    connection: AsyncConnection, table: sa.Table, lock: Any, number: int, resting: Sequence[str]
) -> list[str]:
    """Locks no row, which changes would wait for as long as storage is slow."""
    is_behind = table.c.document_revision < table.c.revision
    is_due = table.c.id != sa.all_(sa.cast(list(resting), ARRAY(table.c.id.type)))
    oldest = sa.select(table.c.id).where(is_behind, is_due).order_by(table.c.update_time).limit(CLAIM_CHOICE).subquery()
    # A lock is tried for as many rows as this reads: one by one until there are enough.
    return list(await connection.scalars(sa.select(oldest.c.id).where(lock(oldest.c.id)).limit(number)))


async def _behind(
    connection: AsyncConnection, query: sa.Select[Any], table: sa.Table, claimed: Sequence[str]
) -> Sequence[RowMapping]:
    if not claimed:
        return []
    still = query.where(table.c.id.in_(claimed), table.c.document_revision < table.c.revision)
    return list((await connection.execute(still)).mappings())


async def _mark(connection: AsyncConnection, table: sa.Table, written: Sequence[Asset | FolderRecord]) -> None:
    """Leaves out rows that are being changed right now: it must not wait for them, and they are behind anyway."""
    revisions = {item.id: item.revision for item in written}
    if not revisions:
        return
    free = sa.select(table.c.id).where(table.c.id.in_(revisions)).order_by(table.c.id)
    ids = await connection.scalars(free.with_for_update(key_share=True, skip_locked=True))
    rows = [{"this_id": this, "written": revisions[this]} for this in ids]
    if rows:
        this = sa.update(table).where(table.c.id == sa.bindparam("this_id"))
        await connection.execute(this.values(document_revision=sa.bindparam("written")), rows)
