"""Uploads and downloads: streamed, bounded, told apart when cut, and never in anybody's way."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from google.api import httpbody_pb2

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as gallery_rpc
from services.common.errors import OutOfRange, Unavailable
from tests.gateway.harness import Gateway, eventually
from tests.support.errors import rest_error

UPLOAD = "/api/v1/assets:upload"
CHUNK = 256 * 1024


class Uploads:
    """Counts what arrives, as a gallery would before it believes anything."""

    def __init__(self) -> None:
        self.declared: int | None = None
        self.received = 0
        self.ended = asyncio.Event()
        self.largest = 0
        self.first: gallery_pb.UploadAssetContentRequest | None = None

    async def __call__(self, requests: AsyncIterator[Any], context: Any) -> gallery_pb.Asset:
        metadata = dict(context.invocation_metadata())
        self.declared = int(metadata.get("x-upload-content-length", -1))
        digest = hashlib.sha256()
        try:
            async for request in requests:
                self.first = self.first or request
                digest.update(request.content.data)
                self.received += len(request.content.data)
                self.largest = max(self.largest, len(request.content.data))
        finally:
            self.ended.set()
        return gallery_pb.Asset(name="assets/1", sha256=digest.hexdigest(), size_bytes=self.received)


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK):
        yield content[start : start + CHUNK]


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_arrives_bit_for_bit_whatever_carries_it(gateway: Gateway, http2: bool, chunked: bool) -> None:
    content = bytes(range(256)) * 4096 * 40  # 40 MiB
    digest = hashlib.sha256(content).hexdigest()
    uploads = Uploads()
    gateway.gallery.on("UploadAssetContent", uploads)
    parameters = {"displayName": "灯台.png", "tags": ["a", "b"], **({"sha256": digest} if chunked else {})}
    async with gateway.client(http2=http2) as client:
        answer = await client.post(
            UPLOAD,
            params=parameters,
            content=chunks(content) if chunked else content,
            headers={"content-type": "image/png"},
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["sha256"] == digest
    assert uploads.declared == (-1 if chunked else len(content))
    assert uploads.largest < 2 * CHUNK, "a buffer's limit is soft by one read of the socket"
    assert uploads.first is not None
    assert (uploads.first.display_name, list(uploads.first.tags)) == ("灯台.png", ["a", "b"])
    assert uploads.first.content.content_type == "image/png"


async def test_an_upload_cut_half_way_arrives_as_fewer_bytes_than_declared(gateway: Gateway) -> None:
    uploads = Uploads()
    gateway.gallery.on("UploadAssetContent", uploads)
    _, writer = await gateway.connect()
    writer.write(
        b"POST /api/v1/assets:upload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n" + b"x" * 50_000
    )
    await eventually(lambda: uploads.received > 0)
    writer.transport.abort()
    await asyncio.wait_for(uploads.ended.wait(), 10)
    assert uploads.declared == 100_000
    assert uploads.received < uploads.declared


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("size", [10, 20_000_000])
async def test_an_upload_without_length_and_hash_is_411_and_reaches_nobody(
    gateway: Gateway, http2: bool, size: int
) -> None:
    async with gateway.client(http2=http2) as client:
        error = rest_error(await client.post(UPLOAD, content=chunks(b"x" * size)))
    assert (error.status, error.code, error.reason, error.billed) == (411, 3, "LENGTH_REQUIRED", "no")
    assert not gateway.gallery.calls


async def test_an_upload_above_512_mib_is_413_unread(gateway: Gateway) -> None:
    reader, writer = await gateway.connect()
    writer.write(b"POST /api/v1/assets:upload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 536870913\r\n\r\n")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413")
    writer.close()
    assert not gateway.gallery.calls


async def test_a_grpc_upload_has_the_same_room(gateway: Gateway) -> None:
    received: list[int] = []

    async def upload(requests: AsyncIterator[Any], context: Any) -> gallery_pb.Asset:
        received.extend([len(request.chunk) async for request in requests])
        return gallery_pb.Asset(name="assets/1")

    gateway.gallery.on("UploadAsset", upload)

    async def messages() -> AsyncIterator[gallery_pb.UploadAssetRequest]:
        for _ in range(40):
            yield gallery_pb.UploadAssetRequest(chunk=bytes(1024 * 1024))

    async with gateway.channel() as channel:
        await gallery_rpc.GalleryServiceStub(channel).UploadAsset(messages(), timeout=30)
    assert sum(received) == 40 * 1024 * 1024


def download(*metadata: tuple[str, str], content: bytes = b"hello", content_type: str = "image/png") -> Any:
    """A DownloadAsset that answers with these bytes and this initial metadata."""

    async def behaviour(request: Any, context: Any) -> AsyncIterator[httpbody_pb2.HttpBody]:
        await context.send_initial_metadata(metadata)
        for start in range(0, len(content), CHUNK):
            yield httpbody_pb2.HttpBody(content_type=content_type, data=content[start : start + CHUNK])

    return behaviour


@pytest.mark.parametrize("http2", [False, True])
async def test_a_range_is_206_with_the_services_headers(gateway: Gateway, http2: bool) -> None:
    gateway.gallery.on(
        "DownloadAsset",
        download(
            ("x-http-code", "206"),
            ("x-http-content-length", "5"),
            ("content-range", "bytes 0-4/10"),
            ("etag", '"abc"'),
            ("content-disposition", "inline; filename*=UTF-8''%E7%81%AF"),
        ),
    )
    async with gateway.client(http2=http2) as client:
        answer = await client.get("/api/v1/assets/a:download", headers={"range": "bytes=0-4", "if-none-match": '"x"'})
    assert (answer.status_code, answer.content) == (206, b"hello")
    assert answer.headers["content-range"] == "bytes 0-4/10"
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == '"abc"'
    assert not [name for name in answer.headers if name.startswith("x-http-")]
    assert answer.headers["content-length"] == "5"
    seen = gateway.gallery.metadata()
    assert (seen["range"], seen["if-none-match"]) == ("bytes=0-4", '"x"')


async def failing_half_way(request: Any, context: Any) -> AsyncIterator[httpbody_pb2.HttpBody]:
    await context.send_initial_metadata((("x-http-content-length", str(16 * CHUNK)),))
    for _ in range(8):
        yield httpbody_pb2.HttpBody(content_type="video/mp4", data=bytes(CHUNK))
    raise Unavailable("STORAGE_UNAVAILABLE", "Storage does not answer.")


async def test_a_download_that_fails_half_way_does_not_look_whole(gateway: Gateway) -> None:
    gateway.gallery.on("DownloadAsset", failing_half_way)
    async with asyncio.timeout(10), gateway.client() as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get("/api/v1/assets/a:download")


async def test_over_http2_a_failed_download_is_shorter_than_promised(gateway: Gateway) -> None:
    """This client leaves the comparison to its caller; curl and browsers report a protocol error themselves."""
    gateway.gallery.on("DownloadAsset", failing_half_way)
    async with asyncio.timeout(10), gateway.client(http2=True) as client:
        answer = await client.get("/api/v1/assets/a:download")
    assert (len(answer.content), answer.headers["content-length"]) == (8 * CHUNK, str(16 * CHUNK))


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("size", [0, 5, 8 * CHUNK])
async def test_a_whole_download_says_how_long_it_is(gateway: Gateway, http2: bool, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    gateway.gallery.on("DownloadAsset", download(("x-http-content-length", str(size)), content=content))
    async with gateway.client(http2=http2) as client:
        for _ in range(2):
            answer = await client.get("/api/v1/assets/a:download", headers={"accept-encoding": "gzip"})
            assert (answer.headers["content-length"], answer.content == content) == (str(size), True)


async def test_small_pictures_share_a_connection(gateway: Gateway) -> None:
    """Only what cannot fail half way may keep it: the service has all its bytes before its headers leave."""
    gateway.gallery.on("DownloadAsset", download(("x-http-content-length", "5")))
    async with gateway.client() as client:
        for _ in range(2):
            assert "connection" not in (await client.get("/api/v1/assets/a:download")).headers


async def test_what_the_client_has_is_304_without_a_body(gateway: Gateway) -> None:
    gateway.gallery.on("DownloadAsset", download(("x-http-code", "304"), ("etag", '"abc"'), content=b""))
    async with gateway.client() as client:
        answer = await client.get("/api/v1/assets/a:download")
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"abc"')
    assert "content-type" not in answer.headers, "a cache would keep it in place of the picture's own"


async def test_an_error_can_name_its_http_status(gateway: Gateway) -> None:
    async def behaviour(request: Any, context: Any) -> AsyncIterator[Any]:
        context.set_trailing_metadata((("x-http-code", "416"), ("content-range", "bytes */5")))
        raise OutOfRange("RANGE_NOT_SATISFIABLE", "The range lies outside the bytes.", metadata={"sizeBytes": "5"})
        yield

    gateway.gallery.on("DownloadAsset", behaviour)
    async with gateway.client() as client:
        answer = await client.get("/api/v1/assets/a:download")
    error = rest_error(answer)
    assert (error.status, error.code, error.reason) == (416, 11, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == "bytes */5"


async def test_an_http_status_that_does_not_fit_is_not_believed(gateway: Gateway) -> None:
    gateway.gallery.on("DownloadAsset", download(("x-http-code", "500")))
    async with gateway.client() as client:
        answer = await client.get("/api/v1/assets/a:download")
    assert (answer.status_code, answer.content) == (200, b"hello")


async def test_over_grpc_a_range_stays_grpc(gateway: Gateway) -> None:
    gateway.gallery.on("DownloadAsset", download(("x-http-code", "206"), ("content-range", "bytes 0-4/10")))
    async with gateway.channel() as channel:
        call = gallery_rpc.GalleryServiceStub(channel).DownloadAsset(gallery_pb.DownloadAssetRequest(name="assets/a"))
        content = b"".join([message.data async for message in call])
        metadata = dict(await call.initial_metadata() or ())
    assert (content, metadata["content-range"]) == (b"hello", "bytes 0-4/10")


async def settled(read: Callable[[], int], seconds: float = 0.3) -> None:
    """Waits until a number has stopped changing."""
    async with asyncio.timeout(30):
        before = -1
        while (now := read()) != before:
            before = now
            await asyncio.sleep(seconds)


async def test_downloads_that_nobody_reads_stand_in_nobodys_way(gateway: Gateway) -> None:
    sent = 0

    async def endless(request: gallery_pb.DownloadAssetRequest, context: Any) -> AsyncIterator[httpbody_pb2.HttpBody]:
        nonlocal sent
        for _ in range(1024 if request.name == "assets/endless" else 4):
            sent += 1
            yield httpbody_pb2.HttpBody(content_type="video/mp4", data=bytes(CHUNK))

    async def asset(request: Any, context: Any) -> gallery_pb.Asset:
        return gallery_pb.Asset(name=request.name)

    gateway.gallery.on("DownloadAsset", endless)
    gateway.gallery.on("GetAsset", asset)
    async with AsyncExitStack() as stack:
        # Held on to: a StreamReader that is collected closes its connection, and nothing would be stalled.
        stalled = [await gateway.connect() for _ in range(12)]
        for reader, writer in stalled:
            stack.callback(writer.transport.abort)
            writer.write(b"GET /api/v1/assets/endless:download HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
        await settled(lambda: sent)
        async with gateway.client(timeout=10) as client:
            assert (await client.get("/api/v1/assets/a")).status_code == 200
            whole = await client.get("/api/v1/assets/short:download")
        assert not [reader for reader, _ in stalled if reader.at_eof()]
    assert len(whole.content) == 4 * CHUNK
