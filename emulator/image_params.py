"""The parameters of the Images API, checked against what the model can do: used or refused, never dropped."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulator import values
from emulator.errors import ApiError, missing, unknown_parameter, unsupported
from emulator.foreign_params import translated
from emulator.image_formats import Format, format_of
from emulator.image_sizes import size_of
from emulator.models import ImageTraits, Model
from emulator.surfaces import Surface

_COMMON = frozenset(
    {"model", "prompt", "n", "size", "quality", "background", "output_format", "output_compression", "stream"}
    | {"partial_images", "user", "safety_identifier", "complexity", "frame_count", "frame_duration_ms", "svg"}
)
_GENERATE = _COMMON | {"moderation"}
_EDIT = _COMMON | {"input_fidelity"}
_INTEGERS = frozenset({"n", "output_compression", "partial_images", "frame_count", "frame_duration_ms"})
_NESTED = {"svg[model]": ("model",), "svg[reasoning][effort]": ("reasoning", "effort")}

MAX_PROMPT = 32_000


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A request that the model can fulfil, with every `auto` decided.

    Attributes:
        answer: `b64_json`, or `url` where the server keeps its pictures.
    """

    model: Model
    prompt: str
    n: int
    width: int
    height: int
    quality: str
    transparent: bool
    format: Format
    stream: bool
    partial_images: int
    safety_identifier: str | None
    answer: str = "b64_json"

    @property
    def size(self) -> str:
        """As the API writes it."""
        return f"{self.width}x{self.height}"

    @property
    def background(self) -> str:
        """As the API writes it."""
        return "transparent" if self.transparent else "opaque"


def from_form(fields: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a form with the types that JSON would have given them; `svg[model]` and the like nested."""
    typed: dict[str, Any] = {}
    for name, text in fields.items():
        if name in _NESTED:
            _nest(typed, _NESTED[name], text)
        elif name in _INTEGERS and re.fullmatch(r"-?\d{1,9}", text):
            typed[name] = int(text)
        elif name == "stream" and text.lower() in ("true", "false"):
            typed[name] = text.lower() == "true"
        else:
            typed[name] = text
    return typed


def _nest(typed: dict[str, Any], path: tuple[str, ...], text: str) -> None:
    place = typed.setdefault("svg", {})
    for name in path[:-1]:
        place = place.setdefault(name, {})
    place[path[-1]] = text


def parse(
    raw: Mapping[str, Any], surface: Surface, *, edit: bool = False, first_image: tuple[int, int] | None = None
) -> ImageRequest:
    """Check `raw` and decide what it leaves open. Raises ApiError with the parameter named.

    Args:
        edit: the parameters are those of an edit.
        first_image: size of the picture to edit, which `auto` follows.
    """
    dialect, answer = surface.dialect, "b64_json"
    given = {name: value for name, value in raw.items() if value is not None}
    if dialect.reading is not None:
        given, answer = translated(given, dialect.reading, edit=edit)
    for name in given:
        if name not in (_EDIT if edit else _GENERATE):
            raise unknown_parameter(name)
    prompt = _prompt(given)
    model, traits = surface.image_model(given.get("model"))
    _special(given, traits, edit=edit)
    picture = format_of(
        given, traits, dialect.formats, surface.author_model, png_compression=dialect.reading is not None
    )
    background = values.choice(given, "background", ("transparent", "opaque", "auto"), "auto")
    stream = values.flag(given, "stream")
    width, height = size_of(given, traits, prompt, first_image, picture.frames)
    qualities = tuple(name for name in traits.qualities if dialect.qualities is None or name in dialect.qualities)
    quality = values.choice(given, "quality", (*qualities, "auto"), "auto")
    return ImageRequest(
        model=model,
        prompt=prompt,
        n=values.integer(given, "n", 1, 10, 1),
        width=width,
        height=height,
        quality="medium" if quality == "auto" else quality,
        transparent=background == "transparent"
        or (
            background == "auto"
            and picture.name in ("png", "webp")
            and dialect.reading is None
            and "transparent background" in prompt.lower()
        ),
        format=picture,
        stream=stream,
        partial_images=_partials(given, stream=stream),
        safety_identifier=values.text(given, "safety_identifier") or values.text(given, "user") or None,
        answer=answer,
    )


def _prompt(given: Mapping[str, Any]) -> str:
    if "prompt" not in given:
        raise missing("prompt")
    prompt = values.text(given, "prompt")
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
    """Parameters that only some models have."""
    if "complexity" in given:
        if not traits.complexity:
            raise unsupported("complexity", "'complexity' is not supported by this model.")
        values.choice(given, "complexity", ("low", "medium", "high"), "high")
    if "input_fidelity" in given:
        if not traits.input_fidelity:
            raise unsupported("input_fidelity", "'input_fidelity' is not supported by this model.")
        values.choice(given, "input_fidelity", traits.input_fidelity, "low")
    if not edit:
        values.choice(given, "moderation", ("low", "auto"), "auto")


def _partials(given: Mapping[str, Any], *, stream: bool) -> int:
    partials = values.integer(given, "partial_images", 0, 3, 0)
    if partials and not stream:
        raise unsupported("partial_images", "'partial_images' is only supported when 'stream' is true.")
    return partials
