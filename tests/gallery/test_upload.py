"""Uploads by the gRPC stream: whole and right, or nothing at all."""

import asyncio
import fcntl
import hashlib
import os
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.adapters.inspection.pool import Inspector
from services.gallery.domain.document import from_document
from services.gallery.domain.media import BY_MIME_TYPE
from tests.gallery.harness import Client, refusal, upload_messages
from tests.gallery.media import NOT_DECODED, RASTER, REFUSED, VIDEOS, bomb, video
from tests.support.media import png

PICTURE = png(32, 24)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@asynccontextmanager
async def nothing_is_stored(user: Client) -> AsyncIterator[None]:
    before = await user.gallery.blobs()
    yield
    assert await user.gallery.blobs() == before
    assert await user.names(show_deleted=True) == []


async def test_an_uploaded_picture_is_described_by_its_bytes(user: Client) -> None:
    asset = await user.upload(PICTURE, display_name="夕暮れ 🌅.png", tags=["sea", "夜"], labels={"k": "v"})
    assert asset.media_type == pb.Asset.IMAGE
    assert asset.mime_type == "image/png"
    assert (asset.width_px, asset.height_px) == (32, 24)
    assert asset.size_bytes == len(PICTURE)
    assert asset.sha256 == hashlib.sha256(PICTURE).hexdigest()
    assert asset.HasField("has_transparency")
    assert asset.has_transparency is False
    assert asset.display_name == "夕暮れ 🌅.png"
    assert list(asset.tags) == ["sea", "夜"]
    assert dict(asset.labels) == {"k": "v"}
    assert asset.owner == user.principal
    assert asset.create_time == asset.update_time
    assert asset == await user.get(asset.name)


@pytest.mark.parametrize(("mime_type", "data"), [*RASTER.items(), *VIDEOS.items(), *NOT_DECODED.items()])
async def test_the_type_comes_from_the_bytes(user: Client, mime_type: str, data: bytes) -> None:
    asset = await user.upload(data, display_name="holiday.txt")
    assert asset.mime_type == mime_type
    assert asset.HasField("width_px") == (mime_type not in NOT_DECODED)
    assert asset.HasField("has_transparency") == (mime_type in RASTER)
    assert asset.HasField("duration") == (mime_type in VIDEOS)
    assert asset.media_type == (pb.Asset.VIDEO if mime_type.startswith("video") else pb.Asset.IMAGE)


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in REFUSED.items()])
async def test_what_is_no_accepted_media_or_broken_is_refused_and_leaves_nothing(user: Client, data: bytes) -> None:
    async with nothing_is_stored(user):
        error = await refusal(user.upload(data))
        assert (error.code, error.reason) == (INVALID, "UNSUPPORTED_MEDIA")


@pytest.mark.parametrize(
    ("width", "height"), [(60_000, 60_000), (65_535, 65_535), (2_000_000_000, 1), (10_001, 10_000)]
)
async def test_a_header_with_too_many_pixels_is_refused_before_decoding(user: Client, width: int, height: int) -> None:
    async with nothing_is_stored(user):
        error = await refusal(user.upload(bomb(width, height)))
        assert (error.code, error.reason) == (INVALID, "IMAGE_TOO_LARGE")
        assert error.metadata["maxPixels"] == "100000000"


async def test_an_upload_with_a_wrong_sha256_is_refused_and_leaves_nothing(user: Client) -> None:
    async with nothing_is_stored(user):
        error = await refusal(user.upload(video(5_000_000), sha256="0" * 64))
        assert (error.code, error.reason) == (INVALID, "CHECKSUM_MISMATCH")
        assert error.metadata["declared"] == "0" * 64
        assert error.metadata["billed"] == "no"


@pytest.mark.parametrize("off_by", [-1, 1, 70_000])
async def test_fewer_or_more_bytes_than_declared_are_refused_and_leave_nothing(user: Client, off_by: int) -> None:
    data = video(200_000)
    async with nothing_is_stored(user):
        error = await refusal(user.upload(data, size_bytes=len(data) - off_by))
        assert (error.code, error.reason) == (INVALID, "UPLOAD_INCOMPLETE")
        assert error.metadata["declaredBytes"] == str(len(data) - off_by)


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([], id="nothing"),
        pytest.param(upload_messages(PICTURE)[1:], id="no metadata"),
        pytest.param([*upload_messages(PICTURE)[:1], *upload_messages(PICTURE)], id="metadata twice"),
    ],
)
async def test_messages_in_the_wrong_order_are_refused(user: Client, messages: list[pb.UploadAssetRequest]) -> None:
    async with nothing_is_stored(user):
        error = await refusal(user.send(messages))
        assert (error.code, error.reason) == (INVALID, "UPLOAD_OUT_OF_ORDER")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"sha256": "xyz"}, "metadata.sha256"),
        ({"size_bytes": 0}, "metadata.size_bytes"),
        ({"display_name": "x" * 256}, "metadata.display_name"),
        ({"display_name": "a\0b"}, "metadata.display_name"),
        ({"tags": ["a", "a"]}, "metadata.tags"),
        ({"tags": ["a\0"]}, "metadata.tags"),
        ({"labels": {"k\0": "v"}}, "metadata.labels"),
        ({"folder": "a\0b"}, "metadata.folder"),
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(user: Client, fields: dict[str, Any], field: str) -> None:
    async with nothing_is_stored(user):
        error = await refusal(user.upload(PICTURE, **fields))
        assert (error.code, error.reason) == (INVALID, "INVALID_FIELD")
        assert error.fields == (field,)


async def test_more_bytes_than_the_limit_are_refused_before_they_are_sent(user: Client) -> None:
    metadata = pb.UploadMetadata(size_bytes=user.gallery.settings.max_upload_bytes + 1, sha256="0" * 64)
    async with nothing_is_stored(user):
        error = await refusal(user.send([pb.UploadAssetRequest(metadata=metadata)]))
        assert (error.code, error.reason) == (INVALID, "UPLOAD_TOO_LARGE")
        assert error.metadata["maxBytes"] == str(user.gallery.settings.max_upload_bytes)
        assert error.trailing["x-http-code"] == "413"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"asset_id": "mine"}, "metadata.asset_id"),
        ({"provenance": pb.Provenance(owner="somebody else")}, "metadata.provenance"),
    ],
)
async def test_what_only_services_can_know_is_refused_from_users(
    user: Client, fields: dict[str, Any], field: str
) -> None:
    async with nothing_is_stored(user):
        error = await refusal(user.upload(PICTURE, **fields))
        assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "FIELD_RESERVED")
        assert error.metadata["field"] == field


@pytest.mark.parametrize("data", [PICTURE, video(9_000_000)], ids=["in memory", "on disk, in blocks"])
async def test_original_bytes_are_kept_and_all_that_is_known_lies_beside_them(user: Client, data: bytes) -> None:
    asset = await user.upload(data, display_name="海", folder="旅/2026", tags=["ä"], labels={"ключ": "значение"})
    asset_id, is_video = asset.name.removeprefix("assets/"), asset.media_type == pb.Asset.VIDEO
    assert await user.gallery.blob(f"{asset_id}/original", video=is_video) == data
    document = from_document(await user.gallery.blob(f"{asset_id}/asset.json", video=is_video))
    assert document.name == asset.name
    assert document.owner == user.principal
    assert document.display_name == "海"
    assert document.folder is not None
    assert (f"folders/{document.folder.id}", document.folder.path) == (asset.folder, "旅/2026")
    assert (document.tags, document.labels) == (("ä",), {"ключ": "значение"})
    assert document.media.sha256 == asset.sha256
    assert document.create_time == asset.create_time.ToDatetime(document.create_time.tzinfo)


async def test_a_name_is_made_where_none_is_given(user: Client) -> None:
    for mime_type, data in RASTER.items():
        asset = await user.upload(data)
        assert asset.display_name == asset.name.removeprefix("assets/") + BY_MIME_TYPE[mime_type].extensions[0]


async def test_a_service_stores_what_it_paid_for_with_its_provenance(user: Client) -> None:
    provenance = pb.Provenance(
        owner=user.principal,
        prompt="灯台と夕暮れ " * 200,
        prompt_revisions=[pb.PromptRevision(step=pb.PromptRevision.ENHANCED, previous_prompt="灯台", model="llm")],
        model="gpt-image-2",
        parameters={"size": "1024x1024", "quality": "high"},
        origin="imageGenerations/abc",
        parents=[pb.Parent(asset="assets/parent", relation=pb.Parent.EDITED_FROM)],
        usage=pb.Usage(input_tokens=5, output_tokens=2**40, output_image_tokens=3),
        cost=pb.Cost(source=pb.Cost.COMPUTED, amount_micro_usd=2**53 + 1),
    )
    provenance.usage.video_duration.FromMilliseconds(1500)
    stored = await user.as_service().upload(PICTURE, asset_id=str(uuid.uuid4()), provenance=provenance)
    shown = await user.get(stored.name)
    assert shown == stored
    for field in ("prompt", "prompt_revisions", "model", "parameters", "origin", "parents", "usage", "cost"):
        assert getattr(shown, field) == getattr(provenance, field), field
    assert shown.owner == user.principal
    assert [asset.name for asset in (await user.page(origin="imageGenerations/abc")).assets] == [stored.name]


@pytest.mark.parametrize("parameters", [{"": "v"}, {"k" * 64: "v"}, {"k": "v" * 1025}], ids=["no key", "key", "value"])
async def test_a_parameter_beyond_its_length_is_refused(user: Client, parameters: dict[str, str]) -> None:
    async with nothing_is_stored(user):
        provenance = pb.Provenance(owner=user.principal, parameters=parameters)
        error = await refusal(user.as_service().upload(PICTURE, provenance=provenance))
        assert (error.code, error.reason) == (INVALID, "INVALID_FIELD")
        assert error.fields[0].startswith("metadata.provenance.parameters")


async def test_parameters_of_the_greatest_length_are_kept(user: Client) -> None:
    parameters = {"k" * 63: "値" * 1024}
    provenance = pb.Provenance(owner=user.principal, parameters=parameters)
    stored = await user.as_service().upload(PICTURE, provenance=provenance)
    assert dict((await user.get(stored.name)).parameters) == parameters


async def test_an_unpriced_cost_stays_unknown_and_does_not_become_zero(user: Client) -> None:
    provenance = pb.Provenance(owner=user.principal, cost=pb.Cost(source=pb.Cost.UNPRICED))
    stored = await user.as_service().upload(PICTURE, provenance=provenance)
    assert stored.cost.source == pb.Cost.UNPRICED
    assert not stored.cost.HasField("amount_micro_usd")
    assert not (await user.as_service().upload(png(3, 3))).HasField("cost")


@pytest.mark.parametrize("data", [PICTURE, video(5_000_000)], ids=["in memory", "on disk"])
async def test_the_decoder_gets_no_descriptor_that_it_could_write_to(
    user: Client, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    inspect, modes = Inspector.inspect, []

    async def watched(self: Inspector, descriptor: int, who: str, *, by_service: bool) -> dict[str, Any]:
        modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
        return await inspect(self, descriptor, who, by_service=by_service)

    monkeypatch.setattr(Inspector, "inspect", watched)
    await user.upload(data)
    assert modes == [os.O_RDONLY]


async def test_bytes_may_come_in_any_portions(user: Client) -> None:
    data = video(3_000_001)
    assets = [await user.upload(data, chunk=chunk) for chunk in (1024 * 1024, 16 * 1024, 999_983)]
    assert {asset.sha256 for asset in assets} == {hashlib.sha256(data).hexdigest()}
    assert len({asset.name for asset in assets}) == 3


async def test_uploads_at_once_do_not_mix(user: Client) -> None:
    files = [video(100_000) + secrets.token_bytes(50_000 * number) for number in range(24)]
    assets = await asyncio.gather(*(user.upload(data) for data in files))
    for asset, data in zip(assets, files, strict=True):
        assert (await user.download(asset.name)).data == data
