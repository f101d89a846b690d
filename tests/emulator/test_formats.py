"""Animated GIFs and SVGs: real files, with the parameters that go with them and none of those that do not."""

import base64
import hashlib
import io
import itertools
from typing import Any
from xml.etree import ElementTree

import openai
import pytest
from PIL import Image, ImageChops

from tests.emulator.harness import MODEL, Emulator, files, new_key, png, running

GIF_MODEL = "gpt-image-2.6-flare"


async def made(emulator: Emulator, output_format: Any, key: str = "", **more: Any) -> Any:
    asked: dict[str, Any] = {"model": GIF_MODEL, "prompt": "a boat", "quality": "low"} | more
    headers = {"Idempotency-Key": key or new_key()}
    return await emulator.openai.images.generate(output_format=output_format, extra_headers=headers, **asked)


def frames(data: bytes) -> list[Image.Image]:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "GIF"
    shown = []
    for index in range(getattr(picture, "n_frames", 1)):
        picture.seek(index)
        shown.append(picture.convert("RGB"))
    return shown


@pytest.mark.parametrize(
    ("asked", "count", "duration"),
    [
        ({}, 9, 200),
        ({"frame_count": 2, "frame_duration_ms": 14}, 2, 10),
        ({"frame_count": 2, "frame_duration_ms": 1}, 2, 10),
        ({"frame_count": 16, "frame_duration_ms": 95}, 16, 100),
        ({"frame_count": 3, "frame_duration_ms": 655_350}, 3, 655_350),
        ({"frame_count": 3, "frame_duration_ms": 900_000}, 3, 655_350),
    ],
)
async def test_a_gif_moves_in_as_many_frames_of_as_long_as_asked(
    emulator: Emulator, asked: dict[str, Any], count: int, duration: int
) -> None:
    response = await made(emulator, "gif", **asked)
    [data] = files(response)
    shown = frames(data)
    assert len(shown) == count
    for before, after in itertools.pairwise(shown):
        assert ImageChops.difference(before, after).getbbox(), "two frames are alike"
    info = Image.open(io.BytesIO(data)).info
    assert (info["duration"], info["loop"]) == (duration, 0)
    assert b"EMULATED" in info["comment"]
    assert response.output_format == "gif"
    assert response.size == f"{shown[0].width}x{shown[0].height}"


@pytest.mark.parametrize(
    ("prompt", "count", "size"),
    [
        ("a boat", 9, "960x960"),
        ("a boat", 10, "816x816"),
        ("a boat", 16, "720x720"),
        ("a wide sea", 9, "1152x768"),
        ("a tall tree", 16, "576x864"),
    ],
)
async def test_the_auto_size_of_a_gif_keeps_to_the_budget(
    emulator: Emulator, prompt: str, count: int, size: str
) -> None:
    assert (await made(emulator, "gif", prompt=prompt, frame_count=count)).size == size


@pytest.mark.parametrize(
    ("count", "size", "accepted"),
    [
        (9, "960x960", True),
        (9, "976x976", False),
        (2, "1024x1024", False),
        (10, "816x816", True),
        (12, "832x832", False),
        (13, "720x720", True),
        (13, "736x736", False),
        (2, "576x576", True),
        (2, "560x560", False),
        (9, "960x950", False),
        (9, "1280x320", False),
    ],
)
async def test_the_frames_of_a_gif_share_one_budget_of_pixels(
    emulator: Emulator, count: int, size: str, accepted: bool
) -> None:
    if accepted:
        assert (await made(emulator, "gif", frame_count=count, size=size)).size == size
        return
    with pytest.raises(openai.BadRequestError) as refused:
        await made(emulator, "gif", frame_count=count, size=size)
    assert refused.value.param == "size"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"output_format": "gif", "frame_count": 1}, "frame_count"),
    ({"output_format": "gif", "frame_count": 17}, "frame_count"),
    ({"output_format": "gif", "frame_count": "9"}, "frame_count"),
    ({"output_format": "gif", "frame_duration_ms": 0}, "frame_duration_ms"),
    ({"output_format": "gif", "frame_duration_ms": 1.5}, "frame_duration_ms"),
    ({"output_format": "gif", "stream": True}, "stream"),
    ({"output_format": "gif", "partial_images": 1}, "partial_images"),
    ({"output_format": "gif", "output_compression": 100}, "output_compression"),
    ({"output_format": "gif", "background": "transparent"}, "background"),
    ({"output_format": "gif", "svg": {"model": "gpt-6-luna"}}, "svg"),
    ({"output_format": "svg", "n": 2}, "n"),
    ({"output_format": "svg", "stream": True}, "stream"),
    ({"output_format": "svg", "partial_images": 2}, "partial_images"),
    ({"output_format": "svg", "output_compression": 50}, "output_compression"),
    ({"output_format": "svg", "background": "transparent"}, "background"),
    ({"output_format": "svg", "frame_count": 4}, "frame_count"),
    ({"output_format": "svg", "svg": "gpt-6-luna"}, "svg"),
    ({"output_format": "svg", "svg": {}}, "svg.model"),
    ({"output_format": "svg", "svg": {"model": "gpt-9"}}, "svg.model"),
    ({"output_format": "svg", "svg": {"model": GIF_MODEL}}, "svg.model"),
    ({"output_format": "svg", "svg": {"model": "gpt-6-luna", "style": "x"}}, "svg.style"),
    ({"output_format": "svg", "svg": {"model": "gpt-6-luna", "reasoning": 7}}, "svg.reasoning"),
    ({"output_format": "svg", "svg": {"model": "gpt-6-luna", "reasoning": {"effort": "x"}}}, "svg.reasoning.effort"),
    ({"output_format": "png", "frame_duration_ms": 200}, "frame_duration_ms"),
    ({"output_format": "gif", "model": MODEL}, "output_format"),
    ({"output_format": "svg", "model": "gpt-image-2"}, "output_format"),
]


@pytest.mark.parametrize(("change", "param"), REFUSED)
async def test_what_does_not_go_with_a_format_is_refused_by_name_and_costs_nothing(
    emulator: Emulator, change: dict[str, Any], param: str
) -> None:
    key = new_key()
    body = {"model": GIF_MODEL, "prompt": "a boat"} | change
    answer = await emulator.http.post("/v1/images/generations", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param
    assert await emulator.charges(idempotency_key=key) == []


async def test_every_frame_of_a_gif_is_charged(emulator: Emulator) -> None:
    key = new_key()
    response = await made(emulator, "gif", key, frame_count=4, size="640x640", n=2)
    assert len({hashlib.sha256(data).digest() for data in files(response)}) == 2
    charge = await emulator.charge(key)
    single = await made(emulator, "png", new_key(), size="816x816")
    assert charge["usage"] == response.usage.model_dump()
    assert charge["n"] == 2
    # 16 * 16 * (2,000,000 + 640 * 640) / 4,000,000, rounded up, for each of 2 * 4 frames.
    assert charge["usage"]["output_tokens"] == 2 * 4 * 155
    assert single.usage.output_tokens == 171
    assert (charge["parameters"]["frame_count"], charge["parameters"]["output_format"]) == (4, "gif")


def elements(data: bytes) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(data).iter())  # noqa: S314 - the emulator's own, parsed to prove it harmless


PROMPTS = [
    "a lighthouse",
    "a city at night",
    "mosaic of a gem",
    "a galaxy",
    "ribbons",
    "mountains",
    "hills",
    "猫 <b>&\x01",
]


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_an_svg_is_well_formed_and_refers_to_nothing_outside(emulator: Emulator, prompt: str) -> None:
    [data] = files(await made(emulator, "svg", prompt=prompt, size="1024x768"))
    found = elements(data)
    names = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in found}
    drawn = {"polygon", "ellipse", "rect", "path"}
    around = {"svg", "title", "desc", "defs", "linearGradient", "stop", "g", "text"}
    assert names <= drawn | around
    assert sum(element.tag.endswith(tuple(drawn)) for element in found) > 10
    for element in found:
        for name, value in element.attrib.items():
            assert "href" not in name.lower()
            assert not name.lower().startswith("on")
            assert "url(" not in value or value.startswith("url(#")
    assert (found[0].get("width"), found[0].get("height")) == ("1024", "768")
    assert b"EMULATED" in data


async def test_an_svgs_author_is_named_and_charged_apart(emulator: Emulator) -> None:
    key = new_key()
    author = {"model": "gpt-6.1-terra", "reasoning": {"effort": "low"}}
    response = await made(emulator, "svg", key, svg=author, size="1024x1024")
    [data] = files(response)
    written = response.svg_usage
    assert written is not None
    assert written.model == "gpt-6.1-terra"
    assert written.reasoning_tokens == 256
    assert written.output_tokens == 256 + -(-len(data) // 4)
    assert written.total_tokens == written.input_tokens + written.output_tokens
    charge = await emulator.charge(key)
    assert charge["usage"] == response.usage.model_dump() | {"svg_usage": written.model_dump()}
    # The picture it is drawn from at 5 and 30 micro-USD, and the author at 1 and 5.
    assert charge["cost_micro_usd"] == 2 * 5 + 196 * 30 + written.input_tokens + 5 * written.output_tokens
    assert charge["parameters"]["svg"] == author


async def test_an_edit_takes_the_authors_nested_form_fields(emulator: Emulator) -> None:
    key = new_key()
    response = await emulator.openai.images.edit(
        model=GIF_MODEL,
        image=("red.png", png(640, 640, (200, 20, 30)), "image/png"),
        prompt="a boat",
        extra_body={"output_format": "svg", "svg": {"model": "gpt-6-luna", "reasoning": {"effort": "none"}}},
        extra_headers={"Idempotency-Key": key},
    )
    assert response.svg_usage is not None
    assert response.svg_usage.reasoning_tokens == 0
    assert b"#c8141e" in files(response)[0], "the picture edited has left no trace"
    [entry] = await emulator.arrived(idempotency_key=key)
    assert (entry["fields"]["svg[model]"], entry["fields"]["svg[reasoning][effort]"]) == ("gpt-6-luna", "none")


@pytest.mark.parametrize("output_format", ["gif", "svg"])
async def test_an_edit_into_a_gif_or_an_svg_has_no_mask(emulator: Emulator, output_format: str) -> None:
    image = ("a.png", png(640, 640, (1, 2, 3)), "image/png")
    body = {"output_format": output_format}
    made = await emulator.openai.images.edit(model=GIF_MODEL, image=image, prompt="x", extra_body=body)
    assert len(files(made)) == 1
    mask = ("m.png", png(640, 640, (0, 0, 0, 0), "RGBA"), "image/png")
    with pytest.raises(openai.BadRequestError) as refused:
        await emulator.openai.images.edit(model=GIF_MODEL, image=image, mask=mask, prompt="x", extra_body=body)
    assert refused.value.param == "mask"


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp", "gif", "svg"])
async def test_prerendered_answers_repeat_their_picture_and_never_their_bytes(output_format: str) -> None:
    async with running(prerendered=True) as emulator:
        answers = [files(await made(emulator, output_format))[0] for _ in range(3)]
        digests = [charge["pictures"] for charge in await emulator.charges()]
        assert digests == [[hashlib.sha256(data).hexdigest()] for data in answers]
        assert len({hashlib.sha256(data).digest() for data in answers}) == 3
        if output_format == "svg":
            assert len({ElementTree.tostring(elements(data)[0]) for data in answers}) == 1
            return
        pixels = {Image.open(io.BytesIO(data)).convert("RGB").tobytes() for data in answers}
        assert len(pixels) == 1
        if output_format == "gif":
            assert len(frames(answers[0])) == 9


async def test_the_same_request_gives_the_same_gif_and_the_same_svg(emulator: Emulator) -> None:
    for output_format in ("gif", "svg"):
        first, second = [files(await made(emulator, output_format, prompt="again"))[0] for _ in range(2)]
        assert base64.b64encode(first) == base64.b64encode(second)
