"""How the stack of a home is doing: the runner's word, checked against the processes and their probes."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.handle import is_alive
from deploy.local.readiness import is_ready
from deploy.local.state import ProcessRecord, ProcessState, load_state


@dataclass(frozen=True, slots=True)
class Line:
    """One process as it is now."""

    name: str
    pid: int | None
    state: str
    healthy: bool
    port: int | None
    uptime: float | None
    restarts: int


@dataclass(frozen=True, slots=True)
class Status:
    """The stack as it is now; ``runner_pid`` is None when no runner lives."""

    runner_pid: int | None
    phase: str
    lines: tuple[Line, ...]

    @property
    def healthy(self) -> bool:
        """Whether the runner lives and every process answers."""
        return self.runner_pid is not None and bool(self.lines) and all(line.healthy for line in self.lines)


async def look(home: Path) -> Status:
    """Probe every process once, all at the same time."""
    state = await asyncio.to_thread(load_state, home)
    if state is None:
        return Status(None, "not running", ())
    lines = tuple(await asyncio.gather(*(_line(record) for record in state.processes)))
    if not is_alive(state.runner):
        return Status(None, "killed; `make run`, `make up` or `make down` cleans up", lines)
    return Status(state.runner.pid, state.phase, lines)


def as_table(status: Status) -> str:
    """For a person."""
    runner = f"runner {status.phase}" + (f" (pid {status.runner_pid})" if status.runner_pid else "")
    header = ("NAME", "PID", "STATE", "PORT", "UPTIME", "RESTARTS")
    rows = [header, *(_cells(line) for line in status.lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([runner, *(table if status.lines else [])])


async def _line(record: ProcessRecord) -> Line:
    alive = record.identity is not None and is_alive(record.identity)
    healthy = alive and record.state == ProcessState.READY and await is_ready(record.ready)
    state: str = record.state
    if not alive and record.state == ProcessState.READY:
        state = "dead"
    elif alive and record.state == ProcessState.READY and not healthy:
        state = "not answering"
    return Line(
        name=record.name,
        pid=record.identity.pid if record.identity and alive else None,
        state=state,
        healthy=healthy,
        port=record.ports[0] if record.ports else None,
        uptime=time.time() - record.since if healthy else None,
        restarts=record.restarts,
    )


def _cells(line: Line) -> Sequence[str]:
    uptime = "-" if line.uptime is None else _duration(line.uptime)
    return (line.name, str(line.pid or "-"), line.state, str(line.port or "-"), uptime, str(line.restarts))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
