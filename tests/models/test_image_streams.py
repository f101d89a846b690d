"""Events out of bytes that come in any pieces, and what a stream means that ends too soon."""

import asyncio
import base64
import itertools
import json
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Billed
from services.models.image_streams import Lines, Preview
from services.models.money import UNPRICED
from services.models.usage import Usage
from tests.models.conftest import Calls
from tests.support.openai_server import USAGE, Behaviour, Exchange, OpenAIServer, draws, sends

STREAM = b': a comment\r\nevent: x\r\ndata: {"a": 1}\r\n\r\n\r\nid: 7\ndata: one\ndata:two\n\ndata: [DONE]\n\n'


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_however_the_bytes_are_cut(places: list[int]) -> None:
    lines, marks = Lines(), [0, *sorted(places), len(STREAM)]
    data = [one for start, end in itertools.pairwise(marks) for one in lines.feed(STREAM[start:end])]
    assert data == [b'{"a": 1}', b"one\ntwo", b"[DONE]"]


def event(kind: str, content: bytes = b"", **fields: Any) -> bytes:
    encoded = {"b64_json": base64.b64encode(content).decode()} if content else {}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **encoded, **fields}).encode())


def partial(number: int, content: bytes = b"preview") -> bytes:
    return event("image_generation.partial_image", content, partial_image_index=number)


def completed(content: bytes, usage: object = USAGE) -> bytes:
    return event("image_generation.completed", content, usage=usage)


def streams(*pieces: bytes, breaks: bool = False, hangs: bool = False) -> Behaviour:
    """Charges, and sends the pieces as a stream that ends well, breaks, or never ends."""

    async def behave(exchange: Exchange) -> web.StreamResponse:
        exchange.charge()
        headers = {"content-type": "text/event-stream", "x-request-id": "req_streamed"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(exchange.request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if hangs:
            await asyncio.sleep(30)
        if breaks:
            await asyncio.sleep(0.05)
            exchange.cut()
        return response

    return behave


async def test_previews_come_in_order_and_the_pictures_as_they_were_sent(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(streams(partial(0, b"a"), partial(1, b"b"), completed(b"one"), partial(0, b"c"), completed(b"two")))
    seen: list[Preview] = []
    answer = await calls.generate(n=2, partial_images=2, on_preview=seen.append)
    assert seen == [Preview(0, 0, b"a"), Preview(0, 1, b"b"), Preview(1, 0, b"c")]
    assert [image.content for image in answer.images] == [b"one", b"two"]
    assert answer.usage == Usage(80, 20, 0, 2002)
    assert answer.cost.micro_usd == 80 * 5 + 20 * 8 + 2002 * 30
    assert answer.provider_request_id == "req_streamed"
    assert provider.received[0].body["stream"] is True
    assert provider.received[0].body["partial_images"] == 2


async def test_when_every_picture_is_there_nobody_waits_for_the_end(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(streams(completed(b"one"), hangs=True))
    answer = await calls.generate(partial_images=1, seconds=5.0)
    assert [image.content for image in answer.images] == [b"one"]
    assert answer.cost.micro_usd == 40 * 5 + 10 * 8 + 1001 * 30, "nothing is missing"


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param({"breaks": True}, id="cut"),
        pytest.param({"hangs": True}, id="silent"),
        pytest.param({}, id="ended"),
    ],
)
async def test_what_was_finished_before_a_stream_broke_is_kept_and_its_cost_is_not_the_whole(
    ending: dict[str, bool], provider: OpenAIServer, calls: Calls
) -> None:
    provider.then(streams(completed(b"one"), partial(0), **ending))
    answer = await calls.generate(n=2, partial_images=1, seconds=1.0)
    assert [image.content for image in answer.images] == [b"one"]
    assert (answer.usage, answer.cost) == (Usage(40, 10, 0, 1001), UNPRICED)


async def test_a_picture_without_usage_makes_the_sum_unknown(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(streams(completed(b"one"), completed(b"two", None)))
    answer = await calls.generate(n=2, partial_images=1)
    assert answer.cost == UNPRICED


ERROR = {"message": "no", "type": "image_generation_user_error", "code": "moderation_blocked"}


@pytest.mark.parametrize(
    ("behaviour", "reason", "billed"),
    [
        pytest.param(streams(partial(0), breaks=True), "OUTCOME_UNKNOWN", Billed.UNKNOWN, id="cut"),
        pytest.param(streams(partial(0)), "PROVIDER_BAD_RESPONSE", Billed.UNKNOWN, id="no picture"),
        pytest.param(streams(), "PROVIDER_BAD_RESPONSE", Billed.UNKNOWN, id="nothing"),
        pytest.param(
            streams(event("error", error={"message": "x", "code": "server_error"})),
            "PROVIDER_BAD_RESPONSE",
            Billed.UNKNOWN,
            id="an error",
        ),
        pytest.param(streams(event("error", error=ERROR)), "CONTENT_REJECTED", Billed.UNKNOWN, id="blocked"),
        pytest.param(streams(event("error", code="moderation_blocked")), "CONTENT_REJECTED", Billed.UNKNOWN, id="flat"),
        pytest.param(streams(b'data: {"type\n\n'), "PROVIDER_BAD_RESPONSE", Billed.UNKNOWN, id="no JSON"),
        pytest.param(streams(completed(b"")), "PROVIDER_BAD_RESPONSE", Billed.YES, id="an empty picture"),
        pytest.param(sends(b"<html>", "text/html"), "PROVIDER_BAD_RESPONSE", Billed.UNKNOWN, id="a page"),
    ],
)
async def test_a_stream_without_a_picture_says_what_it_may_have_cost(
    behaviour: Behaviour, reason: str, billed: Billed, provider: OpenAIServer, calls: Calls
) -> None:
    provider.then(behaviour)
    failed = await calls.failure(partial_images=1)
    assert (failed.error.reason, failed.error.billed) == (reason, billed)


async def test_a_stream_without_end_is_given_up(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(streams(*[b": " + b"x" * 10_000 + b"\n"] * 200, hangs=True))
    failed = await calls.failure(partial_images=1, max_answer_bytes=100_000)
    assert (failed.error.reason, failed.error.billed) == ("PROVIDER_BAD_RESPONSE", Billed.UNKNOWN)


async def test_a_server_that_does_not_stream_is_understood(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(draws(width=300, height=300))
    answer = await calls.generate(partial_images=2)
    assert [image.content for image in answer.images] == provider.sent
    assert answer.usage == Usage(40, 10, 0, 1001)
