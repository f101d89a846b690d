"""Uploads under way: what storage may hold that the index does not know yet.

A row of `pending` says: from its commit on, bytes of this asset may be in storage although no row of `asset` has them.
Storage is never listed to find out what may be removed: an index that was lost, or restored from an old backup, would
then have bytes deleted that are somebody's only copy.

Three rules hold everything together.

1. An attempt commits its row here before it stores its first byte (`begin`).
2. An asset's row is committed only together with the deletion of its own attempt's row (`close`). An attempt whose row
   somebody else has deleted was given up and may not commit: its bytes may be gone.
3. Who decides that bytes go (the sweep, a purge) holds the asset's lock, deletes all of the asset's attempts and writes
   `asset_removal`, in one transaction. `begin` holds the same lock and refuses while a removal waits.

What can meet, and what then happens:

* *Two uploads of one id, same bytes.* Each has its attempt, and writes its document before it inserts. The second
  insertion of `asset` waits for the first and finds the id taken; its attempt ends and the caller gets the stored
  asset. Its document may be the one that lies there now, so the end of such an attempt has the mirror write the row's
  once more (`end_attempt`); should its process have died before, the sweep ends it. If the first fails instead, the
  second goes on: under an id that a service gave, a failed upload leaves the bytes, because they may be those of a
  repetition.
* *Two uploads of one id, other bytes.* The original is written under If-None-Match: the later writer has stored
  nothing, ends its attempt and refuses.
* *Sweep against a repetition.* Both take the asset's lock. Attempt first: the sweep sees a younger attempt and leaves
  the id alone. Sweep first: `begin` sees the removal and is UNAVAILABLE until the bytes are gone.
* *Sweep against an attempt that still runs.* Storing is bounded far below the sweep's limit. Should a process have been
  frozen for longer, rule 2 stops it at its commit; it then opens its attempt again, so that what it stored meanwhile is
  swept too. The sweep deletes attempts before it looks for the asset: it waits for an insertion about to commit.
* *Purge against an upload of the same id that is still under way.* The purge deletes the attempt, so the upload cannot
  bring the asset back, and what it wrote is swept.
* *A removal that is late* (a worker that was frozen, whose lock was lost with its connection): it deletes each blob by
  the version that it saw, never one that a later upload has stored.
* *Writers that a purge cannot wait for* (a mirror or a maker of derivatives that lost its connection and so its lock,
  yet has a request on its way): removals look a second time, after the sweep's limit, before they count as done.
* *Death of the process* after `begin`: the sweep removes what is there. After the original, or the document: the same.
  After the commit: the attempt went with it. Before the refused upload has taken its bytes back: the sweep. After
  the sweep's or the purge's commit: the removal waits in `asset_removal` and is tried until done. After some blobs: the
  rest are found again. After all blobs and before the mark: the removal finds nothing, and marks.
"""

import uuid
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.gallery.adapters.tables import asset, asset_removal, pending
from services.gallery.domain import failures
from services.gallery.domain.removals import Cause

# "galb": sets these advisory locks apart from others in the database.
_BYTES = 0x67616C62


class AttemptGivenUp(Exception):
    """Somebody has decided meanwhile that the attempt's bytes go: it may not become an asset."""


async def lock_asset(connection: AsyncConnection, asset_id: str) -> None:
    """Waits until nobody else decides over this asset's bytes. Held shortly: never while storage works.

    Comes after the owner's lock, where a transaction takes both.
    """
    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(asset_id, _BYTES))))


async def close_attempt(connection: AsyncConnection, asset_id: str, attempt: uuid.UUID) -> None:
    """Ends the attempt in the transaction that commits its asset, which holds the owner's lock.

    Raises:
        AttemptGivenUp: its bytes may be gone.
    """
    mine = sa.delete(pending).where(pending.c.asset_id == asset_id, pending.c.attempt == attempt)
    if (await connection.execute(mine)).rowcount == 0:
        raise AttemptGivenUp


async def end_attempt(connection: AsyncConnection, asset_id: str, attempt: uuid.UUID) -> None:
    """Ends an attempt that made no asset. If there is one, the mirror writes its document over what this one left."""
    mine = sa.delete(pending).where(pending.c.asset_id == asset_id, pending.c.attempt == attempt)
    await connection.execute(mine)
    await _document_anew(connection, asset_id)


async def give_up_attempts(connection: AsyncConnection, asset_id: str) -> int:
    """Stops every upload of this id from committing; how many there were. The transaction holds the asset's lock.

    Waits for one that is about to commit, so look for the asset after this.
    """
    return (await connection.execute(sa.delete(pending).where(pending.c.asset_id == asset_id))).rowcount


async def order_removal(connection: AsyncConnection, asset_id: str, owner: str, cause: Cause) -> None:
    """Writes down that the asset's blobs have to go. The transaction holds the asset's lock.

    A tombstone that is there stays one, and its blobs are removed again.
    """
    new = insert(asset_removal).values(asset_id=asset_id, owner=owner, cause=cause.value)
    again = {"remove_time": None, "try_time": sa.func.clock_timestamp(), "create_time": sa.func.clock_timestamp()}
    await connection.execute(new.on_conflict_do_update(index_elements=[asset_removal.c.asset_id], set_=again))


class Attempts:
    """The uploads under way."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def check(self, owner: str, asset_id: str) -> None:
        """Refuses what `begin` would refuse, for saying so early.

        Raises:
            FailedPrecondition: ASSET_PURGED.
            AlreadyExists: ASSET_EXISTS, another owner's was purged.
            Unavailable: what an earlier upload left under this id is being removed.
        """
        async with self._reading.connect() as connection:
            await _check(connection, owner, asset_id)

    async def begin(self, owner: str, asset_id: str) -> uuid.UUID:
        """A new attempt to store an asset; no byte may be stored before.

        Raises:
            FailedPrecondition: ASSET_PURGED.
            AlreadyExists: ASSET_EXISTS, another owner's was purged.
            Unavailable: what an earlier upload left under this id is being removed.
        """
        attempt = uuid.uuid4()
        async with self._engine.begin() as connection:
            await lock_asset(connection, asset_id)
            await _check(connection, owner, asset_id)
            await connection.execute(sa.insert(pending).values(asset_id=asset_id, attempt=attempt, owner=owner))
        return attempt

    async def reopen(self, owner: str, asset_id: str, attempt: uuid.UUID) -> None:
        """Has the sweep look once more after an attempt that was given up while it still stored."""
        async with self._engine.begin() as connection:
            again = insert(pending).values(asset_id=asset_id, attempt=attempt, owner=owner)
            await connection.execute(again.on_conflict_do_nothing())

    async def end(self, asset_id: str, attempt: uuid.UUID) -> None:
        """The attempt has left nothing in storage that no row names."""
        async with self._engine.begin() as connection:
            await end_attempt(connection, asset_id, attempt)

    async def left_over(self, limit: timedelta, *, number: int) -> list[str]:
        """Ids, at most `number`, with attempts older than the limit and none younger; oldest first."""
        age = sa.func.clock_timestamp() - sa.func.max(pending.c.create_time)
        old = sa.select(pending.c.asset_id).where(pending.c.create_time < sa.func.clock_timestamp() - limit)
        query = sa.select(pending.c.asset_id).where(pending.c.asset_id.in_(old)).group_by(pending.c.asset_id)
        query = query.having(age > limit).order_by(sa.func.max(pending.c.create_time)).limit(number)
        async with self._reading.connect() as connection:
            return list(await connection.scalars(query))

    async def abandon(self, asset_id: str, limit: timedelta) -> bool:
        """Ends the old attempts of an id, and orders its blobs removed if they made no asset; True: ordered.

        Changes nothing if a younger attempt has come meanwhile.
        """
        async with self._engine.begin() as connection:
            await lock_asset(connection, asset_id)
            attempts = sa.select(sa.func.max(pending.c.owner), sa.func.max(pending.c.create_time))
            owner, youngest = (await connection.execute(attempts.where(pending.c.asset_id == asset_id))).one()
            now = await connection.scalar(sa.select(sa.func.clock_timestamp()))
            if owner is None or now is None or youngest > now - limit:
                return False
            if await give_up_attempts(connection, asset_id) == 0:
                return False
            if await _document_anew(connection, asset_id):
                return False
            await order_removal(connection, asset_id, owner, Cause.ABANDONED)
            return True


async def _document_anew(connection: AsyncConnection, asset_id: str) -> bool:
    """Has the mirror write the document of an asset; False: there is none of this id."""
    behind = sa.update(asset).where(asset.c.id == asset_id).values(document_revision=0)
    return (await connection.execute(behind)).rowcount > 0


async def _check(connection: AsyncConnection, owner: str, asset_id: str) -> None:
    columns = asset_removal.c.owner, asset_removal.c.cause
    row = (await connection.execute(sa.select(*columns).where(asset_removal.c.asset_id == asset_id))).one_or_none()
    if row is None:
        return
    if row.cause == Cause.ABANDONED.value:
        raise failures.being_removed(f"assets/{asset_id}")
    if row.owner != owner:
        raise failures.asset_exists(f"assets/{asset_id}")
    raise failures.asset_purged(f"assets/{asset_id}")
