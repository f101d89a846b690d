"""Blobs that change under our hands: discarding what clients have put, whatever they make of it; what is swept away."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
from azure.storage.blob.aio import BlobClient, BlobServiceClient

from services.common.database import create_engine
from services.common.errors import Unavailable
from services.gallery.adapters.azure_blobs import AzureBlobStore, client_options
from services.gallery.adapters.spool import Spool
from services.gallery.adapters.staging import SWEEP_AGAIN, Staging
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain.assets import MediaType
from services.gallery.ports import BlobKey, BlobMissing, staging_key
from services.gallery.staging_sweep import StagingSweep
from tests.gallery.harness import Client
from tests.gallery.test_direct_uploads import complete, opened, past, put, staged_blob
from tests.support.media import png

CLIENTS_COPY = "no-copy-of-ours"


@pytest_asyncio.fixture(loop_scope="session")
async def client(azurite: str) -> AsyncIterator[BlobServiceClient]:
    async with BlobServiceClient.from_connection_string(azurite, **client_options()) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def store(client: BlobServiceClient) -> AzureBlobStore:
    store = AzureBlobStore(client, {kind: f"{kind.value}-{secrets.token_hex(6)}" for kind in MediaType})
    await store.prepare()
    return store


@pytest.fixture
def key() -> BlobKey:
    return staging_key(secrets.token_hex(8))


@pytest.fixture
def pending_copy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A blob into which storage still copies, as Azure answers for it: Azurite's copies are done at once.

    The ids of the copies that were aborted.
    """
    aborted: list[str] = []
    delete, properties = BlobClient.delete_blob, BlobClient.get_blob_properties

    async def delete_unless_copying(self: BlobClient, *arguments: Any, **options: Any) -> None:
        if not aborted:
            raise ResourceExistsError("There is currently a pending copy operation.")
        await delete(self, *arguments, **options)

    async def tell_of_copy(self: BlobClient, **options: Any) -> Any:
        found = await properties(self, **options)
        found.copy.status, found.copy.id = "pending", CLIENTS_COPY
        return found

    async def abort(self: BlobClient, copy_id: str, **options: Any) -> None:
        aborted.append(copy_id)

    monkeypatch.setattr(BlobClient, "delete_blob", delete_unless_copying)
    monkeypatch.setattr(BlobClient, "get_blob_properties", tell_of_copy)
    monkeypatch.setattr(BlobClient, "abort_copy", abort)
    return aborted


async def store_bytes(store: AzureBlobStore, key: BlobKey) -> None:
    await store.replace(key, b"bytes", mime_type="text/plain")


async def test_a_copy_that_is_pending_is_aborted_and_the_blob_goes(
    store: AzureBlobStore, key: BlobKey, pending_copy: list[str]
) -> None:
    await store_bytes(store, key)
    await store.discard(key)
    assert pending_copy == [CLIENTS_COPY]
    with pytest.raises(BlobMissing):
        await store.facts(key)


async def test_several_may_discard_a_blob_at_once(store: AzureBlobStore, key: BlobKey) -> None:
    """Each deletes what another has committed to drop its blocks; what then is missing is what everybody wants."""
    for _ in range(10):
        await store_bytes(store, key)
        await asyncio.gather(*(store.discard(key) for _ in range(6)))
        with pytest.raises(BlobMissing):
            await store.facts(key)


@pytest.mark.parametrize("failure", [ResourceExistsError, ResourceModifiedError])
async def test_what_keeps_a_blob_from_being_discarded_is_typed(
    store: AzureBlobStore,
    key: BlobKey,
    monkeypatch: pytest.MonkeyPatch,
    failure: type[Exception],
) -> None:
    """As when it is leased again between two steps."""

    async def refuse(*_arguments: Any, **_options: Any) -> None:
        raise failure("There is currently a lease on the blob.")

    await store_bytes(store, key)
    monkeypatch.setattr(BlobClient, "delete_blob", refuse)
    with pytest.raises(Unavailable) as refused:
        await store.discard(key)
    assert refused.value.reason == "STORAGE_UNAVAILABLE"


async def test_bytes_that_go_while_they_are_found_to_be_there_are_typed(
    store: AzureBlobStore, key: BlobKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier attempt left under this name is removed just then: a repetition stores them."""
    properties, data = BlobClient.get_blob_properties, b"bytes"

    async def too_late(self: BlobClient, **options: Any) -> Any:
        await self.delete_blob()
        return await properties(self, **options)

    with Spool(None) as spool:
        await spool.write(data)
        sha256 = await spool.seal()
        await store.put(key, spool, mime_type="text/plain", sha256=sha256)
        with monkeypatch.context() as patch:
            patch.setattr(BlobClient, "get_blob_properties", too_late)
            with pytest.raises(Unavailable) as refused:
                await store.put(key, spool, mime_type="text/plain", sha256=sha256)
        assert (refused.value.reason, refused.value.retry_safe) == ("STORAGE_UNAVAILABLE", True)
        await store.put(key, spool, mime_type="text/plain", sha256=sha256)
    assert (await store.facts(key)).sha256 == sha256


@pytest.fixture
def defect(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Blobs, by their keys' names, that cannot be discarded for a reason that nobody has foreseen."""
    names: list[str] = []
    discard = AzureBlobStore.discard

    async def discard_unless_named(self: AzureBlobStore, key: BlobKey) -> None:
        if key.name in names:
            raise RuntimeError("what nobody has thought of")
        await discard(self, key)

    monkeypatch.setattr(AzureBlobStore, "discard", discard_unless_named)
    return names


async def test_a_completion_answers_the_asset_although_what_was_staged_could_not_go(
    user: Client, defect: list[str]
) -> None:
    data = png(8, 8)
    upload = await opened(user, data)
    defect.append(staging_key(upload.name.removeprefix("uploads/")).name)
    async with httpx2.AsyncClient() as http:
        await put(http, upload, data)
    asset = await complete(user, upload)
    assert (await user.download(asset.name)).data == data
    assert await staged_blob(user, upload).exists(), "the sweep takes it"


async def test_one_blob_that_cannot_go_does_not_keep_the_sweep_from_the_others(user: Client, defect: list[str]) -> None:
    gallery, uploads = user.gallery, [await opened(user, png(8, 8)) for _ in range(6)]
    async with httpx2.AsyncClient() as http:
        for upload in uploads:
            await put(http, upload, png(8, 8))
            await past(user, upload, timedelta(hours=6, minutes=31))
    await past(user, uploads[0], SWEEP_AGAIN)  # the first in line
    defect.append(staging_key(uploads[0].name.removeprefix("uploads/")).name)
    engine = create_engine(gallery.settings, application_name="sweep")
    containers = {MediaType.IMAGE: gallery.settings.image_container, MediaType.VIDEO: gallery.settings.video_container}
    sweeper = StagingSweep(Staging(engine, Transactions(engine)), AzureBlobStore(gallery.storage, containers))
    async with asyncio.timeout(30):
        while await sweeper.sweep():
            pass
    await engine.dispose()
    assert [await staged_blob(user, upload).exists() for upload in uploads] == [True] + [False] * 5
