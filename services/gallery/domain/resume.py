"""Where a watcher stands in the log of its owner's changes, and the token that says so."""

import struct
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.common.tokens import binding_of, decode_token, encode_token
from services.gallery.domain import failures
from services.gallery.domain.changes import Entry

TOKEN_AGE = timedelta(hours=24)
"""How long a token can be used."""

LOG_KEPT = timedelta(hours=48)
"""How long entries are kept: whatever a usable token has yet to be told is there."""

_LAYOUT = struct.Struct(">16sQqq")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Position:
    """A watcher has been told all up to the entry `sequence` (0: none), which is of `entry_time`.

    `incarnation` sets the sequences of one database apart from those of another. Nothing that it has yet to be told
    happened before `as_of`. Times are the database's.
    """

    incarnation: UUID
    sequence: int
    entry_time: datetime
    as_of: datetime

    def after(self, entry: Entry) -> "Position":
        """Once the entry has been told; nothing is known of what followed it."""
        return replace(self, sequence=entry.sequence, entry_time=entry.time, as_of=max(self.as_of, entry.time))

    def until(self, as_of: datetime) -> "Position":
        """Once it is known that nothing has happened since."""
        return replace(self, as_of=max(self.as_of, as_of))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a log has around a position: the entry at it, and if that is not there, the owner's newest one before it.

    `last_sequence` is the last one that the database has given to anybody.
    """

    incarnation: UUID
    now: datetime
    last_sequence: int
    at_position: Entry | None = None
    before: Entry | None = None


def to_token(position: Position, owner: str) -> str:
    """The position as an opaque token, of use to this owner alone."""
    times = (_micros(position.entry_time), _micros(position.as_of))
    return encode_token(_LAYOUT.pack(position.incarnation.bytes, position.sequence, *times), _binding(owner))


def from_token(token: str, owner: str) -> Position:
    """The position in a token that this owner was given.

    Raises:
        InvalidArgument: INVALID_RESUME_TOKEN.
    """
    try:
        incarnation, sequence, entry_time, as_of = _LAYOUT.unpack(decode_token(token, _binding(owner)))
        if sequence >= 2**63:
            raise ValueError("not a sequence of the database")
        return Position(UUID(bytes=incarnation), sequence, _time(entry_time), _time(as_of))
    except (ValueError, OverflowError, struct.error):
        raise failures.invalid_resume_token() from None


def check_age(position: Position, now: datetime) -> None:
    """Refuses to resume where the log may have been trimmed since.

    Raises:
        OutOfRange: RESUME_TOKEN_EXPIRED.
    """
    if now - position.as_of > TOKEN_AGE:
        raise failures.resume_token_expired()


def check_continuity(position: Position, found: Surroundings) -> None:
    """Refuses to go on in a log that is not the one in which the position was taken.

    A database that was restored from a backup may lack the position's entry, or have another one there, or never have
    come so far. Only a log that has been trimmed may lack it rightly, and trimming begins with the oldest: then what is
    left before the position is no younger.

    Raises:
        OutOfRange: RESUME_TOKEN_EXPIRED.
    """
    if position.incarnation != found.incarnation or position.sequence > found.last_sequence:
        raise failures.resume_token_expired()
    if position.sequence == 0:
        return
    if found.at_position is not None:
        is_other = found.at_position.time != position.entry_time
    else:
        is_other = found.before is not None and found.before.time > position.entry_time
        is_other = is_other or found.now - position.entry_time < LOG_KEPT
    if is_other:
        raise failures.resume_token_expired()


def check_head(position: Position, newest: int | None) -> None:
    """Refuses to wait behind the end of a log that was restored; `newest`: its last sequence, None: it is empty.

    Raises:
        OutOfRange: RESUME_TOKEN_EXPIRED.
    """
    if newest is not None and newest < position.sequence:
        raise failures.resume_token_expired()


def _binding(owner: str) -> bytes:
    return binding_of(b"contentlab.gallery.resume.1", owner.encode())


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _time(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
