"""What the tests of the stack runner share: stand-ins, tables of them, and what they noted."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.readiness import Readiness
from deploy.local.settings import Settings
from deploy.local.spec import Launch, ProcessSpec, StopStep, terminate

ROOT = Path(__file__).resolve().parents[3]
STANDIN = Path(__file__).with_name("standin.py")
WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class Event:
    """One line of the stand-ins' journal."""

    name: str
    what: str
    pid: int


def settings_for(home: Path, port_base: int = 0, **variables: str) -> Settings:
    """Settings as if the caller had set nothing but these variables."""
    return Settings(ROOT, home, port_base, {"PATH": os.environ["PATH"], "HOME": str(home), **variables})


def standin(
    home: Path,
    name: str,
    port: int,
    *options: str,
    after: Sequence[str] = (),
    stop: tuple[StopStep, ...] = terminate(5),
    ready_seconds: float = 10,
) -> ProcessSpec:
    """A row of the process table that starts a stand-in."""

    async def launch() -> Launch:
        command = (sys.executable, "-S", "-E", str(STANDIN), name, str(port), str(journal_path(home)), *options)
        return Launch(command, {"PATH": os.environ["PATH"]}, Path("/"))

    ready = Readiness("tcp", port)
    return ProcessSpec(name, launch, ready, stop, tuple(after), (port,), ready_seconds)


def journal_path(home: Path) -> Path:
    """Where the stand-ins of a home note what happens to them."""
    return home / "journal"


def journal(home: Path) -> list[Event]:
    """What the stand-ins noted, oldest first."""
    if not journal_path(home).exists():
        return []
    rows = sorted(line.split() for line in journal_path(home).read_text(encoding="utf-8").splitlines())
    return [Event(name, what, int(pid)) for _, name, what, pid in rows]


def happened(home: Path, what: str) -> list[str]:
    """The names of the stand-ins to which this happened, in order."""
    return [event.name for event in journal(home) if event.what == what]


async def eventually(condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError(f"not so after {seconds} s")


def kill(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)


def quiet_environment(**variables: str) -> dict[str, str]:
    """This process's environment without anything that chooses parts of the suite."""
    chosen = ("DATABASE_URL", "CONTENTLAB_", "OPENAI_", "AZURE_", "MODEL_PROVIDER", "PG_BIN")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(chosen)}
    return {**kept, **variables}
