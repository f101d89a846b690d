"""Errors that Envoy makes itself have exactly the services' shape, over REST, gRPC and gRPC-Web."""

import asyncio
import base64

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as gallery_rpc
from contentlab.image.v1 import image_service_pb2 as image_pb
from contentlab.image.v1 import image_service_pb2_grpc as image_rpc
from services.common.status import STATUS_METADATA_KEY, from_rpc_error
from tests.gateway.harness import Gateway, eventually
from tests.support.errors import rest_error

GENERATE = "/api/v1/images:generate"


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        pytest.param(b'{"prompt": "a harbour"', (), id="cut short"),
        pytest.param(b"[1, 2]", (), id="no object"),
        pytest.param(b'{"prompt": "\xff\xfe"}', (), id="no UTF-8"),
        pytest.param(b'{"prompt": 5}', ("prompt",), id="wrong type"),
        pytest.param(b'{"prompt": "a", "n": 99999999999}', ("n",), id="too large for int32"),
        pytest.param(b'{"prompt": "a", "n": "\\"%s"}', ("n",), id="quotes and per cent"),
    ],
)
@pytest.mark.parametrize("http2", [False, True])
async def test_json_that_does_not_fit_is_400_and_reaches_nobody(
    gateway: Gateway, content: bytes, fields: tuple[str, ...], http2: bool
) -> None:
    async with gateway.client(http2=http2) as client:
        error = rest_error(await client.post(GENERATE, content=content))
    assert (error.status, error.code, error.billed) == (400, 3, "no")
    assert error.reason == ("INVALID_FIELD" if fields else "MALFORMED_REQUEST")
    assert error.fields == fields
    assert error.metadata.get("field") == (fields[0] if fields else None)
    assert not gateway.image.calls


@pytest.mark.parametrize(
    ("query", "field"),
    [("pageSise=5", "pageSise"), ("pageSize=many", "page_size"), ("mediaType=SOUND", "media_type")],
)
async def test_a_wrong_query_names_the_field(gateway: Gateway, query: str, field: str) -> None:
    async with gateway.client() as client:
        error = rest_error(await client.get(f"/api/v1/assets?{query}"))
    assert (error.status, error.code, error.reason, error.fields) == (400, 3, "INVALID_FIELD", (field,))
    assert field in error.message


async def test_the_text_of_a_broken_body_does_not_come_back(gateway: Gateway) -> None:
    async with gateway.client() as client:
        error = rest_error(await client.post(GENERATE, content=b'{"prompt": secret-launch-name}'))
    assert "secret" not in str(error)


async def test_a_body_and_a_path_that_disagree_are_refused(gateway: Gateway) -> None:
    async with gateway.client() as client:
        error = rest_error(await client.post("/api/v1/assets/a:purge", json={"name": "assets/b"}))
    assert error.status == 400
    assert not gateway.gallery.calls


@pytest.mark.parametrize("path", ["/api/v1/assets/a%2Fb", "/api/v1/assets/a%5Cb", "/api/v1/assets/a%00b"])
async def test_an_escaped_slash_is_400_before_anything_looks_at_it(gateway: Gateway, path: str) -> None:
    async with gateway.client() as client:
        error = rest_error(await client.get(path))
    assert (error.status, error.reason) == (400, "MALFORMED_REQUEST")
    assert not gateway.gallery.calls


async def test_a_path_that_is_no_utf8_is_400(gateway: Gateway) -> None:
    async with gateway.client() as client:
        error = rest_error(await client.get("/api/v1/assets/%ff"))
    assert (error.status, error.code, error.reason) == (400, 3, "MALFORMED_REQUEST")
    assert not gateway.gallery.calls


@pytest.mark.parametrize(
    ("header", "status", "reason"),
    [(("x-big", "a" * 20_000), 431, "METADATA_TOO_LARGE"), (("under_score", "1"), 400, "MALFORMED_REQUEST")],
)
async def test_headers_that_http_refuses_are_told_in_the_one_shape(
    gateway: Gateway, header: tuple[str, str], status: int, reason: str
) -> None:
    async with gateway.client() as client:
        error = rest_error(await client.get("/api/v1/assets", headers=[header]))
    assert (error.status, error.reason) == (status, reason)


async def test_a_request_that_is_refused_unread_is_found_in_the_log_by_its_id(gateway: Gateway) -> None:
    async with gateway.client() as client:
        error = rest_error(await client.get("/api/v1/assets/a%2Fb"))
    connection = error.metadata["requestId"].removeprefix("connection-")
    await eventually(lambda: f'"connectionId":{connection},' in gateway.log.read_text())


@pytest.mark.parametrize("size", [2_000_000, 40_000_000])
@pytest.mark.parametrize("http2", [False, True])
async def test_a_body_above_its_limit_is_413_and_reaches_nobody(gateway: Gateway, size: int, http2: bool) -> None:
    async with gateway.client(http2=http2) as client:
        error = rest_error(await client.post(GENERATE, content=b'{"prompt": "' + b"x" * size + b'"}'))
    assert (error.status, error.code, error.reason, error.billed) == (413, 3, "REQUEST_TOO_LARGE", "no")
    assert not gateway.image.calls


async def test_a_body_of_unknown_length_has_the_same_limit(gateway: Gateway) -> None:
    reader, writer = await gateway.connect()
    writer.write(b"POST /api/v1/images:generate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
    writer.write(b'c\r\n{"prompt": "\r\n')
    chunk = b"x" * 65536
    with_size = f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
    for _ in range(20):
        writer.write(with_size)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 413")
    assert not gateway.image.calls


async def test_twenty_megabytes_of_inline_media_pass_where_they_may(gateway: Gateway) -> None:
    picture = bytes(20_000_000)
    gateway.image.on("EditImages", lambda request, context: edited(request))

    async def edited(request: image_pb.EditImagesRequest) -> image_pb.ImageGeneration:
        return image_pb.ImageGeneration(name="imageGenerations/1", prompt=str(len(request.images[0].inline)))

    body = {"prompt": "brighter", "images": [{"inline": base64.b64encode(picture).decode()}]}
    async with gateway.client() as client:
        answer = await client.post("/api/v1/images:edit", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["prompt"] == str(len(picture))
        error = rest_error(await client.post("/api/v1/images:edit", content=b"x" * 31_000_000))
    assert error.status == 413


def info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a gRPC error; fails without exactly one."""
    packed = dict(error.trailing_metadata() or ())[STATUS_METADATA_KEY]
    assert isinstance(packed, bytes)
    status = status_pb2.Status.FromString(packed)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found = error_details_pb2.ErrorInfo()
    assert [detail.Unpack(found) for detail in status.details].count(True) == 1
    return found


async def test_over_grpc_the_same_errors_are_a_status_with_the_same_details(gateway: Gateway) -> None:
    async with gateway.channel() as channel:
        stub = gallery_rpc.GalleryServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.GetAsset(gallery_pb.GetAssetRequest(name="a" * 2_000_000), timeout=10)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (info(error.value).reason, info(error.value).domain) == ("REQUEST_TOO_LARGE", "contentlab")
    assert dict(info(error.value).metadata) == {"billed": "no", "retrySafe": "false"}


async def test_a_service_reads_the_gateways_own_errors_like_a_siblings(impatient: Gateway) -> None:
    async def never(request: object, context: object) -> image_pb.ImageGeneration:
        await asyncio.sleep(60)
        return image_pb.ImageGeneration()

    impatient.image.on("GenerateImages", never)
    async with impatient.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await image_rpc.ImageServiceStub(channel).GenerateImages(image_pb.GenerateImagesRequest(prompt="a"))
    typed = from_rpc_error(error.value)
    assert (typed.code, typed.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN")
    assert (typed.billed, typed.retry_safe) == ("unknown", False)
