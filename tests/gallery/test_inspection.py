"""Hostile files meet a process of their own: bounded in time and memory, and the service goes on."""

import asyncio
import contextlib
import os
import signal
import struct
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from services.common.errors import ServiceError
from services.gallery.adapters.inspection.pool import InspectionLimits, Inspector
from tests.gallery.media import MP4, RASTER, SVG, bomb, encoded, png_chunk
from tests.support.media import png

LIMITS = InspectionLimits(max_pixels=20_000_000, seconds=3, memory_bytes=600 * 1024 * 1024)


@pytest_asyncio.fixture(loop_scope="session")
async def inspector() -> AsyncIterator[Inspector]:
    inspector = Inspector(LIMITS, processes=1)
    yield inspector
    await inspector.close()


@contextmanager
def opened(data: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


async def reason(inspector: Inspector, data: bytes) -> tuple[str, str]:
    with opened(data) as descriptor, pytest.raises(ServiceError) as caught:
        await inspector.inspect(descriptor)
    # What is said of the bytes is said for good; what we could not find out may be asked again.
    assert caught.value.retry_safe == (caught.value.reason == "UNAVAILABLE")
    return caught.value.reason, caught.value.message


OTHERS: set[int] = set()


@pytest.fixture(autouse=True)
def _others() -> None:
    """Inspection processes of galleries that other tests keep running."""
    OTHERS.clear()
    OTHERS.update(workers())


def workers() -> set[int]:
    """The inspection processes that the present test has."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z" and b"inspection.worker" in command:
            found.add(int(path.parent.name))
    return found - OTHERS


def busy(processes: set[int]) -> set[int]:
    """Those that hold a file to decode."""
    return {process for process in processes if any("(deleted)" in target for target in open_files(process))}


def environment_of(process: int) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


def open_files(process: int) -> list[str]:
    targets = []
    for link in Path(f"/proc/{process}/fd").glob("*"):
        with contextlib.suppress(OSError):
            targets.append(str(link.readlink()))
    return targets


def zlib_bomb() -> bytes:
    """A PNG within the limit of pixels, with a text chunk of 200 MB in 200 KB."""
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    text = b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9)
    body = zlib.compress(b"".join(b"\0" + bytes(12) for _ in range(4)))
    parts = [(b"IHDR", header), (b"zTXt", text), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in parts)


def gif_of(image: Image.Image, count: int) -> bytes:
    """An animation that takes far longer to watch than to send."""
    single = encoded(image, "GIF")
    start = 13 + 3 * 2 ** ((single[10] & 7) + 1)
    frame = single[single.index(b",", start) : -1]
    return single[:start] + frame * count + b";"


# Each frame is 12 million pixels; the search through them goes on for half of the time that there is.
SLOW = gif_of(Image.new("P", (4000, 3000)), 60)


async def test_facts_come_back_whole(inspector: Inspector) -> None:
    with opened(RASTER["image/webp"]) as descriptor:
        assert await inspector.inspect(descriptor) == {
            "mime_type": "image/webp",
            "width_px": 20,
            "height_px": 10,
            "duration": None,
            "has_transparency": False,
            "has_content_credentials": False,
        }


async def test_too_many_pixels_are_refused_by_the_header(inspector: Inspector) -> None:
    webp = bytearray(encoded(Image.new("L", (9, 9)), "WEBP", save_all=True, append_images=[Image.new("L", (9, 9), 9)]))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = (16_000).to_bytes(3, "little") * 2
    for data in (bomb(30_000, 30_000), bomb(65_535, 65_535), bytes(webp)):
        assert (await reason(inspector, data))[0] == "IMAGE_TOO_LARGE"


async def test_bombs_within_the_limit_of_pixels_are_refused_or_harmless(inspector: Inspector) -> None:
    assert (await reason(inspector, zlib_bomb()))[0] == "UNSUPPORTED_MEDIA"
    with opened(gif_of(Image.new("P", (1, 1)), 100_000)) as descriptor:
        facts = await inspector.inspect(descriptor)
        assert facts["has_transparency"] is None, "not watched to the end, so not known"
    with opened(SVG) as descriptor:
        assert (await inspector.inspect(descriptor))["width_px"] is None


@asynccontextmanager
async def inspecting(limits: InspectionLimits, processes: int = 1) -> AsyncIterator[Inspector]:
    """Processes with limits of its own."""
    before = workers()
    inspector = Inspector(limits, processes=processes)
    try:
        yield inspector
    finally:
        await inspector.close()
    assert workers() == before


async def test_a_file_that_needs_too_much_memory_is_turned_away_for_now() -> None:
    async with inspecting(InspectionLimits(200_000_000, 20, 250 * 1024 * 1024)) as inspector:
        picture = encoded(Image.new("L", (12_000, 12_000)), "PNG")
        told, message = await reason(inspector, picture)
        assert (told, "memory" in message) == ("UNAVAILABLE", True)
        with opened(RASTER["image/png"]) as descriptor:
            assert (await inspector.inspect(descriptor))["width_px"] == 20


async def test_a_file_that_takes_too_long_ends_its_process_and_is_turned_away_for_now() -> None:
    async with inspecting(InspectionLimits(100_000_000, 0.02, LIMITS.memory_bytes)) as inspector:
        told, message = await reason(inspector, SLOW)
        assert (told, "longer" in message) == ("UNAVAILABLE", True)
        assert workers() == set()


async def test_the_process_ends_by_its_own_clock_when_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gallery.adapters.inspection.processes.GRACE_SECONDS", 60)
    async with inspecting(InspectionLimits(100_000_000, 0.02, LIMITS.memory_bytes)) as inspector, asyncio.timeout(20):
        assert "longer to decode than" in (await reason(inspector, SLOW))[1]


async def test_we_stop_waiting_for_a_process_whose_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gallery.adapters.inspection.processes.GRACE_SECONDS", 0.1)
    async with inspecting(InspectionLimits(100_000_000, 0.5, LIMITS.memory_bytes)) as inspector:
        with opened(RASTER["image/png"]) as descriptor:
            await inspector.inspect(descriptor)
        [worker] = workers()
        os.kill(worker, signal.SIGSTOP)
        async with asyncio.timeout(20):
            assert "longer to decode than" in (await reason(inspector, RASTER["image/png"]))[1]


async def test_a_process_killed_from_outside_costs_no_file(inspector: Inspector) -> None:
    with opened(RASTER["image/png"]) as descriptor:
        await inspector.inspect(descriptor)
        [worker] = workers()
        os.kill(worker, signal.SIGKILL)
        assert (await inspector.inspect(descriptor))["width_px"] == 20
        assert workers() != {worker}


async def test_processes_that_died_while_nobody_asked_are_not_asked() -> None:
    async with inspecting(LIMITS, processes=3) as inspector:
        with opened(RASTER["image/png"]) as descriptor:
            await asyncio.gather(*(inspector.inspect(descriptor, str(number)) for number in range(6)))
            for worker in workers():
                os.kill(worker, signal.SIGKILL)
            while workers():  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # until the event loop has heard of it
            assert (await inspector.inspect(descriptor))["width_px"] == 20


async def test_a_file_that_kills_its_process_is_turned_away_for_now(inspector: Inspector) -> None:
    """Whenever a process takes this file, it dies: as a decoder with a hole would."""
    asking = asyncio.ensure_future(reason(inspector, SLOW))
    killed: set[int] = set()
    while not asking.done():
        for worker in busy(workers()) - killed:
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)
        await asyncio.sleep(0.01)
    told, message = await asking
    assert (told, "ends the process" in message) == ("UNAVAILABLE", True)
    assert len(killed) == 2


async def test_a_process_that_has_used_up_its_budget_is_not_asked_again(inspector: Inspector) -> None:
    asking, killed = asyncio.ensure_future(reason(inspector, SLOW)), 0
    while not asking.done():
        for worker in busy(workers()):
            if not killed:
                os.kill(worker, signal.SIGPROF)
                killed = worker
        await asyncio.sleep(0.01)
    told, message = await asking
    assert (told, "more work" in message) == ("UNSUPPORTED_MEDIA", True)


async def test_a_caller_that_leaves_takes_its_process_along(inspector: Inspector) -> None:
    with opened(SLOW) as descriptor:
        asking = asyncio.ensure_future(inspector.inspect(descriptor))
        while not busy(workers()):  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert workers() == set()


async def test_more_files_than_processes_take_turns(inspector: Inspector) -> None:
    async def one(number: int) -> int:
        with opened(png(10 + number, 7)) as descriptor:
            facts = await inspector.inspect(descriptor)
        assert len(workers()) == 1
        width: int = facts["width_px"]
        return width

    assert await asyncio.gather(*(one(number) for number in range(12))) == [10 + number for number in range(12)]


async def test_the_event_loop_stays_free_while_a_large_picture_is_decoded(inspector: Inspector) -> None:
    ticks = 0
    with opened(SLOW) as descriptor:
        asking = asyncio.ensure_future(inspector.inspect(descriptor))
        while not asking.done():
            await asyncio.sleep(0.005)
            ticks += 1
    assert (await asking)["width_px"] == 4000
    assert ticks > 5


async def test_the_process_knows_no_secret_of_the_service(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a-made-up-key")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:a-made-up-key@host/db")
    with opened(RASTER["image/png"]) as descriptor:
        await inspector.inspect(descriptor)
    [worker] = workers()
    assert b"a-made-up-key" not in environment_of(worker)


C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def with_credentials(mime_type: str) -> bytes:
    """A file with an empty manifest store where its format keeps one."""
    data = RASTER.get(mime_type, MP4)
    store = b"\0\0\0\x1ejumb\0\0\0\x16jumdc2pa" + bytes(16)
    match mime_type:
        case "image/png":
            return data[:33] + png_chunk(b"caBX", store) + data[33:]
        case "image/jpeg":
            segment = b"JP\0\1\0\0\0\1" + store
            return data[:2] + b"\xff\xeb" + (len(segment) + 2).to_bytes(2) + segment + data[2:]
        case "image/webp":
            whole = data + b"C2PA" + len(store).to_bytes(4, "little") + store
            return whole[:4] + (len(whole) - 8).to_bytes(4, "little") + whole[8:]
        case _:
            box = C2PA_UUID + store
            return data + (len(box) + 8).to_bytes(4) + b"uuid" + box


@pytest.mark.parametrize("mime_type", ["image/png", "image/jpeg", "image/webp", "image/avif", "video/mp4"])
async def test_content_credentials_are_noticed(inspector: Inspector, mime_type: str) -> None:
    for data, expected in ((with_credentials(mime_type), True), (RASTER.get(mime_type, MP4), False)):
        with opened(data) as descriptor:
            facts = await inspector.inspect(descriptor)
        assert facts["mime_type"] == mime_type
        assert facts["has_content_credentials"] is expected


async def test_a_file_of_endless_parts_is_not_walked_to_its_end(inspector: Inspector) -> None:
    endless = MP4 + b"\0\0\0\x08free" * 10_000
    start = time.monotonic()
    with opened(endless) as descriptor:
        assert (await inspector.inspect(descriptor))["has_content_credentials"] is None
    assert time.monotonic() - start < 5
