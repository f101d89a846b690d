"""Processes by identity, not by number: a pid alone may have been given to somebody else."""

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process for ever: its pid, its start time in clock ticks since boot, and the boot."""

    pid: int
    start_ticks: int
    boot_id: str


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a living process; None when there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is a name in parentheses that may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return ProcessIdentity(pid, int(fields[19]), _boot_id())  # field 22 of proc(5): starttime


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether exactly this process still runs."""
    return identify(identity.pid) == identity


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty when it is gone."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(part) for part in raw.split(b"\0")[:-1]]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class ProcessHandle:
    """A pidfd: signals reach this process or nobody, and its end wakes the event loop.

    Works for children and for others alike, starts no threads, and (unlike asyncio's own subprocess
    transport) does not SIGKILL the process when it is garbage collected.
    """

    def __init__(self, identity: ProcessIdentity, pidfd: int) -> None:
        self.identity = identity
        self._pidfd = pidfd
        self._exited = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pidfd, self._on_exit)

    @classmethod
    def open(cls, identity: ProcessIdentity) -> Self | None:
        """A handle on the process, or None when it is gone. Call it with a running event loop."""
        try:
            pidfd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return None
        # Only after the pidfd is held is the comparison safe from a reuse of the pid.
        if not is_alive(identity):
            os.close(pidfd)
            return None
        return cls(identity, pidfd)

    @property
    def has_exited(self) -> bool:
        """Whether the process has ended (it may not be reaped yet)."""
        return self._exited.is_set()

    async def exited(self, seconds: float | None = None) -> bool:
        """Wait for the end of the process, at most so long; says whether it ended."""
        try:
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        except TimeoutError:
            return False
        return True

    def send(self, signum: signal.Signals) -> None:
        """Send a signal; nothing happens when the process is gone."""
        if not self.has_exited:
            try:
                signal.pidfd_send_signal(self._pidfd, signum)
            except ProcessLookupError:
                return

    def catches(self, signum: signal.Signals) -> bool:
        """Whether the process has a handler of its own for this signal at this moment (SigCgt of proc(5))."""
        try:
            status = Path(f"/proc/{self.identity.pid}/status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        mask = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
        return bool(int(mask, 16) >> (signum - 1) & 1)

    def close(self) -> None:
        """Forget the process without touching it."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._exited.set()
