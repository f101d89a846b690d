"""Bytes on their way in: few in memory, many on disk, and the same hash whatever their portions."""

import hashlib
import secrets
from pathlib import Path

import pytest

from services.common.errors import Unavailable
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


async def test_nothing_is_left_in_the_directory(tmp_path: Path) -> None:
    with Spool(str(tmp_path)) as spool:
        await spool.write(bytes(2 * IN_MEMORY_BYTES))
        await spool.seal()
        assert spool.on_disk
        assert entries(tmp_path) == []


def entries(directory: Path) -> list[Path]:
    return list(directory.iterdir())
