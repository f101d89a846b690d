"""Who watches, and who of them has news: one query of a process at a time, however many watch."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.common.database import is_statement_timeout, is_unavailable
from services.gallery.adapters.changes import Batch, ChangeLog, Head, News
from services.gallery.domain import failures

POLL_SECONDS = 0.3
QUERY_SECONDS = 10.0
CONCURRENT_READS = 4
"""Connections that watching takes from the pool at most, besides the poll's."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """Streams of one process and of one principal, and seconds.

    A checkpoint is sent at least every `checkpoint_seconds`; without the database a stream goes on for
    `outage_seconds`, with a reader who takes nothing for `stall_seconds`, and in all for `lifetime_seconds`.
    """

    watchers: int
    watchers_of_one: int
    checkpoint_seconds: float
    outage_seconds: float
    stall_seconds: float
    lifetime_seconds: float


@dataclass(eq=False, slots=True)
class Subscription:
    """One watcher. `sequence` is how far it has read; `wake` is set when it has something to do."""

    owner: str
    incarnation: UUID | None = None
    sequence: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def look_at(self, news: News) -> None:
        """Wakes the watcher if the log is not as it left it; the news may be older than what it has read since."""
        if self.incarnation is None:
            return  # it has not begun to read
        is_other = self.incarnation != news.incarnation or self.sequence > news.last_sequence
        if is_other or news.sequences.get(self.owner, self.sequence) != self.sequence:
            self.wake.set()


class WatchHub:
    """All watchers of this process. `run` must run in the background."""

    def __init__(
        self, log: ChangeLog, limits: WatchLimits, draining: asyncio.Event, registry: CollectorRegistry
    ) -> None:
        self.limits = limits
        self._log = log
        self._draining = draining
        self._owners: dict[str, set[Subscription]] = {}
        self._count = 0
        self._anybody = asyncio.Event()
        self._contact = time.monotonic()
        self._reads: dict[tuple[str, int], asyncio.Task[Batch]] = {}
        self._turns = asyncio.Semaphore(CONCURRENT_READS)
        self.now: datetime | None = None
        """The database's time of the last poll."""
        self._gauge = Gauge("contentlab_gallery_watchers", "Streams of changes that are open.", registry=registry)

    @contextmanager
    def subscription(self, owner: str) -> Iterator[Subscription]:
        """A place among the watchers for as long as the block runs.

        Raises:
            ResourceExhausted: TOO_MANY_WATCHERS, of this owner.
            Unavailable: too many in all.
        """
        watchers = self._owners.get(owner, set())
        if len(watchers) >= self.limits.watchers_of_one:
            raise failures.too_many_watchers(self.limits.watchers_of_one)
        if self._count >= self.limits.watchers:
            raise failures.watchers_busy()
        mine = Subscription(owner)
        if not self._count:
            self._contact, self.now = time.monotonic(), None
        self._owners.setdefault(owner, set()).add(mine)
        self._changed(1)
        try:
            yield mine
        finally:
            self._owners[owner].discard(mine)
            if not self._owners[owner]:
                del self._owners[owner]
            self._changed(-1)

    def check(self) -> None:
        """Ends a stream that cannot go on here.

        Raises:
            Unavailable: the server stops, or the database has been away for too long.
        """
        if self._draining.is_set():
            raise failures.watch_ended("This server is being stopped")
        if time.monotonic() - self._contact > self.limits.outage_seconds:
            raise failures.watch_ended("The index is not reachable for the moment")

    async def head(self, owner: str) -> Head:
        """Where the owner's log ends."""
        async with asyncio.timeout(QUERY_SECONDS), self._turns:
            return await self._log.head(owner)

    async def read(self, owner: str, sequence: int) -> Batch:
        """What follows; watchers that stand at the same place share one reading."""
        key = owner, sequence
        reading = self._reads.get(key)
        if reading is None:
            reading = self._reads[key] = asyncio.create_task(self._read(owner, sequence), name="watch_read")
            reading.add_done_callback(lambda done: self._forget(key, done))
        # Not cancelled with one of its readers: the others wait for it too.
        return await asyncio.shield(reading)

    async def run(self) -> None:
        """Polls while somebody watches, and tells all when the server drains; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_of_drain())
            while True:
                await self._anybody.wait()
                await self._poll()
                await asyncio.sleep(POLL_SECONDS)

    async def close(self) -> None:
        """Ends readings that nobody waits for any more."""
        readings = list(self._reads.values())
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)

    async def _poll(self) -> None:
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                news = await self._log.newest(list(self._owners))
        except Exception as error:
            if not is_hiccup(error):
                raise
            _log.warning("watch_poll_failed", error=type(error).__name__)
            return
        self._contact, self.now = time.monotonic(), news.now
        for watchers in self._owners.values():
            for watcher in watchers:
                watcher.look_at(news)

    async def _tell_of_drain(self) -> None:
        await self._draining.wait()
        for watchers in self._owners.values():
            for watcher in watchers:
                watcher.wake.set()

    async def _read(self, owner: str, sequence: int) -> Batch:
        async with asyncio.timeout(QUERY_SECONDS), self._turns:
            return await self._log.read(owner, sequence)

    def _forget(self, key: tuple[str, int], done: asyncio.Task[Batch]) -> None:
        del self._reads[key]
        if not done.cancelled():
            done.exception()  # seen, also when every reader has left

    def _changed(self, number: int) -> None:
        self._count += number
        self._gauge.set(self._count)
        if self._count:
            self._anybody.set()
        else:
            self._anybody.clear()


def is_hiccup(error: BaseException) -> bool:
    """Whether the database may answer the next time."""
    return isinstance(error, TimeoutError) or is_unavailable(error) or is_statement_timeout(error)
