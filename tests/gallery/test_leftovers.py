"""What an upload leaves that cannot become an asset: no bytes, and no id that is used up."""

import asyncio
import uuid

import grpc
import pytest

from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.domain import failures
from services.gallery.ports import BlobKey, Content
from tests.gallery.harness import Client, refusal, upload_messages
from tests.gallery.media import video
from tests.gallery.test_upload import nothing_is_stored
from tests.support.media import png

PICTURE = png(32, 24)
NOWHERE = "folders/nowhere"


async def test_a_folder_that_is_not_there_is_told_before_any_byte_is_sent(user: Client) -> None:
    async with nothing_is_stored(user):
        error = await refusal(user.send(upload_messages(PICTURE, folder=NOWHERE)[:1]))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FOLDER_NOT_FOUND")
        body = user.upload_content(PICTURE, length=len(PICTURE), folder=NOWHERE)
        assert (await refusal(body)).reason == "FOLDER_NOT_FOUND"


async def test_a_refused_folder_uses_up_no_id(user: Client) -> None:
    service, asset_id = user.as_service(), str(uuid.uuid4())
    async with nothing_is_stored(user):
        refused = service.upload(PICTURE, asset_id=asset_id, folder=NOWHERE)
        assert (await refusal(refused)).reason == "FOLDER_NOT_FOUND"
    other = png(9, 9)
    assert (await service.upload(other, asset_id=asset_id)).size_bytes == len(other)


async def folders_documented(user: Client) -> None:
    """Until no document of a folder is still to come."""
    behind = "SELECT 1 FROM gallery.folder WHERE owner = %s AND document_revision < revision"
    async with asyncio.timeout(15):
        while await user.gallery.rows(behind, user.principal):  # noqa: ASYNC110 - the mirror writes them
            await asyncio.sleep(0.05)


async def test_a_folder_that_goes_while_the_bytes_come_leaves_nothing(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied = await user.upload(PICTURE, folder="short-lived")
    put = AzureBlobStore.put

    async def put_and_remove_the_folder(
        self: AzureBlobStore, key: BlobKey, content: Content, *, mime_type: str, sha256: str
    ) -> None:
        await put(self, key, content, mime_type=mime_type, sha256=sha256)
        await user.gallery.execute("DELETE FROM gallery.asset WHERE owner = %s", user.principal)
        await user.gallery.execute("DELETE FROM gallery.folder WHERE owner = %s", user.principal)

    monkeypatch.setattr(AzureBlobStore, "put", put_and_remove_the_folder)
    await folders_documented(user)
    async with nothing_is_stored(user):
        assert (await refusal(user.upload(png(9, 9), folder=emptied.folder))).reason == "FOLDER_NOT_FOUND"


@pytest.mark.parametrize("data", [PICTURE, video(9_000_000)], ids=["one piece", "blocks"])
async def test_an_upload_that_fails_before_its_row_takes_its_bytes_back(
    user: Client, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    async def failing(
        self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None
    ) -> None:
        raise failures.storage_unavailable()

    monkeypatch.setattr(AzureBlobStore, "replace", failing)
    async with nothing_is_stored(user):
        assert (await refusal(user.upload(data))).reason == "STORAGE_UNAVAILABLE"


async def test_a_failed_upload_does_not_take_the_bytes_of_its_repetition(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the id of a service: the second finds the first's bytes in place, and commits when the first fails."""
    service, asset_id = user.as_service(), str(uuid.uuid4())
    reached, fail, replace = asyncio.Event(), asyncio.Event(), AzureBlobStore.replace

    async def failing_once(
        self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None
    ) -> None:
        if not reached.is_set():
            reached.set()
            await fail.wait()
            raise failures.storage_unavailable()
        await replace(self, key, data, mime_type=mime_type, over=over)

    monkeypatch.setattr(AzureBlobStore, "replace", failing_once)
    first = asyncio.ensure_future(refusal(service.upload(PICTURE, asset_id=asset_id)))
    await reached.wait()
    second = asyncio.ensure_future(service.upload(PICTURE, asset_id=asset_id))
    await asyncio.sleep(0.5)
    fail.set()
    assert (await first).reason == "STORAGE_UNAVAILABLE"
    stored = await second
    assert (await user.download(stored.name)).data == PICTURE
