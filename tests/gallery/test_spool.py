"""Bytes on their way in: few in memory, many on disk, and the same hash whatever their portions."""

import asyncio
import errno
import fcntl
import hashlib
import os
import secrets
import threading
from pathlib import Path
from typing import IO

import pytest

from services.common.errors import Unavailable
from services.gallery.adapters import spool as spool_module
from services.gallery.adapters.spool import FLUSH_BYTES, IN_MEMORY_BYTES, Spool


@pytest.mark.parametrize("size", [0, 1, FLUSH_BYTES - 1, FLUSH_BYTES, IN_MEMORY_BYTES, IN_MEMORY_BYTES + 1, 9_000_001])
@pytest.mark.parametrize("portion", [333_333, FLUSH_BYTES, 3 * FLUSH_BYTES])
async def test_what_goes_in_comes_out(size: int, portion: int) -> None:
    data = secrets.token_bytes(size)
    with Spool() as spool:
        for at in range(0, size, portion):
            await spool.write(data[at : at + portion])
            assert spool.size == min(size, at + portion)
        assert await spool.seal() == hashlib.sha256(data).hexdigest()
        assert await spool.read(0, size + 10) == data
        assert await spool.read(size // 2, 100) == data[size // 2 : size // 2 + 100]
        assert spool.on_disk == (size > IN_MEMORY_BYTES)


async def test_a_disk_without_room_is_no_fault_of_the_bytes(tmp_path: Path) -> None:
    with Spool(str(tmp_path / "missing")) as spool:
        await spool.write(bytes(IN_MEMORY_BYTES - FLUSH_BYTES))
        with pytest.raises(Unavailable) as caught:
            await spool.write(bytes(2 * FLUSH_BYTES))
    assert caught.value.retry_safe


@pytest.mark.parametrize("size", [1000, IN_MEMORY_BYTES + 1], ids=["in memory", "on disk"])
async def test_who_looks_at_the_bytes_cannot_change_them(size: int) -> None:
    data = secrets.token_bytes(size)
    with Spool() as spool:
        await spool.write(data)
        await spool.seal()
        with spool.opened_for_reading() as descriptor:
            assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            assert not os.get_inheritable(descriptor)
            assert os.read(descriptor, size + 1) == data
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.pwrite(descriptor, b"x", 0)
        assert await spool.read(0, size) == data


async def test_nobody_changes_bytes_in_memory_once_they_are_hashed() -> None:
    with Spool() as spool:
        await spool.write(b"as it was")
        await spool.seal()
        with spool.opened_for_reading() as descriptor:
            anew = os.open(f"/dev/fd/{descriptor}", os.O_RDWR)  # the same user may
            try:
                for change in (
                    lambda: os.pwrite(anew, b"x", 0),
                    lambda: os.truncate(anew, 3),
                    lambda: os.truncate(anew, 99),
                ):
                    with pytest.raises(PermissionError):
                        change()
            finally:
                os.close(anew)
        assert await spool.read(0, 99) == b"as it was"


@pytest.mark.parametrize("at", [0, FLUSH_BYTES, 3 * IN_MEMORY_BYTES - 1])
async def test_bytes_on_disk_that_changed_after_they_were_hashed_are_not_handed_over_whole(at: int) -> None:
    with Spool() as spool:
        await spool.write(bytes(3 * IN_MEMORY_BYTES))
        await spool.seal()
        for repeat in (1, 2):  # a piece that is read again changes nothing
            for offset in range(0, spool.size, IN_MEMORY_BYTES):
                for _ in range(repeat):
                    assert await spool.read(offset, IN_MEMORY_BYTES) == bytes(IN_MEMORY_BYTES)
        with spool.opened_for_reading() as descriptor:
            anew = os.open(f"/dev/fd/{descriptor}", os.O_RDWR)
            os.pwrite(anew, b"x", at)
            os.close(anew)

        async def read_on() -> None:
            for offset in range(0, spool.size, IN_MEMORY_BYTES):
                await spool.read(offset, IN_MEMORY_BYTES)

        with pytest.raises(Unavailable):
            await read_on()


async def test_nothing_is_left_in_the_directory(tmp_path: Path) -> None:
    with Spool(str(tmp_path)) as spool:
        await spool.write(bytes(2 * IN_MEMORY_BYTES))
        await spool.seal()
        assert spool.on_disk
        assert entries(tmp_path) == []


@pytest.mark.parametrize("last", ["write", "seal"])
async def test_a_spool_is_not_closed_under_the_thread_that_writes_to_it(
    monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """The descriptor's number would be another file's by the time the thread writes."""
    writing, go_on, closed_early = threading.Event(), threading.Event(), []

    def slow_write_all(file: IO[bytes], data: bytes) -> None:
        writing.set()
        go_on.wait(10)
        closed_early.append(file.closed)

    async def take_in() -> None:
        with Spool() as spool:
            await spool.write(bytes(FLUSH_BYTES - (last == "seal")))
            await spool.seal()

    monkeypatch.setattr(spool_module, "_write_all", slow_write_all)
    task = asyncio.ensure_future(take_in())
    assert await asyncio.to_thread(writing.wait, 10)
    task.cancel()
    await asyncio.sleep(0.1)
    assert not task.done()
    task.cancel()
    await asyncio.sleep(0.1)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed_early == [False]


async def test_a_disk_that_fails_under_a_cancelled_upload_leaves_it_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def failing_write_all(file: IO[bytes], data: bytes) -> None:
        writing.set()
        go_on.wait(10)
        raise OSError(errno.ENOSPC, "no room")

    async def take_in() -> None:
        with Spool() as spool:
            await spool.write(bytes(FLUSH_BYTES))

    monkeypatch.setattr(spool_module, "_write_all", failing_write_all)
    task = asyncio.ensure_future(take_in())
    assert await asyncio.to_thread(writing.wait, 10)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


def entries(directory: Path) -> list[Path]:
    return list(directory.iterdir())
