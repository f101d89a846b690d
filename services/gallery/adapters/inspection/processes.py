"""Processes that open hostile files: started, asked one question at a time, and ended when they do not answer."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import structlog

from services.gallery.adapters.inspection.fair_turns import FairTurns, Rank
from services.gallery.domain import failures

WORKER = "services.gallery.adapters.inspection.worker"
FILES_PER_PROCESS = 500
"""A decoder that leaks is replaced before it matters."""

GRACE_SECONDS = 2.0
"""How much later than the process's own clock we stop waiting for it."""

START_SECONDS = 30.0

# Nothing of ours is in the environment of a process that opens hostile files.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
_READY = b"ready\n"
_ANSWER_BYTES = 64 * 1024

LARGE_AT_ONCE = 1
"""A picture above `limits.LARGE_PIXELS` may take most of the memory that a process may have."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InspectionLimits:
    """Bounds on one file: pixels, wall-clock seconds, bytes of address space."""

    max_pixels: int
    seconds: float
    memory_bytes: int


class Death(Enum):
    """Why a process ended while it held a file."""

    TIME = auto()
    """Its time was up; how busy the machine is has a part in it."""
    WORK = auto()
    """It had used as much of the processor as the file had earned; nothing but the bytes has a part in it."""
    UNKNOWN = auto()


class WorkerDiedError(Exception):
    """The process ended while it held a file."""

    def __init__(self, death: Death) -> None:
        super().__init__()
        self.death = death


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom a file is opened: see `FairTurns`."""

    who: str = ""
    rank: Rank = Rank.USER


_DEATHS = {-signal.SIGALRM: Death.TIME, -signal.SIGPROF: Death.WORK}


class Processes:
    """Up to `count` files at a time; further ones wait for their turn. `niceness`: as the system's nice has it.

    `large`: turns at large pictures, which all processes of a service share.
    """

    def __init__(self, limits: InspectionLimits, *, count: int, large: FairTurns, niceness: int = 0) -> None:
        self.limits = limits
        self._turns = FairTurns(count)
        self._large = large
        self._niceness = niceness
        self._idle: list[_Worker] = []

    async def ask(self, request: dict[str, Any], descriptors: Sequence[int], asker: Asker = Asker()) -> dict[str, Any]:
        """The answer of a process to a request about the open files.

        Raises:
            WorkerDiedError: it ended, twice, or ran out of time.
        """
        answer = await self._ask_twice({**request, "large": False}, descriptors, asker)
        if answer != {"refusal": "large"}:
            return answer
        # No process rests meanwhile: who waits for this turn has given its process back.
        async with self._large.taken(asker.who, asker.rank):
            return await self._ask_twice({**request, "large": True}, descriptors, asker)

    @property
    def idle(self) -> list[int]:
        """The ids of processes that live and have nothing to do."""
        return [worker.pid for worker in self._idle if worker.alive]

    async def close(self) -> None:
        """Ends the processes."""
        while self._idle:
            await self._idle.pop().close()

    async def _ask_twice(self, request: dict[str, Any], descriptors: Sequence[int], asker: Asker) -> dict[str, Any]:
        try:
            return await self._ask(request, descriptors, asker)
        except WorkerDiedError as error:
            if error.death is not Death.UNKNOWN:
                raise
            # Perhaps it was not the file's fault: somebody may have ended the process from outside.
            return await self._ask(request, descriptors, asker)

    async def _ask(self, request: dict[str, Any], descriptors: Sequence[int], asker: Asker) -> dict[str, Any]:
        async with self._turns.taken(asker.who, asker.rank), self._worker() as worker:
            return await worker.ask(request, descriptors, self.limits)

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator["_Worker"]:
        """A process, given back only when it has answered: after anything else nobody knows what it is doing."""
        worker = await self._idle_worker() or await _Worker.start(self.limits.memory_bytes, self._niceness)
        try:
            yield worker
        except BaseException:
            await worker.close()
            raise
        if worker.files < FILES_PER_PROCESS and worker.alive:
            self._idle.append(worker)
        else:
            await worker.close()

    async def _idle_worker(self) -> "_Worker | None":
        """One that lives: the system may have ended some while nobody asked."""
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await worker.close()
        return None


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket) -> None:
        self._process = process
        self._channel = channel
        self.files = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @classmethod
    async def start(cls, memory_bytes: int, niceness: int) -> "_Worker":
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                WORKER,
                str(memory_bytes),
                str(niceness),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        worker = cls(process, ours)
        try:
            async with asyncio.timeout(START_SECONDS):
                if await worker._receive_line() != _READY:
                    _log.warning("inspection_process_without_filter", why="only on Linux, x86-64, with seccomp")
        except BaseException as error:
            await worker.close()
            if isinstance(error, TimeoutError | EOFError | ConnectionError):
                # Not the file's fault: nothing has been asked yet.
                _log.error("inspection_process_not_started", error=type(error).__name__)
                raise failures.not_inspected("The process that looks at files did not start.") from error
            raise
        return worker

    async def ask(
        self, request: dict[str, Any], descriptors: Sequence[int], limits: InspectionLimits
    ) -> dict[str, Any]:
        self.files += 1
        message = json.dumps({**request, "max_pixels": limits.max_pixels, "seconds": limits.seconds}).encode()
        try:
            socket.send_fds(self._channel, [message], list(descriptors))
            async with asyncio.timeout(limits.seconds + GRACE_SECONDS):
                answer = await self._receive_line()
        except TimeoutError:
            raise WorkerDiedError(Death.TIME) from None
        except (ConnectionError, EOFError):
            code = await self._process.wait()
            _log.warning("inspection_process_died", code=code)
            raise WorkerDiedError(_DEATHS.get(code, Death.UNKNOWN)) from None
        content: dict[str, Any] = json.loads(answer)
        return content

    async def _receive_line(self) -> bytes:
        loop, answer = asyncio.get_running_loop(), b""
        while not answer.endswith(b"\n"):
            part = await loop.sock_recv(self._channel, _ANSWER_BYTES)
            if not part:
                raise EOFError
            answer += part
            if len(answer) > _ANSWER_BYTES:
                raise EOFError("more than any answer has")
        return answer

    async def close(self) -> None:
        """SIGKILL: the process holds nothing that is worth a farewell."""
        self._channel.close()
        if self.alive:
            try:
                self._process.kill()
            except ProcessLookupError:
                _log.debug("inspection_process_gone")
        await self._process.wait()
