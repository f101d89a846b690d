"""A request is checked against its model before any money is spent, and the field is named."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import FailedPrecondition, InvalidArgument
from services.models.binding import bind_all
from services.models.image_requests import ImageRequest, check_image_request, wire_body
from services.models.registry import Registry, build, shipped
from services.models.rows import Endpoint

TODAY = date(2026, 11, 23)
ENDPOINT = Endpoint(base_url="http://127.0.0.1:1/v1")
REGISTRY = bind_all(shipped(), "here", ENDPOINT, "", "")


def check(registry: Registry = REGISTRY, today: date = TODAY, **fields: Any) -> Any:
    return check_image_request(ImageRequest(**{"prompt": "a harbour", **fields}), registry, today=today)


def refused_fields(**fields: Any) -> set[str]:
    with pytest.raises(InvalidArgument) as refusal:
        check(**fields)
    assert refusal.value.reason == "UNSUPPORTED_PARAMETER"
    assert refusal.value.metadata["model"]
    assert refusal.value.billed == "no"
    return {violation.field for violation in refusal.value.violations}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="a prompt alone"),
        pytest.param({"n": 10}, id="ten images"),
        pytest.param({"size": "auto"}, id="auto"),
        pytest.param({"size": "3840x2160"}, id="largest"),
        pytest.param({"size": "1024x640"}, id="smallest area"),
        pytest.param({"size": "1536x512"}, id="three to one"),
        pytest.param({"size": "1024x1024", "model": "gpt-image-1.5"}, id="a fixed size"),
        pytest.param({"quality": "high"}, id="quality"),
        pytest.param({"quality": "max", "model": "gpt-image-2.5-flare"}, id="quality max"),
        pytest.param({"background": "transparent"}, id="transparent in the default format"),
        pytest.param({"background": "transparent", "output_format": "webp"}, id="transparent webp"),
        pytest.param({"output_format": "jpeg", "output_compression": 0}, id="compressed jpeg"),
        pytest.param({"output_format": "webp", "output_compression": 100}, id="compressed webp"),
        pytest.param({"moderation": "low"}, id="moderation"),
        pytest.param({"complexity": "high", "model": "gpt-image-2.6-flare"}, id="complexity"),
        pytest.param({"safety_identifier": "e3b0c442"}, id="safety identifier"),
        pytest.param({"output_format": "gif", "frame_count": 16, "model": "gpt-image-2.6-flare"}, id="gif"),
        pytest.param(
            {"output_format": "svg", "svg_model": "m", "svg_reasoning_effort": "max", "model": "gpt-image-2.6-flare"},
            id="svg",
        ),
    ],
)
def test_what_the_model_takes_passes(fields: dict[str, Any]) -> None:
    checked = check(**fields)
    given_fields = {name: value for name, value in fields.items() if name != "model"}
    assert checked.parameters == {"n": 1, **given_fields}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"prompt": "x" * 32_001}, "prompt", id="prompt too long"),
        pytest.param({"size": "1000x1024"}, "size", id="off the grid"),
        pytest.param({"size": "4000x1600"}, "size", id="edge too long"),
        pytest.param({"size": "3840x1264"}, "size", id="ratio"),
        pytest.param({"size": "512x512"}, "size", id="too few pixels"),
        pytest.param({"size": "3840x2400"}, "size", id="too many pixels"),
        pytest.param({"size": "2048x2048", "model": "gpt-image-1.5"}, "size", id="a free size of a fixed model"),
        pytest.param({"quality": "max"}, "quality", id="quality of a later model"),
        pytest.param({"quality": "hd"}, "quality", id="quality of a dead model"),
        pytest.param({"background": "checkered"}, "background", id="unknown background"),
        pytest.param({"background": "transparent", "output_format": "jpeg"}, "background", id="transparent jpeg"),
        pytest.param({"output_format": "bmp"}, "output_format", id="unknown format"),
        pytest.param({"output_format": "gif"}, "output_format", id="gif of a model without"),
        pytest.param({"output_compression": 50}, "output_compression", id="compressed png"),
        pytest.param({"moderation": "none"}, "moderation", id="unknown moderation"),
        pytest.param({"complexity": "low"}, "complexity", id="complexity of a model without"),
        pytest.param({"seed": 1}, "seed", id="seed of a model without"),
        pytest.param({"frame_count": 4}, "frame_count", id="frames of a png"),
        pytest.param({"frame_duration_ms": 100}, "frame_duration_ms", id="frame time of a png"),
        pytest.param({"svg_model": "m"}, "svg_model", id="svg model of a png"),
        pytest.param({"svg_reasoning_effort": "low"}, "svg_reasoning_effort", id="svg effort of a png"),
        pytest.param({"output_format": "svg", "n": 2, "model": "gpt-image-2.6-flare"}, "n", id="two svgs in one call"),
        pytest.param(
            {
                "output_format": "svg",
                "svg_model": "m",
                "svg_reasoning_effort": "utmost",
                "model": "gpt-image-2.6-flare",
            },
            "svg_reasoning_effort",
            id="unknown effort",
        ),
        pytest.param(
            {"output_format": "svg", "svg_reasoning_effort": "low", "model": "gpt-image-2.6-flare"},
            "svg_reasoning_effort",
            id="effort without a model",
        ),
    ],
)
def test_what_the_model_does_not_take_is_refused_by_field(fields: dict[str, Any], field: str) -> None:
    assert refused_fields(**fields) == {field}


def test_all_wrong_fields_are_named_at_once() -> None:
    assert refused_fields(size="10x10", quality="hd", seed=1) == {"size", "quality", "seed"}


def test_fewer_images_than_the_contract_allows_are_a_models_limit() -> None:
    registry = build(shipped(), {"here": ENDPOINT}, {"m": {"endpoint": "here", "max_images": 4}})
    assert check(registry, n=4).parameters["n"] == 4
    with pytest.raises(InvalidArgument) as refusal:
        check(registry, n=5)
    assert [violation.field for violation in refusal.value.violations] == ["n"]


def test_an_unknown_model_is_refused_by_field() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        check(model="dall-e-9")
    assert refusal.value.reason == "MODEL_UNKNOWN"
    assert refusal.value.metadata["model"] == "dall-e-9"
    assert [violation.field for violation in refusal.value.violations] == ["model"]


def test_a_language_model_makes_no_images() -> None:
    with pytest.raises(InvalidArgument, match="no image model"):
        check(model="gpt-6-luna")


def test_a_model_past_its_last_day_is_refused_with_its_replacement() -> None:
    with pytest.raises(FailedPrecondition) as refusal:
        check(model="gpt-image-1")
    assert refusal.value.reason == "MODEL_RETIRED"
    assert refusal.value.metadata == {
        "model": "gpt-image-1",
        "shutdownDate": "2026-10-23",
        "replacement": "gpt-image-2.5-flare",
    }
    assert check(today=date(2026, 10, 23), model="gpt-image-1").model_id == "gpt-image-1"


def test_without_any_image_model_there_is_nothing_to_ask() -> None:
    with pytest.raises(FailedPrecondition) as refusal:
        check(build(shipped(), {}, {}))
    assert refusal.value.reason == "MODEL_NOT_CONFIGURED"


def test_a_model_that_only_edits_does_not_generate() -> None:
    row = {"endpoint": "here", "operations": ["edit"]}
    with pytest.raises(InvalidArgument, match="does not generate"):
        check(build(shipped(), {"here": ENDPOINT}, {"m": row}))


def test_the_operators_defaults_fill_what_is_not_given_and_nothing_else() -> None:
    row = {**shipped().models["gpt-image-2"], "endpoint": "here", "defaults": {"size": "1536x1024", "quality": "low"}}
    registry = build(shipped(), {"here": ENDPOINT}, {"m": row})
    assert check(registry, quality="high").parameters == {"n": 1, "size": "1536x1024", "quality": "high"}


def test_what_is_sent_is_what_was_asked_for() -> None:
    checked = check(model="gpt-image-2.6-flare", output_format="svg", svg_model="writer", svg_reasoning_effort="low")
    assert wire_body(checked, send_model=True, response_format=None) == {
        "prompt": "a harbour",
        "model": "gpt-image-2.6-flare",
        "n": 1,
        "output_format": "svg",
        "svg": {"model": "writer", "reasoning": {"effort": "low"}},
    }


def test_a_dialect_may_want_no_model_and_a_response_format() -> None:
    body = wire_body(check(), send_model=False, response_format="b64_json")
    assert body == {"prompt": "a harbour", "n": 1, "response_format": "b64_json"}


@given(
    size=st.from_regex(r"(auto|[1-9][0-9]{1,4}x[1-9][0-9]{1,4})", fullmatch=True),
    model=st.sampled_from([name for name, row in shipped().models.items() if row["profile"].startswith("gpt-image")]),
)
def test_every_size_of_the_contract_is_either_taken_or_refused_by_field(size: str, model: str) -> None:
    request = replace(ImageRequest("x"), size=size, model=model)
    refused: list[str] = []
    try:
        check_image_request(request, REGISTRY, today=date(2026, 1, 1))
    except InvalidArgument as refusal:
        refused = [violation.field for violation in refusal.violations]
    assert refused in ([], ["size"])
