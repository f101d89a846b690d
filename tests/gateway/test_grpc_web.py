"""gRPC-Web on the same port, framed by hand."""

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.rpc import status_pb2

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from services.common.errors import NotFound
from tests.gateway.harness import Gateway

SERVICE = "/contentlab.gallery.v1.GalleryService"
TRAILER = 0x80


async def call(
    gateway: Gateway, path: str, request: bytes, *, text: bool = False
) -> tuple[list[bytes], dict[str, str]]:
    """Messages and trailers of one gRPC-Web call; trailers stand in the body, or in the headers if there is none."""
    content = struct.pack(">BI", 0, len(request)) + request
    content_type = "application/grpc-web-text+proto" if text else "application/grpc-web+proto"
    async with gateway.client() as client:
        answer = await client.post(
            path,
            content=base64.b64encode(content) if text else content,
            headers={"content-type": content_type, "accept": content_type, "x-grpc-web": "1"},
        )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/grpc-web")
    body = base64.b64decode(answer.content) if text else answer.content
    messages, trailers = [], {name: value for name, value in answer.headers.items() if name.startswith("grpc-")}
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        frame, body = body[5 : 5 + length], body[5 + length :]
        if flags & TRAILER:
            pairs = (line.split(":", 1) for line in frame.decode().split("\r\n") if line)
            trailers |= {name.strip(): value.strip() for name, value in pairs}
        else:
            messages.append(frame)
    return messages, trailers


def reason(trailers: dict[str, str]) -> str:
    padded = trailers["grpc-status-details-bin"] + "=" * (-len(trailers["grpc-status-details-bin"]) % 4)
    status = status_pb2.Status.FromString(base64.b64decode(padded))
    assert len(status.details) == 1
    return status.details[0].value.decode(errors="replace")


@pytest.mark.parametrize("text", [False, True])
async def test_a_unary_call_makes_the_round_trip(gateway: Gateway, text: bool) -> None:
    async def asset(request: gallery_pb.GetAssetRequest, context: Any) -> gallery_pb.Asset:
        return gallery_pb.Asset(name=request.name)

    gateway.gallery.on("GetAsset", asset)
    request = gallery_pb.GetAssetRequest(name="assets/a").SerializeToString()
    messages, trailers = await call(gateway, f"{SERVICE}/GetAsset", request, text=text)
    assert [gallery_pb.Asset.FromString(message).name for message in messages] == ["assets/a"]
    assert trailers["grpc-status"] == "0"


async def test_a_stream_that_fails_half_way_says_so(gateway: Gateway) -> None:
    async def failing(request: Any, context: Any) -> AsyncIterator[gallery_pb.WatchAssetsResponse]:
        yield gallery_pb.WatchAssetsResponse(resume_token="1")
        raise NotFound("ASSET_NOT_FOUND", "It has gone.")

    gateway.gallery.on("WatchAssets", failing)
    messages, trailers = await call(gateway, f"{SERVICE}/WatchAssets", b"")
    assert len(messages) == 1
    assert (trailers["grpc-status"], trailers["grpc-message"]) == ("5", "It has gone.")
    assert "ASSET_NOT_FOUND" in reason(trailers)


async def test_the_gateways_own_errors_are_grpc_statuses_with_details(gateway: Gateway) -> None:
    _, unknown = await call(gateway, "/contentlab.gallery.v1.GalleryService/PaintWall", b"")
    assert unknown["grpc-status"] == "12"
    assert "NO_SUCH_METHOD" in reason(unknown)
    _, large = await call(gateway, f"{SERVICE}/GetAsset", bytes(2_000_000))
    assert large["grpc-status"] == "3"
    assert "REQUEST_TOO_LARGE" in reason(large)
    assert not gateway.gallery.calls
