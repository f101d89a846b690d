"""What can be said of a picture without a model: its size, shape, colours and whether it has transparent parts."""

import base64
import binascii
import io
import re
from dataclasses import dataclass

from PIL import Image

from emulator.drawing.editing import MAX_INPUT_PIXELS
from emulator.errors import ApiError

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_DATA_URL = re.compile(r"data:(image/(?:png|jpeg|jpg|webp|gif));base64,", re.IGNORECASE)

_COLOURS = {
    "black": (15, 15, 18), "white": (245, 245, 245), "grey": (128, 128, 128), "dark red": (110, 25, 30),
    "red": (210, 45, 45), "orange": (235, 130, 50), "amber": (245, 190, 80), "yellow": (240, 225, 90),
    "olive": (120, 120, 50), "green": (70, 150, 80), "dark green": (30, 75, 50), "mint": (170, 220, 190),
    "teal": (40, 135, 140), "light blue": (160, 205, 230), "blue": (60, 120, 200), "navy": (25, 35, 80),
    "purple": (110, 60, 140), "plum": (80, 45, 85), "pink": (240, 160, 190), "brown": (120, 75, 45),
    "beige": (230, 210, 175),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """One picture as it was looked at; `colours` are names, the most common first."""

    width: int
    height: int
    colours: tuple[str, ...]
    transparent: bool
    bright: bool

    def sentence(self) -> str:
        """One clause for a description."""
        shape = "square" if abs(self.width - self.height) < 0.1 * self.width else "wide"
        shape = "tall" if self.height > 1.1 * self.width else shape
        light = "bright" if self.bright else "dark"
        clear = ", on a transparent ground" if self.transparent else ""
        return (
            f"a {light}, {shape} picture of {self.width}x{self.height} pixels, "
            f"mostly {' and '.join(self.colours[:2])}{clear}"
        )


def decode_data_url(url: str, param: str) -> bytes:
    """The bytes of a base64 data URL of a picture. Raises ApiError; nothing is ever fetched."""
    head = _DATA_URL.match(url)
    if head is None:
        message = "Expected a base64-encoded data URL of a picture; fetching URLs is not supported by this emulator."
        raise ApiError(400, f"Invalid image URL. {message}", param=param, code="invalid_image_url")
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, "The image data is not valid base64.", param=param, code="invalid_base64") from error


def look(data: bytes, param: str) -> Seen:
    """Decode a picture wholly and describe it; runs in a worker thread. Raises ApiError."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            if opened.width * opened.height > MAX_INPUT_PIXELS:
                raise _unreadable(param)
            picture = opened.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(param) from error
    small = picture.resize((32, 32), Image.Resampling.BOX)
    flat = Image.new("RGB", small.size, (255, 255, 255))
    flat.paste(small, mask=small.getchannel("A"))
    level = flat.resize((1, 1), Image.Resampling.BOX).convert("L").getpixel((0, 0))
    return Seen(
        width=picture.width,
        height=picture.height,
        colours=_colour_names(flat),
        transparent=picture.getchannel("A").histogram()[255] < picture.width * picture.height,
        bright=isinstance(level, (int, float)) and level > 110,
    )


def _unreadable(param: str) -> ApiError:
    message = (
        "You uploaded an unsupported image. Please make sure your image is a valid PNG, JPEG, GIF, or WebP picture."
    )
    return ApiError(400, message, param=param, code="image_parse_error")


def _colour_names(picture: Image.Image) -> tuple[str, ...]:
    reduced = picture.quantize(5)
    palette = reduced.getpalette() or []
    counts = sorted(reduced.getcolors() or [], key=lambda entry: entry[0], reverse=True)
    names = (_nearest(palette[3 * index : 3 * index + 3]) for _, index in counts if isinstance(index, int))
    return tuple(dict.fromkeys(names))


def _nearest(colour: list[int]) -> str:
    return min(_COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(_COLOURS[name], colour, strict=True)))
