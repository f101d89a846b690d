"""`asset.json` follows the row, and nobody waits for it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.database import create_engine
from services.gallery import mirroring
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.adapters.mirror import Mirror
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain import failures
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

        async def held(
            self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None
        ) -> None:
            if from_document(data).delete_time is not None and not slow.reached.is_set():
                slow.reached.set()
                await slow.go_on.wait()
            slow.written.append(key.name)
            await replace(self, key, data, mime_type=mime_type, over=over)

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
    yield Mirroring(Mirror(Transactions(engine)), blobs)
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


@pytest.mark.parametrize("kind", ["asset", "folder"])
async def test_a_document_that_reaches_storage_late_does_not_replace_a_newer_one(
    user: Client, other_process: Mirroring, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The writing outlives its database connection, and with it the lock of the document."""
    asset = await user.upload(PICTURE, folder="first")
    is_asset = kind == "asset"
    name = f"{asset.name[7:]}/asset.json" if is_asset else f"_folders/{asset.folder[8:]}.json"
    await until_documented(user, kind)
    reached, go_on, done, replace = asyncio.Event(), asyncio.Event(), asyncio.Event(), AzureBlobStore.replace

    async def held(self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None) -> None:
        if key.name != name or reached.is_set():
            return await replace(self, key, data, mime_type=mime_type, over=over)
        reached.set()
        await go_on.wait()
        try:
            await replace(self, key, data, mime_type=mime_type, over=over)
        finally:
            done.set()

    async def change(text: str) -> None:
        if is_asset:
            await user.call(pb.UpdateAssetRequest(asset=pb.Asset(name=asset.name, tags=[text])))
        else:
            await user.call(pb.RenameFolderRequest(name=asset.folder, new_path=text))

    monkeypatch.setattr(AzureBlobStore, "replace", held)
    await change("late")
    await reached.wait()
    await user.gallery.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND state = 'idle in transaction'"
    )
    await change("newest")
    async with asyncio.timeout(10):
        while b"newest" not in await user.gallery.blob(name):
            await (other_process.mirror_some_assets if is_asset else other_process.mirror_some_folders)()
            await asyncio.sleep(0.05)
    go_on.set()
    await done.wait()
    await until_documented(user, kind)
    assert b"newest" in await user.gallery.blob(name)


async def test_documents_that_cannot_be_written_do_not_stop_the_others(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = [await user.upload(PICTURE, tags=["broken"]) for _ in range(4)]
    await until_documented(user, "asset")
    monkeypatch.setattr(mirroring, "BATCH", 2)
    replace = AzureBlobStore.replace

    async def failing(
        self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None
    ) -> None:
        if b"broken" in data:
            raise failures.storage_unavailable()
        await replace(self, key, data, mime_type=mime_type, over=over)

    with monkeypatch.context() as patch:
        patch.setattr(AzureBlobStore, "replace", failing)
        for asset in assets[:3]:
            await user.call(pb.UpdateAssetRequest(asset=pb.Asset(name=asset.name, favorite=True)))
        await asyncio.sleep(1)
        await user.call(pb.UpdateAssetRequest(asset=pb.Asset(name=assets[3].name, tags=["sound"])))
        async with asyncio.timeout(10):
            while b"sound" not in await user.gallery.blob(f"{assets[3].name[7:]}/asset.json"):  # noqa: ASYNC110 - a blob
                await asyncio.sleep(0.05)
        assert await user.gallery.rows(BEHIND["asset"], user.principal) != [(0,)]
    await until_documented(user, "asset")


BEHIND = {
    "asset": "SELECT count(*) FROM gallery.asset WHERE owner = %s AND document_revision < revision",
    "folder": "SELECT count(*) FROM gallery.folder WHERE owner = %s AND document_revision < revision",
}


async def until_documented(user: Client, kind: str) -> None:
    async with asyncio.timeout(15):
        while await user.gallery.rows(BEHIND[kind], user.principal) != [(0,)]:  # noqa: ASYNC110 - a database
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
