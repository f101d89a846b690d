"""Uploads as a raw HTTP body, as the gateway hands them on."""

import hashlib

import grpc
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from tests.gallery.harness import Client, content_messages, refusal
from tests.gallery.media import video
from tests.gallery.test_upload import nothing_is_stored
from tests.support.media import png

PICTURE = png(32, 24)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def test_a_body_with_its_length_is_stored(user: Client) -> None:
    asset = await user.upload_content(PICTURE, length=len(PICTURE), display_name="raw.png", tags=["a", "b"])
    assert (asset.display_name, list(asset.tags), asset.owner) == ("raw.png", ["a", "b"], user.principal)
    assert (await user.download(asset.name)).data == PICTURE


async def test_a_body_with_its_hash_needs_no_length(user: Client) -> None:
    asset = await user.upload_content(PICTURE, sha256=hashlib.sha256(PICTURE).hexdigest())
    assert asset.size_bytes == len(PICTURE)


@pytest.mark.parametrize("length", [None, "", "12x", "-1", "1e3", "9" * 30, "١٢"])
async def test_a_body_without_length_and_hash_is_refused(user: Client, length: str | None) -> None:
    caller = user if length is None or not length.isascii() else user.sending(("x-upload-content-length", length))
    async with nothing_is_stored(user):
        error = await refusal(caller.upload_content(video(5000)))
        assert (error.code, error.reason) == (INVALID, "LENGTH_REQUIRED")
        assert error.trailing["x-http-code"] == "411"


@pytest.mark.parametrize("off_by", [-1, 1])
async def test_a_body_of_another_length_is_refused_and_leaves_nothing(user: Client, off_by: int) -> None:
    """This is what a connection cut half way looks like."""
    data = video(300_000)
    async with nothing_is_stored(user):
        error = await refusal(user.upload_content(data, length=len(data) + off_by))
        assert (error.code, error.reason) == (INVALID, "UPLOAD_INCOMPLETE")


async def test_a_body_with_another_hash_is_refused_and_leaves_nothing(user: Client) -> None:
    data = video(300_000)
    async with nothing_is_stored(user):
        error = await refusal(user.upload_content(data, length=len(data), sha256="0" * 64))
        assert (error.code, error.reason) == (INVALID, "CHECKSUM_MISMATCH")


async def test_an_empty_body_is_no_media(user: Client) -> None:
    async with nothing_is_stored(user):
        error = await refusal(user.upload_content(b"", length=0))
        assert (error.code, error.reason) == (INVALID, "UNSUPPORTED_MEDIA")


async def test_the_content_type_that_a_client_claims_plays_no_part(user: Client) -> None:
    messages = content_messages(PICTURE)
    messages[0].content.content_type = "video/mp4"
    sent = user.sending(("x-upload-content-length", str(len(PICTURE))))
    asset = await user.stub.UploadAssetContent(iter(messages), metadata=sent.metadata, timeout=30)
    assert asset.mime_type == "image/png"


async def test_fields_in_a_later_message_are_refused_and_not_ignored(user: Client) -> None:
    data = video(200_000)
    messages = content_messages(data)
    messages[1].display_name = "too late"
    sent = user.sending(("x-upload-content-length", str(len(data))))
    async with nothing_is_stored(user):
        error = await refusal(user.stub.UploadAssetContent(iter(messages), metadata=sent.metadata, timeout=30))
        assert (error.code, error.reason) == (INVALID, "UPLOAD_OUT_OF_ORDER")


async def test_a_stream_without_any_message_is_refused(user: Client) -> None:
    empty: list[pb.UploadAssetContentRequest] = []
    error = await refusal(user.stub.UploadAssetContent(iter(empty), metadata=user.metadata, timeout=30))
    assert (error.code, error.reason) == (INVALID, "UPLOAD_OUT_OF_ORDER")
