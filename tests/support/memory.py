"""Peak memory of processes, from /proc."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True)
class Watched:
    """A process and its resident memory, in bytes, when its peak was last forgotten."""

    pid: int
    at_first: int

    @property
    def growth(self) -> int:
        """How far above it the process has been since then, in bytes."""
        return max(0, _field(self.pid, "VmHWM") - self.at_first)


def watch(pid: int) -> Watched:
    """Forgets the peak so far (proc(5): `clear_refs`, 5) and begins anew.

    A process that keeps its memory private lets only root do that: of it, what exceeds the peak so far is told.
    """
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    except PermissionError:
        return Watched(pid, _field(pid, "VmHWM"))
    return Watched(pid, _field(pid, "VmRSS"))


def children(pid: int) -> list[int]:
    """The processes that it has started."""
    tasks: Iterable[Path] = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]


def child_with(argument: str) -> int:
    """The process of ours that was started with this in its command line."""
    return next(pid for pid in children(os.getpid()) if argument in _command_line(pid))


def processor_seconds(pid: int) -> float:
    """What a process has used of the processor so far, in user and system mode (proc(5): `stat`, 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")


def _field(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)
