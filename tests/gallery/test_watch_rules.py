"""How entries of the log become events, and what a resume token is good for: rules without a database."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import InvalidArgument, OutOfRange
from services.gallery.domain.assets import Asset, Media, MediaType
from services.gallery.domain.changes import AssetEvent, ChangeType, Entry, events_of
from services.gallery.domain.resume import (
    LOG_KEPT,
    TOKEN_AGE,
    Position,
    Surroundings,
    check_age,
    check_continuity,
    check_head,
    from_token,
    to_token,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CREATED, UPDATED, DELETED, PURGED = ChangeType
POSITION = Position(uuid4(), 7, NOW - HOUR, NOW - HOUR / 2)


def asset(asset_id: str) -> Asset:
    return Asset(asset_id, "ann", asset_id, Media(MediaType.IMAGE, "image/png", 1, "0" * 64), NOW, NOW)


def log(*changes: tuple[str, ChangeType]) -> list[Entry]:
    return [Entry(n, NOW + n * HOUR, asset_id, type_) for n, (asset_id, type_) in enumerate(changes, 1)]


def told(entries: Sequence[Entry], gone: frozenset[str] = frozenset()) -> list[AssetEvent]:
    return events_of(
        entries, {entry.asset_id: asset(entry.asset_id) for entry in entries if entry.asset_id not in gone}
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((CREATED, UPDATED, UPDATED), CREATED),
        ((UPDATED, UPDATED), UPDATED),
        ((CREATED, DELETED), DELETED),
        ((DELETED, CREATED), CREATED),
        ((DELETED, CREATED, UPDATED), CREATED),
        ((DELETED, UPDATED), DELETED),
        ((CREATED, DELETED, UPDATED), DELETED),
        ((CREATED, UPDATED, DELETED, PURGED), PURGED),
    ],
)
def test_several_changes_of_an_asset_come_as_one(changes: tuple[ChangeType, ...], expected: ChangeType) -> None:
    [event] = told(log(*(("a", change) for change in changes)))
    assert (event.type, event.last.sequence) == (expected, len(changes))
    assert (event.asset is None) == (expected is PURGED)


def test_an_update_of_what_is_deleted_is_told_as_its_deletion() -> None:
    """Also where the deletion itself was told with an earlier event, or is yet to come."""
    gone = replace(asset("a"), delete_time=NOW, purge_time=NOW)
    [event] = events_of(log(("a", UPDATED)), {"a": gone})
    assert (event.type, event.asset) == (DELETED, gone)


def test_a_purged_asset_has_nothing_but_its_name_and_one_event() -> None:
    entries = log(("a", CREATED), ("b", CREATED), ("a", PURGED))
    assert [(event.asset_id, event.type) for event in told(entries, frozenset("a"))] == [("a", PURGED), ("b", CREATED)]


def test_an_asset_whose_purge_is_not_yet_read_is_left_to_that_entry() -> None:
    assert [event.asset_id for event in told(log(("a", UPDATED), ("b", CREATED)), frozenset("a"))] == ["b"]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from((CREATED, UPDATED, DELETED))), max_size=30))
def test_whoever_resumes_behind_an_event_hears_all_that_no_earlier_event_has_told(
    changes: list[tuple[str, ChangeType]],
) -> None:
    entries = log(*changes)
    events = told(entries)
    lasts = [event.last.sequence for event in events]
    assert lasts == sorted(set(lasts)), "tokens move on with every event"
    assert not entries or lasts[-1] == entries[-1].sequence
    for number, event in enumerate(events, 1):
        known = {each.asset_id for each in events[:number]}
        covered = {entry.asset_id for entry in entries if entry.sequence <= event.last.sequence}
        assert covered == known
        again = told([entry for entry in entries if entry.sequence > event.last.sequence])
        assert {each.asset_id for each in events[number:]} <= {each.asset_id for each in again}
        newly = {each.asset_id: each.type for each in again}
        for each in events[number:]:
            assert newly[each.asset_id] is each.type, "what has not been told at all is told whole"


def test_a_token_brings_its_position_back_to_the_microsecond() -> None:
    assert from_token(to_token(POSITION, "ann"), "ann") == POSITION


def test_a_token_is_of_use_to_its_owner_alone() -> None:
    with pytest.raises(InvalidArgument) as refused:
        from_token(to_token(POSITION, "ann"), "bob")
    assert (refused.value.reason, refused.value.metadata["field"]) == ("INVALID_RESUME_TOKEN", "resume_token")


@given(st.text(max_size=90) | st.binary(max_size=60).map(lambda data: data.hex()))
def test_garbage_is_no_token(text: str) -> None:
    with pytest.raises(InvalidArgument):
        from_token(text, "ann")


@given(st.integers(0, 68), st.sampled_from("AZaz09-_"))
def test_a_token_with_another_letter_is_no_token(at: int, letter: str) -> None:
    token = to_token(POSITION, "ann")
    changed = token[:at] + letter + token[at + 1 :]
    if changed != token:
        with pytest.raises(InvalidArgument):
            from_token(changed, "ann")


def test_a_token_lives_for_a_day() -> None:
    check_age(POSITION, POSITION.as_of + TOKEN_AGE)
    with pytest.raises(OutOfRange):
        check_age(POSITION, POSITION.as_of + TOKEN_AGE + timedelta(microseconds=1))


def test_a_token_does_not_get_younger_by_events_that_are_told_late() -> None:
    """Or one could fall further and further behind, until the log has been trimmed where it goes on."""
    old = log(("a", UPDATED))[0]
    behind = replace(POSITION, entry_time=NOW - 30 * HOUR, as_of=NOW - 23 * HOUR)
    assert behind.after(replace(old, time=NOW - 22 * HOUR)).as_of == NOW - 22 * HOUR


LOG = Surroundings(POSITION.incarnation, NOW, 7, Entry(7, POSITION.entry_time, "a", UPDATED))
OLD = replace(POSITION, entry_time=NOW - LOG_KEPT)
TRIMMED = replace(LOG, at_position=None)


@pytest.mark.parametrize(
    ("position", "found"),
    [
        (POSITION, replace(LOG, incarnation=uuid4())),
        (POSITION, replace(LOG, at_position=None)),
        (POSITION, replace(LOG, at_position=Entry(7, NOW, "a", UPDATED))),
        (OLD, replace(TRIMMED, last_sequence=6)),
        (OLD, replace(TRIMMED, before=Entry(6, NOW, "a", UPDATED))),
        (OLD, replace(TRIMMED, last_sequence=90, before=Entry(6, OLD.entry_time + HOUR, "a", UPDATED))),
    ],
)
def test_a_log_that_is_not_the_positions_own_is_not_gone_on_in(position: Position, found: Surroundings) -> None:
    """It lacks the entry or has another one, did not come so far, or has younger ones where older were trimmed."""
    with pytest.raises(OutOfRange) as refused:
        check_continuity(position, found)
    assert refused.value.reason == "RESUME_TOKEN_EXPIRED"


@pytest.mark.parametrize(
    ("position", "found"),
    [
        (POSITION, LOG),
        (OLD, TRIMMED),
        (OLD, replace(TRIMMED, last_sequence=90)),
        (OLD, replace(TRIMMED, before=Entry(5, OLD.entry_time, "a", UPDATED))),
        (replace(POSITION, sequence=0), replace(TRIMMED, last_sequence=1)),
    ],
)
def test_an_entry_that_was_trimmed_is_missed_by_nobody(position: Position, found: Surroundings) -> None:
    check_continuity(position, found)


def test_a_position_ahead_of_the_log_is_of_another_one() -> None:
    check_head(POSITION, 7)
    check_head(POSITION, None)
    with pytest.raises(OutOfRange):
        check_head(POSITION, 6)
