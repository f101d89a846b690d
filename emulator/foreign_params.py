"""Image parameters as servers that are not OpenAI's read them, put into OpenAI's terms."""

from collections.abc import Mapping
from typing import Any

from emulator.dialects import PNG_JPEG_WEBP, Reading
from emulator.errors import ApiError, wrong_value


def translated(raw: Mapping[str, Any], reading: Reading, *, edit: bool) -> tuple[dict[str, Any], str]:
    """The parameters that have an effect, and how the pictures are to be answered. Raises ApiError."""
    if edit and raw.get("stream") is True and reading.edit_stream == "refused":
        raise ApiError(400, "stream=true is only supported for multi-stage image editing pipelines.")
    given = {name: value for name, value in raw.items() if value is not None and name in reading.used}
    answer = _response_format(given, reading, edit=edit)
    quality = given.pop("quality", None)
    if quality is not None and reading.qualities is not None and quality not in reading.qualities:
        raise ApiError(400, f"quality must be one of {[*reading.qualities]}, got {quality!r}")
    if reading.clamps_n and isinstance(given.get("n"), int):
        given["n"] = max(1, min(10, given["n"] or 1))
    _size(given, reading, edit=edit)
    _format(given, raw, reading)
    return given | ({"model": raw["model"]} if raw.get("model") is not None else {}), answer


def _response_format(given: dict[str, Any], reading: Reading, *, edit: bool) -> str:
    default = reading.edit_response_format if edit else reading.response_format
    asked = str(given.pop("response_format", default)).lower()
    if asked == "url" and reading.url == "refused":
        raise ApiError(400, "response_format='url' requires cloud storage to be configured.", param="response_format")
    if asked not in ("url", "b64_json"):
        # LocalAI takes every other word for an address.
        if reading.url == "served":
            return "url"
        raise ApiError(400, f"response_format={asked[:100]} is not supported", param="response_format")
    return asked


def _size(given: dict[str, Any], reading: Reading, *, edit: bool) -> None:
    size = given.get("size", "auto" if edit else reading.default_size)
    if edit and size == "auto":
        given["size"] = "auto"
        return
    if isinstance(size, str) and "x" not in size:
        if reading.auto_size == "refused":
            raise wrong_value("size", size, "size must be in format 'WIDTHxHEIGHT' (e.g., '1024x1024')")
        size = reading.default_size
    given["size"] = size


def _format(given: dict[str, Any], raw: Mapping[str, Any], reading: Reading) -> None:
    """An unknown format is no error there: the picture comes in another one."""
    asked = str(given.get("output_format", "")).lower()
    clear = given.pop("background", None) == "transparent"
    if not asked:
        given["output_format"] = "png" if clear else reading.default_format
    else:
        asked = "jpeg" if asked == "jpg" else asked
        given["output_format"] = asked if asked in PNG_JPEG_WEBP else ("png" if clear else reading.other_format)
