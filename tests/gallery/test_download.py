"""Downloads: the original bytes, as HTTP wants them."""

import re
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

import grpc
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.adapters.azure_blobs import PIECE_BYTES
from services.gallery.domain.assets import MediaType
from services.gallery.ports import original_key
from tests.gallery.harness import Client, refusal
from tests.gallery.media import NOT_DECODED, RASTER, SVG, VIDEOS, video
from tests.support.media import png

PICTURE = png(32, 24)


async def test_the_bytes_come_back_as_they_were_given(user: Client) -> None:
    for mime_type, data in (RASTER | VIDEOS | NOT_DECODED).items():
        asset = await user.upload(data)
        download = await user.download(asset.name)
        assert download.data == data
        assert download.messages[0].content_type == mime_type


async def test_large_files_come_in_messages_that_the_gateway_can_hold(user: Client) -> None:
    data = video(3 * PIECE_BYTES + 5)
    asset = await user.upload(data)
    download = await user.download(asset.name)
    assert download.data == data
    assert max(len(message.data) for message in download.messages) == 256 * 1024
    assert {message.content_type for message in download.messages[1:]} == {""}


async def test_the_headers_say_what_it_is(user: Client) -> None:
    asset = await user.upload(PICTURE, display_name="x.png")
    headers = (await user.download(asset.name)).headers
    assert headers["etag"] == f'"{asset.sha256}"'
    assert headers["accept-ranges"] == "bytes"
    assert headers["cache-control"] == "private, no-cache"
    assert headers["x-http-content-length"] == str(len(PICTURE))
    assert headers["content-disposition"] == "inline; filename=\"x.png\"; filename*=UTF-8''x.png"
    assert parsedate_to_datetime(headers["last-modified"]).timestamp() == asset.create_time.seconds
    assert "x-http-code" not in headers
    assert "content-range" not in headers


@pytest.mark.parametrize(
    "name",
    [
        "夕暮れ 🌅.png",
        "a\"b\\c%41;d'e.png",
        "naïve résumé.PNG",
        "line\nbreak\r\nx: y.png",
        "\u202egnp.exe",
        "\u061cgnp.exe",
        "..",
        " ",
    ],
)
async def test_any_display_name_is_a_file_name(user: Client, name: str) -> None:
    asset = await user.upload(PICTURE, display_name=name)
    assert asset.display_name == name
    disposition = (await user.download(asset.name)).headers["content-disposition"]
    match = re.fullmatch(
        r"inline; filename=\"([^\"\\%]*)\"; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]+)", disposition
    )
    assert match is not None, disposition
    plain, full = match[1], unquote(match[2])
    assert plain.isascii()
    assert not re.search(r"[/\\\x00-\x1f\u061c\u202e]", full)
    assert full.lower().endswith(".png")
    if re.fullmatch(r"[^/\\\n\r\u061c\u202e]+\.png", name):
        assert full == name


async def test_an_svg_is_handed_over_and_never_shown(user: Client) -> None:
    asset = await user.upload(SVG, display_name="drawing.svg")
    download = await user.download(asset.name)
    assert download.data == SVG
    assert download.headers["content-disposition"].startswith("attachment;")
    assert "sandbox" in download.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("range", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-", 10, 5000),
        ("bytes=10-19", 10, 20),
        ("bytes=-100", 4900, 5000),
        ("bytes=4990-99999999999", 4990, 5000),
        ("bytes = 1 - 2", 1, 3),
    ],
)
async def test_a_range_is_answered_with_206(user: Client, range: str, start: int, stop: int) -> None:
    data = video(4999) + b"\x07"
    asset = await user.upload(data)
    download = await user.download(asset.name, ("range", range))
    assert download.data == data[start:stop]
    assert download.headers["x-http-code"] == "206"
    assert download.headers["content-range"] == f"bytes {start}-{stop - 1}/5000"
    assert download.headers["x-http-content-length"] == str(stop - start)


@pytest.mark.parametrize(
    "range",
    ["", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,4-5", "items=0-1", "bytes=a-b", "bytes=0-", "bytes=-5000"],
)
async def test_what_is_no_part_is_answered_with_everything(user: Client, range: str) -> None:
    asset = await user.upload(video(5000))
    download = await user.download(asset.name, ("range", range))
    assert len(download.data) == 5000
    assert "x-http-code" not in download.headers


@pytest.mark.parametrize("range", ["bytes=5000-", "bytes=5000-6000", "bytes=-0", "bytes=99999999999999999-"])
async def test_a_range_behind_the_end_is_refused(user: Client, range: str) -> None:
    asset = await user.upload(video(5000))
    error = await refusal(user.download(asset.name, ("range", range)))
    assert (error.code, error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RANGE_NOT_SATISFIABLE")
    assert error.metadata["sizeBytes"] == "5000"
    assert error.trailing["x-http-code"] == "416"
    assert error.trailing["content-range"] == "bytes */5000"


async def test_what_the_browser_has_is_not_sent_again(user: Client) -> None:
    asset = await user.upload(PICTURE)
    etag = f'"{asset.sha256}"'
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        download = await user.download(asset.name, ("if-none-match", known), ("range", "bytes=0-1"))
        assert download.messages == []
        assert download.headers["x-http-code"] == "304"
        assert download.headers["etag"] == etag
        assert "x-http-content-length" not in download.headers
    assert (await user.download(asset.name, ("if-none-match", '"other"'))).data == PICTURE


async def test_a_range_of_other_bytes_is_answered_with_everything(user: Client) -> None:
    asset = await user.upload(PICTURE)
    same = await user.download(asset.name, ("range", "bytes=0-1"), ("if-range", f'"{asset.sha256}"'))
    other = await user.download(asset.name, ("range", "bytes=0-1"), ("if-range", '"other"'))
    assert (same.data, other.data) == (PICTURE[:2], PICTURE)


async def test_a_variant_that_there_cannot_be_is_told(user: Client) -> None:
    asset = await user.upload(PICTURE)
    error = await refusal(user.download(asset.name, variant=pb.Asset.POSTER))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "VARIANT_NOT_FOUND")
    assert (await user.download(asset.name, variant=pb.Asset.ORIGINAL)).data == PICTURE


@pytest.mark.parametrize("name", ["assets/nothing", "assets/" + "a" * 63])
async def test_what_is_not_there_is_not_found(user: Client, name: str) -> None:
    error = await refusal(user.download(name))
    assert (error.code, error.reason, error.resource) == (grpc.StatusCode.NOT_FOUND, "ASSET_NOT_FOUND", name)


@pytest.mark.parametrize("name", ["", "nothing", "assets/", "assets/A", "assets/a/b", "assets/a\n", "folders/a"])
async def test_what_is_no_name_is_refused(user: Client, name: str) -> None:
    for call in (user.download(name), user.get(name), user.delete(name)):
        error = await refusal(call)
        assert (error.code, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("name",))


async def test_bytes_that_are_lost_are_our_fault_and_said_before_any_header(user: Client) -> None:
    asset = await user.upload(PICTURE)
    key = original_key(MediaType.IMAGE, asset.name[7:])
    await user.gallery.storage.get_blob_client(user.gallery.settings.image_container, key.name).delete_blob()
    error = await refusal(user.download(asset.name))
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL_ERROR")
    assert key.name not in error.message
