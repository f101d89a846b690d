"""JSON out of what models write around it, and schemas as strict mode wants them."""

import json
import time
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from services.models.helpers.analyze import Seen
from services.models.helpers.enhance import Enhanced
from services.models.helpers.filenames import Named
from services.models.helpers.protect import Rewritten
from services.models.json_answers import json_objects
from services.models.json_schemas import strict_schema

# Every character that UTF-8 has: halves of pairs are no characters.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(texts, values, max_size=5)
# Prose without a brace: what stands in braces may be an object itself.
prose = texts.map(lambda text: text.replace("{", "(").replace("</think", ""))


@settings(max_examples=80, deadline=None)
@given(objects, st.booleans(), st.sampled_from([None, 2]))
def test_an_object_alone_comes_out_as_it_was(data: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    assert list(json_objects(json.dumps(data, ensure_ascii=ascii_only, indent=indent))) == [data]


@settings(max_examples=80, deadline=None)
@given(prose, objects, prose)
def test_an_object_is_found_in_prose_and_fences(before: str, data: dict[str, Any], after: str) -> None:
    written = json.dumps(data, ensure_ascii=False)
    assert list(json_objects(f"{before}\n{written}\n{after}")) == [data]
    assert list(json_objects(f"{before}\n```json\n{written}\n```\n{after}")) == [data]


@settings(max_examples=80, deadline=None)
@given(objects, objects)
def test_thoughts_are_no_answer(draft: dict[str, Any], data: dict[str, Any]) -> None:
    text = f"<think>perhaps {json.dumps(draft)}?</think>\n{json.dumps(data)}"
    if "</think" not in json.dumps(data):
        assert list(json_objects(text)) == [data]


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=200))
def test_no_text_breaks_the_search(text: str) -> None:
    for found in json_objects(text):
        assert isinstance(found, dict)
        json.dumps(found, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param('{"a": "line\nbreak\ttab"}', [{"a": "line\nbreak\ttab"}], id="line breaks in a string"),
        pytest.param('\ufeff{"a": 1}', [{"a": 1}], id="a byte order mark"),
        pytest.param('{"a": {"b": 1}} {"c": 2}', [{"a": {"b": 1}}, {"c": 2}], id="two objects"),
        pytest.param('{"a": 1', [], id="cut off"),
        pytest.param('{x} {"a": "}"}', [{"a": "}"}], id="a brace that is none of JSON's"),
        pytest.param(r'{"a": "\ud83c\udf0a", "b": "\ud83c"}', [{"a": "🌊", "b": "\ufffd"}], id="half a pair"),
        pytest.param('{"a": "</think>"}', [{"a": "</think>"}], id="the mark of thoughts in a string"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_odd_answers(text: str, found: list[dict[str, Any]]) -> None:
    assert list(json_objects(text)) == found


@pytest.mark.parametrize(
    "text", ["{" * 500_000, '{"a":' * 100_000, '{"a": "' * 70_000, "{ " * 250_000, "</think>" * 60_000]
)
def test_a_hostile_answer_takes_no_time(text: str) -> None:
    started = time.process_time()
    assert not list(json_objects(text))
    assert time.process_time() - started < 5


SHAPES = [Enhanced, Named, Rewritten, Seen]


def parts_of(schema: Any) -> list[dict[str, Any]]:
    """Every schema within a schema, itself among them."""
    inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", [])]
    if "items" in schema:
        inner.append(schema["items"])
    return [schema, *(part for each in inner for part in parts_of(each))]


class Choice(BaseModel):
    kind: Literal["a", "b"]
    note: str | None = None


@pytest.mark.parametrize("shape", [*SHAPES, Choice])
def test_every_shape_has_a_strict_schema(shape: type[BaseModel]) -> None:
    allowed = {"type", "description", "enum", "items", "anyOf", "$ref", "$defs", "properties", "required"}
    for part in parts_of(strict_schema(shape)):
        assert part.keys() <= allowed | {"additionalProperties"}
        if part.get("type") == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False
        if "$ref" in part:
            assert part.keys() == {"$ref"}


def test_a_field_with_a_default_is_required_and_may_be_null() -> None:
    schema = strict_schema(Choice)
    assert schema["properties"]["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert schema["required"] == ["kind", "note"]
    assert schema["properties"]["kind"] == {"type": "string", "enum": ["a", "b"]}


class OpenMap(BaseModel):
    pairs: dict[str, str]


class Anything(BaseModel):
    value: Any


class Tuple(BaseModel):
    pair: tuple[int, str]


@pytest.mark.parametrize("shape", [OpenMap, Anything, Tuple])
def test_what_strict_mode_cannot_say_is_a_mistake_of_ours(shape: type[BaseModel]) -> None:
    with pytest.raises(TypeError):
        strict_schema(shape)
