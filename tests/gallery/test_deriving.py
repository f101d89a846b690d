"""Who waits for derivatives, for how long, behind whom; and what counts as a failure of an asset's."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.database import create_engine
from services.gallery.adapters.derivation import Derivation
from services.gallery.adapters.inspection.pool import InspectionLimits
from services.gallery.adapters.inspection.renderer import Renderer
from services.gallery.domain.variants import Variant
from tests.conftest import NewDatabase
from tests.gallery.harness import Client, Gallery, refusal, running_gallery
from tests.gallery.test_derivatives import THUMBNAIL, eventually, id_of, state
from tests.support.media import png
from tests.support.memory import children

MIB = 1024 * 1024
LIMITS = InspectionLimits(100_000_000, 20.0, 2048 * MIB)


@dataclass
class Held:
    """Renderings that wait until they are let go; `sizes` of the originals that were begun, in their order."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    sizes: list[int] = field(default_factory=list)

    async def begun(self, number: int) -> None:
        async def enough() -> bool:
            return len(self.sizes) >= number

        await eventually(enough)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    found, render = Held(), Renderer.render

    async def wait(self: Renderer, descriptor: int, variants: Sequence[Variant]) -> dict[Variant, bytes]:
        found.sizes.append(os.fstat(descriptor).st_size)
        await found.go_on.wait()
        return await render(self, descriptor, variants)

    monkeypatch.setattr(Renderer, "render", wait)
    return found


def ask(user: Client, asset: pb.Asset) -> "asyncio.Task[Any]":
    return asyncio.create_task(user.download(asset.name, variant=THUMBNAIL))


async def test_one_owner_leaves_a_turn_to_the_others(user: Client, held: Held) -> None:
    mine = [await user.upload(png(16, 16 + number)) for number in range(3)]
    other = user.gallery.user()
    theirs = await other.upload(png(64, 64))
    asked = [ask(user, asset) for asset in mine]
    await held.begun(1)
    await asyncio.sleep(0.3)
    assert len(held.sizes) == 1, "two processes, and one is left"
    asked.append(ask(other, theirs))
    await held.begun(2)
    assert held.sizes[1] == theirs.size_bytes
    held.go_on.set()
    await asyncio.gather(*asked)


async def test_the_smallest_original_is_next(user: Client, held: Held) -> None:
    first, *waiting = [await user.upload(png(16, 16 + 32 * number, seed=number)) for number in (0, 3, 2, 1)]
    assert len({asset.size_bytes for asset in waiting}) == 3
    asked = [ask(user, first)]
    await held.begun(1)
    asked += [ask(user, asset) for asset in waiting]
    await asyncio.sleep(0.5)
    held.go_on.set()
    await asyncio.gather(*asked)
    assert held.sizes[1:] == sorted(asset.size_bytes for asset in waiting)


async def test_what_nobody_waits_for_any_more_is_not_made(user: Client, held: Held) -> None:
    first, left, wanted = [await user.upload(png(16, 16 + number)) for number in range(3)]
    asked = [ask(user, first)]
    await held.begun(1)
    gone = ask(user, left)
    asked.append(ask(user, wanted))
    await asyncio.sleep(0.3)
    gone.cancel()
    await asyncio.sleep(0.3)
    held.go_on.set()
    await asyncio.gather(*asked)
    assert (await state(user.gallery, left))[1:] == (0, [])
    assert len((await user.download(left.name, variant=THUMBNAIL)).data) > 0, "and is when somebody asks again"


async def test_a_page_of_thumbnails_is_made_without_a_refusal(user: Client) -> None:
    """More than had places in the line when it was one for all."""
    service = user.as_service()
    assets = await asyncio.gather(*(service.upload(png(8, 8 + number)) for number in range(66)))
    found = await asyncio.gather(*(user.download(asset.name, variant=THUMBNAIL) for asset in assets))
    assert all(download.data.startswith(b"RIFF") for download in found)


async def test_processes_that_are_at_it_are_no_failures(gallery: Gallery, user: Client) -> None:
    """Three replicas have begun, and a fourth is asked."""
    asset = await user.upload(png(32, 24))
    engine = create_engine(gallery.settings, application_name="replicas")
    for _ in range(3):
        assert await Derivation(engine, lease=timedelta(minutes=5)).begin(id_of(asset)) is not None
    await engine.dispose()
    assert len((await user.download(asset.name, variant=THUMBNAIL)).data) > 0


@asynccontextmanager
async def with_spool(database: str, azurite: str, directory: Path, **settings: Any) -> AsyncIterator[Gallery]:
    spool = directory / "spool"
    spool.mkdir(exist_ok=True)
    async with running_gallery(database, azurite, directory, spool_directory=str(spool), **settings) as running:
        yield running


async def postponed(gallery: Gallery) -> bool:
    """One was tried in vain, and the others are left alone for the moment."""
    rows = await gallery.query("SELECT derive_time > now(), derive_attempts FROM gallery.asset")
    assert {attempts for _, attempts in rows} == {0}
    return [later for later, _ in rows].count(True) == 2


async def test_a_disk_that_is_not_there_is_no_fault_of_the_assets(
    new_database: NewDatabase, azurite: str, tmp_path: Path
) -> None:
    database = await new_database()
    async with with_spool(database, azurite, tmp_path) as gallery:
        user = gallery.user()
        picture = png(8, 8) + bytes(5 * MIB)
        assets = [await user.upload(picture) for _ in range(3)]
        containers = {
            "image_container": gallery.settings.image_container,
            "video_container": gallery.settings.video_container,
        }
        (tmp_path / "spool").rmdir()
        reasons = {(await refusal(user.download(assets[0].name, variant=THUMBNAIL))).reason for _ in range(4)}
        assert reasons == {"UNAVAILABLE"}
    async with running_gallery(
        database, azurite, tmp_path, spool_directory=str(tmp_path / "spool"), derive_on_ingest=True, **containers
    ) as gallery:
        await eventually(lambda: postponed(gallery))
    async with with_spool(database, azurite, tmp_path, **containers) as gallery:
        user = gallery.user(user.principal)
        assert all([(await user.download(asset.name, variant=THUMBNAIL)).data for asset in assets])


async def test_the_end_of_a_service_is_no_failure(
    new_database: NewDatabase, azurite: str, tmp_path: Path, held: Held
) -> None:
    """Neither of what somebody waits for, nor of what is made in the background; the next process may begin at once."""
    database = await new_database()
    async with running_gallery(database, azurite, tmp_path, derive_on_ingest=True) as gallery:
        user = gallery.user()
        assets = [await user.upload(png(16, 16 + number)) for number in range(2)]
        await held.begun(1)
        asked = [asyncio.create_task(refusal(user.download(asset.name, variant=THUMBNAIL))) for asset in assets]
        await held.begun(2)
        url = gallery.settings
    await asyncio.gather(*asked, return_exceptions=True)
    engine = create_engine(url, application_name="after")
    derivation = Derivation(engine, lease=timedelta(minutes=5))
    claimed = [await derivation.claim() for _ in assets]
    await engine.dispose()
    assert {each.id for each in claimed if each} == {id_of(asset) for asset in assets}


async def test_a_request_does_not_wait_for_the_background(
    new_database: NewDatabase, azurite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that runs when nobody else does may take for ever; the request has it made by another."""
    render, begun, stopped = Renderer.render, asyncio.Event(), asyncio.Event()

    async def stuck(self: Renderer, descriptor: int, variants: Sequence[Variant]) -> dict[Variant, bytes]:
        if not begun.is_set():
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
        return await render(self, descriptor, variants)

    monkeypatch.setattr(Renderer, "render", stuck)
    async with running_gallery(await new_database(), azurite, tmp_path, derive_on_ingest=True) as gallery:
        user = gallery.user()
        asset = await user.upload(png(16, 16))
        await asyncio.wait_for(begun.wait(), 20)
        async with asyncio.timeout(20):
            assert (await user.download(asset.name, variant=THUMBNAIL)).data
        assert stopped.is_set()
        assert await state(gallery, asset) == (None, 0, ["preview", "thumbnail"])


@pytest.mark.parametrize("background", [False, True])
async def test_background_work_runs_when_nobody_else_does(background: bool) -> None:
    renderer, before = Renderer(LIMITS, processes=1, background=background), set(children(os.getpid()))
    try:
        with tempfile.TemporaryFile() as file:
            file.write(png(8, 8))
            file.flush()
            await renderer.render(file.fileno(), [Variant.THUMBNAIL])
        [process] = set(children(os.getpid())) - before
        assert (os.sched_getscheduler(process) == os.SCHED_IDLE) is background
    finally:
        await renderer.close()
