"""A value that fits a JSON schema: the same one for the same schema and topic, and plausible where names allow.

Known: type (also lists of types), enum, const, properties, required, additionalProperties, items, prefixItems,
minItems, maxItems, uniqueItems, string lengths, pattern, format, numeric bounds, multipleOf, $ref into the schema,
anyOf, oneOf, allOf. Keywords that would narrow the value in other ways are refused, never ignored.
"""

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from emulator import plausible
from emulator.errors import ApiError
from emulator.patterns import Pattern, UnsupportedPattern
from emulator.plausible import Topic
from emulator.schema_shapes import DeadEnd, Schema, is_kind, kind_of, merged, number, resolved, types

_FORMATS = {
    "date-time": "2026-11-23T09:30:00Z", "date": "2026-11-23", "time": "09:30:00Z", "duration": "PT90S",
    "email": "reader@example.com", "hostname": "www.example.com", "ipv4": "192.0.2.7", "ipv6": "2001:db8::7",
    "uri": "https://example.com/picture", "url": "https://example.com/picture",
    "uuid": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
}  # fmt: skip
# From here on only what a schema demands is given, so that recursive schemas come to an end ...
_SPARING_DEPTH = 6
# ... and one that never does is refused.
_MAX_DEPTH = 40
_MAX_TEXT = 2000
_MAX_ITEMS = 10_000
_SHARES = ("score", "confidence", "probability", "share", "ratio", "weight")


def unfit(detail: str) -> ApiError:
    """The schema cannot be answered."""
    message = f"Invalid schema for response_format: {detail}."
    return ApiError(400, message, param="response_format", code="invalid_json_schema")


def answer(schema: Schema, topic: Topic) -> Any:
    """A value for `schema`. Raises ApiError when it contradicts itself or uses refused keywords."""
    seed = json.dumps([schema, topic.subject, topic.instructions], sort_keys=True)
    writer = _Writer(schema, topic, random.Random(seed))  # noqa: S311 - sample data
    try:
        return writer.value(schema, "value", 0, 0)
    except DeadEnd as error:
        raise unfit(str(error)) from error
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        # A keyword with a value of the wrong type, such as "minLength": "two".
        raise unfit("it is not a well-formed JSON schema") from error


class _Writer:
    def __init__(self, root: Schema, topic: Topic, rng: random.Random) -> None:
        self._root = root
        self._topic = topic
        self._rng = rng

    def value(self, schema: Any, name: str, index: int, depth: int) -> Any:
        """A value for the place `name`, the `index`-th of its list."""
        if depth > _MAX_DEPTH:
            raise DeadEnd("it is recursive without an end")
        schema = resolved(schema, self._root)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._from_enum(schema, index)
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self._from_union(schema, union, name, index, depth)
        return self._of_kind(kind_of(schema), schema, name, index, depth)

    def _of_kind(self, kind: str, schema: Schema, name: str, index: int, depth: int) -> Any:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return self._string(schema, name, index)
            case "integer" | "number":
                share = any(word in name.lower() for word in _SHARES)
                return number(schema, self._rng, index, whole=kind == "integer", share=share)
            case "boolean":
                return (self._rng.random() < 0.5) ^ bool(index % 2)
            case "null":
                return None
            case _:
                raise DeadEnd(f"unknown type '{kind}'")

    def _from_enum(self, schema: Schema, index: int) -> Any:
        kinds = types(schema)
        choices = [value for value in schema["enum"] if kinds is None or any(is_kind(kind, value) for kind in kinds)]
        if not choices:
            raise DeadEnd("an enum has no value of its type")
        # Items of one list differ; a value that stands alone is picked by chance.
        return choices[index % len(choices)] if index else self._rng.choice(choices)

    def _from_union(self, schema: Schema, union: str, name: str, index: int, depth: int) -> Any:
        rest = {key: value for key, value in schema.items() if key != union}
        reasons: list[str] = []
        for branch in self._branches(schema[union], depth):
            try:
                return self.value(merged(rest, resolved(branch, self._root)), name, index, depth + 1)
            except DeadEnd as error:
                reasons.append(str(error))
        raise DeadEnd(reasons[0] if reasons else f"an empty {union}")

    def _branches(self, branches: list[Any], depth: int) -> list[Any]:
        """In the order to try: null says least and comes last, until a recursion has to end."""
        sparing = depth > _SPARING_DEPTH

        def weight(branch: Any) -> int:
            null = isinstance(branch, Mapping) and branch.get("type") == "null"
            nested = isinstance(branch, Mapping) and ("$ref" in branch or branch.get("type") in ("object", "array"))
            return (0 if null else 1 + nested) if sparing else int(null)

        return sorted(branches, key=weight)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties: Schema = schema.get("properties") or {}
        required = list(schema.get("required") or [])
        extra = schema.get("additionalProperties", True)
        made: dict[str, Any] = {}
        for name, part in properties.items():
            if name in required:
                made[name] = self.value(part, name, 0, depth + 1)
            elif depth < _SPARING_DEPTH:
                try:
                    made[name] = self.value(part, name, 0, depth + 1)
                except DeadEnd:
                    continue  # optional, and left out
        unlisted = [name for name in required if name not in properties]
        if unlisted and extra is False:
            raise DeadEnd(f"'{unlisted[0]}' is required but not allowed")
        if isinstance(extra, Mapping) and not (properties or unlisted) and depth < _SPARING_DEPTH:
            unlisted = ["first", "second"][: schema.get("maxProperties", 2)]
        return made | {name: self.value(extra, name, 0, depth + 1) for name in unlisted}

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        least, most = int(schema.get("minItems", 0)), int(schema.get("maxItems", _MAX_ITEMS))
        if least > min(most, _MAX_ITEMS):
            raise DeadEnd("an array must have more items than it may")
        rest = schema.get("items", True)
        items = [
            self.value(part, name, place, depth + 1)
            for place, part in enumerate((schema.get("prefixItems") or [])[:most])
        ]
        wished = least if depth >= _SPARING_DEPTH else max(least, plausible.count(name, self._topic))
        target = len(items) if rest is False else min(most, max(wished, len(items)))
        for attempt in range(50 + 4 * target):
            if len(items) >= target:
                break
            item = self.value(rest, name, attempt, depth + 1)
            if not schema.get("uniqueItems") or not any(_same(item, other) for other in items):
                items.append(item)
        if len(items) < least:
            raise DeadEnd("an array cannot have as many different items as it must")
        return items

    def _string(self, schema: Schema, name: str, index: int) -> str:
        least, most = (
            int(schema.get("minLength", 0)),
            int(schema.get("maxLength", max(_MAX_TEXT, schema.get("minLength", 0)))),
        )
        if least > most:
            raise DeadEnd("minLength is larger than maxLength")
        if known := _FORMATS.get(str(schema.get("format", ""))):
            if not least <= len(known) <= most:
                raise DeadEnd("a format does not fit its lengths")
            return known
        text = plausible.sentence(name, self._topic, index, self._rng)
        if "pattern" in schema:
            return self._matching(str(schema["pattern"]), text, least, most)
        if len(text) > most:
            text = text[:most].rstrip() or text[:most]
        return text if len(text) >= least else (text + " emulated" * (least // 9 + 1))[:least]

    def _matching(self, pattern: str, text: str, least: int, most: int) -> str:
        """`text` where the pattern takes it, else a string made for the pattern."""
        try:
            parsed, expression = Pattern(pattern), re.compile(pattern)
        except (UnsupportedPattern, re.error) as error:
            raise DeadEnd(f"the pattern '{pattern[:100]}' is not supported by this emulator") from error
        if least <= len(text) <= min(most, 80) and expression.search(text):
            return text
        for extra in (3, 0, 1, 2, 5, 8, 13, 21, 34, 55, least, least + 1):
            for _ in range(4):
                made = parsed.sample(self._rng, extra)
                if least <= len(made) <= most and expression.search(made):
                    return made
        raise DeadEnd(f"no text found for the pattern '{pattern[:100]}' and its lengths")


def _same(first: Any, second: Any) -> bool:
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
