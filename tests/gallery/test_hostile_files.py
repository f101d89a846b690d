"""Hostile files: each is refused for a reason, or stored safely, and the service goes on."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import grpc
import pytest
import pytest_asyncio
from PIL import Image

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.errors import InvalidArgument
from services.gallery.adapters.inspection.pool import InspectionLimits, Inspector
from services.gallery.adapters.inspection.renderer import NotRenderableError, NotRenderedError, Renderer
from services.gallery.domain.variants import Variant
from tests.gallery.harness import Client, Gallery, refusal
from tests.gallery.hostile_files import HOSTILE
from tests.gallery.media import MP4, RASTER, WEBM, encoded
from tests.support.media import png
from tests.support.memory import MIB, processor_seconds, watch

CASES = [pytest.param(make, reason, id=name) for name, (make, reason) in HOSTILE.items()]
LIMITS = InspectionLimits(max_pixels=100_000_000, seconds=20, memory_bytes=2048 * MIB)
GROWTH = 100 * MIB
SECONDS = 0.5
GROWTH_UNSEEN, SECONDS_UNSEEN = 400 * MIB, 1.5
"""A few frames are decoded before it is clear that none is shown: as many pixels as in two honest large pictures."""
SECONDS_TOOK: dict[str, float] = {}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def renderer() -> AsyncIterator[Renderer]:
    renderer = Renderer(LIMITS, processes=1)
    yield renderer
    await renderer.close()


@pytest.fixture(scope="module", autouse=True)
def _told() -> Iterator[None]:
    yield
    slowest = sorted(SECONDS_TOOK.items(), key=lambda item: -item[1])[:5]
    print("\nslowest uploads:", *(f"{name}: {seconds * 1000:.0f} ms" for name, seconds in slowest), sep="\n  ")  # noqa: T201 - a measurement


def test_there_are_sixty_eight_of_them() -> None:
    assert len(HOSTILE) == 68


@pytest.mark.parametrize(("make", "reason"), CASES)
async def test_it_is_refused_or_safely_stored(
    gallery: Gallery, user: Client, make: object, reason: str | None, request: pytest.FixtureRequest
) -> None:
    assert callable(make)
    data = make()
    await user.upload(RASTER["image/png"])  # a process that is warm, as a service's is
    memory = watch(os.getpid())
    start = time.perf_counter()
    if reason is None:
        asset = await user.upload(data)
        SECONDS_TOOK[request.node.callspec.id] = time.perf_counter() - start
        await check_stored(user, asset, data)
    else:
        error = await refusal(user.upload(data))
        SECONDS_TOOK[request.node.callspec.id] = time.perf_counter() - start
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert len(await user.names()) == 1
    assert memory.growth < GROWTH
    assert (await user.upload(RASTER["image/webp"])).width_px == 20
    assert await gallery.is_serving()


async def check_stored(user: Client, asset: pb.Asset, data: bytes) -> None:
    """The bytes are as they were, nothing unsafe is said of them, and a thumbnail is made or refused in words."""
    download = await user.download(asset.name)
    assert download.data == data
    if asset.mime_type == "image/svg+xml":
        assert download.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in download.headers["content-security-policy"]
        error = await refusal(user.download(asset.name, variant=pb.Asset.THUMBNAIL))
        assert error.reason == "VARIANT_NOT_FOUND"
    else:
        assert (await user.download(asset.name, variant=pb.Asset.THUMBNAIL)).data.startswith(b"RIFF")
    if asset.HasField("duration"):
        assert asset.duration.ToTimedelta().total_seconds() == 1


@pytest.mark.parametrize(("make", "reason"), CASES)
async def test_no_derivative_of_it_harms_the_process_that_makes_it(
    renderer: Renderer, make: object, reason: str | None
) -> None:
    """Also of those that no upload lets in: bytes may be older than the rules."""
    assert callable(make)
    with tempfile.TemporaryFile() as file:
        file.write(make())
        file.flush()
        try:
            made = await renderer.render(file.fileno(), [Variant.PREVIEW, Variant.THUMBNAIL])
        except (NotRenderableError, NotRenderedError) as error:
            assert str(error) in {"unknown", "broken", "pixels", "no-picture", "memory", "work"}  # noqa: PT017 - either is right
        else:
            assert all(data.startswith(b"RIFF") for data in made.values())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def inspector() -> AsyncIterator[Inspector]:
    inspector = Inspector(LIMITS, processes=1)
    yield inspector
    await inspector.close()


async def look_at(inspector: Inspector, data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        with suppress(InvalidArgument):
            await inspector.inspect(file.fileno())


@pytest.mark.parametrize(("make", "reason"), CASES)
async def test_it_takes_little_of_the_processor_and_of_memory(
    inspector: Inspector, make: object, reason: str | None, request: pytest.FixtureRequest
) -> None:
    """By the process's own account, which no other load on the machine has a part in."""
    assert callable(make)
    data = make()
    for picture in (*RASTER.values(), MP4, WEBM):
        await look_at(inspector, picture)
    worker = worker_of(inspector)
    memory, before = watch(worker), processor_seconds(worker)
    await look_at(inspector, data)
    assert worker_of(inspector) == worker, "it was not ended by its budget, but answered"
    costly = "never shown" in request.node.callspec.id
    assert processor_seconds(worker) - before < (SECONDS_UNSEEN if costly else SECONDS)
    assert memory.growth < (GROWTH_UNSEEN if costly else GROWTH)


def worker_of(inspector: Inspector) -> int:
    [worker] = inspector.process_ids
    return worker


async def test_good_uploads_go_on_while_all_of_them_come_at_once(gallery: Gallery) -> None:
    files = [make() for make, _ in HOSTILE.values()]
    memory = watch(os.getpid())

    async def attack(data: bytes) -> None:
        user = gallery.user()
        try:
            await user.upload(data)
        except grpc.aio.AioRpcError as error:
            assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE)  # noqa: PT017 - as above

    async def go_on() -> None:
        user = gallery.user()
        for number in range(10):
            asset = await user.upload(png(20 + number, 10))
            assert asset.width_px == 20 + number

    async with asyncio.TaskGroup() as group:
        for data in files:
            group.create_task(attack(data))
        group.create_task(go_on())
    assert await gallery.is_serving()
    # 68 files are on their way at once: their own bytes, at both ends, come on top.
    assert memory.growth < GROWTH + 2 * sum(map(len, files))


async def test_the_largest_picture_that_is_allowed_passes_all_guards(user: Client) -> None:
    """The budget is earned by what a file is; a limit that ends hostile files in time would end this one too."""
    picture = Image.linear_gradient("L").resize((10_000, 10_000))
    asset = await user.upload(encoded(picture, "JPEG", progressive=True, quality=50))
    assert (asset.width_px, asset.height_px) == (10_000, 10_000)
    assert (await user.download(asset.name, variant=pb.Asset.THUMBNAIL)).data.startswith(b"RIFF")


@pytest.mark.parametrize(("earned", "code"), [(0, -signal.SIGPROF), (10_000_000, 0)])
async def test_a_process_ends_once_it_has_used_what_its_file_has_earned(earned: int, code: int) -> None:
    """Half a second of work is too much for a file of no bytes, and not for ten megapixels."""
    work = (
        "import time; from services.gallery.adapters.inspection.budget import Budget\n"
        f"budget = Budget(0, most=20); budget.start(); budget.earn({earned})\n"
        "while time.process_time() < 0.8: pass\n"
        "budget.stop()"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", work)
    async with asyncio.timeout(60):
        assert await process.wait() == code
