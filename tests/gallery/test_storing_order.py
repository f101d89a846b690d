"""Failures in the middle of storing: nothing half-made is visible, nothing acknowledged is lost, a repeat works."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
import pytest_asyncio

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.health import FAILURES_BEFORE_NOT_SERVING, POLL_SECONDS
from services.gallery import storage_watch
from services.gallery.adapters import azure_blobs
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.adapters.catalog import Catalog, WriteDocument
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.document import from_document
from services.gallery.domain.uploads import NewAsset
from services.gallery.ports import BlobKey, Content
from tests.conftest import NewDatabase
from tests.gallery.harness import Client, refusal, running_gallery
from tests.gallery.media import video
from tests.gallery.proxy import Proxy
from tests.support.media import png

PICTURE = png(32, 24)


class Crash(Exception):
    """The process ends here, as far as the rest of the upload is concerned."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of storing, in the order in which they end."""
    done: list[str] = []
    put, replace, insert = AzureBlobStore.put, AzureBlobStore.replace, Catalog.insert

    async def spy_put(self: AzureBlobStore, key: BlobKey, content: Content, *, mime_type: str, sha256: str) -> None:
        await put(self, key, content, mime_type=mime_type, sha256=sha256)
        done.append("original")

    async def spy_replace(
        self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None
    ) -> None:
        await replace(self, key, data, mime_type=mime_type, over=over)
        done.append("document")

    async def spy_insert(
        self: Catalog, new: NewAsset, write_document: WriteDocument, attempt: uuid.UUID
    ) -> Asset | None:
        stored = await insert(self, new, write_document, attempt)
        done.append("row")
        return stored

    monkeypatch.setattr(AzureBlobStore, "put", spy_put)
    monkeypatch.setattr(AzureBlobStore, "replace", spy_replace)
    monkeypatch.setattr(Catalog, "insert", spy_insert)
    return done


async def test_bytes_and_document_are_durable_before_the_row(user: Client, steps: list[str]) -> None:
    await user.upload(PICTURE)
    assert steps == ["original", "document", "row"]


@pytest.mark.parametrize("data", [PICTURE, video(9_000_000)], ids=["one piece", "blocks"])
@pytest.mark.parametrize("step", ["put", "replace"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_between_the_steps_shows_nothing_and_the_replay_completes_it(
    user: Client, monkeypatch: pytest.MonkeyPatch, step: str, when: str, data: bytes
) -> None:
    service, asset_id = user.as_service(), str(uuid.uuid4())
    original = getattr(AzureBlobStore, step)

    async def crashing(self: AzureBlobStore, *arguments: object, **named: object) -> None:
        if when == "after":
            await original(self, *arguments, **named)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(AzureBlobStore, step, crashing)
        error = await refusal(service.upload(data, asset_id=asset_id, folder="new", display_name="first"))
        assert error.reason == "INTERNAL_ERROR"
    assert (await refusal(user.get(f"assets/{asset_id}"))).reason == "ASSET_NOT_FOUND"
    assert await user.names(show_deleted=True) == []
    assert (await refusal(user.page(folder="new"))).reason == "FOLDER_NOT_FOUND"

    stored = await service.upload(data, asset_id=asset_id, display_name="second")
    assert (stored.display_name, stored.folder) == ("second", "")
    assert (await user.download(stored.name)).data == data
    is_video = stored.media_type == pb.Asset.VIDEO
    document = from_document(await user.gallery.blob(f"{asset_id}/asset.json", video=is_video))
    assert document.display_name == "second", "the document must be that of the row that committed"


async def test_the_document_is_that_of_the_upload_that_won(user: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads of one id differ in their name; whichever commits, index and document agree within seconds."""
    replace = AzureBlobStore.replace

    async def slow(self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None) -> None:
        await asyncio.sleep(0.05)
        await replace(self, key, data, mime_type=mime_type, over=over)

    monkeypatch.setattr(AzureBlobStore, "replace", slow)
    service, asset_id = user.as_service(), str(uuid.uuid4())
    await asyncio.gather(*(service.upload(PICTURE, asset_id=asset_id, display_name=f"n{n}") for n in range(4)))
    stored = await user.get(f"assets/{asset_id}")

    async def mirrored() -> bool:
        document = from_document(await user.gallery.blob(f"{asset_id}/asset.json"))
        return document.display_name == stored.display_name

    async with asyncio.timeout(20):
        while not await mirrored():  # noqa: ASYNC110 - the mirror writes it
            await asyncio.sleep(0.05)


async def test_slow_storage_leaves_connections_to_those_who_read(user: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, replace = asyncio.Event(), AzureBlobStore.replace

    async def slow(self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None) -> None:
        await go_on.wait()
        await replace(self, key, data, mime_type=mime_type, over=over)

    settings = user.gallery.settings
    assert settings.max_concurrent_uploads > settings.database_pool_size + settings.database_pool_overflow
    monkeypatch.setattr(AzureBlobStore, "replace", slow)
    users = [user.gallery.user() for _ in range(settings.max_concurrent_uploads)]
    uploads = [asyncio.ensure_future(each.upload(PICTURE)) for each in users]
    await asyncio.sleep(1.5)
    try:
        async with asyncio.timeout(5):
            await asyncio.gather(*(user.page() for _ in range(8)))
    finally:
        go_on.set()
        stored = await asyncio.gather(*uploads)
    assert len({asset.name for asset in stored}) == len(uploads)


@pytest_asyncio.fixture(loop_scope="session")
async def cut_off(
    new_database: NewDatabase, azurite: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Client, Proxy]]:
    """A gallery that reaches its storage through a line that can be cut."""
    monkeypatch.setattr(azure_blobs, "CALL_SECONDS", 2)
    monkeypatch.setattr(storage_watch, "POLL_SECONDS", 0.1)
    async with Proxy.to(azurite) as proxy:
        directory = tmp_path_factory.mktemp("gallery")
        async with running_gallery(await new_database(), proxy.connection_string, directory) as running:
            yield running.user(), proxy


@pytest.mark.parametrize("fault", [Proxy.cut, Proxy.freeze], ids=["down", "silent"])
async def test_storage_that_does_not_answer_is_said_so_in_time_and_nothing_is_stored(
    cut_off: tuple[Client, Proxy], fault: Callable[[Proxy], None]
) -> None:
    user, proxy = cut_off
    asset = await user.upload(PICTURE)
    fault(proxy)
    async with asyncio.timeout(20):
        for call in (user.upload(png(9, 9)), user.download(asset.name)):
            error = await refusal(call)
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
            assert (error.metadata["billed"], error.metadata["retrySafe"]) == ("no", "true")
    assert await user.names() == [asset.name], "the index answers without its storage"
    proxy.mend()
    assert (await user.download(asset.name)).data == PICTURE
    assert (await user.upload(png(9, 9))).width_px == 9


async def test_storage_that_is_down_is_seen_and_takes_the_index_out_of_nobodys_reach(
    cut_off: tuple[Client, Proxy],
) -> None:
    user, proxy = cut_off
    asset = await user.upload(PICTURE)
    proxy.cut()
    await user.gallery.wait_for_metric("contentlab_storage_reachable", 0)
    # Longer than it takes to be called not ready.
    await asyncio.sleep((FAILURES_BEFORE_NOT_SERVING + 1) * POLL_SECONDS)
    assert await user.gallery.is_serving()
    assert (await user.get(asset.name)).name == asset.name
    assert (await refusal(user.download(asset.name))).reason == "STORAGE_UNAVAILABLE"
    proxy.mend()
    await user.gallery.wait_for_metric("contentlab_storage_reachable", 1)


async def test_a_failed_insertion_is_never_acknowledged(user: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit itself fails: the caller hears of it, and repeats."""
    commits = []

    async def failing(
        self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None
    ) -> None:
        commits.append(key)
        raise failures.storage_unavailable()

    with monkeypatch.context() as patch:
        patch.setattr(AzureBlobStore, "replace", failing)
        assert (await refusal(user.upload(PICTURE))).reason == "STORAGE_UNAVAILABLE"
    assert len(commits) == 1
    assert await user.names() == []
