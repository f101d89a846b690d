"""The inspection processes as the service sees them: hand over an open file, get facts or a typed refusal."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from services.gallery.domain import failures

WORKER = "services.gallery.adapters.inspection.worker"
FILES_PER_PROCESS = 500
"""A decoder that leaks is replaced before it matters."""

GRACE_SECONDS = 2.0
"""How much later than the process's own clock we stop waiting for it."""

START_SECONDS = 30.0

# Nothing of ours is in the environment of a process that opens hostile files.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
_ANSWER_BYTES = 64 * 1024

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InspectionLimits:
    """Bounds on one file: pixels, wall-clock seconds, bytes of address space."""

    max_pixels: int
    seconds: float
    memory_bytes: int


class WorkerDiedError(Exception):
    """The process ended while it held a file; `timed_out` says that its clock did it."""

    def __init__(self, *, timed_out: bool) -> None:
        super().__init__()
        self.timed_out = timed_out


class Inspector:
    """Up to `processes` files at a time; further ones wait for their turn."""

    def __init__(self, limits: InspectionLimits, *, processes: int) -> None:
        self._limits = limits
        self._turn = asyncio.Semaphore(processes)
        self._idle: list[_Worker] = []

    async def inspect(self, descriptor: int) -> dict[str, Any]:
        """The fields of `examine.Facts` of the file with this descriptor.

        Raises:
            InvalidArgument: UNSUPPORTED_MEDIA, IMAGE_TOO_LARGE: of the bytes themselves.
            Unavailable: time, memory or the process ran out before anything could be said of them.
        """
        try:
            answer = await self._ask(descriptor)
        except WorkerDiedError as first:
            if first.timed_out:
                raise failures.not_inspected(
                    f"The file takes longer than {self._limits.seconds:g} s to decode."
                ) from first
            # Perhaps it was not the file's fault: somebody may have ended the process from outside.
            try:
                answer = await self._ask(descriptor)
            except WorkerDiedError as second:
                raise failures.not_inspected("The file ends the process that decodes it.") from second
        if "refusal" in answer:
            raise self._refusal(answer["refusal"])
        facts: dict[str, Any] = answer["facts"]
        return facts

    async def close(self) -> None:
        """Ends the processes."""
        while self._idle:
            await self._idle.pop().close()

    def _refusal(self, refusal: str) -> Exception:
        match refusal:
            case "unknown":
                return failures.unsupported_media("The bytes are no image or video of an accepted type.")
            case "pixels":
                return failures.image_too_large(self._limits.max_pixels)
            case "memory":
                return failures.not_inspected("The file needs too much memory to decode.")
            case _:
                return failures.unsupported_media("The file is broken: it cannot be decoded as what it begins like.")

    async def _ask(self, descriptor: int) -> dict[str, Any]:
        async with self._turn, self._worker() as worker:
            return await worker.ask(descriptor, self._limits)

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator["_Worker"]:
        """A process, given back only when it has answered: after anything else nobody knows what it is doing."""
        worker = self._idle.pop() if self._idle else await _Worker.start(self._limits.memory_bytes)
        try:
            yield worker
        except BaseException:
            await worker.close()
            raise
        if worker.files < FILES_PER_PROCESS and worker.alive:
            self._idle.append(worker)
        else:
            await worker.close()


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket) -> None:
        self._process = process
        self._channel = channel
        self.files = 0

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @classmethod
    async def start(cls, memory_bytes: int) -> "_Worker":
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                WORKER,
                str(memory_bytes),
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
                await worker._receive_line()
        except BaseException as error:
            await worker.close()
            if isinstance(error, TimeoutError | EOFError | ConnectionError):
                # Not the file's fault: nothing has been asked yet.
                raise RuntimeError("the inspection process does not start") from error
            raise
        return worker

    async def ask(self, descriptor: int, limits: InspectionLimits) -> dict[str, Any]:
        self.files += 1
        request = json.dumps({"max_pixels": limits.max_pixels, "seconds": limits.seconds}).encode()
        try:
            socket.send_fds(self._channel, [request], [descriptor])
            async with asyncio.timeout(limits.seconds + GRACE_SECONDS):
                answer = await self._receive_line()
        except TimeoutError:
            raise WorkerDiedError(timed_out=True) from None
        except (ConnectionError, EOFError):
            code = await self._process.wait()
            _log.warning("inspection_process_died", code=code)
            raise WorkerDiedError(timed_out=code == -signal.SIGALRM) from None
        content: dict[str, Any] = json.loads(answer)
        return content

    async def _receive_line(self) -> bytes:
        loop, answer = asyncio.get_running_loop(), b""
        while not answer.endswith(b"\n"):
            part = await loop.sock_recv(self._channel, _ANSWER_BYTES)
            if not part:
                raise EOFError
            answer += part
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
