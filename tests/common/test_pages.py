"""Page tokens."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.caller import acting_for
from services.common.errors import InvalidArgument
from services.common.pages import Position, read_page
from services.common.tokens import encode_token

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)


def request(**fields: object) -> pb.ListAssetsRequest:
    return pb.ListAssetsRequest(**fields)  # type: ignore[arg-type]


def refused(error: pytest.ExceptionInfo[InvalidArgument]) -> tuple[str, list[str]]:
    return error.value.reason, [violation.field for violation in error.value.violations]


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (49, 49), (100, 100), (101, 100), (2**31 - 1, 100)])
def test_the_page_size_has_a_default_and_a_maximum(asked: int, given: int) -> None:
    assert read_page(request(page_size=asked), default_size=50, max_size=100).size == given


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidArgument) as error:
        read_page(request(page_size=-1))
    assert refused(error) == ("INVALID_FIELD", ["page_size"])


def test_the_first_page_has_no_position() -> None:
    assert read_page(request()).position is None


positions = st.lists(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"))
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.datetimes(timezones=st.just(UTC)),
    min_size=1,
    max_size=4,
).map(tuple)


@given(positions)
def test_a_position_comes_back_exactly(position: Position) -> None:
    token = read_page(request()).next_token(*position)
    assert read_page(request(page_token=token)).position == position


def test_times_of_any_zone_come_back_as_the_same_instant() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    token = read_page(request()).next_token(there)
    assert read_page(request(page_token=token)).position == (NOW,)


def test_a_time_without_a_zone_is_a_bug() -> None:
    with pytest.raises(ValueError, match="time zone"):
        read_page(request()).next_token(datetime(2026, 1, 1))


def test_the_page_size_may_change_between_pages() -> None:
    token = read_page(request(page_size=10)).next_token("x")
    assert read_page(request(page_size=20, page_token=token)).position == ("x",)


def test_no_other_argument_may_change_between_pages() -> None:
    token = read_page(request(folder="a")).next_token("x")
    with pytest.raises(InvalidArgument) as error:
        read_page(request(folder="b", page_token=token))
    assert refused(error) == ("INVALID_PAGE_TOKEN", ["page_token"])


def test_a_token_of_another_caller_is_refused() -> None:
    with acting_for("anna"):
        token = read_page(request()).next_token("x")
    with acting_for("berta"), pytest.raises(InvalidArgument):
        read_page(request(page_token=token))


def test_a_token_of_another_method_is_refused() -> None:
    token = read_page(request()).next_token("x")
    with pytest.raises(InvalidArgument):
        read_page(pb.ListFoldersRequest(page_token=token))
    with pytest.raises(InvalidArgument):
        read_page(request(page_token=token), scope="Other")


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        read_page(request(page_token=token))
    assert refused(error) == ("INVALID_PAGE_TOKEN", ["page_token"])


def test_a_token_with_any_bit_changed_is_refused() -> None:
    token = read_page(request()).next_token("x", 7)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidArgument):
            read_page(request(page_token=base64.urlsafe_b64encode(changed).decode().rstrip("=")))


@pytest.mark.parametrize("position", [("x",), ("x", "y"), (NOW,), (NOW, 1), (NOW, "x", "y")])
def test_a_forged_position_of_another_shape_is_refused(position: Position) -> None:
    token = read_page(request()).next_token(*position)
    with pytest.raises(InvalidArgument):
        read_page(request(page_token=token), keys=(datetime, str))


def test_a_position_of_the_right_shape_passes() -> None:
    token = read_page(request()).next_token(NOW, "x")
    assert read_page(request(page_token=token), keys=(datetime, str)).position == (NOW, "x")


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "a\udfffb", 2**63, -(2**63), -(2**63) - 1])
def test_what_postgres_cannot_hold_is_refused(value: str | int) -> None:
    token = read_page(request()).next_token(value)
    with pytest.raises(InvalidArgument):
        read_page(request(page_token=token))


@pytest.mark.parametrize(
    "payload",
    [b"[" * 1500, b'[["2026-11-23T12:00:00"]]', b'[["0001-01-01T00:00:00+14:00"]]', b'[["9999-12-31T23:59:59-14:00"]]'],
)
def test_a_forged_payload_is_refused_whatever_it_is(payload: bytes) -> None:
    binding = read_page(request())._binding
    with pytest.raises(InvalidArgument):
        read_page(request(page_token=encode_token(payload, binding)))
