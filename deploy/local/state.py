"""What the runner knows, on disk: written at every change, so that a successor can take over after a kill -9."""

import asyncio
import fcntl
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from deploy.local.handle import ProcessIdentity, is_alive
from deploy.local.readiness import Readiness
from deploy.local.spec import StopStep

# Longer than any process may take to stop, Azurite's two minutes included.
CLEANING_SECONDS = 300


class ProcessState(StrEnum):
    """Where one process is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Phase(StrEnum):
    """Where the whole stack is."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process as a successor, or ``status``, needs to know it. ``since`` is in seconds since the epoch."""

    name: str
    stage: int
    state: ProcessState
    identity: ProcessIdentity | None
    ports: tuple[int, ...]
    since: float
    restarts: int
    ready: Readiness
    stop: tuple[StopStep, ...]
    once: bool

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild from plain data; raises KeyError, TypeError or ValueError when it is not ours."""
        return cls(
            **{
                **data,
                "state": ProcessState(data["state"]),
                "identity": ProcessIdentity(**data["identity"]) if data["identity"] else None,
                "ports": tuple(data["ports"]),
                "ready": Readiness(**data["ready"]),
                "stop": tuple(StopStep(signal.Signals(step["signal"]), step["seconds"]) for step in data["stop"]),
            }
        )


@dataclass(frozen=True, slots=True)
class RunState:
    """The stack of one home directory. ``announcement`` is what a person is told once it serves."""

    runner: ProcessIdentity
    phase: Phase
    port_base: int
    announcement: tuple[str, ...] = ()
    processes: tuple[ProcessRecord, ...] = field(default=())

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild from plain data; raises KeyError, TypeError or ValueError when it is not ours."""
        return cls(
            runner=ProcessIdentity(**data["runner"]),
            phase=Phase(data["phase"]),
            port_base=int(data["port_base"]),
            announcement=tuple(data["announcement"]),
            processes=tuple(ProcessRecord.from_json(item) for item in data["processes"]),
        )


def state_path(home: Path) -> Path:
    """Where the state of this home is kept."""
    return home / "run" / "state.json"


def save_state(home: Path, state: RunState) -> None:
    """Replace the state atomically."""
    path = state_path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
    scratch.replace(path)


def load_state(home: Path) -> RunState | None:
    """The last state of this home; None when there is none that can be read."""
    try:
        return RunState.from_json(json.loads(state_path(home).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_state(home: Path) -> None:
    """Nothing of this home runs any more."""
    state_path(home).unlink(missing_ok=True)


class AlreadyLockedError(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a file lock, which ends with this process however it ends. Raises AlreadyLockedError at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyLockedError(str(path)) from None
        yield
    finally:
        os.close(descriptor)


def live_state(home: Path) -> RunState | None:
    """The state of this home's runner, if that runner still lives."""
    state = load_state(home)
    return state if state is not None and is_alive(state.runner) else None


@asynccontextmanager
async def sole_charge(home: Path) -> AsyncIterator[None]:
    """Be the one process in charge of this home. Raises AlreadyLockedError when a living runner is.

    Whoever is cleaning up after a runner that was killed is waited for.
    """
    deadline = time.monotonic() + CLEANING_SECONDS
    async with AsyncExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(home / "run" / "runner.lock"))
                break
            except AlreadyLockedError:
                if live_state(home) is not None or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.05)
        yield
