"""JSON schemas of answers, as the strict mode of structured outputs takes them from every provider."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

# What strict mode knows on OpenAI and Azure alike: Azure refuses bounds, lengths, patterns and formats. What is left
# out is checked afterwards, and the model is told of it in words.
_KNOWN = ("type", "description", "enum", "items", "anyOf", "$ref")
_COMPOSED = ("allOf", "not", "if", "prefixItems", "patternProperties", "dependentRequired")


def strict_schema(shape: type[BaseModel]) -> dict[str, Any]:
    """The schema of a shape: every property required, every object closed, only keywords that strict mode knows.

    Raises:
        TypeError: the shape has what strict mode cannot say. An open map is to be a list of pairs.
    """
    schema = shape.model_json_schema()
    if schema.get("type") != "object":
        raise TypeError(f"{shape.__name__}: the root must be an object")
    strict = _strict(schema, shape.__name__)
    if "$defs" in schema:
        strict["$defs"] = {name: _strict(part, name) for name, part in schema["$defs"].items()}
    return strict


def _strict(schema: Mapping[str, Any], place: str) -> dict[str, Any]:
    for keyword in _COMPOSED:
        if keyword in schema:
            raise TypeError(f"{place}: strict mode has no {keyword}")
    if "$ref" in schema:
        # Nothing may stand beside it.
        return {"$ref": schema["$ref"]}
    strict = {name: schema[name] for name in _KNOWN if name in schema}
    if "const" in schema:
        strict["enum"] = [schema["const"]]
    if "items" in schema:
        strict["items"] = _strict(schema["items"], f"{place}[]")
    branches = schema.get("anyOf", schema.get("oneOf"))
    if branches is not None:
        strict["anyOf"] = [_strict(branch, place) for branch in branches]
    if schema.get("type") == "object":
        # A docstring: written for us.
        strict.pop("description", None)
        strict |= _closed(schema, place)
    if not strict.keys() & {"type", "enum", "anyOf"}:
        raise TypeError(f"{place}: strict mode wants a type")
    return strict


def _closed(schema: Mapping[str, Any], place: str) -> dict[str, Any]:
    properties = schema.get("properties")
    if not properties:
        raise TypeError(f"{place}: an open map; write a list of pairs")
    return {
        "properties": {name: _strict(part, f"{place}.{name}") for name, part in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }
