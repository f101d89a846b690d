"""Single parameters out of a request, of the right type and within bounds."""

from collections.abc import Mapping, Sequence
from typing import Any

from emulator.errors import out_of_bounds, wrong_type, wrong_value


def text(given: Mapping[str, Any], name: str) -> str:
    """A string; empty when left out."""
    value = given.get(name, "")
    if not isinstance(value, str):
        raise wrong_type(name, "a string", value)
    return value


def choice(given: Mapping[str, Any], name: str, choices: Sequence[str], default: str) -> str:
    """One of `choices`."""
    if name not in given:
        return default
    value = text(given, name)
    if value not in choices:
        raise wrong_value(name, value, choices)
    return value


def flag(given: Mapping[str, Any], name: str) -> bool:
    """A boolean; false when left out."""
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise wrong_type(name, "a boolean", value)
    return value


def integer(given: Mapping[str, Any], name: str, least: int, most: int, default: int) -> int:
    """A whole number from `least` to `most`."""
    value = given.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an integer", value)
    if not least <= value <= most:
        raise out_of_bounds(name, value, least, most)
    return value
