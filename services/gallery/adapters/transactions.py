"""The transactions that may have to wait, for an owner or for storage, and how few connections they may hold meanwhile.

Whoever changes an owner's library goes through `of_owner`: within a process one after the other, and only who is next
takes a connection. So a process waits for an owner whom another one holds with one connection, however many call.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool

from services.gallery.adapters.journal import lock_owner
from services.gallery.domain import failures

TURN_SECONDS = 10.0
"""For the owner's turn within the process, and one of the connections for changes."""

LOCK_SECONDS = 5.0
"""For any one lock that another process holds."""

IDLE_SECONDS = 15.0
"""After so long without a statement the database ends a transaction: a process that is frozen frees the owner."""

# "gall": held shared by everybody who changes a library.
_LIBRARIES = 0x67616C6C

_LOST = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


class Transactions:
    """One for an engine, shared by all that use it.

    Changes take at most half of the pool's connections, and those who wait for storage a third: the rest, and what the
    pool may open above its size, is left to reads and the health check.
    """

    def __init__(self, engine: AsyncEngine, *, lock_seconds: float = LOCK_SECONDS) -> None:
        size = engine.pool.size() if isinstance(engine.pool, QueuePool) else 1
        self._engine = engine
        self._lock_seconds = lock_seconds
        self._changing = asyncio.Semaphore(max(1, size // 2))
        self._beside_storage = asyncio.Semaphore(max(1, size // 3))
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of_owner(self, *owners: str) -> AsyncIterator[AsyncConnection]:
        """A transaction that holds these owners' locks from its beginning to its end, which is that of the block.

        Raises:
            Unavailable: others held an owner for too long, or the transaction lost against another one; it changed
                nothing.
        """
        in_order = sorted(set(owners))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    for owner in in_order:
                        await held.enter_async_context(self._turns.setdefault(owner, asyncio.Lock()))
                    await held.enter_async_context(self._changing)
            except TimeoutError:
                raise failures.library_busy() from None
            connection = await held.enter_async_context(self._engine.begin())
            try:
                await self._begin(connection)
                for owner in in_order:
                    await lock_owner(connection, owner)
                yield connection
            except DBAPIError as error:
                if isinstance(error.orig, _LOST):
                    raise failures.library_busy() from error
                raise

    @asynccontextmanager
    async def beside_storage(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of a background task that is open for as long as storage takes, and holds no owner's lock."""
        async with self._beside_storage, self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def of_all(self) -> AsyncIterator[AsyncConnection]:
        """A transaction beside which nobody changes any library; reading goes on.

        Who changes one waits for it, and those who come while it waits do so too: after a few seconds it gives up.

        Raises:
            Unavailable: somebody was at work for too long; it changed nothing.
        """
        async with self._engine.begin() as connection:
            try:
                await connection.execute(sa.select(_setting("lock_timeout", LOCK_SECONDS / 2)))
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LIBRARIES)))
                yield connection
            except DBAPIError as error:
                if isinstance(error.orig, _LOST):
                    raise failures.library_busy() from error
                raise

    async def _begin(self, connection: AsyncConnection) -> None:
        """One statement for all three: the limits hold from the next one on."""
        limits = {"lock_timeout": self._lock_seconds, "idle_in_transaction_session_timeout": IDLE_SECONDS}
        local = [_setting(name, seconds) for name, seconds in limits.items()]
        await connection.execute(sa.select(*local, sa.func.pg_advisory_xact_lock_shared(_LIBRARIES)))


def _setting(name: str, seconds: float) -> sa.ColumnElement[str]:
    """For the length of the transaction."""
    return sa.func.set_config(name, str(round(seconds * 1000)), True)
