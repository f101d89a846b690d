"""What is purged is gone for good: from lists, from storage, and under its id."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest
import pytest_asyncio

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.adapters.catalog import Catalog, WriteDocument
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.uploads import NewAsset
from services.gallery.ports import BlobKey
from tests.gallery.counts import drift
from tests.gallery.harness import Client, Gallery, refusal
from tests.gallery.upkeep import Upkeep, upkeep_of
from tests.support.media import png

PICTURE = png(8, 8)


@pytest_asyncio.fixture(loop_scope="session")
async def upkeep(gallery: Gallery) -> AsyncIterator[Upkeep]:
    async with upkeep_of(gallery) as running:
        yield running


async def purge(user: Client, name: str) -> None:
    await user.stub.PurgeAsset(pb.PurgeAssetRequest(name=name), metadata=user.metadata, timeout=30)


async def until_gone(user: Client, asset_id: str) -> None:
    async with asyncio.timeout(10):
        while await blobs_of(user, asset_id):  # noqa: ASYNC110 - blobs in another process
            await asyncio.sleep(0.05)


async def blobs_of(user: Client, asset_id: str) -> list[str]:
    return [name for name in await user.gallery.blobs() if f"/{asset_id}/" in name]


async def test_a_purged_asset_is_gone_at_once_and_its_bytes_within_seconds(user: Client) -> None:
    kept, asset = await user.upload(PICTURE, tags=["t"]), await user.upload(PICTURE, tags=["t"], folder="f")
    await user.delete(asset.name)
    await purge(user, asset.name)
    assert (await refusal(user.get(asset.name))).reason == "ASSET_NOT_FOUND"
    assert await user.names(show_deleted=True) == [kept.name]
    await until_gone(user, asset.name[7:])
    assert (await user.download(kept.name)).data == PICTURE
    assert await drift(user) == {}


async def test_what_is_not_deleted_or_not_ones_own_cannot_be_purged(user: Client) -> None:
    asset = await user.upload(PICTURE)
    error = await refusal(purge(user, asset.name))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ASSET_NOT_DELETED")
    await user.delete(asset.name)
    assert (await refusal(purge(user.gallery.user(), asset.name))).reason == "ASSET_NOT_FOUND"
    assert (await user.get(asset.name)).HasField("delete_time")


async def test_a_purged_id_is_never_used_again(user: Client) -> None:
    service, asset_id = user.as_service(), str(uuid.uuid4())
    asset = await service.upload(PICTURE, asset_id=asset_id)
    await user.delete(asset.name)
    await purge(user, asset.name)
    error = await refusal(service.upload(PICTURE, asset_id=asset_id))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ASSET_PURGED")
    assert error.metadata["name"] == asset.name
    stranger = user.gallery.user().as_service()
    assert (await refusal(stranger.upload(PICTURE, asset_id=asset_id))).reason == "ASSET_EXISTS"
    await until_gone(user, asset_id)


async def test_what_is_overdue_is_purged_and_what_was_undeleted_meanwhile_is_not(user: Client, upkeep: Upkeep) -> None:
    overdue, kept = await user.upload(PICTURE), await user.upload(PICTURE)
    for asset in (overdue, kept):
        await user.delete(asset.name)
    past = "UPDATE gallery.asset SET purge_time = now() - interval '1 s' WHERE id = %s"
    await user.gallery.execute(past, overdue.name[7:])
    await upkeep.housekeeping().purge_some()
    assert await user.names(show_deleted=True) == [kept.name]
    await until_gone(user, overdue.name[7:])
    assert await drift(user) == {}


async def test_an_upload_that_was_under_way_cannot_bring_a_purged_asset_back(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes would be those that the purge removes: a row without bytes."""
    service, asset_id = user.as_service(), str(uuid.uuid4())
    reached, go_on, insert = asyncio.Event(), asyncio.Event(), Catalog.insert

    async def late(self: Catalog, new: NewAsset, write: WriteDocument, attempt: uuid.UUID) -> Asset | None:
        if not reached.is_set():
            reached.set()
            await go_on.wait()
        return await insert(self, new, write, attempt)

    monkeypatch.setattr(Catalog, "insert", late)
    slow = asyncio.ensure_future(refusal(service.upload(PICTURE, asset_id=asset_id)))
    await reached.wait()
    asset = await service.upload(PICTURE, asset_id=asset_id)
    await user.delete(asset.name)
    await purge(user, asset.name)
    await until_gone(user, asset_id)
    go_on.set()
    assert (await slow).code is grpc.StatusCode.UNAVAILABLE
    assert (await refusal(user.get(asset.name))).reason == "ASSET_NOT_FOUND"
    async with upkeep_of(user.gallery) as upkeep:
        await upkeep.sweep()
    assert await blobs_of(user, asset_id) == [], "what it wrote after the purge is swept"
    assert (await refusal(service.upload(PICTURE, asset_id=asset_id))).reason == "ASSET_PURGED"


async def test_a_mirror_writes_no_document_after_the_purge(user: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = await user.upload(PICTURE)
    reached, go_on, replace = asyncio.Event(), asyncio.Event(), AzureBlobStore.replace

    async def held(self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None) -> None:
        if key.name.startswith(asset.name[7:]):
            reached.set()
            await go_on.wait()
        await replace(self, key, data, mime_type=mime_type, over=over)

    monkeypatch.setattr(AzureBlobStore, "replace", held)
    await user.delete(asset.name)
    await reached.wait()
    await purge(user, asset.name)
    await asyncio.sleep(1.5)
    assert await blobs_of(user, asset.name[7:]), "the removal waits for the mirror"
    go_on.set()
    await until_gone(user, asset.name[7:])


async def test_storage_that_fails_only_delays_the_removal(user: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = await user.upload(PICTURE)
    delete, failed = AzureBlobStore.delete, asyncio.Event()

    async def failing(self: AzureBlobStore, key: BlobKey, *, etag: str | None = None) -> None:
        if key.name.endswith("/original"):
            failed.set()
            raise failures.storage_unavailable()
        await delete(self, key, etag=etag)

    await user.delete(asset.name)
    with monkeypatch.context() as patch:
        patch.setattr(AzureBlobStore, "delete", failing)
        await purge(user, asset.name)
        await failed.wait()
        await asyncio.sleep(0.2)
        assert [name.rpartition("/")[2] for name in await blobs_of(user, asset.name[7:])][-1:] == ["original"]
    await user.gallery.execute("UPDATE gallery.asset_removal SET try_time = now() WHERE asset_id = %s", asset.name[7:])
    await until_gone(user, asset.name[7:])


async def test_a_removal_looks_again_for_what_was_on_its_way_to_storage(user: Client, upkeep: Upkeep) -> None:
    asset = await user.upload(PICTURE)
    await user.delete(asset.name)
    await purge(user, asset.name)
    await until_gone(user, asset.name[7:])
    waiting = "SELECT count(*) FROM gallery.asset_removal WHERE asset_id = %s AND remove_time IS NULL"
    assert await user.gallery.rows(waiting, asset.name[7:]) == [(1,)]
    late = user.gallery.storage.get_blob_client(user.gallery.settings.image_container, f"{asset.name[7:]}/preview.webp")
    await late.upload_blob(b"made before, arrived after")
    await upkeep.sweep()
    assert await blobs_of(user, asset.name[7:]) == []
    assert await user.gallery.rows(waiting, asset.name[7:]) == [(0,)]


async def test_tombstones_are_kept_for_thirty_days(user: Client, upkeep: Upkeep) -> None:
    ids = []
    for days in (29, 31):
        asset = await user.upload(PICTURE)
        await user.delete(asset.name)
        await purge(user, asset.name)
        ids.append(asset.name[7:])
        age = "UPDATE gallery.asset_removal SET remove_time = now() - %s WHERE asset_id = %s"
        await until_gone(user, asset.name[7:])
        await user.gallery.execute(age, timedelta(days=days), asset.name[7:])
    await upkeep.housekeeping().trim()
    left = await user.gallery.rows("SELECT asset_id FROM gallery.asset_removal WHERE owner = %s", user.principal)
    assert left == [(ids[0],)]
