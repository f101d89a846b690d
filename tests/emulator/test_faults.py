"""Each fault does what it says, to the calls it is for, as often as ordered, and charges what it says."""

import asyncio
import base64
import time
from typing import Any

import httpx2
import openai
import pytest
from PIL import UnidentifiedImageError

from tests.emulator.harness import CHAT_MODEL, MODEL, Emulator, files, new_key, opened, png, running


async def generate(emulator: Emulator, prompt: str, key: str = "", **more: Any) -> Any:
    headers = {"Idempotency-Key": key or new_key()}
    return await emulator.openai.images.generate(
        model=MODEL, prompt=prompt, quality="low", extra_headers=headers, **more
    )


async def is_charged(emulator: Emulator, key: str) -> bool:
    return bool(await emulator.charges(idempotency_key=key))


@pytest.mark.parametrize("stage", ["input", "output"])
async def test_moderation_blocked(emulator: Emulator, stage: str) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("moderation_blocked", prompt, stage=stage, categories=["violence", "sexual"])
    with pytest.raises(openai.BadRequestError) as blocked:
        await generate(emulator, prompt, key)
    assert (blocked.value.type, blocked.value.code) == ("image_generation_user_error", "moderation_blocked")
    assert blocked.value.request_id
    assert isinstance(blocked.value.body, dict)
    assert blocked.value.body["moderation_details"] == {
        "moderation_stage": stage, "categories": ["violence", "sexual"],
    }  # fmt: skip
    assert "safety_violations=[violence, sexual]" in blocked.value.message
    assert not await is_charged(emulator, key)


async def test_content_filter_has_azures_shape(emulator: Emulator) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("content_filter", prompt)
    with pytest.raises(openai.BadRequestError) as blocked:
        await generate(emulator, prompt, key)
    assert blocked.value.code == "content_filter"
    assert isinstance(blocked.value.body, dict)
    assert blocked.value.body["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    assert not await is_charged(emulator, key)


async def test_rate_limit_says_when_to_come_back(emulator: Emulator) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("rate_limit", prompt, retry_after=2.5)
    with pytest.raises(openai.RateLimitError) as limited:
        await generate(emulator, prompt, key)
    assert limited.value.response.headers["retry-after"] == "2.5"
    assert not await is_charged(emulator, key)


async def test_overloaded(emulator: Emulator) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("overloaded", prompt, retry_after=3)
    with pytest.raises(openai.InternalServerError) as refused:
        await generate(emulator, prompt, key)
    assert (refused.value.status_code, refused.value.response.headers["retry-after"]) == (503, "3")
    assert not await is_charged(emulator, key)


@pytest.mark.parametrize("charged", [True, False])
async def test_a_server_error_is_charged_or_not_as_ordered(emulator: Emulator, charged: bool) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("server_error", prompt, charged=charged)
    with pytest.raises(openai.InternalServerError):
        await generate(emulator, prompt, key)
    assert await is_charged(emulator, key) is charged
    if charged:
        assert (await emulator.charge(key))["outcome"] == "cut"


@pytest.mark.parametrize("charge_at", ["start", "end"])
async def test_slow_is_charged_before_or_after_the_delay(emulator: Emulator, charge_at: str) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("slow", prompt, delay_seconds=1.2, charge_at=charge_at)
    started = time.monotonic()
    call = asyncio.create_task(generate(emulator, prompt, key))
    await asyncio.sleep(0.8)
    assert await is_charged(emulator, key) is (charge_at == "start")
    assert not call.done()
    await call
    assert time.monotonic() - started >= 1.2
    assert (await emulator.charge(key))["outcome"] == "answered"


@pytest.mark.parametrize("charged", [True, False])
async def test_a_hanging_call_gets_no_byte_until_the_client_gives_up(emulator: Emulator, charged: bool) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("hang", prompt, charged=charged)
    with pytest.raises(openai.APITimeoutError):
        await generate(emulator, prompt, key, timeout=0.7)
    assert await is_charged(emulator, key) is charged
    if charged:
        assert (await emulator.charge(key))["outcome"] == "cut"


async def test_a_hanging_call_ends_with_a_closed_connection(emulator: Emulator) -> None:
    prompt = new_key()
    await emulator.fault("hang", prompt, delay_seconds=0.3)
    with pytest.raises(openai.APIConnectionError) as cut:
        await generate(emulator, prompt)
    assert not isinstance(cut.value, openai.APITimeoutError)


async def receive(emulator: Emulator, body: dict[str, Any], key: str, chunks: list[bytes]) -> None:
    headers = {"Idempotency-Key": key}
    async with emulator.http.stream("POST", "/v1/images/generations", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        async for chunk in answer.aiter_raw():
            chunks.append(chunk)


@pytest.mark.parametrize("cut_at", ["before", "middle"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_cut_call_is_charged_and_its_answer_never_whole(emulator: Emulator, cut_at: str, stream: bool) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("cut", prompt, cut_at=cut_at)
    body = {"model": MODEL, "prompt": prompt, "stream": stream}
    received: list[bytes] = []
    with pytest.raises(httpx2.TransportError):
        await receive(emulator, body, key, received)
    received_bytes = sum(map(len, received))
    assert (received_bytes > 1000) is (cut_at == "middle")
    assert (await emulator.charge(key))["outcome"] == "cut"


async def test_an_error_in_the_middle_of_a_stream(emulator: Emulator) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("mid_stream_error", prompt)
    await generate(emulator, prompt)  # no stream: not for this call
    stream = await generate(emulator, prompt, key, stream=True, partial_images=3)
    seen: list[str] = []

    async def watch() -> None:
        async for event in stream:
            seen.append(event.type)

    with pytest.raises(openai.APIError) as broken:
        await watch()
    assert seen == ["image_generation.partial_image"] * 2
    assert not isinstance(broken.value, openai.APIStatusError)
    assert broken.value.code == "server_error"
    assert await is_charged(emulator, key)


async def test_a_stream_that_starts_with_its_error(emulator: Emulator) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("mid_stream_error", prompt, charged=False)
    with pytest.raises(openai.APIError):
        [event async for event in await generate(emulator, prompt, key, stream=True)]
    assert not await is_charged(emulator, key)


@pytest.mark.parametrize("stream", [True, False])
async def test_bad_json_is_charged(emulator: Emulator, stream: bool) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("bad_json", prompt)
    body = {"model": MODEL, "prompt": prompt, "stream": stream}
    answer = await emulator.http.post("/v1/images/generations", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"Unterminated string|Expecting"):
        openai.types.ImagesResponse.model_validate(answer.json())
    assert (await emulator.charge(key))["outcome"] == "answered"


async def test_wrong_image_is_no_picture(emulator: Emulator) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("wrong_image", prompt)
    response = await generate(emulator, prompt, key, n=2)
    for data in files(response):
        with pytest.raises(UnidentifiedImageError):
            opened(data)
    assert await is_charged(emulator, key)


async def test_short_leaves_pictures_out_and_charges_them_all(emulator: Emulator) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("short", prompt, missing=2)
    response = await generate(emulator, prompt, key, n=3)
    assert len(files(response)) == 1
    charge = await emulator.charge(key)
    assert (charge["n"], len(charge["pictures"])) == (3, 1)
    assert charge["usage"]["output_tokens"] == 3 * 196


@pytest.mark.parametrize("stream", [True, False])
async def test_short_of_the_only_picture_is_an_answer_without_any(emulator: Emulator, stream: bool) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("short", prompt)
    response = await generate(emulator, prompt, key, stream=stream)
    got = [event async for event in response] if stream else files(response)
    assert got == []
    assert (await emulator.charge(key))["outcome"] == "answered"


async def test_a_refusal_is_a_charged_answer_of_a_chat(emulator: Emulator) -> None:
    prompt, key = new_key(), new_key()
    await emulator.fault("refusal", prompt)
    completion = await emulator.openai.chat.completions.create(
        model=CHAT_MODEL, messages=[{"role": "user", "content": prompt}], extra_headers={"Idempotency-Key": key}
    )
    message = completion.choices[0].message
    assert message.content is None
    assert message.refusal
    assert await is_charged(emulator, key)


async def test_faults_reach_edits_and_chats_too(emulator: Emulator) -> None:
    for kind, error in (("rate_limit", openai.RateLimitError), ("server_error", openai.InternalServerError)):
        prompt = new_key()
        await emulator.fault(kind, prompt, times=2)
        with pytest.raises(error):
            await emulator.openai.images.edit(
                model=MODEL, image=("a.png", png(64, 64, (1, 2, 3)), "image/png"), prompt=prompt
            )
        with pytest.raises(error):
            await emulator.openai.chat.completions.create(
                model=CHAT_MODEL, messages=[{"role": "user", "content": f"about {prompt}"}]
            )


async def test_a_fault_hits_only_what_it_matches_and_only_so_often() -> None:
    async with running() as emulator:
        match = {"endpoint": "/v1/images/generations", "model": "gpt-image-2", "prompt_contains": "lighthouse"}
        order = {"kind": "rate_limit", "match": match, "times": 2}
        fault = (await emulator.http.post("/faults", json=order)).json()

        async def is_hit(model: str, prompt: str) -> bool:
            try:
                await emulator.openai.images.generate(model=model, prompt=prompt, quality="low")
            except openai.RateLimitError:
                return True
            return False

        assert not await is_hit(MODEL, "a lighthouse")
        assert not await is_hit("gpt-image-2", "a boat")
        assert await is_hit("gpt-image-2", "a lighthouse")
        [shown] = (await emulator.http.get("/faults")).json()["data"]
        assert (shown["id"], shown["hits"], len(shown["request_ids"])) == (fault["id"], 1, 1)
        assert await is_hit("gpt-image-2", "the lighthouse")
        assert not await is_hit("gpt-image-2", "a lighthouse"), "its two times are used up"


async def test_faults_can_be_deleted_one_by_one_or_all_together() -> None:
    async with running() as emulator:
        first = await emulator.fault("rate_limit", "x", times=None)
        await emulator.fault("server_error", "x", times=None)
        assert (await emulator.http.delete(f"/faults/{first['id']}")).json() == {"deleted": 1}
        assert (await emulator.http.delete(f"/faults/{first['id']}")).status_code == 404
        with pytest.raises(openai.InternalServerError):
            await generate(emulator, "x")
        assert (await emulator.http.delete("/faults")).json() == {"deleted": 1}
        await generate(emulator, "x")


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"kind": "earthquake"},
        {"kind": "slow", "delay_seconds": -1},
        {"kind": "slow", "delay_seconds": 1e9},
        {"kind": "cut", "times": 0},
        {"kind": "cut", "cut_at": "end"},
        {"kind": "cut", "match": {"endpoint": "/v1/videos"}},
        {"kind": "cut", "surprise": True},
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(emulator: Emulator, order: dict[str, Any]) -> None:
    answer = await emulator.http.post("/faults", json=order)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_fault")


async def test_a_refused_request_does_not_use_up_a_fault(emulator: Emulator) -> None:
    prompt = new_key()
    await emulator.fault("rate_limit", prompt)
    with pytest.raises(openai.BadRequestError):
        await generate(emulator, prompt, size="1x1")
    with pytest.raises(openai.RateLimitError):
        await generate(emulator, prompt)


async def test_without_faults_nothing_goes_wrong(emulator: Emulator) -> None:
    responses = await asyncio.gather(*(generate(emulator, f"well {index}") for index in range(12)))
    assert all(base64.b64decode(response.data[0].b64_json).startswith(b"\x89PNG") for response in responses)
