"""``up`` and ``down``: the same runner, detached from the terminal."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.local.handle import ProcessHandle, is_alive
from deploy.local.logfiles import log_path, tail
from deploy.local.settings import Settings
from deploy.local.state import Phase, RunState, live_state, load_state
from deploy.local.stopping import clear_remains

# Longer than any process may take to stop, Azurite's two minutes included.
DOWN_SECONDS = 300
# First start of a database after a crash may take minutes.
UP_SECONDS = 900


class BackgroundError(RuntimeError):
    """The stack could not be brought up or down; the message says why."""


async def up(settings: Settings, only: tuple[str, ...]) -> RunState:
    """Start the stack in the background and return once it serves; one that runs is waited for and left as it is.

    Raises BackgroundError.
    """
    if (state := live_state(settings.home)) is not None:
        return await _serving(settings.home, is_running=lambda: is_alive(state.runner), errors=None)
    errors = settings.home / "run" / "up.log"
    child = await asyncio.to_thread(_detached_runner, settings, errors, only)
    return await _serving(settings.home, is_running=lambda: child.poll() is None, errors=errors)


async def down(settings: Settings) -> bool:
    """Stop the stack, also what a runner that was killed has left; says whether there was any.

    Raises BackgroundError, OrphanError.
    """
    state = load_state(settings.home)
    if state is None:
        return False
    handle = ProcessHandle.open(state.runner)
    if handle is None:
        await clear_remains(settings.home)
        return True
    try:
        handle.send(signal.SIGTERM)
        if not await handle.exited(DOWN_SECONDS):
            raise BackgroundError(f"the runner (pid {handle.identity.pid}) does not stop; see {settings.home / 'logs'}")
    finally:
        handle.close()
    return True


def _detached_runner(settings: Settings, errors: Path, only: tuple[str, ...]) -> subprocess.Popen[bytes]:
    errors.parent.mkdir(parents=True, exist_ok=True)
    chosen = ["--only", ",".join(only)] if only else []
    with errors.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.local", "run", "--background", *chosen],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=settings.root,
            env={**os.environ, "CONTENTLAB_HOME": str(settings.home)},
            start_new_session=True,  # it outlives this command and its terminal
        )


async def _serving(home: Path, is_running: Callable[[], bool], errors: Path | None) -> RunState:
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        # Asked before the state is read: a runner that ended after that is caught in the next round.
        running = is_running()
        state = live_state(home)
        if state is not None and state.phase == Phase.SERVING:
            return state
        if not running:
            why = "\n".join(tail(errors, 40)) if errors else ""
            raise BackgroundError(why or f"the stack has stopped; see {log_path(home, 'runner')}")
        await asyncio.sleep(0.05)
    raise BackgroundError(f"the stack did not come up in {UP_SECONDS} s; see {log_path(home, 'runner')}")
