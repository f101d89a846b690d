"""Work that belongs to the service and not to the call that began it: a client that goes away ends nothing."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from services.common.errors import ServiceError, Unavailable
from services.image.domain.generations import Generation

_log = structlog.get_logger(__name__)


class Running:
    """The generations under way in this process, by id of their paid call; at most `capacity`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tasks: dict[str, asyncio.Task[Generation]] = {}

    def refuse_if_full(self) -> None:
        """To be asked before anything is written down.

        Raises:
            Unavailable: there are as many as there may be.
        """
        if len(self._tasks) >= self._capacity:
            raise Unavailable(
                "UNAVAILABLE",
                "This service has as many generations under way as it takes; try again in a moment.",
                retry_safe=True,
                retry_after=1.0,
            )

    def start(self, call_id: str, work: Coroutine[Any, Any, Generation]) -> asyncio.Task[Generation]:
        """Runs the work in a task of its own, which keeps the caller, the trace and the log's context."""
        task = asyncio.create_task(work, name=f"generation of {call_id}")
        self._tasks[call_id] = task
        task.add_done_callback(lambda done: self._ended(call_id, done))
        return task

    def find(self, call_id: str) -> asyncio.Task[Generation] | None:
        """The task that is at work on that call, here."""
        return self._tasks.get(call_id)

    async def drain(self, seconds: float) -> None:
        """Waits for the work under way, then cancels what is left of it: the spool and the sweep know what to do."""
        if not self._tasks:
            return
        _log.info("draining_generations", count=len(self._tasks))
        await asyncio.wait(self._tasks.values(), timeout=max(seconds, 0.0))
        left = list(self._tasks.values())
        if left:
            _log.warning("generations_cut_off", count=len(left))
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _ended(self, call_id: str, task: asyncio.Task[Generation]) -> None:
        if self._tasks.get(call_id) is task:
            del self._tasks[call_id]
        # Asked for here, because nobody else may be there any more to ask.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ServiceError):
            _log.error("generation_broke", paid_call=call_id, error=type(error).__name__, exc_info=error)
