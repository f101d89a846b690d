"""Streams arrive message by message: as JSON lines, as server-sent events, and as the service wrote them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.api import httpbody_pb2

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.image.v1 import image_service_pb2 as image_pb
from services.common.errors import NotFound
from tests.gateway.harness import Gateway, eventually
from tests.support.errors import rest_error

WATCH = "/api/v1/assets:watch"
EVENTS = "/api/v1/assets:events"


class Ticks:
    """A stream of messages, each sent only when the test has seen the one before: nothing may hold one back."""

    def __init__(self, messages: list[Any]) -> None:
        self._messages = messages
        self._seen = asyncio.Semaphore(1)
        self.cancelled = False

    def seen(self) -> None:
        self._seen.release()

    async def __call__(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            for message in self._messages:
                await self._seen.acquire()
                yield message
            await self._seen.acquire()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def changes(count: int) -> list[gallery_pb.WatchAssetsResponse]:
    return [gallery_pb.WatchAssetsResponse(resume_token=f"token-{number}" + "x" * 600) for number in range(count)]


@pytest.mark.parametrize("encoding", [None, "gzip"])
@pytest.mark.parametrize("http2", [False, True])
async def test_a_json_stream_is_one_line_a_message_as_soon_as_it_is_sent(
    gateway: Gateway, encoding: str | None, http2: bool
) -> None:
    ticks = Ticks(changes(4))
    gateway.gallery.on("WatchAssets", ticks)
    headers = {"accept-encoding": encoding or "identity"}
    async with gateway.client(http2=http2) as client, client.stream("GET", WATCH, headers=headers) as answer:
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers.get("content-encoding") == encoding
        tokens = []
        async for line in answer.aiter_lines():
            tokens.append(json.loads(line)["resumeToken"])
            ticks.seen()
    assert tokens == [change.resume_token for change in changes(4)]


@pytest.mark.parametrize("offered", ["br", "zstd, br", "zstd, gzip, br"])
async def test_what_a_browser_offers_never_holds_a_stream_back(gateway: Gateway, offered: str) -> None:
    ticks = Ticks(changes(4))
    gateway.gallery.on("WatchAssets", ticks)
    async with gateway.client() as client, client.stream("GET", WATCH, headers={"accept-encoding": offered}) as answer:
        assert answer.headers["content-encoding"] in ("br", "gzip")
        received = 0
        async for _ in answer.aiter_raw():
            received += 1
            ticks.seen()
    assert received >= 4


async def test_whoever_accepts_event_stream_gets_the_same_messages_as_events(gateway: Gateway) -> None:
    ticks = Ticks(changes(3))
    gateway.gallery.on("WatchAssets", ticks)
    headers = {"accept": "text/event-stream", "accept-encoding": "gzip, br"}
    async with gateway.client() as client, client.stream("GET", WATCH, headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert "content-encoding" not in answer.headers
        tokens = []
        async for line in answer.aiter_lines():
            if line:
                tokens.append(json.loads(line.removeprefix("data: "))["resumeToken"])
                ticks.seen()
    assert tokens == [change.resume_token for change in changes(3)]


async def test_a_paid_stream_is_events_too_also_with_inline_media_in_its_request(gateway: Gateway) -> None:
    async def done(request: image_pb.StreamEditImagesRequest, context: Any) -> AsyncIterator[Any]:
        yield image_pb.StreamImagesResponse(image=image_pb.ImageResult(index=len(request.images)))

    gateway.image.on("StreamEditImages", done)
    body = {"prompt": "a", "images": [{"inline": "A" * 2_000_000}]}
    async with gateway.client() as client:
        events = await client.post("/api/v1/images:streamEdit", json=body, headers={"accept": "text/event-stream"})
        lines = await client.post("/api/v1/images:streamEdit", json=body)
    assert (events.status_code, events.headers["content-type"]) == (200, "text/event-stream"), events.text
    assert events.text.startswith("data: {")
    assert (lines.status_code, lines.headers["content-type"]) == (200, "application/json")
    assert lines.json()["image"]["index"] == 1


async def test_events_that_a_service_writes_itself_pass_untouched_with_their_resume_id(gateway: Gateway) -> None:
    texts = [
        b": heartbeat\n\n",
        b"retry: 500\n\n",
        b'id: 7\nevent: asset\ndata: {"a":1}\n\n',
        b"event: error\ndata: x\n\n",
    ]
    ticks = Ticks([httpbody_pb2.HttpBody(content_type="text/event-stream", data=text) for text in texts])
    gateway.gallery.on("StreamAssetEvents", ticks)
    headers = {"accept": "text/event-stream", "accept-encoding": "gzip, br", "last-event-id": "6"}
    async with gateway.client() as client, client.stream("GET", EVENTS, headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert "content-encoding" not in answer.headers
        received = []
        async for chunk in answer.aiter_raw():
            received.append(chunk)
            ticks.seen()
    assert received == texts
    assert gateway.gallery.metadata()["last-event-id"] == "6"


async def test_an_error_before_the_first_message_has_its_status_and_the_one_shape(gateway: Gateway) -> None:
    async def missing(request: Any, context: Any) -> AsyncIterator[Any]:
        raise NotFound("ASSET_NOT_FOUND", "There is no such asset.")
        yield

    gateway.gallery.on("WatchAssets", missing)
    for accept in ("*/*", "text/event-stream"):
        async with gateway.client() as client:
            error = rest_error(await client.get(WATCH, headers={"accept": accept}))
        assert (error.status, error.code, error.reason) == (404, 5, "ASSET_NOT_FOUND")


async def test_a_service_learns_at_once_that_a_watcher_has_gone(gateway: Gateway) -> None:
    ticks = Ticks(changes(2))
    gateway.gallery.on("WatchAssets", ticks)
    async with gateway.client() as client, client.stream("GET", WATCH) as answer:
        await anext(answer.aiter_lines())
    await eventually(lambda: ticks.cancelled)


async def test_a_watch_may_be_silent_for_longer_than_a_request_may_stall(impatient: Gateway) -> None:
    async def slow(request: Any, context: Any) -> AsyncIterator[Any]:
        yield changes(1)[0]
        await asyncio.sleep(2 * impatient.settings.times.request_idle)
        yield changes(2)[1]

    impatient.gallery.on("WatchAssets", slow)
    async with impatient.client() as client:
        answer = await client.get(WATCH)
    assert len(answer.text.splitlines()) == 2


async def test_a_unary_answer_names_every_field_in_camel_case_and_is_compressed(gateway: Gateway) -> None:
    async def asset(request: gallery_pb.GetAssetRequest, context: Any) -> gallery_pb.Asset:
        return gallery_pb.Asset(
            name=request.name, display_name="灯台", prompt="a " * 999, size_bytes=5, media_type=gallery_pb.Asset.IMAGE
        )

    gateway.gallery.on("GetAsset", asset)
    async with gateway.client() as client:
        answer = await client.get("/api/v1/assets/a", headers={"accept-encoding": "zstd, gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    body = answer.json()
    assert (body["displayName"], body["sizeBytes"], body["mediaType"]) == ("灯台", "5", "IMAGE")
    assert (body["favorite"], body["model"]) == (False, "")
    assert "widthPx" not in body


async def test_a_message_above_a_megabyte_arrives_whole(gateway: Gateway) -> None:
    large = gallery_pb.WatchAssetsResponse(resume_token="x" * 2_000_000)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield large

    async def unary(request: Any, context: Any) -> gallery_pb.ListAssetsResponse:
        return gallery_pb.ListAssetsResponse(next_page_token="x" * 2_000_000)

    gateway.gallery.on("WatchAssets", stream)
    gateway.gallery.on("ListAssets", unary)
    async with gateway.client() as client:
        assert len(json.loads((await client.get(WATCH)).text)["resumeToken"]) == 2_000_000
        assert len((await client.get("/api/v1/assets")).json()["nextPageToken"]) == 2_000_000
