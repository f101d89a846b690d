"""Answers that are broken on their way, and connections that are: to plain calls, streams and edits alike."""

import asyncio
import base64
import binascii
import json
import time
from typing import Any

import httpx2
import openai
import pytest

from tests.emulator.harness import CHAT_MODEL, MODEL, Emulator, clients, new_key, opened, png, process

PATHS = {"generate": "/v1/images/generations", "edit": "/v1/images/edits", "chat": "/v1/chat/completions"}


async def ask(emulator: Emulator, what: str, prompt: str, key: str, *, stream: bool = False) -> httpx2.Response:
    """A call of that kind, as raw as it arrives."""
    return await emulator.http.post(
        PATHS[what], headers={"Idempotency-Key": key}, **request(what, prompt, stream=stream)
    )


def request(what: str, prompt: str, *, stream: bool) -> dict[str, Any]:
    if what == "chat":
        return {"json": {"model": CHAT_MODEL, "messages": [{"role": "user", "content": prompt}], "stream": stream}}
    fields = {"model": MODEL, "prompt": prompt, "quality": "low"}
    if what == "generate":
        return {"json": fields | {"stream": stream}}
    picture = ("a.png", png(64, 64, (1, 2, 3)), "image/png")
    return {"data": fields | {"stream": "true" if stream else "false"}, "files": {"image": picture}}


async def is_charged(emulator: Emulator, key: str) -> bool:
    return bool(await emulator.charges(idempotency_key=key))


def pictures(answer: httpx2.Response, *, stream: bool) -> list[str]:
    if not stream:
        return [each["b64_json"] for each in answer.json()["data"]]
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data")]
    return [event["b64_json"] for event in events if event["type"].endswith(".completed")]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("what", ["generate", "edit"])
async def test_truncated_base64_is_json_but_no_base64(emulator: Emulator, what: str, stream: bool) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("truncated_base64", prompt)
    answer = await ask(emulator, what, prompt, key, stream=stream)
    [b64] = pictures(answer, stream=stream)
    assert len(b64) > 1000
    with pytest.raises(binascii.Error):
        base64.b64decode(b64)
    assert (await emulator.charge(key))["outcome"] == "answered"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("what", sorted(PATHS))
async def test_a_page_instead_of_an_answer_is_charged_unless_ordered_otherwise(
    emulator: Emulator, what: str, stream: bool
) -> None:
    for status, charged in ((200, None), (502, False)):
        prompt, key = new_key(), new_key()
        await emulator.fault("html", prompt, status=status, charged=charged)
        answer = await ask(emulator, what, prompt, key, stream=stream)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.text.startswith("<!DOCTYPE html>")
        assert await is_charged(emulator, key) is (charged is None)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("what", sorted(PATHS))
async def test_an_error_inside_a_200_is_not_charged(emulator: Emulator, what: str, stream: bool) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("error_in_200", prompt)
    answer = await ask(emulator, what, prompt, key, stream=stream)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json()["error"]["type"] == "server_error"
    assert not await is_charged(emulator, key)


async def test_an_error_inside_a_200_has_the_dialects_shape(emulator: Emulator) -> None:
    prompt = new_key()
    await emulator.fault("error_in_200", match={"prompt_contains": prompt, "dialect": "vllm-omni"})
    body = {"prompt": prompt, "model": MODEL}
    assert (await emulator.http.post(PATHS["generate"], json=body)).json()["data"], "another dialect's call is hit"
    answer = await emulator.http.post(f"/dialects/vllm-omni{PATHS['generate']}", json={"prompt": prompt})
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, 500)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("what", sorted(PATHS))
async def test_a_wrong_mime_type_lies_about_a_right_answer(emulator: Emulator, what: str, stream: bool) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("wrong_mime", prompt, content_type="image/png")
    answer = await ask(emulator, what, prompt, key, stream=stream)
    assert answer.headers["content-type"] == "image/png"
    if not stream:
        assert set(answer.json()) >= {"created", "usage"}
    assert await is_charged(emulator, key)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_wrong_format_is_a_picture_of_another_kind_than_the_answer_says(
    emulator: Emulator, stream: bool
) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("wrong_format", prompt)
    answer = await ask(emulator, "generate", prompt, key, stream=stream)
    [b64] = pictures(answer, stream=stream)
    assert opened(base64.b64decode(b64)).format == "JPEG"
    assert '"output_format": "png"' in answer.text
    assert await is_charged(emulator, key)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("what", sorted(PATHS))
async def test_a_slow_drip_brings_the_whole_answer_at_its_rate(emulator: Emulator, what: str, stream: bool) -> None:
    prompt, key = new_key(), new_key()
    whole = len((await ask(emulator, what, prompt, new_key(), stream=stream)).content)
    await emulator.fault("slow_drip", prompt, bytes_per_second=2 * whole)
    started, arrivals, received = time.monotonic(), [], 0
    sent = request(what, prompt, stream=stream)
    async with emulator.http.stream("POST", PATHS[what], headers={"Idempotency-Key": key}, **sent) as answer:
        async for chunk in answer.aiter_raw():
            received += len(chunk)
            arrivals.append(time.monotonic() - started)
    assert abs(received - whole) < 100
    assert arrivals[-1] >= 0.4, "half a second's worth of bytes came at once"
    assert len(arrivals) > 3
    assert (await emulator.charge(key))["outcome"] == "answered"


async def test_a_client_that_leaves_a_slow_drip_has_paid(emulator: Emulator) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("slow_drip", prompt, bytes_per_second=100)
    sent = request("generate", prompt, stream=False)
    async with emulator.http.stream("POST", PATHS["generate"], headers={"Idempotency-Key": key}, **sent) as answer:
        async for _ in answer.aiter_raw():
            break
    assert (await emulator.charge(key))["outcome"] == "cut"


# Resets


async def reset_of(url: str, head: bytes, body: bytes) -> tuple[bytes, bool]:
    """What arrived before the end of the connection, and whether that end was a reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx2.URL(url).port)
    received = b""
    try:
        async with asyncio.timeout(20):
            writer.write(head + body)
            while piece := await reader.read(65536):
                received += piece
    except ConnectionResetError:
        return received, True
    finally:
        writer.close()
    return received, False


def raw_request(key: str, prompt: str, length: int | None = None) -> tuple[bytes, bytes]:
    body = json.dumps({"model": MODEL, "prompt": prompt}).encode()
    head = (
        f"POST {PATHS['generate']} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\nidempotency-key: {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {length or len(body)}\r\n\r\n"
    )
    return head.encode(), body


@pytest.mark.parametrize(
    ("reset_at", "charged", "is_answered"),
    [("read", False, False), ("answered", True, False), ("middle", True, True)],
)
async def test_a_reset_is_a_reset(emulator: Emulator, reset_at: str, charged: bool, is_answered: bool) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("reset", prompt, reset_at=reset_at)
    received, was_reset = await reset_of(emulator.url, *raw_request(key, prompt))
    assert was_reset, "the connection was closed in good order"
    assert is_answered or received == b""
    assert await is_charged(emulator, key) is charged
    if charged:
        assert (await emulator.charge(key))["outcome"] == "cut"
    [entry] = await emulator.arrived(idempotency_key=key)
    assert entry["fields"]["prompt"] == prompt


async def test_a_reset_comes_before_a_body_that_is_still_on_its_way(emulator: Emulator) -> None:
    key = new_key()
    await emulator.fault("reset", match={"headers": {"Idempotency-Key": key}}, reset_at="unread")
    received, was_reset = await reset_of(emulator.url, *raw_request(key, "x", length=1_000_000))
    assert (received, was_reset) == (b"", True)
    assert not await is_charged(emulator, key)
    [entry] = await emulator.arrived(idempotency_key=key)
    assert (entry["fields"], entry["status"]) == (None, None)


@pytest.mark.parametrize("what", sorted(PATHS))
@pytest.mark.parametrize("reset_at", ["unread", "read", "answered", "middle"])
async def test_a_reset_hits_every_endpoint_and_streams(emulator: Emulator, what: str, reset_at: str) -> None:
    for stream in (True, False):
        key = new_key()
        await emulator.fault("reset", match={"headers": {"idempotency-key": key}}, reset_at=reset_at)
        with pytest.raises(httpx2.TransportError):
            await ask(emulator, what, "x", key, stream=stream)
        assert await is_charged(emulator, key) is (reset_at in ("answered", "middle"))


async def test_a_process_of_its_own_resets_too() -> None:
    """It runs on another event loop than these tests."""
    async with process() as (_, url), clients(url) as emulator:
        for reset_at in ("unread", "read", "answered", "middle"):
            await emulator.fault("reset", match={}, reset_at=reset_at)
            _, was_reset = await reset_of(url, *raw_request(new_key(), "x"))
            assert was_reset, reset_at


@pytest.mark.parametrize(
    "order",
    [
        {"kind": "reset", "reset_at": "unread", "match": {"prompt_contains": "x"}},
        {"kind": "reset", "reset_at": "unread", "match": {"model": MODEL}},
        {"kind": "reset", "reset_at": "unread", "charged": True},
        {"kind": "reset", "reset_at": "never"},
        {"kind": "slow_drip", "bytes_per_second": 0},
        {"kind": "wrong_mime", "content_type": "text/plain\r\nx-evil: 1"},
        {"kind": "html", "status": 301},
    ],
)
async def test_an_order_that_cannot_be_is_refused(emulator: Emulator, order: dict[str, Any]) -> None:
    answer = await emulator.http.post("/faults", json=order)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_fault")


# Previews


async def events_of(client: openai.AsyncOpenAI, prompt: str, partials: int = 3) -> list[Any]:
    stream = await client.images.generate(
        model=MODEL, prompt=prompt, quality="low", stream=True, partial_images=partials
    )
    return [event async for event in stream]


async def test_the_final_picture_may_come_before_the_last_preview(emulator: Emulator) -> None:
    prompt = new_key()
    await emulator.fault("early_final", prompt)
    by_fault = await events_of(emulator.openai, prompt)
    by_option = await events_of(emulator.spoken("openai+early-final"), prompt)
    for events in (by_fault, by_option):
        assert [getattr(event, "partial_image_index", "final") for event in events] == [0, 1, "final", 2]
    assert by_fault[2].b64_json == by_option[2].b64_json
    assert len(await events_of(emulator.spoken("openai+early-final"), prompt, 0)) == 1


async def test_there_may_be_fewer_previews_than_asked_for(emulator: Emulator) -> None:
    for missing, left in ((1, 2), (3, 0), (10, 0)):
        prompt = new_key()
        await emulator.fault("fewer_partials", prompt, missing=missing)
        events = await events_of(emulator.openai, prompt)
        assert len(events) == left + 1
        assert events[-1].type == "image_generation.completed"


async def test_previews_grow_from_coarse_to_fine_at_the_full_size(emulator: Emulator) -> None:
    events = await events_of(emulator.openai, "a city at night")
    sizes = [opened(base64.b64decode(event.b64_json)).size for event in events]
    assert set(sizes) == {(1024, 1024)}
    assert {event.size for event in events} == {"1024x1024"}
    colours = [len(opened(base64.b64decode(e.b64_json)).resize((128, 128)).getcolors(20000) or []) for e in events[:3]]
    assert all(count > 10 for count in colours), "a preview is a picture, not a flat colour"
