"""The stack as a whole: started in order of dependency, kept alive, stopped in reverse."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from deploy.local.child import Child, StartFailedError
from deploy.local.logfiles import cut_if_too_large, log_path
from deploy.local.spec import Launch, ProcessSpec, stages
from deploy.local.state import ProcessRecord

log = logging.getLogger("deploy.local")

LOG_CHECK_SECONDS = 30.0


class Supervisor:
    """Runs a process table. ``changed`` is called after every change of any process's state."""

    def __init__(self, specs: Sequence[ProcessSpec], home: Path, changed: Callable[[], None]) -> None:
        depth = stages(specs)
        self._children = [Child(spec, depth[spec.name], log_path(home, spec.name), changed) for spec in specs]
        self._ready = {spec.name: asyncio.Event() for spec in specs}

    def records(self) -> tuple[ProcessRecord, ...]:
        """Every process, in table order."""
        return tuple(child.record() for child in self._children)

    async def run(self, serving: Callable[[], Awaitable[object]]) -> None:
        """Start everything, call ``serving`` once all is ready, keep it alive until cancelled, then stop everything.

        Raises StartFailedError when a process does not become ready at its first start; by then all are stopped.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for child in self._children:
                    group.create_task(self._live(child))
                group.create_task(self._bound_logs())
                for event in self._ready.values():
                    await event.wait()
                await serving()
        except BaseExceptionGroup as failures:
            if (first := _first_start_failure(failures)) is None:
                raise
            raise first from None
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop every process after all that depend on it have stopped."""
        for stage in sorted({child.stage for child in self._children}, reverse=True):
            async with asyncio.TaskGroup() as group:
                for child in self._children:
                    if child.stage == stage:
                        group.create_task(child.stop())

    def hurry(self) -> None:
        """Stop without patience; Azurite is still waited for."""
        for child in self._children:
            child.hurry()

    async def _live(self, child: Child) -> None:
        launch = await self._prepared(child)
        for name in child.spec.after:
            await self._ready[name].wait()
        await child.start(launch)
        self._ready[child.spec.name].set()
        await child.keep()

    async def _prepared(self, child: Child) -> Launch:
        try:
            return await child.spec.launch()
        except Exception as error:
            raise StartFailedError(f"{child.spec.name} cannot be started: {error}") from error

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            for child in self._children:
                try:
                    await asyncio.to_thread(cut_if_too_large, child.log_file)
                except OSError as error:
                    log.warning("%s cannot be cut: %s", child.log_file, error)


def _first_start_failure(failures: BaseExceptionGroup[BaseException]) -> StartFailedError | None:
    for failure in failures.exceptions:
        if isinstance(failure, StartFailedError):
            return failure
        if isinstance(failure, BaseExceptionGroup) and (inner := _first_start_failure(failure)):
            return inner
    return None
