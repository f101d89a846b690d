"""One supervised process: started, watched until ready, restarted when it dies, stopped."""

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from deploy.local.handle import ProcessHandle, identify
from deploy.local.logfiles import open_for_append, tail
from deploy.local.readiness import is_ready
from deploy.local.spec import Launch, ProcessSpec
from deploy.local.state import ProcessRecord, ProcessState
from deploy.local.stopping import stop_process

log = logging.getLogger("deploy.local")

POLL_SECONDS = 0.05


class StartFailedError(RuntimeError):
    """A process did not become ready; the message holds the end of its log."""


class Backoff:
    """Growing pauses between restarts, short again after a process was well for a while."""

    def __init__(self, first: float = 0.2, longest: float = 10.0, reset_after: float = 30.0) -> None:
        self._first, self._longest, self._reset_after = first, longest, reset_after
        self._failures = 0

    def next_pause(self, healthy_seconds: float) -> float:
        """The pause before the next start, given how long the last one was ready."""
        if healthy_seconds >= self._reset_after:
            self._failures = 0
        pause = min(self._longest, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return pause


class Child:
    """A row of the process table, alive."""

    def __init__(self, spec: ProcessSpec, stage: int, log_file: Path, changed: Callable[[], None]) -> None:
        self.spec, self.stage, self.log_file = spec, stage, log_file
        self.state = ProcessState.WAITING
        self.restarts = 0
        self._changed = changed
        self._since = time.time()
        self._popen: subprocess.Popen[bytes] | None = None
        self._handle: ProcessHandle | None = None
        self._hurry = asyncio.Event()

    def record(self) -> ProcessRecord:
        """This process for the state file."""
        return ProcessRecord(
            name=self.spec.name,
            stage=self.stage,
            state=self.state,
            identity=self._handle.identity if self._handle and not self._handle.has_exited else None,
            ports=self.spec.ports,
            since=self._since,
            restarts=self.restarts,
            ready=self.spec.ready,
            stop=self.spec.stop,
            once=self.spec.once,
        )

    async def start(self, launch: Launch) -> None:
        """Start and wait until ready. Raises StartFailedError; the process may then still run."""
        if self._handle is not None:
            raise StartFailedError(f"{self.spec.name} (pid {self._handle.identity.pid}) still runs")
        began = time.monotonic()
        self._spawn(launch)
        self._enter(ProcessState.STARTING)
        handle = self._handle
        while handle is None or not await is_ready(self.spec.ready):
            if handle is None or handle.has_exited:
                raise StartFailedError(self._failure(f"exited before it was ready ({self._reap()})"))
            if time.monotonic() - began > self.spec.ready_seconds:
                raise StartFailedError(self._failure(f"was not ready after {self.spec.ready_seconds:.0f} s"))
            await handle.exited(POLL_SECONDS)
        self._enter(ProcessState.READY)
        log.info("%-9s ready in %.1f s%s", self.spec.name, time.monotonic() - began, self._where())

    async def keep(self) -> None:
        """Restart the process whenever it dies, for ever."""
        backoff = Backoff()
        while (handle := self._handle) is not None:
            ready_at = time.monotonic()
            await handle.exited()
            how = self._reap()
            healthy = time.monotonic() - ready_at
            log.error(
                "%s DIED (%s) after %.0f s and is restarted. Log: %s", self.spec.name, how, healthy, self.log_file
            )
            while not await self._restarted(backoff.next_pause(healthy)):
                healthy = 0.0

    async def stop(self) -> None:
        """End the process by the steps of its row; nothing happens when it is not running."""
        if self._handle is None:
            self._enter(ProcessState.STOPPED)
            return
        self._enter(ProcessState.STOPPING)
        spec = self.spec
        if not await stop_process(self._handle, spec.name, spec.stop, once=spec.once, hurry=self._hurry):
            log.error("%s (pid %d) does not stop and is left running", self.spec.name, self._handle.identity.pid)
            return
        self._reap()
        self._enter(ProcessState.STOPPED)

    def hurry(self) -> None:
        """Go to the next step of stopping whenever there is one."""
        self._hurry.set()

    async def _restarted(self, pause: float) -> bool:
        self._enter(ProcessState.RESTARTING)
        await asyncio.sleep(pause)
        self.restarts += 1
        try:
            await self.start(await self.spec.launch())
        except Exception as error:  # whatever this start met, the next may meet better times
            log.error("%s", error if isinstance(error, StartFailedError) else f"{self.spec.name}: {error!r}")
            await self.stop()
            return False
        return True

    def _spawn(self, launch: Launch) -> None:
        output = open_for_append(self.log_file)
        try:
            self._popen = subprocess.Popen(
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=launch.cwd,
                env=dict(launch.environment),
                start_new_session=True,  # Ctrl-C in the terminal is for the runner, which then stops in order
                user=launch.account.uid if launch.account else None,
                group=launch.account.gid if launch.account else None,
                extra_groups=() if launch.account else None,
            )
        except OSError as error:
            raise StartFailedError(f"{self.spec.name} cannot be started: {error}") from error
        finally:
            os.close(output)
        identity = identify(self._popen.pid)
        self._handle = ProcessHandle.open(identity) if identity else None

    def _reap(self) -> str:
        """Collect the exit status; says how the process ended."""
        code = self._popen.wait() if self._popen else 0
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _enter(self, state: ProcessState) -> None:
        self.state, self._since = state, time.time()
        self._changed()

    def _failure(self, what: str) -> str:
        lines = "".join(f"\n    {line}" for line in tail(self.log_file))
        return f"{self.spec.name} {what}. The end of {self.log_file}:{lines or ' (empty)'}"

    def _where(self) -> str:
        return f" on port {self.spec.port}" if self.spec.port else ""
