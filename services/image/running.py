"""Work that belongs to the service and not to the call that began it: a client that goes away ends nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

import structlog

from services.common.errors import ServiceError, Unavailable

T = TypeVar("T")
W = TypeVar("W")

_log = structlog.get_logger(__name__)


class Running(Generic[W]):
    """The work of one kind under way in this process, by id of its paid call or intent; at most `capacity`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tasks: dict[str, asyncio.Task[W]] = {}
        self._beginning: set[asyncio.Future[Any]] = set()

    async def admit(self, begin: Callable[[], Awaitable[T]]) -> T:
        """Runs `begin`, which writes work down and may `start` it, to its end, even if the caller goes away.

        A place is taken before anything is awaited, and free again when nothing was started.

        Raises:
            Unavailable: there are as many as there may be; `begin` was not run.
        """
        if len(self._tasks) + len(self._beginning) >= self._capacity:
            raise Unavailable(
                "UNAVAILABLE",
                "This service has as much under way as it takes; try again in a moment.",
                retry_safe=True,
                retry_after=1.0,
            )
        task = asyncio.ensure_future(begin())
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        return await asyncio.shield(task)

    def start(self, call_id: str, work: Coroutine[Any, Any, W]) -> asyncio.Task[W]:
        """Runs the work in a task of its own, which keeps the caller, the trace and the log's context.

        Called from within `admit`, it takes over the place that is held there.
        """
        task = asyncio.create_task(work, name=f"work of {call_id}")
        self._tasks[call_id] = task
        beginning = asyncio.current_task()
        if beginning is not None:
            self._beginning.discard(beginning)
        task.add_done_callback(lambda done: self._ended(call_id, done))
        return task

    def find(self, call_id: str) -> asyncio.Task[W] | None:
        """The task that is at work on that call, here."""
        return self._tasks.get(call_id)

    async def drain(self, seconds: float) -> None:
        """Waits for the work under way, then cancels what is left of it: the spool and the sweep know what to do."""
        if self._all:
            _log.info("draining", count=len(self._all))
        until = time.monotonic() + max(seconds, 0.0)
        # What is beginning becomes work under way: look again.
        while self._all and (left := until - time.monotonic()) > 0:
            await asyncio.wait(self._all, timeout=left)
        cut_off = self._all
        if cut_off:
            _log.warning("work_cut_off", count=len(cut_off))
        for task in cut_off:
            task.cancel()
        await asyncio.gather(*cut_off, return_exceptions=True)

    @property
    def _all(self) -> set[asyncio.Future[Any]]:
        return {*self._tasks.values(), *self._beginning}

    def _ended(self, call_id: str, task: asyncio.Task[W]) -> None:
        if self._tasks.get(call_id) is task:
            del self._tasks[call_id]
        # Asked for here, because nobody else may be there any more to ask.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ServiceError):
            _log.error("work_broke", paid_call=call_id, error=type(error).__name__, exc_info=error)
