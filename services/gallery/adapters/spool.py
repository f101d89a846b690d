"""Bytes on their way in: hashed as they come, in memory while they are few, on disk beyond."""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, Self, TypeVar

from services.gallery.domain import failures

IN_MEMORY_BYTES = 4 * 1024 * 1024
FLUSH_BYTES = 1024 * 1024
"""Hashing and writing go to a thread in portions of this size: one hop for a thousand small messages."""

_DESCRIPTORS = "/dev/fd"

_T = TypeVar("_T")


class Spool:
    """An unnamed file: whatever kills the process, nothing is left behind.

    Holds at most FLUSH_BYTES outside of the file. Implements `ports.Content`.
    """

    def __init__(self, directory: str | None = None) -> None:
        self._directory = directory
        self._file = memory_file(directory)
        self._on_disk = False
        self._hash = hashlib.sha256()
        # Of what is read back: hashes before and after the piece between these offsets.
        self._before, self._after = hashlib.sha256(), hashlib.sha256()
        self._read_from = self._read_to = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._written = 0

    @property
    def size(self) -> int:
        """Bytes taken in so far."""
        return self._written + self._waiting_bytes

    @property
    def on_disk(self) -> bool:
        """Whether the bytes have outgrown the memory."""
        return self._on_disk

    @contextlib.contextmanager
    def opened_for_reading(self) -> Iterator[int]:
        """A descriptor of the file for another process to read, complete after `seal`.

        Opened anew: a duplicate could be written to, after the bytes were hashed.
        """
        descriptor = os.open(f"{_DESCRIPTORS}/{self._file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    async def write(self, chunk: bytes) -> None:
        """Takes in the next bytes.

        Raises:
            Unavailable: the disk is full or broken.
        """
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes >= FLUSH_BYTES:
            await self._flush_in_thread()

    async def seal(self) -> str:
        """Everything is in: the SHA-256 in hexadecimal.

        Raises:
            Unavailable: the disk is full or broken.
        """
        await self._flush_in_thread()
        if not self._on_disk:
            _forbid_changes(self._file)
        return self._hash.hexdigest()

    async def read(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`, fewer than `length` only at the end.

        Raises:
            Unavailable: read from the beginning to the end, a file on disk is not what was hashed: somebody changed it.
        """
        return await _in_thread(lambda: self._read(offset, length))

    def _read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._file.fileno(), length, offset)
        if self._on_disk:
            self._compare(offset, data)
        return data

    def _compare(self, offset: int, data: bytes) -> None:
        """Nothing seals a file on disk. Whoever stores it reads on and on; a piece may be read again (a retry)."""
        if offset == 0:
            self._before = hashlib.sha256()
        elif offset == self._read_to:
            self._before = self._after
        elif offset != self._read_from:
            return
        self._read_from, self._read_to = offset, offset + len(data)
        self._after = self._before.copy()
        self._after.update(data)
        if self._read_to == self._written and self._after.digest() != self._hash.digest():
            raise failures.not_inspected("The upload changed while it was looked at.")

    async def _flush_in_thread(self) -> None:
        try:
            await _in_thread(self._flush)
        except OSError as error:
            raise failures.no_room_for_upload() from error

    def _flush(self) -> None:
        portion = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._hash.update(portion)
        if not self._on_disk and self._written + len(portion) > IN_MEMORY_BYTES:
            self._move_to_disk()
        _write_all(self._file, portion)
        self._written += len(portion)

    def _move_to_disk(self) -> None:
        on_disk = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - __exit__ closes it
        _write_all(on_disk, os.pread(self._file.fileno(), self._written, 0))
        self._file.close()
        self._file, self._on_disk = on_disk, True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


async def _in_thread(work: Callable[[], _T]) -> _T:
    """What `work` gives. A caller that is cancelled still waits for the thread's end: were the file closed under it,
    the descriptor's number could by then be another upload's."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # seen, and of no interest to a caller that has gone
        raise


def _write_all(file: IO[bytes], data: bytes) -> None:
    """An unbuffered file may take less than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _forbid_changes(file: IO[bytes]) -> None:
    """Also through another descriptor of it, that a process might open anew (fcntl(2), file sealing)."""
    if hasattr(fcntl, "F_ADD_SEALS"):
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)


def memory_file(directory: str | None = None) -> IO[bytes]:
    """A file without a disk, where the system has such; it can be handed to another process like any other."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("upload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b", buffering=0)
    return tempfile.TemporaryFile(dir=directory, buffering=0)
