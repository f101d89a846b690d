"""How processes are ended: own children, and orphans of a runner that was killed."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from pathlib import Path

from deploy.local.handle import ProcessHandle
from deploy.local.spec import StopStep
from deploy.local.state import AlreadyLockedError, ProcessRecord, forget_state, load_state, sole_charge

log = logging.getLogger("deploy.local")

# A process that dies of a second SIGTERM and catches none is either starting or already stopping.
STARTING_SECONDS = 3.0


async def stop_process(
    handle: ProcessHandle,
    name: str,
    steps: tuple[StopStep, ...],
    *,
    once: bool,
    hurry: asyncio.Event | None = None,
) -> bool:
    """Send the signals in turn until the process ends; says whether it did.

    ``once`` marks a process that dies of a second SIGTERM. ``hurry`` ends every wait but the last.
    """
    for number, step in enumerate(steps, start=1):
        if step.signal == signal.SIGKILL:
            log.warning("%s did not stop in time and is killed", name)
            _kill_group(handle)
        elif not once or await _will_catch(handle, step.signal):
            handle.send(step.signal)
        if await _exited(handle, step.seconds, hurry if number < len(steps) else None):
            return True
    return handle.has_exited


async def clear_remains(home: Path) -> None:
    """Wait for sole charge of a home, and end what a runner that was killed has left. Raises OrphanError.

    Nothing happens when another runner has taken over, which then did the same.
    """
    with contextlib.suppress(AlreadyLockedError):
        async with sole_charge(home):
            await end_orphans(home)


async def end_orphans(home: Path) -> None:
    """End exactly the processes of the state file, last started first. Only for who is in sole charge of the home."""
    state = load_state(home)
    if state is None:
        return
    for stage in sorted({record.stage for record in state.processes}, reverse=True):
        async with asyncio.TaskGroup() as group:
            for record in state.processes:
                if record.stage == stage:
                    group.create_task(_end_orphan(record))
    forget_state(home)


class OrphanError(RuntimeError):
    """A process of a former runner does not end."""


async def _end_orphan(record: ProcessRecord) -> None:
    handle = ProcessHandle.open(record.identity) if record.identity else None
    if handle is None:
        return
    try:
        log.info("ending %s (pid %d), left by a runner that was killed", record.name, handle.identity.pid)
        if not await stop_process(handle, record.name, record.stop, once=record.once):
            raise OrphanError(f"{record.name} (pid {handle.identity.pid}), left by an earlier run, does not stop")
    finally:
        handle.close()


async def _will_catch(handle: ProcessHandle, signum: signal.Signals) -> bool:
    """Whether to send a signal that the process must catch: not when it has already used its handler up."""
    deadline = time.monotonic() + STARTING_SECONDS
    while not handle.catches(signum):
        if time.monotonic() > deadline or await handle.exited(0.05):
            return False
    return True


async def _exited(handle: ProcessHandle, seconds: float, hurry: asyncio.Event | None) -> bool:
    waits = [asyncio.create_task(handle.exited())]
    if hurry is not None:
        waits.append(asyncio.create_task(hurry.wait()))
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return handle.has_exited


def _kill_group(handle: ProcessHandle) -> None:
    # Every process of the stack leads a group of its own, so that its helpers go with it.
    if not handle.has_exited:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(handle.identity.pid, signal.SIGKILL)
        handle.send(signal.SIGKILL)
