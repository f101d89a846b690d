"""Answers fit the schema they were asked for, whatever it is."""

import datetime
import enum
import json
import re
import uuid
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field, TypeAdapter, create_model

from emulator.errors import ApiError
from emulator.patterns import Pattern, UnsupportedPattern
from emulator.plausible import Topic
from emulator.schema_answers import answer

TOPIC = Topic("a lighthouse at dusk", "Describe it.", ())


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def _text() -> st.SearchStrategy[Any]:
    lengths = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted)
    return lengths.map(lambda ends: Annotated[str, Field(min_length=ends[0], max_length=ends[1])])


def _whole() -> st.SearchStrategy[Any]:
    ends = st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6)).map(sorted)
    return ends.map(lambda pair: Annotated[int, Field(ge=pair[0], le=pair[1])])


def _decimal() -> st.SearchStrategy[Any]:
    numbers = st.floats(-1e6, 1e6, allow_nan=False)
    pairs = st.tuples(numbers, numbers).map(sorted)
    return pairs.map(lambda pair: Annotated[float, Field(ge=pair[0], le=pair[1])])


SPECIAL: list[Any] = [
    str, int, float, bool, Colour, uuid.UUID, datetime.date, Literal["a", "b"], Literal[1, "x", True], dict[str, int],
    Annotated[int, Field(multiple_of=7)], Annotated[int, Field(gt=3, lt=5)], Annotated[int, Field(lt=-5)],
    Annotated[float, Field(gt=0, lt=1e-9)], Annotated[float, Field(gt=0.1)],
    Annotated[float, Field(multiple_of=0.25, ge=1)],
    Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=20)], type(None),
]  # fmt: skip
leaves = st.one_of(_text(), _whole(), _decimal(), st.sampled_from(SPECIAL))
names = st.sampled_from(
    ["description", "products", "tags", "feedback", "prompt", "filename", "brandNames", "score", "x", "name", "reason"]
)


def _lists(inner: Any) -> st.SearchStrategy[Any]:
    ends = st.tuples(st.integers(0, 5), st.integers(0, 5)).map(sorted)

    def made(drawn: tuple[Any, list[int]]) -> Any:
        kind, (least, most) = drawn
        return Annotated[list.__class_getitem__(kind), Field(min_length=least, max_length=most)]

    return st.tuples(inner, ends).map(made)


def _objects(inner: Any) -> st.SearchStrategy[Any]:
    def made(given: dict[str, Any]) -> Any:
        fields: dict[str, Any] = {name: (kind, ...) for name, kind in given.items()}
        return create_model("Made", **fields)

    return st.dictionaries(names, inner, max_size=5).map(made)


types = st.recursive(
    leaves,
    lambda inner: st.one_of(
        _lists(inner),
        _objects(inner),
        inner.map(lambda kind: Optional[kind]),  # noqa: UP045 - kind is a value here
        st.tuples(inner, inner).map(lambda pair: tuple[pair]),  # type: ignore[valid-type]
    ),
    max_leaves=8,
)


@settings(max_examples=250, deadline=None)
@given(types)
def test_an_answer_fits_every_schema_that_pydantic_makes(kind: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema = adapter.json_schema()
    made = answer(schema, TOPIC)
    adapter.validate_json(json.dumps(made))
    assert made == answer(schema, TOPIC), "the same question has the same answer"


@settings(max_examples=60, deadline=None)
@given(_objects(types))
def test_an_answer_fits_the_strict_schemas_that_the_sdk_makes(model: type[BaseModel]) -> None:
    model.model_validate_json(json.dumps(answer(to_strict_json_schema(model), TOPIC)))


class Node(BaseModel):
    name: str
    children: list["Node"]
    parent: "Node | None"


class Chain(BaseModel):
    next: "Chain | int"


@pytest.mark.parametrize("model", [Node, Chain])
def test_recursive_schemas_come_to_an_end(model: type[BaseModel]) -> None:
    made = answer(model.model_json_schema(), TOPIC)
    model.model_validate(made)
    assert len(json.dumps(made)) < 200_000


def test_a_schema_without_an_end_is_refused() -> None:
    class Endless(BaseModel):
        next: "Endless"

    with pytest.raises(ApiError, match="recursive"):
        answer(Endless.model_json_schema(), TOPIC)


@pytest.mark.parametrize(
    ("schema", "check"),
    [
        ({"type": ["null", "string"]}, lambda it: isinstance(it, str)),
        ({"const": {"a": [1]}}, lambda it: it == {"a": [1]}),
        ({"enum": [1, "two", None], "type": "string"}, lambda it: it == "two"),
        ({"oneOf": [{"type": "null"}, {"type": "integer"}]}, lambda it: isinstance(it, int)),
        ({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 3}]}, lambda it: it == 3),
        ({"allOf": [{"properties": {"a": {"const": 2}}}, {"required": ["b"]}]}, lambda it: it["a"] == 2 and "b" in it),
        ({"anyOf": [{"not": {}}, {"type": "boolean"}]}, lambda it: isinstance(it, bool)),
        ({"anyOf": [{"type": "string"}], "maxLength": 4}, lambda it: len(it) <= 4),
        ({"items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3}, lambda it: sorted(it) == [1, 2, 3]),
        ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False}, lambda it: it == [1, 2]),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 30}, lambda it: len(it) == 30),
        ({"required": ["a"], "additionalProperties": {"type": "integer"}}, lambda it: isinstance(it["a"], int)),
        ({"exclusiveMinimum": 0, "maximum": 0.5, "multipleOf": 0.25}, lambda it: it in (0.25, 0.5)),
        ({"type": "integer", "multipleOf": 2.5, "minimum": 1, "maximum": 9}, lambda it: it == 5),
        ({"type": "number", "minimum": 0.3, "maximum": 0.3}, lambda it: it == 0.3),
        ({"type": "integer", "minimum": 10**12}, lambda it: it >= 10**12),
        ({"type": "string", "minLength": 3000}, lambda it: len(it) >= 3000),
        ({"type": "string", "format": "uuid"}, uuid.UUID),
        ({"type": "array", "maxItems": 1}, lambda it: len(it) <= 1),
        ({}, lambda it: isinstance(it, str)),
        ({"properties": {"a": True}}, lambda it: "a" in it),
    ],
)
def test_an_answer_fits(schema: dict[str, Any], check: Any) -> None:
    assert check(answer(schema, TOPIC))


PATTERNS = [
    r"^[a-z0-9-]{3,60}$", r"^#[0-9A-Fa-f]{6}$", r"^\d{4}-\d{2}-\d{2}$", r"^(png|jpe?g|webp)$", r"^[^/\\]+\.(png|jpg)$",
    r"^[A-Z][a-z]*( [A-Z][a-z]*)*$", r"^\w+@\w+\.com$", r"abc", r"^a{3}b{2,}c*d?$", r"^(?:x|y)+?z$", r"^.{5,10}$",
    r"^\S+\s\D\W$", r"^[\w.-]+$", r"^[]a]+$", r"^\t?\.\*\[$", r"^[a-]$", r"^$",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_answer_matches_its_pattern(pattern: str) -> None:
    assert re.search(pattern, answer({"type": "string", "pattern": pattern}, TOPIC))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PATTERNS), st.integers(0, 20), st.randoms(use_true_random=False))
def test_every_sample_of_a_pattern_matches_it(pattern: str, extra: int, rng: Any) -> None:
    assert re.search(pattern, Pattern(pattern).sample(rng, extra))


# Python warns of classes such as [[a] whose meaning may change; here any reading will do.
@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")
@settings(max_examples=300, deadline=None)
@given(st.text("ab[](){}|*+?^$\\d-,.1:", max_size=14))
def test_a_pattern_is_sampled_rightly_or_refused(pattern: str) -> None:
    """Never an endless loop, another error, or a string that does not match."""
    try:
        re.compile(pattern)
        schema = {"type": "string", "pattern": pattern}
        assert re.search(pattern, answer(schema, TOPIC))
    except (re.error, ApiError):
        return


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(a)\1", r"\bword\b", r"a{2", r"(", r"[", r"*", r"a)", r"\p{L}"])
def test_a_pattern_beyond_the_known_syntax_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedPattern):
        Pattern(pattern)
    with pytest.raises(ApiError):
        answer({"type": "string", "pattern": pattern}, TOPIC)
