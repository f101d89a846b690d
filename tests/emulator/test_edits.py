"""Edits: the pictures sent in can be seen in the result, and a mask is kept to the pixel."""

import io
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image

from emulator.usage import input_image_tokens
from tests.emulator.harness import MODEL, Emulator, files, new_key, opened, pixels, png

BLUE, GREEN, RED = (20, 40, 220), (30, 200, 60), (220, 30, 40)


def upload(data: bytes, name: str = "picture.png", mime: str = "image/png") -> Any:
    return (name, data, mime)


def mask_of(width: int, height: int, hole: tuple[int, int, int, int]) -> bytes:
    mask = Image.new("RGBA", (width, height), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), hole)
    target = io.BytesIO()
    mask.save(target, "PNG")
    return target.getvalue()


def share_of(picture: Image.Image, colour: tuple[int, int, int], tolerance: int = 70) -> float:
    small = picture.convert("RGB").resize((64, 64), Image.Resampling.NEAREST)
    near = sum(
        1 for pixel in pixels(small) if max(abs(a - b) for a, b in zip(pixel[:3], colour, strict=True)) < tolerance
    )
    return near / 64**2


async def test_the_edited_picture_shows_through(emulator: Emulator) -> None:
    async def edited(colour: tuple[int, int, int]) -> Image.Image:
        response = await emulator.openai.images.edit(
            model=MODEL, image=upload(png(1024, 1024, colour)), prompt="add mountains"
        )
        return opened(files(response)[0])

    blue, red = await edited(BLUE), await edited(RED)
    assert share_of(blue, BLUE) > 0.2 > share_of(red, BLUE)
    assert share_of(red, RED) > 0.2 > share_of(blue, RED)


async def test_references_sent_as_a_list_appear_in_the_result(emulator: Emulator) -> None:
    """The SDK sends a list as `image[]`, a single file as `image`."""
    key = new_key()
    response = await emulator.openai.images.edit(
        model=MODEL,
        image=[upload(png(1024, 1024, colour)) for colour in (BLUE, GREEN, RED)],
        prompt="join them",
        extra_headers={"Idempotency-Key": key},
    )
    picture = opened(files(response)[0])
    assert share_of(picture, GREEN, 20) > 0.01
    assert share_of(picture, RED, 20) > 0.01
    charge = await emulator.charge(key)
    assert charge["operation"] == "edit"
    assert charge["usage"]["input_tokens_details"]["image_tokens"] == 3 * input_image_tokens(1024, 1024)
    assert charge["parameters"]["images"] == 3


async def test_pixels_outside_the_mask_stay_what_they_were(emulator: Emulator) -> None:
    hole = (300, 200, 800, 700)
    response = await emulator.openai.images.edit(
        model=MODEL,
        image=upload(png(1024, 1024, BLUE)),
        mask=upload(mask_of(1024, 1024, hole)),
        prompt="a city in the hole",
        size="1024x1024",
    )
    picture = opened(files(response)[0]).convert("RGB")
    above = picture.crop((0, 0, 1024, 199))
    assert above.getcolors() == [(1024 * 199, BLUE)]
    assert picture.crop((801, 0, 1024, 900)).getcolors() == [(223 * 900, BLUE)]
    assert share_of(picture.crop(hole), BLUE, 20) < 0.1


async def test_a_transparent_edit_has_transparency_even_of_an_opaque_picture(emulator: Emulator) -> None:
    response = await emulator.openai.images.edit(
        model=MODEL, image=upload(png(1024, 1024, GREEN)), prompt="cut it out", background="transparent"
    )
    picture = opened(files(response)[0])
    assert picture.mode == "RGBA"
    assert picture.getchannel("A").getpixel((2, 2)) == 0
    assert share_of(picture, GREEN) > 0.2


async def test_markup_is_drawn_on_the_picture(emulator: Emulator) -> None:
    overlay = Image.new("RGBA", (1024, 1024), (0, 0, 0, 0))
    overlay.paste((*RED, 255), (0, 0, 1024, 400))
    target = io.BytesIO()
    overlay.save(target, "PNG")
    response = await emulator.openai.images.edit(
        model=MODEL, image=upload(png(1024, 1024, BLUE)), markup=upload(target.getvalue()), prompt="follow the arrow"
    )
    picture = opened(files(response)[0])
    assert share_of(picture.crop((0, 0, 1024, 380)), RED) > share_of(picture.crop((0, 0, 1024, 380)), BLUE)


async def test_auto_size_follows_the_picture_and_exif_orientation_is_obeyed(emulator: Emulator) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter: a wide file is a tall picture
    target = io.BytesIO()
    Image.new("RGB", (1500, 1000), BLUE).save(target, "JPEG", exif=exif)
    response = await emulator.openai.images.edit(
        model=MODEL, image=upload(target.getvalue(), "photo.jpg", "image/jpeg"), prompt="brighter"
    )
    assert response.size == "1024x1536"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "I;16"])
async def test_pictures_of_every_common_kind_are_taken(emulator: Emulator, kind: str, mode: str) -> None:
    target = io.BytesIO()
    try:
        Image.new(mode, (64, 64)).save(target, kind)
    except (OSError, ValueError):
        return  # there is no such file
    response = await emulator.openai.images.edit(
        model="gpt-image-2", image=upload(target.getvalue(), "x", f"image/{kind.lower()}"), prompt="x", size="1024x1024"
    )
    assert opened(files(response)[0]).size == (1024, 1024)


GOOD = upload(png(256, 256, BLUE))
HOLED = upload(mask_of(256, 256, (0, 0, 9, 9)))
HOLED_128 = upload(mask_of(128, 256, (0, 0, 9, 9)))


@pytest.mark.parametrize(
    ("arguments", "param", "code"),
    [
        ({"image": upload(b"no picture at all")}, "image", "invalid_image_file"),
        ({"image": upload(png(256, 256, BLUE)[:200])}, "image", "invalid_image_file"),
        ({"image": upload(png(8000, 7000, (1,), "L"))}, "image", "invalid_image_file"),
        ({"image": upload(png(9, 9, BLUE), "x.gif", "image/gif")}, "image", "unsupported_file_mimetype"),
        # Bare bytes go out as application/octet-stream.
        ({"image": png(9, 9, BLUE)}, "image", "unsupported_file_mimetype"),
        ({"image": [GOOD] * 17}, "image", "array_above_max_length"),
        ({"image": GOOD, "mask": HOLED_128}, "mask", "invalid_image_file"),
        ({"image": GOOD, "mask": GOOD}, "mask", "invalid_image_file"),
        ({"image": GOOD, "mask": GOOD, "markup": GOOD}, "markup", "unsupported_parameter"),
        ({"image": GOOD, "markup": HOLED, "model": "gpt-image-2"}, "markup", "unsupported_parameter"),
        ({"image": GOOD, "input_fidelity": "high"}, "input_fidelity", "unsupported_parameter"),
        ({"image": GOOD, "model": "gpt-image-1-mini", "input_fidelity": "high"}, "input_fidelity", "invalid_value"),
        ({"image": GOOD, "extra_body": {"moderation": "low"}}, "moderation", "unknown_parameter"),
        ({"image": GOOD, "extra_body": {"svg": {"model": "gpt-5"}}}, "svg", "unsupported_parameter"),
        ({"image": GOOD, "n": 11}, "n", "integer_above_max_value"),
        ({"image": GOOD, "prompt": ""}, "prompt", "empty_string"),
    ],
)
async def test_an_edit_that_makes_no_sense_is_refused_and_costs_nothing(
    emulator: Emulator, arguments: dict[str, Any], param: str, code: str
) -> None:
    key = new_key()
    with pytest.raises(openai.BadRequestError) as refused:
        await emulator.openai.images.edit(
            **({"model": MODEL, "prompt": "x", "extra_headers": {"Idempotency-Key": key}} | arguments)
        )
    assert (refused.value.param, refused.value.code) == (param, code)
    assert await emulator.charges(idempotency_key=key) == []


@pytest.mark.parametrize(
    ("content", "content_type", "code"),
    [
        (b'{"prompt": "x"}', "application/json", "unsupported_content_type"),
        (b"nonsense", "multipart/form-data; boundary=b", "invalid_form"),
        (b"", "multipart/form-data", "invalid_form"),
        (b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nx\r\n--b--\r\n',
         "multipart/form-data; boundary=b", "missing_required_parameter"),
        (b'--b\r\ncontent-disposition: form-data; name="image"\r\n\r\nx\r\n--b--\r\n',
         "multipart/form-data; boundary=b", "invalid_type"),
        (b'--b\r\ncontent-disposition: form-data; name="n"\r\n\r\n1\r\n'
         b'--b\r\ncontent-disposition: form-data; name="n"\r\n\r\n2\r\n--b--\r\n',
         "multipart/form-data; boundary=b", "duplicate_parameter"),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_form_of_an_edit_is_refused(
    emulator: Emulator, content: bytes, content_type: str, code: str
) -> None:
    answer = await emulator.http.post("/v1/images/edits", content=content, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


async def test_a_field_and_a_list_field_may_be_mixed(emulator: Emulator) -> None:
    blue = ("a.png", png(64, 64, BLUE), "image/png")
    answer = await emulator.http.post(
        "/v1/images/edits",
        data={"model": MODEL, "prompt": "both", "n": "2", "size": "1024x1024"},
        files=[("image", blue), ("image[]", blue)],
    )
    assert isinstance(answer, httpx2.Response)
    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 2
