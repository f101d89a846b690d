"""`asset.json` follows the row, and nobody waits for it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.common.database import create_engine
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.adapters.mirror import Mirror
from services.gallery.domain.assets import MediaType
from services.gallery.domain.document import from_document
from services.gallery.mirroring import Mirroring
from services.gallery.ports import BlobKey
from tests.gallery.harness import Client, Gallery
from tests.support.media import png

PICTURE = png(8, 8)


class SlowStorage:
    """Storage that holds the first document of a deleted asset back."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.written: list[str] = []
        slow, replace = self, AzureBlobStore.replace

        async def held(self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str) -> None:
            if from_document(data).delete_time is not None and not slow.reached.is_set():
                slow.reached.set()
                await slow.go_on.wait()
            slow.written.append(key.name)
            await replace(self, key, data, mime_type=mime_type)

        patch.setattr(AzureBlobStore, "replace", held)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowStorage:
    return SlowStorage(monkeypatch)


@pytest_asyncio.fixture(loop_scope="session")
async def other_process(gallery: Gallery) -> AsyncIterator[Mirroring]:
    """A second mirror of the same gallery."""
    engine = create_engine(gallery.settings, application_name="another gallery")
    containers = {MediaType.IMAGE: gallery.settings.image_container, MediaType.VIDEO: gallery.settings.video_container}
    blobs = AzureBlobStore(gallery.storage, containers)
    yield Mirroring(Mirror(engine), blobs)
    await engine.dispose()


async def test_a_change_does_not_wait_until_slow_storage_has_taken_the_one_before(
    user: Client, slow: SlowStorage
) -> None:
    asset = await user.upload(PICTURE)
    deleted = await user.delete(asset.name)
    await slow.reached.wait()
    try:
        async with asyncio.timeout(3):
            assert await user.delete(asset.name) == deleted
    finally:
        slow.go_on.set()


async def test_a_change_in_the_middle_of_the_writing_is_written_next(user: Client, slow: SlowStorage) -> None:
    asset = await user.upload(PICTURE)
    await user.delete(asset.name)
    await slow.reached.wait()
    change = "UPDATE gallery.asset SET favorite = true, revision = revision + 1 WHERE id = %s"
    async with asyncio.timeout(3):
        await user.gallery.execute(change, asset.name[7:])
    slow.go_on.set()
    async with asyncio.timeout(10):
        while not from_document(await user.gallery.blob(f"{asset.name[7:]}/asset.json")).favorite:  # noqa: ASYNC110 - a blob
            await asyncio.sleep(0.05)


async def test_of_several_mirrors_one_writes_an_asset_and_the_others_go_on_with_the_rest(
    user: Client, slow: SlowStorage, other_process: Mirroring
) -> None:
    """Two writers of one document could end in the wrong order."""
    first, second = await user.upload(PICTURE), await user.upload(PICTURE)
    await user.delete(first.name)
    await slow.reached.wait()
    slow.written.clear()
    await user.delete(second.name)
    async with asyncio.timeout(10):
        while not slow.written:  # the gallery's own second mirror may be at it too
            await other_process.mirror_some_assets()
            await asyncio.sleep(0.05)
    assert slow.written == [f"{second.name[7:]}/asset.json"]
    slow.go_on.set()
