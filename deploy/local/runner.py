"""One run of the stack, from taking the lock to the last process stopped."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from deploy.local.console import begin_log
from deploy.local.first_run import announcement, first_picture
from deploy.local.guard import Guard
from deploy.local.handle import identify
from deploy.local.logfiles import log_path, rotate
from deploy.local.portcheck import require_free
from deploy.local.processes import find_ground, process_table
from deploy.local.settings import Settings
from deploy.local.spec import ProcessSpec, with_dependencies
from deploy.local.state import Phase, RunState, forget_state, save_state, sole_charge
from deploy.local.stopping import end_orphans
from deploy.local.supervisor import Supervisor

log = logging.getLogger("deploy.local")

TableBuilder = Callable[[Settings], Awaitable[Sequence[ProcessSpec]]]


async def whole_table(settings: Settings) -> Sequence[ProcessSpec]:
    """The suite's own process table."""
    return process_table(settings, await find_ground(settings))


class Runner:
    """Starts a process table for one home, keeps the state file true, stops on SIGINT, SIGTERM or SIGHUP.

    Without ``guarded`` the processes outlive a runner that is killed, as they do when its guard is killed too.
    """

    def __init__(
        self,
        settings: Settings,
        table: TableBuilder = whole_table,
        only: Sequence[str] = (),
        *,
        guarded: bool = True,
    ) -> None:
        self._settings, self._table, self._only = settings, table, only
        self._guarded = guarded
        self._state: RunState | None = None
        self._supervisor: Supervisor | None = None

    async def run(self) -> None:
        """Run until told to stop, after ending whatever a runner that was killed has left.

        Raises AlreadyLockedError, OrphanError, PortTakenError, StartFailedError, and what the table raises.
        """
        home = self._settings.home
        async with sole_charge(home):
            handler = begin_log(home)
            guard = Guard(self._settings.root, home) if self._guarded else None
            try:
                await end_orphans(home)
                await self._run(time.monotonic())
            finally:
                if guard is not None:
                    await asyncio.to_thread(guard.dismiss)
                log.removeHandler(handler)
                handler.close()

    async def _run(self, began: float) -> None:
        settings = self._settings
        specs = await self._table(settings)
        if self._only:
            specs = with_dependencies(specs, self._only)
        await require_free([(spec.name, port) for spec in specs for port in spec.ports])
        for spec in specs:
            rotate(log_path(settings.home, spec.name))
        runner = identify(os.getpid())
        if runner is None:
            raise RuntimeError("this process cannot be found in /proc")
        self._state = RunState(runner, Phase.STARTING, settings.port_base)
        self._supervisor = Supervisor(specs, settings.home, self._save)
        self._save()

        async def serving() -> None:
            log.info("serving after %.1f s", time.monotonic() - began)
            lines = await self._announcement({spec.name for spec in specs})
            self._save(Phase.SERVING, lines)
            for line in ("", *lines, f"Logs: {settings.home / 'logs'}", ""):
                log.info("%s", line)

        work = asyncio.create_task(self._supervisor.run(serving))
        try:
            with self._stops_on_signals(work, self._supervisor):
                await asyncio.wait([work])
            if not work.cancelled():
                work.result()
        finally:
            if not work.done():  # this coroutine itself was cancelled
                work.cancel()
                await asyncio.wait([work])
            if not any(record.identity for record in self._supervisor.records()):
                forget_state(settings.home)

    async def _announcement(self, names: set[str]) -> tuple[str, ...]:
        if "gateway" not in names:
            return (f"{', '.join(sorted(names))} serve",)
        port = self._settings.port("gateway")
        emulated = self._settings.uses_emulator
        asset = await first_picture(port) if emulated else None
        return announcement(f"http://127.0.0.1:{port}", asset, emulated=emulated)

    def _save(self, phase: Phase | None = None, lines: tuple[str, ...] | None = None) -> None:
        if self._state is None or self._supervisor is None:
            return
        self._state = replace(
            self._state,
            phase=phase or self._state.phase,
            announcement=self._state.announcement if lines is None else lines,
            processes=self._supervisor.records(),
        )
        try:
            save_state(self._settings.home, self._state)
        except OSError as error:  # a full disk is no reason to stop what runs
            log.warning("the state of the run cannot be written: %s", error)

    @contextmanager
    def _stops_on_signals(self, work: asyncio.Task[None], supervisor: Supervisor) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        asked = False

        def stop() -> None:
            nonlocal asked
            if asked:
                log.warning("stopping at once")
                supervisor.hurry()
            else:
                asked = True
                log.info("stopping (once more to hurry)")
                self._save(Phase.STOPPING)
                work.cancel()

        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for signum in signals:
            loop.add_signal_handler(signum, stop)
        try:
            yield
        finally:
            for signum in signals:
                loop.remove_signal_handler(signum)
