"""Whether a picture is transparent is read from its pixels, in every mode that there is."""

import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.gallery.adapters.inspection.errors import TooManyPixelsError
from services.gallery.adapters.inspection.examine import Facts, examine, limit_decoder
from services.gallery.adapters.inspection.limits import Limits
from tests.gallery.media import bomb, encoded, png_chunk

LIMITS = Limits(max_pixels=1_000_000, animation_seconds=10)
SIZE = (12, 9)


@pytest.fixture(autouse=True)
def _restored_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.fixture
def facts_of(tmp_path: Path) -> Callable[[bytes], Facts]:
    def of(data: bytes) -> Facts:
        path = tmp_path / "file"
        path.write_bytes(data)
        with path.open("rb") as file:
            return examine(file, LIMITS)

    return of


def with_hole(mode: str, solid: Any, hole: Any) -> Image.Image:
    image = Image.new(mode, SIZE, solid)
    image.putpixel((5, 4), hole)
    return image


def palette(*indexes: int) -> Image.Image:
    """A picture of a palette, with these entries in its first pixels and entry 0 elsewhere."""
    image = Image.new("P", SIZE, 0)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    for at, index in enumerate(indexes):
        image.putpixel((at, 0), index)
    return image


def raw_png(color_type: int, depth: int, rows: Iterable[bytes], *chunks: tuple[bytes, bytes], width: int) -> bytes:
    """A PNG that Pillow cannot write: low depths, 16 bits, and their transparent colour."""
    lines = list(rows)

    header = struct.pack(">IIBBBBB", width, len(lines), depth, color_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + line for line in lines))
    middle = b"".join(png_chunk(kind, data) for kind, data in chunks)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + middle + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    )


def grey16(*values: int, mark: int) -> bytes:
    return raw_png(
        0, 16, [struct.pack(f">{len(values)}H", *values)], (b"tRNS", struct.pack(">H", mark)), width=len(values)
    )


def rgb16(*values: tuple[int, int, int], mark: tuple[int, int, int]) -> bytes:
    row = b"".join(struct.pack(">3H", *value) for value in values)
    return raw_png(2, 16, [row], (b"tRNS", struct.pack(">3H", *mark)), width=len(values))


def gif(*frames: tuple[Image.Image, int | None, int]) -> bytes:
    """An animation of palette pictures, each with its transparent entry and its disposal method."""
    head, body = b"", b""
    for image, transparent, disposal in frames:
        whole = encoded(image, "GIF", optimize=False)
        start = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
        head = head or whole[:start]
        control = struct.pack("<BHBB", disposal << 2 | (transparent is not None), 5, transparent or 0, 0)
        body += b"!\xf9\x04" + control + whole[whole.index(b",", start) : -1]
    return head + body + b";"


TRANSPARENT = {
    "RGBA": encoded(with_hole("RGBA", (9, 9, 9, 255), (9, 9, 9, 0)), "PNG"),
    "RGBA, one pixel at 254": encoded(with_hole("RGBA", (9, 9, 9, 255), (9, 9, 9, 254)), "PNG"),
    "LA": encoded(with_hole("LA", (9, 255), (9, 120)), "PNG"),
    "palette, one transparent entry in use": encoded(palette(2), "PNG", transparency=2),
    "palette, half transparent entry in use": encoded(palette(1), "PNG", transparency=bytes([255, 128])),
    "RGB with a transparent colour in use": encoded(
        with_hole("RGB", (1, 2, 3), (7, 8, 9)), "PNG", transparency=(7, 8, 9)
    ),
    "grey with a transparent grey in use": encoded(with_hole("L", 10, 200), "PNG", transparency=200),
    "1 bit with a transparent value in use": raw_png(0, 1, [b"\x40"], (b"tRNS", b"\0\1"), width=8),
    "2 bits with a transparent grey in use": raw_png(0, 2, [b"\x1b"], (b"tRNS", b"\0\2"), width=4),
    "4 bits with a transparent grey in use": raw_png(0, 4, [b"\x3a"], (b"tRNS", b"\0\x0a"), width=2),
    "16 bit grey with a transparent grey in use": grey16(5, 0x1234, 9, mark=0x1234),
    "16 bit RGBA": raw_png(6, 16, [struct.pack(">4H", 1, 2, 3, 0x7FFF)], width=1),
    "16 bit LA": raw_png(4, 16, [struct.pack(">2H", 1, 0)], width=1),
    "GIF with a transparent entry in use": encoded(palette(3), "GIF", transparency=3),
    "WebP": encoded(with_hole("RGBA", (9, 9, 9, 255), (9, 9, 9, 0)), "WEBP", lossless=True),
    "AVIF": encoded(with_hole("RGBA", (9, 9, 9, 255), (9, 9, 9, 0)), "AVIF"),
}

OPAQUE = {
    "RGB": encoded(Image.new("RGB", SIZE), "PNG"),
    "RGBA without a hole": encoded(Image.new("RGBA", SIZE, (1, 2, 3, 255)), "PNG"),
    "LA without a hole": encoded(Image.new("LA", SIZE, (1, 255)), "PNG"),
    "grey": encoded(Image.new("L", SIZE), "PNG"),
    "1 bit": encoded(Image.new("1", SIZE), "PNG"),
    "16 bit grey": encoded(Image.new("I;16", SIZE), "PNG"),
    "palette": encoded(palette(1), "PNG"),
    "palette, transparent entry not in use": encoded(palette(1), "PNG", transparency=3),
    "palette, alpha of entries all 255": encoded(palette(1), "PNG", transparency=bytes([255, 255, 255])),
    "RGB, transparent colour not in use": encoded(Image.new("RGB", SIZE, (7, 8, 10)), "PNG", transparency=(7, 8, 9)),
    "grey, transparent grey not in use": encoded(Image.new("L", SIZE, 5), "PNG", transparency=6),
    "1 bit, transparent value not in use": raw_png(0, 1, [b"\0"], (b"tRNS", b"\0\1"), width=8),
    "2 bits, transparent grey not in use": raw_png(0, 2, [b"\x15"], (b"tRNS", b"\0\2"), width=4),
    "4 bits, transparent grey not in use": raw_png(0, 4, [b"\x33"], (b"tRNS", b"\0\x0a"), width=2),
    "16 bit grey, bytes of the mark apart": grey16(0x1200, 0x0034, 0x3412, mark=0x1234),
    "16 bit RGB, transparent colour not in use": rgb16((1, 2, 3), (0x700, 8, 9), mark=(0x800, 8, 9)),
    "16 bit RGBA without a hole": raw_png(6, 16, [struct.pack(">4H", 1, 2, 3, 0xFFFF)], width=1),
    "JPEG": encoded(Image.new("RGB", SIZE), "JPEG"),
    "JPEG in CMYK": encoded(Image.new("CMYK", SIZE), "JPEG"),
    "GIF": encoded(palette(1), "GIF"),
    "GIF, transparent entry not in use": encoded(palette(1), "GIF", transparency=3, optimize=False),
    "WebP": encoded(Image.new("RGB", SIZE), "WEBP"),
    "WebP with an alpha channel of 255": encoded(
        Image.new("RGBA", SIZE, (1, 2, 3, 255)), "WEBP", lossless=True, exact=True
    ),
    "AVIF": encoded(Image.new("RGB", SIZE), "AVIF"),
}


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in TRANSPARENT.items()])
def test_a_pixel_that_is_not_opaque_is_seen(data: bytes, facts_of: Callable[[bytes], Facts]) -> None:
    assert facts_of(data).has_transparency is True


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in OPAQUE.items()])
def test_an_alpha_channel_alone_is_no_transparency(data: bytes, facts_of: Callable[[bytes], Facts]) -> None:
    assert facts_of(data).has_transparency is False


def test_a_colour_of_16_bits_that_cannot_be_told_apart_is_left_open(facts_of: Callable[[bytes], Facts]) -> None:
    """Pillow keeps 8 of the 16 bits: the mark may or may not be in use."""
    assert facts_of(rgb16((0x0100, 0x0200, 0x0300), mark=(0x01FF, 0x02FF, 0x03FF))).has_transparency is None


@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF"])
def test_one_transparent_frame_of_an_animation_is_enough(format: str, facts_of: Callable[[bytes], Facts]) -> None:
    solid = [Image.new("RGBA", SIZE, (shade, 2, 3, 255)) for shade in (0, 90, 180)]
    holed = with_hole("RGBA", (200, 2, 3, 255), (0, 0, 0, 0))
    with_hole_at_the_end = encoded(solid[0], format, save_all=True, append_images=[*solid[1:], holed])
    assert facts_of(with_hole_at_the_end).has_transparency is True
    assert facts_of(encoded(solid[0], format, save_all=True, append_images=solid[1:])).has_transparency is False


@pytest.mark.parametrize(
    ("frames", "transparent"),
    [
        pytest.param([(palette(1), None, 1), (palette(3), 3, 0)], False, id="a hole that shows the frame before"),
        pytest.param([(palette(1), None, 2), (palette(3), 3, 0)], True, id="a hole over a cleared canvas"),
        pytest.param([(palette(1), None, 2), (palette(1), 3, 0)], False, id="cleared, and painted over whole"),
        pytest.param([(palette(1), None, 1), (palette(1), 3, 3), (palette(3), 3, 0)], False, id="restored to opaque"),
        pytest.param([(palette(3), 3, 1), (palette(1), None, 0)], True, id="a hole in the first frame"),
    ],
)
def test_a_gif_is_judged_as_browsers_compose_it(
    frames: list[tuple[Image.Image, int | None, int]], transparent: bool, facts_of: Callable[[bytes], Facts]
) -> None:
    assert facts_of(gif(*frames)).has_transparency is transparent


def test_a_gif_whose_first_frame_leaves_room_is_transparent(facts_of: Callable[[bytes], Facts]) -> None:
    whole = bytearray(encoded(palette(1), "GIF"))
    whole[6:10] = struct.pack("<HH", 40, 40)  # a larger canvas around the same frame
    assert facts_of(bytes(whole)).has_transparency is True


def test_a_long_animation_is_left_open_rather_than_watched_to_its_end(
    monkeypatch: pytest.MonkeyPatch, facts_of: Callable[[bytes], Facts]
) -> None:
    monkeypatch.setattr("services.gallery.adapters.inspection.examine.MAX_FRAMES", 3)
    frames = [Image.new("L", SIZE, shade) for shade in range(5)]
    assert facts_of(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:3])).has_transparency is False
    assert facts_of(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])).has_transparency is None


def test_the_search_goes_strip_by_strip_to_the_last_row(
    monkeypatch: pytest.MonkeyPatch, facts_of: Callable[[bytes], Facts]
) -> None:
    monkeypatch.setattr("services.gallery.adapters.inspection.transparency.STRIP_PIXELS", 24)
    image = Image.new("RGB", SIZE, (1, 2, 3))
    image.putpixel((11, 8), (7, 8, 9))
    assert facts_of(encoded(image, "PNG", transparency=(7, 8, 9))).has_transparency is True


def test_what_has_too_many_pixels_is_not_decoded_even_if_pillow_would(facts_of: Callable[[bytes], Facts]) -> None:
    with pytest.raises(TooManyPixelsError):
        facts_of(bomb(1001, 1000))


def test_pillow_itself_refuses_what_is_above_the_limit() -> None:
    limit_decoder(Limits(max_pixels=99, animation_seconds=1))
    assert Image.MAX_IMAGE_PIXELS == 99
