"""The rows that this process is at work on: it renews their leases, and asks before it pays."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import Unavailable
from services.models.paid_calls.faults import may_pass
from services.models.paid_calls.records import Opened
from services.models.paid_calls.store import PaidCallStore, limit_statements

_log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5
# Goes on while a virtual machine is suspended, as the database's clock does; CLOCK_MONOTONIC stands still.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(slots=True)
class Lease:
    """A row held by this process. `until` is on its own clock, counted from before the statement was sent,
    so that it never ends later than the database says."""

    call_id: str
    fence: int
    until: float

    def check(self) -> None:
        """To be called right before anything is sent that costs money.

        Raises:
            Unavailable: the lease has run out. A process that was frozen, or cut off from the database, must not pay
                for a call that others have settled meanwhile.
        """
        if time.clock_gettime(_CLOCK) >= self.until:
            raise Unavailable(
                "UNAVAILABLE",
                "This service lost its hold on the call before it was sent; nothing was paid.",
                retry_safe=True,
                retry_after=1.0,
            )


class Leases:
    """Every lease of the process, renewed by one statement a third of their time.

    An attempt to renew takes at most another third, so that one that fails leaves time for the next.
    """

    def __init__(self, engine: AsyncEngine, store: PaidCallStore, *, seconds: float) -> None:
        self._engine = engine
        self._store = store
        self.seconds = seconds
        self._held: dict[tuple[str, int], Lease] = {}

    @property
    def held(self) -> Mapping[tuple[str, int], Lease]:
        """The leases by id and fence of their call."""
        return self._held

    def deadline(self) -> float:
        """When a lease taken by a statement that is sent now runs out, on this machine's clock."""
        return time.clock_gettime(_CLOCK) + self.seconds

    @contextmanager
    def holding(self, opened: Opened) -> Iterator[Lease]:
        """Keeps the row's lease alive within the block."""
        lease = Lease(opened.call.id, opened.call.fence, opened.lease_until)
        key = lease.call_id, lease.fence
        self._held[key] = lease
        try:
            yield lease
        finally:
            del self._held[key]

    async def renew_forever(self) -> None:
        """Renews until cancelled."""
        while True:
            renewed = await self.renew()
            await asyncio.sleep(self.seconds / 3 if renewed else min(RETRY_SECONDS, self.seconds / 6))

    async def renew(self) -> bool:
        """Renews every lease once; False: the database did not answer."""
        if not self._held:
            return True
        until = self.deadline()
        fences = dict(sorted(self._held))  # of two attempts at one call the later counts
        try:
            async with asyncio.timeout(self.seconds / 3), self._engine.begin() as connection:
                await limit_statements(connection, self.seconds / 3)
                kept = await self._renewed(connection, fences)
        except Exception as error:
            if not may_pass(error):
                raise
            _log.warning("lease_not_renewed", calls=len(fences), error=type(error).__name__)
            return False
        for key in kept:
            if key in self._held:
                self._held[key].until = until
        return True

    async def _renewed(self, connection: AsyncConnection, fences: Mapping[str, int]) -> set[tuple[str, int]]:
        """A connection that fails is not used again: one made while the database took no writes never takes any."""
        try:
            return await self._store.renew(connection, fences)
        except DBAPIError:
            await connection.invalidate()
            raise
