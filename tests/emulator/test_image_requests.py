"""Parameters of the Images API: each is used or refused, and a refusal costs nothing."""

from typing import Any

import openai
import pytest

from emulator.models import Catalogue
from tests.emulator.harness import MODEL, TODAY, Emulator, new_key, running


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": ""}, "prompt", "empty_string"),
        ({"prompt": 7}, "prompt", "invalid_type"),
        ({"prompt": "x" * 32_001}, "prompt", "string_above_max_length"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 11}, "n", "integer_above_max_value"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"n": True}, "n", "invalid_type"),
        ({"n": "1"}, "n", "invalid_type"),
        ({"size": "huge"}, "size", "invalid_value"),
        ({"size": "1000x1000"}, "size", "invalid_value"),
        ({"size": "512x512"}, "size", "invalid_value"),
        ({"size": "3856x2144"}, "size", "invalid_value"),
        ({"size": "3840x3840"}, "size", "invalid_value"),
        ({"size": "3072x1008"}, "size", "invalid_value"),
        ({"size": "-16x16"}, "size", "invalid_value"),
        ({"size": 1024}, "size", "invalid_type"),
        ({"quality": "hd"}, "quality", "invalid_value"),
        ({"quality": "ultra"}, "quality", "invalid_value"),
        ({"background": "green"}, "background", "invalid_value"),
        ({"background": "transparent", "output_format": "jpeg"}, "background", "unsupported_parameter"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"output_format": "svg"}, "output_format", "invalid_value"),
        ({"output_format": "bmp"}, "output_format", "invalid_value"),
        ({"output_compression": 50}, "output_compression", "unsupported_parameter"),
        ({"output_compression": 101, "output_format": "jpeg"}, "output_compression", "integer_above_max_value"),
        ({"moderation": "none"}, "moderation", "invalid_value"),
        ({"partial_images": 4, "stream": True}, "partial_images", "integer_above_max_value"),
        ({"partial_images": 1}, "partial_images", "unsupported_parameter"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"frame_count": 4}, "frame_count", "unsupported_parameter"),
        ({"svg": {"model": "gpt-5"}}, "svg", "unsupported_parameter"),
        ({"complexity": "high"}, "complexity", "unsupported_parameter"),
        ({"complexity": "extreme", "model": "gpt-image-2.6-flare"}, "complexity", "invalid_value"),
        ({"response_format": "b64_json"}, "response_format", "unknown_parameter"),
        ({"style": "vivid"}, "style", "unknown_parameter"),
        ({"input_fidelity": "high"}, "input_fidelity", "unknown_parameter"),
        ({"sampler": "euler"}, "sampler", "unknown_parameter"),
        ({"user": 7}, "user", "invalid_type"),
    ],
)
async def test_a_parameter_the_model_does_not_have_is_refused_by_name(
    emulator: Emulator, change: dict[str, Any], param: str, code: str
) -> None:
    key = new_key()
    body = {"model": MODEL, "prompt": "hills"} | change
    answer = await emulator.http.post("/v1/images/generations", json=body, headers={"Idempotency-Key": key})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["param"], error["code"]) == (param, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    assert await emulator.charges(idempotency_key=key) == []


@pytest.mark.parametrize("quality", ["low", "medium", "high", "xhigh", "max"])
async def test_a_model_has_the_qualities_of_its_row(emulator: Emulator, quality: Any) -> None:
    response = await emulator.openai.images.generate(model="gpt-image-2.6-sunburst", prompt="x", quality=quality)
    assert response.quality == quality
    if quality in ("xhigh", "max"):
        with pytest.raises(openai.BadRequestError) as refused:
            await emulator.openai.images.generate(model="gpt-image-2", prompt="x", quality=quality)
        assert refused.value.param == "quality"


async def test_the_first_generation_has_three_sizes_only(emulator: Emulator) -> None:
    with pytest.raises(openai.BadRequestError, match="1536x1024"):
        await emulator.openai.images.generate(model="gpt-image-1.5", prompt="x", size="1280x720")


@pytest.mark.parametrize(
    ("prompt", "size"),
    [("a wide valley", "1536x1024"), ("a portrait of a tree", "1024x1536"), ("a tree", "1024x1024")],
)
async def test_auto_size_follows_the_prompt(emulator: Emulator, prompt: str, size: str) -> None:
    response = await emulator.openai.images.generate(model=MODEL, prompt=prompt, size="auto")
    assert response.size == size


async def test_every_accepted_parameter_arrives_and_is_in_the_ledger(emulator: Emulator) -> None:
    key = new_key()
    asked: dict[str, Any] = {
        "n": 2, "size": "1024x640", "quality": "low", "background": "opaque", "output_format": "webp",
        "output_compression": 70, "moderation": "low", "safety_identifier": "someone", "complexity": "low",
    }  # fmt: skip
    response = await emulator.openai.images.generate(
        model="gpt-image-2.6-flare", prompt="hills", extra_headers={"Idempotency-Key": key}, **asked
    )
    assert response.safety_identifier == "someone"
    assert (await emulator.charge(key))["parameters"] == asked


async def test_user_stands_in_for_the_safety_identifier(emulator: Emulator) -> None:
    response = await emulator.openai.images.generate(model=MODEL, prompt="hills", user="me", safety_identifier="")
    assert response.safety_identifier == "me"


async def test_null_is_as_good_as_left_out(emulator: Emulator) -> None:
    response = await emulator.openai.images.generate(model=MODEL, prompt="x", n=None, size=None, background=None)
    assert response.size == "1024x1024"


async def test_unknown_and_retired_models_are_not_found(emulator: Emulator) -> None:
    for model in ("dall-e-3", "gpt-image-1", "gpt-6-luna"):
        with pytest.raises(openai.NotFoundError) as refused:
            await emulator.openai.images.generate(model=model, prompt="x")
        assert (refused.value.param, refused.value.code) == ("model", "model_not_found")
        if model == "gpt-image-1":
            assert "2026-10-23" in refused.value.message
        if model == "gpt-6-luna":
            assert "not an image model" in refused.value.message


async def test_models_tell_their_shutdown_date_and_disappear_on_it(emulator: Emulator) -> None:
    models = {model.id: model async for model in emulator.openai.models.list()}
    assert "gpt-image-1" not in models
    assert models["gpt-image-1.5"].shutdown_date == "2026-12-01"
    assert models["gpt-image-2.6-flare"].shutdown_date is None
    assert models["gpt-5"].shutdown_date == "2026-12-11"
    assert set(models["gpt-image-2"].model_dump()) == {"id", "created", "object", "owned_by", "shutdown_date"}
    assert (await emulator.openai.models.retrieve("gpt-image-2")).created == 1776729600
    with pytest.raises(openai.NotFoundError):
        await emulator.openai.models.retrieve("gpt-image-1")

    async with running(today=TODAY.replace(year=2027, month=2)) as later:
        alive = {model.id async for model in later.openai.models.list()}
    assert "gpt-image-2" in alive
    assert not {"gpt-image-1.5", "gpt-image-1-mini", "chatgpt-image-latest", "gpt-5", "gpt-4o"} & alive


def test_without_a_given_day_the_clock_decides_which_models_live() -> None:
    assert {model.id for model in Catalogue().alive()} >= {"gpt-image-2", "gpt-image-2.6-flare", "gpt-6-luna"}
