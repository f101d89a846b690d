"""What the pictures are: real files of the kind asked for, different for different prompts, marked as emulated."""

import hashlib
from typing import Any

import pytest
from PIL import Image, ImageChops

from emulator.drawing.label import drawable
from emulator.drawing.pictures import PictureSpec, render
from tests.emulator.harness import MODEL, Emulator, files, opened, pixels, running


async def test_a_prompt_alone_gives_an_opaque_square_png(emulator: Emulator) -> None:
    response = await emulator.openai.images.generate(model=MODEL, prompt="a lighthouse at dusk")
    [data] = files(response)
    picture = opened(data)
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (1024, 1024))
    assert (response.output_format, response.size, response.quality, response.background) == (
        "png", "1024x1024", "medium", "opaque",
    )  # fmt: skip


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", ["1024x1024", "1536x1024", "1024x1536", "1280x720", "480x1408", "2048x2048"])
async def test_every_format_and_size_opens_as_what_it_says(emulator: Emulator, output_format: Any, size: str) -> None:
    response = await emulator.openai.images.generate(
        model=MODEL, prompt="hills", size=size, output_format=output_format, output_compression=100
    )
    picture = opened(files(response)[0])
    assert (picture.format or "").lower() == output_format
    assert f"{picture.width}x{picture.height}" == size == response.size


async def test_the_largest_size_is_drawn(emulator: Emulator) -> None:
    response = await emulator.openai.images.generate(model=MODEL, prompt="the sea", size="3840x2160")
    assert opened(files(response)[0]).size == (3840, 2160)


@pytest.mark.parametrize("output_format", ["png", "webp"])
async def test_a_transparent_background_is_really_transparent(emulator: Emulator, output_format: Any) -> None:
    response = await emulator.openai.images.generate(
        model=MODEL, prompt="a balloon", background="transparent", output_format=output_format
    )
    picture = opened(files(response)[0])
    assert response.background == "transparent"
    assert picture.mode == "RGBA"
    alpha = picture.getchannel("A")
    assert alpha.getpixel((5, 5)) == 0, "the ground is clear"
    assert alpha.getpixel((512, 400)) == 255, "the subject is solid"
    assert 0.05 < sum(alpha.histogram()[128:]) / 1024**2 < 0.6


async def test_auto_background_is_transparent_when_the_prompt_asks_for_it(emulator: Emulator) -> None:
    prompt = "a sticker of a boat, transparent background"
    clear = await emulator.openai.images.generate(model=MODEL, prompt=prompt)
    solid = await emulator.openai.images.generate(model=MODEL, prompt=prompt, output_format="jpeg")
    assert (clear.background, solid.background) == ("transparent", "opaque")
    assert opened(files(clear)[0]).mode == "RGBA"


async def test_the_same_prompt_and_seed_give_the_same_bytes(emulator: Emulator) -> None:
    async def picture(seed: str | None) -> bytes:
        headers = {"x-emulator-seed": seed} if seed else {}
        response = await emulator.openai.images.generate(
            model=MODEL, prompt="a red house in the hills", extra_headers=headers
        )
        return files(response)[0]

    assert await picture(None) == await picture(None)
    assert await picture("7") == await picture("7")
    assert await picture("7") != await picture("8")


async def test_the_pictures_of_one_request_differ(emulator: Emulator) -> None:
    response = await emulator.openai.images.generate(model=MODEL, prompt="ribbons", n=10, size="1024x640")
    assert len({hashlib.sha256(data).hexdigest() for data in files(response)}) == 10


def test_different_prompts_look_clearly_different() -> None:
    prompts = ["a lighthouse at dusk", "a neon city", "mountains in winter", "a bauhaus poster", "a planet", "猫と灯台"]
    pictures = [opened(render(PictureSpec(prompt, 512, 512)).data).resize((32, 32)) for prompt in prompts]
    for index, first in enumerate(pictures):
        for second in pictures[index + 1 :]:
            difference = ImageChops.difference(first.convert("L"), second.convert("L"))
            mean = sum(level * count for level, count in enumerate(difference.histogram())) / 32**2
            assert mean > 12, "two prompts look alike"


def test_colours_named_by_the_prompt_are_in_the_picture() -> None:
    def reds(prompt: str) -> int:
        picture = opened(render(PictureSpec(prompt, 512, 512, transparent=True)).data)
        return sum(1 for r, g, b, a in pixels(picture) if a > 128 and r > 1.6 * g and r > 1.6 * b)

    assert reds("a red balloon") > 2 * max(1, reds("a green balloon"))


@pytest.mark.parametrize("prompt", ["a lighthouse", "猫と灯台", "ünïcödé", "x" * 32_000, "\n\t", "🦊", "a\0b"])
@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_every_picture_says_in_its_metadata_that_it_is_emulated(prompt: str, output_format: str) -> None:
    picture = opened(render(PictureSpec(prompt, 512, 512, output_format=output_format)).data)
    said = str(picture.info.get("Comment", "")) + str(dict(picture.getexif()))
    assert "EMULATED" in said
    assert "not a model's work" in said


def test_every_picture_carries_a_visible_mark() -> None:
    """The dark plate behind the notice covers the lower left corner, whatever is drawn there."""
    for prompt in ("snow", "a bright day", "a logo"):
        for transparent in (False, True):
            picture = opened(render(PictureSpec(prompt, 1024, 1024, transparent=transparent)).data).convert("RGB")
            plate = picture.crop((24, 952, 240, 1000)).convert("L").histogram()
            assert sum(plate[:80]) > 0.6 * sum(plate), "there is no plate"
            assert sum(plate[200:]) > 0.02 * sum(plate), "there is no writing on it"


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("a  lighthouse\nat dusk", "a lighthouse at dusk"),
        ("Café Zürich", "Cafe Zurich"),
        ("灯台と猫", "(prompt of 4 characters)"),
        ("word " * 20, "word word word word word word word word wor…"),
    ],
)
def test_the_mark_shows_the_prompt_in_letters_the_font_has(prompt: str, shown: str) -> None:
    assert drawable(prompt) == shown


async def test_compression_makes_smaller_files(emulator: Emulator) -> None:
    async def size(output_format: Any, compression: int) -> int:
        response = await emulator.openai.images.generate(
            model=MODEL, prompt="city", output_format=output_format, output_compression=compression
        )
        return len(files(response)[0])

    for output_format in ("jpeg", "webp"):
        assert await size(output_format, 10) < 0.7 * await size(output_format, 100)


async def test_prerendered_answers_are_heavy_and_never_the_same_twice() -> None:
    async with running(prerendered=True) as emulator:
        shots = []
        for output_format in ("png", "jpeg", "webp"):
            for prompt in ("one", "two"):
                response = await emulator.openai.images.generate(
                    model=MODEL, prompt=prompt, n=2, output_format=output_format
                )
                shots += files(response)
        assert len({hashlib.sha256(data).hexdigest() for data in shots}) == len(shots)
        pixels = {hashlib.sha256(opened(data).convert("RGB").tobytes()).hexdigest() for data in shots[:4]}
        assert len(pixels) == 1, "the same picture under different tags"
        assert 1_200_000 < len(shots[0]) < 1_700_000, "as heavy as a model's"
        assert all(isinstance(opened(data), Image.Image) for data in shots)
        recorded = [digest for row in await emulator.charges() for digest in row["pictures"]]
        assert recorded == [hashlib.sha256(data).hexdigest() for data in shots]
