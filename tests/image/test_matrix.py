"""Every model of the registry with every value of every parameter: what it is said to take arrives, all else does not.

The emulator reads the parameters by rules of its own, then refuses the prompt: nothing is drawn, and its word on the
parameters is told by the kind of the refusal.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.errors import ServiceError
from services.common.status import from_status
from services.models.registry import shipped
from tests.emulator.harness import Emulator
from tests.image.harness import TODAY, Service, image_input, refusal
from tests.image.test_edits import MASK, PHOTO

PROMPT = "a matrix of everything"
MODELS = [name for name, row in shipped().models.items() if shipped().profiles[row["profile"]]["kind"] == "image"]
AT_A_TIME = 16

FIXED = ("auto", "1024x1024", "1536x1024", "1024x1536")
FREE = ("1024x640", "3840x2160", "2160x3840", "1536x512", "1280x720")
NO_SIZES = ("1000x1000", "1024x624", "3856x2160", "1600x512", "2896x2880")
QUALITIES = ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd", "best")
FORMATS = ("png", "jpeg", "webp", "gif", "svg", "avif")
BACKGROUNDS = ("auto", "transparent", "opaque", "white")
WORDS = {
    "moderation": ("auto", "low", "none"),
    "complexity": ("low", "medium", "high", "extreme"),
    "input_fidelity": ("low", "high", "medium"),
}
Case = tuple[dict[str, Any], bool, str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def refusing(emulator: Emulator) -> Emulator:
    """The emulator, which refuses the prompt once it has taken the parameters."""
    await emulator.fault("moderation_blocked", PROMPT, times=None)
    return emulator


def said(model: pb.ImageModel, name: str, value: str) -> bool:
    """Whether the model, as the service shows it, takes a word."""
    lists = {"quality": model.qualities, "output_format": model.output_formats, "background": model.backgrounds}
    return value in lists[name]


def cases(model: pb.ImageModel) -> Iterator[Case]:
    """Fields, whether the model takes them as the service tells, and the field that a refusal names."""
    for size in FIXED:
        yield {"size": size}, size in model.size_rule.fixed, "size"
    for size in FREE:
        yield {"size": size}, model.size_rule.free, "size"
    for size in NO_SIZES:
        yield {"size": size}, False, "size"
    for name, values in (("quality", QUALITIES), ("output_format", FORMATS), ("background", BACKGROUNDS)):
        for value in values:
            yield {name: value}, said(model, name, value), name
    for count in (1, 10):
        yield {"n": count}, count <= model.max_images, "n"
    yield from _between_fields(model)
    yield {"safety_identifier": "e3b0"}, "safety_identifier" in model.parameters, "safety_identifier"
    yield {"seed": 7}, "seed" in model.parameters, "seed"


def _between_fields(model: pb.ImageModel) -> Iterator[Case]:
    """Rules that hold between two fields."""
    gif, svg = "gif" in model.output_formats, "svg" in model.output_formats
    for value in FORMATS[:5]:
        there = value in model.output_formats
        yield (
            {"output_format": value, "output_compression": 50},
            there and value in ("jpeg", "webp"),
            ("output_compression" if there else "output_format"),
        )
        yield (
            {"output_format": value, "background": "transparent"},
            there and value in ("png", "webp"),
            ("background" if there else "output_format"),
        )
    yield {"output_compression": 50}, False, "output_compression"
    for count in (2, 16):
        yield {"output_format": "gif", "frame_count": count}, gif, "output_format"
    for duration in (10, 655_350):
        yield {"output_format": "gif", "frame_duration_ms": duration}, gif, "output_format"
    yield {"frame_count": 2}, False, "frame_count"
    yield {"frame_duration_ms": 100}, False, "frame_duration_ms"
    for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max"):
        fields = {"output_format": "svg", "svg_model": "gpt-6-luna", "svg_reasoning_effort": effort}
        yield fields, svg, "output_format"
    yield (
        {"output_format": "svg", "svg_model": "gpt-6-luna", "svg_reasoning_effort": "some"},
        False,
        ("svg_reasoning_effort"),
    )
    yield {"svg_model": "gpt-6-luna"}, False, "svg_model"


def words(model: pb.ImageModel, name: str) -> Iterator[Case]:
    """A parameter that only some models have, with its values as the registry's row has them."""
    row = shipped().profiles[shipped().models[model.name.removeprefix("imageModels/")]["profile"]]
    assert (name in model.parameters) == (name in row["parameters"])
    for value in WORDS[name]:
        yield {name: value}, value in row["parameters"].get(name, ()), name


def on_the_wire(fields: dict[str, Any], model_id: str) -> dict[str, Any]:
    """What the fields are in the protocol's JSON."""
    wire = {"n": 1, **fields, "prompt": PROMPT, "model": model_id}
    author, effort = wire.pop("svg_model", None), wire.pop("svg_reasoning_effort", None)
    return wire | ({"svg": {"model": author, "reasoning": {"effort": effort}}} if author else {})


async def everything(service: Service) -> dict[str, pb.ImageModel]:
    answer = await service.stub.ListImageModels(pb.ListImageModelsRequest(show_retired=True))
    return {model.name.removeprefix("imageModels/"): model for model in answer.image_models}


async def check(
    emulator: Emulator, error: ServiceError, allowed: bool, field: str, case: str, wire: dict[str, Any] | None
) -> None:
    """One case against what the emulator got."""
    if not allowed:
        assert error.reason == "UNSUPPORTED_PARAMETER", f"{case}: {error}"
        assert field in {violation.field for violation in error.violations}, f"{case}: {error}"
        assert "paidCall" not in error.metadata, case
        return
    # Had the emulator not taken the parameters, it would have refused one of them by name.
    assert error.reason == "CONTENT_REJECTED", f"{case}: {error}"
    key = error.metadata["paidCall"].removeprefix("paidCalls/")
    [entry] = await emulator.arrived(idempotency_key=key)
    assert wire is None or entry["fields"] == wire, case


@pytest.mark.parametrize("model_id", MODELS)
async def test_a_model_takes_what_it_is_said_to_take_and_nothing_else(
    model_id: str, emulated: Service, refusing: Emulator
) -> None:
    model = (await everything(emulated))[model_id]
    if model.lifecycle == pb.ImageModel.RETIRED:
        error = await refusal(emulated.generate(PROMPT, model=model_id))
        assert (error.reason, error.metadata["replacement"]) == ("MODEL_RETIRED", model.replacement)
        return
    places = asyncio.Semaphore(AT_A_TIME)

    async def generated(fields: dict[str, Any], allowed: bool, field: str) -> None:
        async with places:
            error = await refusal(emulated.generate(PROMPT, model=model_id, **fields))
            await check(refusing, error, allowed, field, f"{model_id} {fields}", on_the_wire(fields, model_id))

    async with asyncio.TaskGroup() as tasks:
        for case in (*cases(model), *words(model, "moderation"), *words(model, "complexity")):
            tasks.create_task(generated(*case))


def edits(model: pb.ImageModel) -> Iterator[tuple[list[bytes], dict[str, Any], bool, str]]:
    """Of edits only what generations do not have."""
    for fields, allowed, field in (*words(model, "input_fidelity"), *words(model, "complexity")):
        yield [PHOTO], fields, allowed, field
    yield [PHOTO] * 16, {}, model.max_references >= 16, "images"
    yield [PHOTO], {"mask": image_input(MASK)}, True, "mask"
    yield [PHOTO], {"markup": image_input(MASK)}, "markup" in model.parameters, "markup"
    for still in ("gif", "svg"):
        there = still in model.output_formats
        yield [PHOTO], {"output_format": still}, there, "output_format"
        yield [PHOTO], {"output_format": still, "mask": image_input(MASK)}, False, "mask" if there else "output_format"


@pytest.mark.parametrize("model_id", MODELS)
async def test_a_model_edits_with_what_it_is_said_to_take_and_nothing_else(
    model_id: str, emulated: Service, refusing: Emulator
) -> None:
    model = (await everything(emulated))[model_id]
    if model.lifecycle == pb.ImageModel.RETIRED:
        assert (await refusal(emulated.edit(PHOTO, prompt=PROMPT, model=model_id))).reason == "MODEL_RETIRED"
        return
    places = asyncio.Semaphore(AT_A_TIME)

    async def edited(images: list[bytes], fields: dict[str, Any], allowed: bool, field: str) -> None:
        async with places:
            error = await refusal(emulated.edit(*images, prompt=PROMPT, model=model_id, **fields))
            await check(refusing, error, allowed, field, f"{model_id} {len(images)} {[*fields]}", None)

    async with asyncio.TaskGroup() as tasks:
        for case in edits(model):
            tasks.create_task(edited(*case))


@pytest.mark.parametrize("model_id", MODELS)
async def test_a_model_gives_as_many_previews_as_it_is_said_to_give(
    model_id: str, emulated: Service, refusing: Emulator
) -> None:
    model = (await everything(emulated))[model_id]
    if model.lifecycle == pb.ImageModel.RETIRED:
        return
    for count in range(1, 4):
        events = await emulated.streamed(PROMPT, model=model_id, partial_images=count)
        assert count <= model.max_partial_images
        assert from_status(events[-1].error).reason == "CONTENT_REJECTED", "the prompt is refused, the count is not"


async def test_the_default_model_is_used_when_none_is_named(emulated: Service, refusing: Emulator) -> None:
    error = await refusal(emulated.generate(PROMPT))
    [entry] = await refusing.arrived(idempotency_key=error.metadata["paidCall"].removeprefix("paidCalls/"))
    default = (await emulated.stub.GetImageEnvironment(pb.GetImageEnvironmentRequest())).default_model
    assert entry["fields"]["model"] == default
    assert shipped().models[default].get("shutdown_date", TODAY) >= TODAY
