"""Server-sent events of the Images API."""

import base64
from typing import Any

import pytest
from PIL import ImageFilter, ImageStat
from PIL.Image import Image

from tests.emulator.harness import MODEL, Emulator, new_key, opened, png


def sharpness(picture: Image) -> float:
    return ImageStat.Stat(picture.convert("L").filter(ImageFilter.FIND_EDGES)).var[0]


@pytest.mark.parametrize("partials", [0, 1, 3])
async def test_partial_pictures_come_before_the_completed_one_and_get_sharper(
    emulator: Emulator, partials: int
) -> None:
    stream = await emulator.openai.images.generate(
        model=MODEL, prompt="a city at night", stream=True, partial_images=partials
    )
    events: list[Any] = [event async for event in stream]
    assert [event.type for event in events] == ["image_generation.partial_image"] * partials + [
        "image_generation.completed"
    ]
    assert [event.partial_image_index for event in events[:-1]] == list(range(partials))
    pictures = [opened(base64.b64decode(event.b64_json)) for event in events]
    assert {picture.size for picture in pictures} == {(1024, 1024)}
    levels = [sharpness(picture) for picture in pictures]
    assert levels == sorted(levels)
    assert events[-1].usage.total_tokens == events[-1].usage.input_tokens + events[-1].usage.output_tokens
    assert "output_tokens_details" not in events[-1].usage.model_dump()


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
async def test_a_stream_ends_with_the_very_picture_that_a_plain_call_gives(
    emulator: Emulator, output_format: Any
) -> None:
    plain = await emulator.openai.images.generate(model=MODEL, prompt="a tree", output_format=output_format)
    stream = await emulator.openai.images.generate(
        model=MODEL, prompt="a tree", output_format=output_format, stream=True, partial_images=1
    )
    events: list[Any] = [event async for event in stream]
    assert plain.data is not None
    assert events[-1].b64_json == plain.data[0].b64_json
    assert events[0].b64_json != plain.data[0].b64_json
    assert opened(base64.b64decode(events[0].b64_json)).format == output_format.upper()


async def test_the_usages_of_a_streams_events_add_up_to_its_charge(emulator: Emulator) -> None:
    key = new_key()
    stream = await emulator.openai.images.generate(
        model=MODEL, prompt="three boats", n=3, stream=True, partial_images=1, extra_headers={"Idempotency-Key": key}
    )
    completed: list[Any] = [event async for event in stream if event.type == "image_generation.completed"]
    assert len(completed) == 3
    charge = await emulator.charge(key)
    assert charge["usage"]["total_tokens"] == sum(event.usage.total_tokens for event in completed)
    assert charge["outcome"] == "answered"


async def test_an_edit_streams_events_of_its_own(emulator: Emulator) -> None:
    stream = await emulator.openai.images.edit(
        model=MODEL,
        image=("blue.png", png(640, 1024, (30, 60, 200)), "image/png"),
        prompt="more hills",
        stream=True,
        partial_images=2,
    )
    events: list[Any] = [event async for event in stream]
    assert [event.type for event in events] == [
        "image_edit.partial_image", "image_edit.partial_image", "image_edit.completed",
    ]  # fmt: skip
    assert events[-1].size == "1024x1536"
