"""One owner's changes as they happen, from any position in the log: for the gRPC stream and its SSE twin."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

import structlog

from services.gallery.adapters.changes import Batch
from services.gallery.domain import failures
from services.gallery.domain.changes import AssetEvent, events_of
from services.gallery.domain.resume import Position, check_age, check_continuity, check_head, from_token, to_token
from services.gallery.watch_hub import Subscription, WatchHub, is_hiccup

LIFETIME_SPREAD = 0.1
"""A stream ends by up to this part earlier than it may."""

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Told:
    """What a watcher is told: an event, or None for a checkpoint; with the token that goes on behind it."""

    event: AssetEvent | None
    token: str


class Watching:
    """Streams of changes. Each reads at its own pace from the log, so there is no queue that could overflow."""

    def __init__(self, hub: WatchHub) -> None:
        self._hub = hub

    @property
    def stall_seconds(self) -> float:
        """A reader's time for one message."""
        return self._hub.limits.stall_seconds

    async def watch(self, owner: str, token: str) -> AsyncGenerator[Told, None]:
        """First a checkpoint, then what happens behind it, with checkpoints in between, until its time is over.

        Without a token the checkpoint stands where the log ends now. An event may come again after a resumption in
        the middle of a batch; none is left out.

        Raises:
            InvalidArgument: INVALID_RESUME_TOKEN.
            OutOfRange: RESUME_TOKEN_EXPIRED, also later: the database was restored.
            ResourceExhausted: TOO_MANY_WATCHERS.
            Unavailable: the server stops, its places are taken, the database has been away for too long, or the stream
                has lived for as long as one may.
        """
        given = from_token(token, owner) if token else None
        with self._hub.subscription(owner) as subscription:
            self._hub.check()
            stream = _Stream(self._hub, subscription, await self._begin(owner, given))
            if given is not None:
                subscription.wake.set()  # there may be something to read
            async with aclosing(stream.told()) as told:
                async for each in told:
                    yield each

    async def _begin(self, owner: str, given: Position | None) -> Position:
        head = await _answered(self._hub.head(owner))
        if given is None:
            return Position(head.incarnation, head.sequence, head.entry_time, head.now)
        check_age(given, head.now)
        check_head(given, head.sequence or None)
        batch = await _answered(self._hub.read(owner, given.sequence))
        check_continuity(given, batch.around)
        return given


class _Stream:
    """One watcher at work."""

    def __init__(self, hub: WatchHub, subscription: Subscription, position: Position) -> None:
        self._hub = hub
        self._subscription = subscription
        self._position = position
        self._due = 0.0
        # Streams that began together, when another server stopped, do not end together.
        self._end = time.monotonic() + hub.limits.lifetime_seconds * random.uniform(1 - LIFETIME_SPREAD, 1)  # noqa: S311 - no secret
        self._failing_since: float | None = None
        subscription.incarnation = position.incarnation
        subscription.sequence = position.sequence

    async def told(self) -> AsyncGenerator[Told, None]:
        yield self._checkpoint()
        while True:
            self._check()
            if self._subscription.wake.is_set():
                self._subscription.wake.clear()
                batch = await self._read()
                if batch is not None:
                    async with aclosing(self._events(batch)) as events:
                        async for event in events:
                            yield event
                    continue
            elif self._failing_since is None and self._hub.now is not None:
                self._position = self._position.until(self._hub.now)
            if time.monotonic() >= self._due:
                yield self._checkpoint()
            await self._rest()

    def _check(self) -> None:
        """Whoever watches on calls again, and is asked again who it is: an access that has ended ends here."""
        self._hub.check()
        if time.monotonic() >= self._end:
            raise failures.watch_ended("This stream has lived for as long as one may")

    async def _read(self) -> Batch | None:
        """None: the database does not answer. The poll wakes this watcher again while there is something to read."""
        try:
            batch = await self._hub.read(self._subscription.owner, self._position.sequence)
        except Exception as error:
            if not is_hiccup(error):
                raise
            self._bear(error)
            return None
        self._failing_since = None
        check_continuity(self._position, batch.around)
        if batch.entries:
            self._subscription.sequence = batch.entries[-1].sequence
        return batch

    def _bear(self, error: Exception) -> None:
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > self._hub.limits.outage_seconds:
            raise failures.watch_ended("The index is not reachable for the moment") from error
        _log.warning("watch_read_failed", error=type(error).__name__)

    async def _events(self, batch: Batch) -> AsyncGenerator[Told, None]:
        for event in events_of(batch.entries, batch.assets):
            self._position = self._position.after(event.last)
            yield Told(event, self._token())
            self._check()
            if time.monotonic() >= self._due:
                yield self._checkpoint()
        if batch.entries:
            self._position = self._position.after(batch.entries[-1])
        if batch.is_last:
            self._position = self._position.until(batch.around.now)
        else:
            self._subscription.wake.set()

    def _checkpoint(self) -> Told:
        self._due = time.monotonic() + self._hub.limits.checkpoint_seconds
        return Told(None, self._token())

    def _token(self) -> str:
        return to_token(self._position, self._subscription.owner)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(max(min(self._due, self._end) - time.monotonic(), 0)):
                await self._subscription.wake.wait()
        except TimeoutError:
            return


async def _answered(answer: Awaitable[_T]) -> _T:
    try:
        return await answer
    except Exception as error:
        if not is_hiccup(error):
            raise
        raise failures.watch_ended("The index is not reachable for the moment") from error
