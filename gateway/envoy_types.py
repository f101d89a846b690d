"""Shorthands for Envoy's configuration vocabulary."""

from typing import Any

Config = dict[str, Any]
"""A piece of Envoy configuration: what becomes a YAML mapping."""

HTTP_FILTERS = "envoy.extensions.filters.http"


def typed(type_name: str, **fields: Any) -> Config:
    """A `typed_config`: the fields with the `@type` that tells Envoy which extension they are for."""
    return {"@type": f"type.googleapis.com/{type_name}", **fields}


def duration(seconds: float) -> str:
    """Protobuf's JSON form of a duration."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def header_match(name: str, **match: str) -> Config:
    """Matches a header by `exact`, `prefix`, `suffix`, `contains`."""
    return {"name": name, "string_match": match}


def header_regex(name: str, regex: str) -> Config:
    """Matches the whole value of a header."""
    return {"name": name, "string_match": {"safe_regex": {"regex": regex}}}


def set_header(name: str, value: str) -> Config:
    """Sets a header, whatever it was before."""
    return {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD", "header": {"key": name, "value": value}}
