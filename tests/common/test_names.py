"""Resource names and ids."""

import re
import time
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import InvalidArgument
from services.common.names import ResourceName, derived_id, earliest_id, new_id

ASSETS = ResourceName("assets/{asset}")


def test_a_name_is_formatted_and_parsed_back() -> None:
    assert ASSETS.format("a-1") == "assets/a-1"
    assert ASSETS.parse("assets/a-1") == "a-1"


@pytest.mark.parametrize(
    "name",
    ["", "assets", "assets/", "asset/a", "assets/a/b", "assets/A", "assets/1a", "assets/a-", "assets/-a", "assets/ä",
     "assets/a ", "assets/a\n", " assets/a", "assets/" + "a" * 64, "folders/f/assets/a", "assets/..", "assets/%61"],
)  # fmt: skip
def test_what_is_no_name_of_the_collection_is_refused_with_the_field_named(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        ASSETS.parse(name, field="asset")
    assert refused.value.reason == "INVALID_RESOURCE_NAME"
    assert [v.field for v in refused.value.violations] == ["asset"]


def test_an_id_of_63_characters_is_the_longest() -> None:
    assert ASSETS.parse("assets/" + "a" * 63) == "a" * 63


def test_a_collection_may_have_ids_of_its_own_shape() -> None:
    models = ResourceName("imageModels/{image_model}", id_pattern=r"[a-z0-9][a-z0-9.-]*")
    assert models.parse("imageModels/gpt-image-1.5") == "gpt-image-1.5"


def test_a_dot_in_a_pattern_is_a_dot() -> None:
    with pytest.raises(InvalidArgument):
        ResourceName("a.b/{x}").parse("aXb/y")


@pytest.mark.parametrize("bad", ["", "A", "a/b", "a b"])
def test_formatting_what_could_not_be_parsed_is_a_bug(bad: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        ASSETS.format(bad)


@pytest.mark.parametrize("pattern", ["assets", "a/{b}/c/{d}"])
def test_a_pattern_has_exactly_one_variable(pattern: str) -> None:
    with pytest.raises(ValueError, match="exactly one variable"):
        ResourceName(pattern)


def test_new_ids_are_valid_unique_and_sort_by_time() -> None:
    ids = []
    for _ in range(50):
        ids.append(new_id())
        time.sleep(0.000_5)  # more than the clock's step within an id (a quarter of a microsecond)
    assert all(ASSETS.parse(ASSETS.format(each)) == each and len(each) == 27 for each in ids)
    assert ids == sorted(ids)
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_a_new_id_is_a_uuid_of_version_7_with_the_present_time() -> None:
    digits = "0123456789abcdefghjkmnpqrstvwxyz"
    before = time.time_ns() // 1_000_000
    number = 0
    for character in new_id()[1:]:
        number = number * 32 + digits.index(character)
    value = uuid.UUID(int=number)
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert before <= value.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_of_before_and_after_a_moment_are_on_its_two_sides() -> None:
    before = new_id()
    time.sleep(0.002)
    boundary = earliest_id(datetime.now(UTC))
    assert before < boundary < new_id()
    assert len(boundary) == len(before)


def test_a_derived_id_is_always_the_same() -> None:
    assert derived_id("asset", "generation-1", 0) == derived_id("asset", "generation-1", 0)
    # Stored data depends on it: this value must never change.
    assert derived_id("asset", "generation-1", 0) == "c315b2be7m8b2qs8608h9qjcdh6"


@given(
    st.lists(st.text(max_size=8) | st.integers(), max_size=4), st.lists(st.text(max_size=8) | st.integers(), max_size=4)
)
def test_derived_ids_differ_when_their_parts_differ(one: list[str | int], other: list[str | int]) -> None:
    same = [str(part) for part in one] == [str(part) for part in other]
    assert (derived_id("n", *one) == derived_id("n", *other)) is same
    assert re.fullmatch("c[0-9a-z]{26}", derived_id("n", *one))
