"""Headers of gRPC's own: they work for gRPC clients, and a REST client cannot break its call with them."""

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as gallery_rpc
from contentlab.image.v1 import image_service_pb2 as image_pb
from tests.gateway.harness import Gateway

HEADERS = [
    ("grpc-encoding", "gzip"),
    ("grpc-encoding", "nonsense"),
    ("grpc-accept-encoding", "gzip, deflate"),
    ("grpc-internal-encoding-request", "gzip"),
    ("grpc-trace-bin", "no base64!"),
    ("x-anything-bin", "@@@"),
    ("grpc-tags-bin", "AAA="),
]


async def image(request: Any, context: Any) -> image_pb.ImageGeneration:
    context.set_compression(grpc.Compression.Gzip)
    return image_pb.ImageGeneration(name="imageGenerations/1", prompt="a " * 5000)


async def images(request: Any, context: Any) -> AsyncIterator[image_pb.StreamImagesResponse]:
    context.set_compression(grpc.Compression.Gzip)
    yield image_pb.StreamImagesResponse(image=image_pb.ImageResult(index=3))


async def uploaded(requests: AsyncIterator[Any], context: Any) -> gallery_pb.Asset:
    return gallery_pb.Asset(name="assets/1", size_bytes=sum([len(request.content.data) async for request in requests]))


@pytest.mark.parametrize(("name", "value"), HEADERS)
async def test_over_rest_they_change_nothing(gateway: Gateway, name: str, value: str) -> None:
    gateway.image.on("GenerateImages", image)
    gateway.image.on("StreamEditImages", images)
    gateway.gallery.on("UploadAssetContent", uploaded)
    sse, edit = {"accept": "text/event-stream"}, {"prompt": "a", "images": [{"inline": "AAAA"}]}
    async with gateway.client() as client:
        client.headers[name] = value
        paid = await client.post("/api/v1/images:generate", json={"prompt": "a"})
        edited = await client.post("/api/v1/images:streamEdit", json=edit, headers=sse)
        upload = await client.post("/api/v1/assets:upload", content=b"12345")
        watch = await client.get("/api/v1/assets:watch", headers=sse)
    assert (paid.status_code, paid.json()["prompt"]) == (200, "a " * 5000), paid.text
    assert (edited.status_code, edited.text.startswith('data: {"image"')) == (200, True), edited.text
    assert (upload.status_code, upload.json()["sizeBytes"]) == (200, "5"), upload.text
    assert watch.status_code == 501, watch.text
    for _, _, metadata in (*gateway.image.calls, *gateway.gallery.calls):
        assert metadata.get(name) != value


async def test_over_grpc_they_do_what_they_say(gateway: Gateway) -> None:
    seen: dict[str, Any] = {}

    async def asset(request: Any, context: Any) -> gallery_pb.Asset:
        seen.update(context.invocation_metadata())
        context.set_compression(grpc.Compression.Gzip)
        return gallery_pb.Asset(name=request.name, prompt="a " * 5000)

    gateway.gallery.on("GetAsset", asset)
    address = f"127.0.0.1:{gateway.port}"
    async with grpc.aio.insecure_channel(address, compression=grpc.Compression.Gzip) as channel:
        answer = await gallery_rpc.GalleryServiceStub(channel).GetAsset(
            gallery_pb.GetAssetRequest(name="assets/a"), metadata=(("x-anything-bin", b"\0\xff"),)
        )
    assert answer.prompt == "a " * 5000
    assert seen["x-anything-bin"] == b"\0\xff"
