"""JSON schemas as data: types, bounds, references, and two schemas merged into one that satisfies both."""

import math
import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

Schema = Mapping[str, Any]

_REFUSED = (
    "not", "if", "then", "else", "contains", "dependentRequired", "dependentSchemas", "minProperties",
    "propertyNames", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef",
)  # fmt: skip
_IMPLIED = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_MAX_STEPS = 40


class DeadEnd(Exception):
    """No value can be found on this way; another branch of the schema may have one."""


def resolved(schema: Any, root: Schema) -> Schema:
    """`schema` with its $ref followed and its allOf merged into it. Raises DeadEnd, also for refused keywords."""
    for _ in range(_MAX_STEPS):
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            raise DeadEnd("a part of it is not a schema object")
        for keyword in _REFUSED:
            if keyword in schema:
                raise DeadEnd(f"'{keyword}' is not supported by this emulator")
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = merged(_target(schema["$ref"], root), rest)
        elif "allOf" in schema:
            parts = [resolved(part, root) for part in schema["allOf"]]
            schema = {key: value for key, value in schema.items() if key != "allOf"}
            for part in parts:
                schema = merged(schema, part)
        else:
            return schema
    raise DeadEnd("its references lead in a circle")


def _target(reference: object, root: Schema) -> Schema:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise DeadEnd("only references into the schema itself are supported")
    place: Any = root
    for step in reference.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(place, Mapping) or key not in place:
            raise DeadEnd(f"reference '{reference}' leads nowhere")
        place = place[key]
    if not isinstance(place, Mapping):
        raise DeadEnd(f"reference '{reference}' leads to no schema object")
    return place


def merged(first: Schema, second: Schema) -> Schema:
    """A schema for the values that fit both. Raises DeadEnd where the two cannot be joined by rule."""
    result = dict(first)
    for key, value in second.items():
        if key not in result or key in ("title", "description", "default", "examples"):
            result[key] = value
        else:
            result[key] = _joined(key, result[key], value)
    return result


def _joined(key: str, first: Any, second: Any) -> Any:
    if first == second:
        return first
    if key in _LEAST or key in _MOST:
        return max(first, second) if key in _LEAST else min(first, second)
    match key:
        case "required":
            return list(dict.fromkeys([*first, *second]))
        case "properties":
            both = {name: {"allOf": [first[name], second[name]]} for name in first if name in second}
            return {**first, **second, **both}
        case "enum":
            return [value for value in first if value in second]
        case "type":
            return _common_types(first, second)
        case "$defs" | "definitions":
            return {**first, **second}
        case "uniqueItems":
            return first or second
        case "items" | "additionalProperties":
            return False if False in (first, second) else {"allOf": [first, second]}
        case _:
            raise DeadEnd(f"two different '{key}' cannot be joined by this emulator")


def _common_types(first: Any, second: Any) -> list[str]:
    here = [first] if isinstance(first, str) else list(first)
    there = [second] if isinstance(second, str) else list(second)
    both = [kind for kind in here if kind in there]
    if "integer" in here + there and "number" in here + there and "integer" not in both:
        both.append("integer")
    if not both:
        raise DeadEnd("it asks for two types at once")
    return both


def types(schema: Schema) -> list[str] | None:
    """The types a schema names, the first to be tried first and null last; None where it names none."""
    kind = schema.get("type")
    if kind is None:
        return ["null"] if schema.get("nullable") is True and len(schema) == 1 else None
    kinds = [kind] if isinstance(kind, str) else list(kind)
    if not kinds:
        raise DeadEnd("an empty list of types")
    return sorted(kinds, key=lambda each: each == "null")


def kind_of(schema: Schema) -> str:
    """The type of value to make; where none is named, the one that the other keywords speak of."""
    if kinds := types(schema):
        return kinds[0]
    return next((kind for kind, keywords in _IMPLIED.items() if any(key in schema for key in keywords)), "string")


def is_kind(kind: str, value: Any) -> bool:
    """Whether a JSON value is of a schema type."""
    match kind:
        case "integer" | "number" if isinstance(value, bool):
            return False
        case "integer":
            return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        case "number":
            return isinstance(value, (int, float))
        case _:
            known = {"string": str, "boolean": bool, "object": dict, "array": list, "null": type(None)}
            return isinstance(value, known.get(kind, ()))


def number(schema: Schema, rng: random.Random, index: int, *, whole: bool, share: bool) -> int | float:
    """A number within the bounds; `share` prefers one between a half and one where they are open."""
    step = Fraction(str(schema["multipleOf"])) if "multipleOf" in schema else Fraction(1) if whole else None
    low, high = _ends(schema, Fraction(1, 2) if share and not whole else Fraction(1), step or Fraction(1, 8))
    if step is None:
        return _decimal(schema, rng, low, high)
    if whole:
        step = Fraction(step.numerator)  # the whole multiples of p/q are the multiples of p
    first, last = math.ceil(low / step), math.floor(high / step)
    while first <= last and not _within(first * step, schema):
        first += 1
    while first <= last and not _within(last * step, schema):
        last -= 1
    if first > last:
        raise DeadEnd("no number lies within the bounds")
    chosen = (first + (rng.randrange(last - first + 1) + index) % (last - first + 1)) * step
    return int(chosen) if chosen.denominator == 1 else float(chosen)


def _decimal(schema: Schema, rng: random.Random, low: Fraction, high: Fraction) -> float:
    """Some way between the ends, with two decimals where that is exact enough."""
    shares = [Fraction(place, 8) for place in rng.sample(range(1, 8), 7)]
    for value in [low + (high - low) * share for share in shares] + [low, high]:
        for candidate in (round(float(value), 2), float(value)):
            if _within(Fraction(candidate), schema):
                return candidate
    raise DeadEnd("no number lies within the bounds")


def _ends(schema: Schema, start: Fraction, step: Fraction) -> tuple[Fraction, Fraction]:
    lows = [_exact(schema[key]) for key in ("minimum", "exclusiveMinimum") if _is_bound(schema, key)]
    highs = [_exact(schema[key]) for key in ("maximum", "exclusiveMaximum") if _is_bound(schema, key)]
    width = 8 * step if step >= 1 else max(8 * step, start)
    if lows and highs:
        return max(lows), min(highs)
    if lows:
        return max(lows), max(lows) + width + step
    if highs:
        return min(highs) - width - step, min(highs)
    return start, start + width


def _within(value: Fraction, schema: Schema) -> bool:
    """By the float that will be sent, as the reader of the answer compares floats."""
    sent = _exact(float(value))
    return (
        (not _is_bound(schema, "minimum") or sent >= _exact(schema["minimum"]))
        and (not _is_bound(schema, "maximum") or sent <= _exact(schema["maximum"]))
        and (not _is_bound(schema, "exclusiveMinimum") or sent > _exact(schema["exclusiveMinimum"]))
        and (not _is_bound(schema, "exclusiveMaximum") or sent < _exact(schema["exclusiveMaximum"]))
    )


def _is_bound(schema: Schema, key: str) -> bool:
    return isinstance(schema.get(key), (int, float)) and not isinstance(schema[key], bool)


def _exact(value: float) -> Fraction:
    return Fraction(value)
