"""Output formats: what goes with PNG, JPEG and WebP, and what an animated GIF or an SVG is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emulator import values
from emulator.errors import ApiError, missing, unknown_parameter, unsupported, wrong_type
from emulator.models import ImageTraits, Model

_FORMATS = ("png", "jpeg", "webp", "gif", "svg")
_FRAMES, _DEFAULT_FRAMES = (2, 16), 9
_DEFAULT_FRAME_MS, _MAX_FRAME_MS = 200, 655_350
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_AUTHOR = "gpt-6-luna"


@dataclass(frozen=True, slots=True)
class Author:
    """The language model that writes an SVG, and how much it thinks about it."""

    model: Model
    effort: str


@dataclass(frozen=True, slots=True)
class Format:
    """The file that was asked for.

    Attributes:
        frames, frame_ms: of a GIF; a picture has one frame.
        author: of an SVG.
    """

    name: str
    compression: int = 100
    frames: int = 1
    frame_ms: int = _DEFAULT_FRAME_MS
    author: Author | None = None


def format_of(
    given: Mapping[str, Any],
    traits: ImageTraits,
    allowed: tuple[str, ...] | None,
    chat_model: Callable[[object], Model],
    *,
    png_compression: bool,
) -> Format:
    """Check every parameter that depends on the format. Raises ApiError with the parameter named.

    Args:
        allowed: the formats of the dialect; None is all that the model has.
        chat_model: finds the model that writes an SVG.
        png_compression: whether PNG takes a compression, too.
    """
    had = tuple(name for name in allowed or _FORMATS if name not in ("gif", "svg") or getattr(traits, name))
    name = values.choice(given, "output_format", had, "png")
    for parameter, only in (("frame_count", "gif"), ("frame_duration_ms", "gif"), ("svg", "svg")):
        if parameter in given and name != only:
            raise unsupported(parameter, f"'{parameter}' is only supported with output format '{only}'.")
    if given.get("background") == "transparent" and name not in ("png", "webp"):
        raise unsupported("background", f"Transparent background is not supported for output format '{name}'.")
    if name in ("gif", "svg"):
        _still_only(given, name)
    if name == "gif":
        return Format(name, frames=_frames(given), frame_ms=_frame_ms(given))
    if name == "svg":
        if values.integer(given, "n", 1, 10, 1) != 1:
            raise unsupported("n", "SVG output requires 'n' to be 1.")
        return Format(name, author=_author(given.get("svg"), chat_model))
    compression = values.integer(given, "output_compression", 0, 100, 100)
    if compression != 100 and name == "png" and not png_compression:
        message = "Compression less than 100 is not supported for output format 'png'."
        raise unsupported("output_compression", message)
    return Format(name, compression)


def _still_only(given: Mapping[str, Any], name: str) -> None:
    """What neither a GIF nor an SVG goes with. Zero previews and no stream are as good as nothing said."""
    for parameter in ("stream", "partial_images", "output_compression"):
        if given.get(parameter) or (parameter == "output_compression" and parameter in given):
            raise unsupported(parameter, f"'{parameter}' is not supported with output format '{name}'.")


def _frames(given: Mapping[str, Any]) -> int:
    return values.integer(given, "frame_count", *_FRAMES, _DEFAULT_FRAMES)


def _frame_ms(given: Mapping[str, Any]) -> int:
    """Rounded to the hundredths of a second that GIF counts in, never less than one; beyond the most, the most."""
    asked = values.integer(given, "frame_duration_ms", 1, 10**9, _DEFAULT_FRAME_MS)
    return min(max(10, (asked + 5) // 10 * 10), _MAX_FRAME_MS)


def _author(svg: object, chat_model: Callable[[object], Model]) -> Author:
    if svg is None:
        return Author(chat_model(_AUTHOR), "medium")
    if not isinstance(svg, dict):
        raise wrong_type("svg", "an object", svg)
    for name in svg:
        if name not in ("model", "reasoning"):
            raise unknown_parameter(f"svg.{name}")
    if svg.get("model") is None:
        raise missing("svg.model")
    reasoning = svg.get("reasoning") or {}
    if not isinstance(reasoning, dict):
        raise wrong_type("svg.reasoning", "an object", reasoning)
    for name in reasoning:
        if name != "effort":
            raise unknown_parameter(f"svg.reasoning.{name}")
    effort = {} if reasoning.get("effort") is None else {"svg.reasoning.effort": reasoning["effort"]}
    try:
        model = chat_model(svg["model"])
    except ApiError as error:
        error.param = "svg.model"
        raise
    return Author(model, values.choice(effort, "svg.reasoning.effort", _EFFORTS, "medium"))
