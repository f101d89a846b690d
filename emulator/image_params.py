"""The parameters of the Images API, checked against what the model can do: used or refused, never dropped."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.errors import (
    ApiError,
    missing,
    not_emulated,
    out_of_bounds,
    unknown_parameter,
    unsupported,
    wrong_type,
    wrong_value,
)
from emulator.models import Catalogue, ImageTraits, Model

_COMMON = frozenset(
    {"model", "prompt", "n", "size", "quality", "background", "output_format", "output_compression", "stream"}
    | {"partial_images", "user", "safety_identifier", "complexity", "frame_count", "frame_duration_ms", "svg"}
)
_GENERATE = _COMMON | {"moderation"}
_EDIT = _COMMON | {"input_fidelity"}
_INTEGERS = frozenset({"n", "output_compression", "partial_images", "frame_count", "frame_duration_ms"})

MAX_PROMPT = 32_000
_FIXED_SIZES = ("1024x1024", "1536x1024", "1024x1536")
_GRID, _MAX_RATIO, _MAX_EDGE = 16, 3, 3840
_MIN_AREA, _MAX_AREA = 655_360, 8_294_400
_WIDE = frozenset({"wide", "landscape", "panorama", "panoramic", "banner", "cinematic"})
_TALL = frozenset({"tall", "portrait", "vertical", "poster"})


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A request that the model can fulfil, with every `auto` decided."""

    model: Model
    prompt: str
    n: int
    width: int
    height: int
    quality: str
    transparent: bool
    output_format: str
    compression: int
    stream: bool
    partial_images: int
    safety_identifier: str | None

    @property
    def size(self) -> str:
        """As the API writes it."""
        return f"{self.width}x{self.height}"

    @property
    def background(self) -> str:
        """As the API writes it."""
        return "transparent" if self.transparent else "opaque"


def from_form(fields: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a form with the types that JSON would have given them."""
    typed: dict[str, Any] = dict(fields)
    for name, text in fields.items():
        if name in _INTEGERS and re.fullmatch(r"-?\d{1,9}", text):
            typed[name] = int(text)
        elif name == "stream" and text.lower() in ("true", "false"):
            typed[name] = text.lower() == "true"
    return typed


def parse(
    raw: Mapping[str, Any], catalogue: Catalogue, *, edit: bool = False, first_image: tuple[int, int] | None = None
) -> ImageRequest:
    """Check `raw` and decide what it leaves open. Raises ApiError with the parameter named.

    Args:
        edit: the parameters are those of an edit.
        first_image: size of the picture to edit, which `auto` follows.
    """
    given = {name: value for name, value in raw.items() if value is not None}
    for name in given:
        if name not in (_EDIT if edit else _GENERATE):
            raise unknown_parameter(name)
    prompt = _prompt(given)
    if "model" not in given:
        raise missing("model")
    model, traits = catalogue.image_model(_text(given, "model"))
    _special(given, traits, edit=edit)
    output_format = _choice(given, "output_format", ("png", "jpeg", "webp"), "png")
    background = _choice(given, "background", ("transparent", "opaque", "auto"), "auto")
    if background == "transparent" and output_format == "jpeg":
        raise unsupported("background", "Transparent background is not supported for output format 'jpeg'.")
    stream = _flag(given, "stream")
    width, height = _size(given, traits, prompt, first_image)
    quality = _choice(given, "quality", (*traits.qualities, "auto"), "auto")
    return ImageRequest(
        model=model,
        prompt=prompt,
        n=_integer(given, "n", 1, 10, 1),
        width=width,
        height=height,
        quality="medium" if quality == "auto" else quality,
        transparent=background == "transparent"
        or (background == "auto" and output_format != "jpeg" and "transparent background" in prompt.lower()),
        output_format=output_format,
        compression=_compression(given, output_format),
        stream=stream,
        partial_images=_partials(given, stream=stream),
        safety_identifier=_text(given, "safety_identifier") or _text(given, "user") or None,
    )


def _prompt(given: Mapping[str, Any]) -> str:
    if "prompt" not in given:
        raise missing("prompt")
    prompt = _text(given, "prompt")
    if not prompt:
        message = "Invalid 'prompt': empty string. Expected a string with minimum length 1."
        raise ApiError(400, message, param="prompt", code="empty_string")
    if len(prompt) > MAX_PROMPT:
        message = (
            f"Invalid 'prompt': string too long. Expected a string with maximum length {MAX_PROMPT}, "
            f"but got a string with length {len(prompt)} instead."
        )
        raise ApiError(400, message, param="prompt", code="string_above_max_length")
    return prompt


def _special(given: Mapping[str, Any], traits: ImageTraits, *, edit: bool) -> None:
    """Parameters that only some models or formats have."""
    if given.get("output_format") in ("gif", "svg"):
        raise not_emulated("output_format", f"Output format '{given['output_format']}'")
    for name, output_format in (("frame_count", "gif"), ("frame_duration_ms", "gif"), ("svg", "svg")):
        if name in given:
            raise unsupported(name, f"'{name}' is only supported with output format '{output_format}'.")
    if "complexity" in given:
        if not traits.complexity:
            raise unsupported("complexity", "'complexity' is not supported by this model.")
        _choice(given, "complexity", ("low", "medium", "high"), "high")
    if "input_fidelity" in given:
        if not traits.input_fidelity:
            raise unsupported("input_fidelity", "'input_fidelity' is not supported by this model.")
        _choice(given, "input_fidelity", traits.input_fidelity, "low")
    if not edit:
        _choice(given, "moderation", ("low", "auto"), "auto")


def _size(
    given: Mapping[str, Any], traits: ImageTraits, prompt: str, first_image: tuple[int, int] | None
) -> tuple[int, int]:
    size = _text(given, "size") or "auto"
    if size == "auto":
        return _auto_size(prompt, first_image)
    if not traits.free_sizes:
        size = _choice(given, "size", (*_FIXED_SIZES, "auto"), "auto")
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", size):
        raise wrong_value("size", size, "Expected 'auto' or a size such as '1536x864'.")
    width, height = map(int, size.split("x"))
    if reason := _size_problem(width, height):
        raise wrong_value("size", size, reason)
    return width, height


def _size_problem(width: int, height: int) -> str | None:
    short, long, area = min(width, height), max(width, height), width * height
    if width % _GRID or height % _GRID:
        return f"Width and height must both be divisible by {_GRID}."
    if long > _MAX_RATIO * short:
        return "The aspect ratio must be between 1:3 and 3:1."
    if long > _MAX_EDGE:
        return f"The longest edge must be at most {_MAX_EDGE} pixels."
    if not _MIN_AREA <= area <= _MAX_AREA:
        return f"The area must be between {_MIN_AREA} and {_MAX_AREA} pixels."
    return None


def _auto_size(prompt: str, first_image: tuple[int, int] | None) -> tuple[int, int]:
    """Like the picture to edit, or as the prompt says, or square."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    wide, tall = bool(words & _WIDE), bool(words & _TALL)
    if first_image is not None:
        wide, tall = first_image[0] > 1.2 * first_image[1], first_image[1] > 1.2 * first_image[0]
    if wide == tall:
        return 1024, 1024
    return (1536, 1024) if wide else (1024, 1536)


def _compression(given: Mapping[str, Any], output_format: str) -> int:
    compression = _integer(given, "output_compression", 0, 100, 100)
    if compression != 100 and output_format == "png":
        raise unsupported("output_compression", "Compression less than 100 is not supported for output format 'png'.")
    return compression


def _partials(given: Mapping[str, Any], *, stream: bool) -> int:
    partials = _integer(given, "partial_images", 0, 3, 0)
    if partials and not stream:
        raise unsupported("partial_images", "'partial_images' is only supported when 'stream' is true.")
    return partials


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise wrong_type(name, "a string", value)
    return value


def _choice(given: Mapping[str, Any], name: str, choices: Sequence[str], default: str) -> str:
    if name not in given:
        return default
    value = _text(given, name)
    if value not in choices:
        raise wrong_value(name, value, choices)
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise wrong_type(name, "a boolean", value)
    return value


def _integer(given: Mapping[str, Any], name: str, least: int, most: int, default: int) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an integer", value)
    if not least <= value <= most:
        raise out_of_bounds(name, value, least, most)
    return value
