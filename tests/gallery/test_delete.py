"""Soft deletion, and `asset.json` that follows every change."""

import asyncio
from datetime import timedelta

import grpc

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.domain.document import from_document
from tests.gallery.harness import Client, refusal
from tests.support.media import png

PICTURE = png(8, 8)


async def test_a_deleted_asset_leaves_the_lists_and_keeps_its_bytes_for_thirty_days(user: Client) -> None:
    kept, asset = await user.upload(PICTURE), await user.upload(PICTURE)
    deleted = await user.delete(asset.name)
    lifetime = deleted.purge_time.ToDatetime() - deleted.delete_time.ToDatetime()
    assert lifetime == timedelta(days=30)
    assert deleted.update_time == deleted.delete_time
    assert deleted.etag != asset.etag
    assert await user.names() == [kept.name]
    assert (await user.page()).total_size == 1
    assert await user.names(show_deleted=True) == [asset.name, kept.name]
    assert await user.get(asset.name) == deleted
    assert (await user.download(asset.name)).data == PICTURE


async def test_deleting_again_changes_nothing(user: Client) -> None:
    asset = await user.upload(PICTURE)
    deleted = await user.delete(asset.name)
    assert await user.delete(asset.name) == deleted
    assert await user.delete(asset.name, etag=deleted.etag) == deleted


async def test_an_etag_that_is_out_of_date_is_refused(user: Client) -> None:
    asset = await user.upload(PICTURE)
    error = await refusal(user.delete(asset.name, etag="0123456789abcdef"))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert await user.get(asset.name) == asset
    deleted = await user.delete(asset.name, etag=asset.etag)
    assert (await refusal(user.delete(asset.name, etag=asset.etag))).reason == "ETAG_MISMATCH"
    assert await user.get(asset.name) == deleted


async def test_of_deletions_at_once_with_one_etag_the_others_see_the_first(user: Client) -> None:
    for _ in range(8):  # the first rounds still open the connections that the race needs
        asset = await user.upload(PICTURE)
        outcomes = await asyncio.gather(
            *(user.delete(asset.name, etag=asset.etag) for _ in range(8)), return_exceptions=True
        )
        assert sum(isinstance(outcome, pb.Asset) for outcome in outcomes) == 1


async def test_what_is_not_there_cannot_be_deleted(user: Client) -> None:
    error = await refusal(user.delete("assets/nothing"))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "ASSET_NOT_FOUND")
    assert (error.resource, error.metadata["name"]) == ("assets/nothing", "assets/nothing")


async def test_the_document_beside_the_bytes_follows_within_five_seconds(user: Client) -> None:
    """Losing the index would otherwise bring back what its owner has deleted."""
    assets = [await user.upload(PICTURE) for _ in range(5)]
    await asyncio.gather(*(user.delete(asset.name) for asset in assets))
    async with asyncio.timeout(5):
        for asset in assets:
            while True:
                document = from_document(await user.gallery.blob(f"{asset.name[7:]}/asset.json"))
                if document.delete_time is not None:
                    break
                await asyncio.sleep(0.05)
            assert document.etag == (await user.get(asset.name)).etag


async def test_the_environment_tells_limits_and_no_secret(user: Client) -> None:
    request = pb.GetGalleryEnvironmentRequest()
    environment = await user.stub.GetGalleryEnvironment(request, metadata=user.metadata)
    settings = user.gallery.settings
    assert environment.storage_kind == "azurite"
    assert environment.storage_auth == "connection_string"
    assert environment.image_container == settings.image_container
    assert environment.max_upload_bytes == 512 * 1024 * 1024
    assert environment.delete_retention.ToTimedelta() == timedelta(days=30)
    assert "image/avif" in environment.accepted_mime_types
    assert settings.azure_storage_connection_string is not None
    assert settings.azure_storage_connection_string.get_secret_value()[-60:] not in str(environment)
