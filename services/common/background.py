"""Background tasks of a process: restarted when they fail, cancelled when the server has drained."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import structlog

Background = Callable[[], Awaitable[None]]

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
CLEAN_UP_SECONDS = 10.0

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def background_tasks(tasks: Mapping[str, Background]) -> AsyncIterator[None]:
    """Runs the tasks while the block runs; leaving it cancels them and waits for their clean-up."""
    running = [asyncio.create_task(supervise(name, task), name=name) for name, task in tasks.items()]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        if running:
            _, stuck = await asyncio.wait(running, timeout=CLEAN_UP_SECONDS)
            for task in stuck:
                _log.error("background_task_stuck", task=task.get_name())


async def supervise(name: str, task: Background) -> None:
    """Runs the task until it returns; after an exception again, with pauses from 0.5 s doubling to 30 s.

    A run that lasted longer than the longest pause counts as healthy and resets the pauses.
    """
    pause = FIRST_PAUSE
    while True:
        start = time.monotonic()
        try:
            await task()
        except Exception as error:
            if time.monotonic() - start > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            _log.error("background_task_failed", task=name, retry_in=pause, exc_info=error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            return
