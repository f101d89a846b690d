"""Page tokens after AIP-158: opaque, holding a keyset position, and bound to the request they came from.

A token is no secret and no capability: it carries only where the last page ended, every query stays scoped to its
principal, and the checksum merely refuses tokens that belong to another caller, method or filter.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from services.common.caller import current_caller
from services.common.errors import InvalidArgument, Reason
from services.common.tokens import binding_of, decode_token, encode_token

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000

PositionValue = str | int | datetime
Position = tuple[PositionValue, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """One requested page: at most `size` items after `position` (None: from the start)."""

    size: int
    position: Position | None
    _binding: bytes

    def next_token(self, *position: PositionValue) -> str:
        """The token for what follows the item at this position; times are kept to the microsecond."""
        text = json.dumps([_encode(value) for value in position], separators=(",", ":"), ensure_ascii=False)
        return encode_token(text.encode(errors="surrogatepass"), self._binding)


def read_page(
    request: Message,
    *,
    default_size: int = DEFAULT_PAGE_SIZE,
    max_size: int = MAX_PAGE_SIZE,
    keys: tuple[type[PositionValue], ...] | None = None,
    scope: str = "",
) -> Page:
    """The page that a List request (`page_size`, `page_token`) asks for.

    A size of 0 is the default and a larger one than the maximum is the maximum; the size may change between
    pages, no other argument may. `keys` are the types of the position's values, e.g. `(datetime, str)`: a token
    is no secret and can be forged, so a position of another shape is refused and not handed to the database.
    `scope` distinguishes methods that share one request type.

    Raises:
        InvalidArgument: INVALID_FIELD on `page_size`, INVALID_PAGE_TOKEN on `page_token`.
    """
    size, token = _paging_fields(request)
    if size < 0:
        raise InvalidArgument.field("page_size", "must not be negative")
    binding = _binding(request, scope)
    position = _decode_token(token, binding, keys) if token else None
    return Page(min(size or default_size, max_size), position, binding)


def _paging_fields(request: Message) -> tuple[int, str]:
    fields: Any = request
    return fields.page_size, fields.page_token


def _binding(request: Message, scope: str) -> bytes:
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("page_size")
    rest.ClearField("page_token")
    owner = current_caller().principal
    parts = [owner.encode(), request.DESCRIPTOR.full_name.encode(), scope.encode()]
    return binding_of(*parts, rest.SerializeToString(deterministic=True))


def _decode_token(token: str, binding: bytes, keys: tuple[type[PositionValue], ...] | None) -> Position:
    try:
        position = tuple(_decode(item) for item in json.loads(decode_token(token, binding)))
        if keys is not None and tuple(map(type, position)) != keys:
            raise ValueError("shape")
        return position
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidArgument.field(
            "page_token",
            "is not a token that this method returned for these arguments; start again without it",
            Reason.INVALID_PAGE_TOKEN,
        ) from error


def _encode(value: PositionValue) -> str | int | list[str]:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError("a page position needs times with a time zone")
    return [value.astimezone(UTC).isoformat()]


def _decode(item: object) -> PositionValue:
    match item:
        case bool():
            raise TypeError("bool")
        case str():
            if "\0" in item:
                raise ValueError("NUL")  # Postgres has no such text
            item.encode()  # raises on half of a surrogate pair, which no driver can send
            return item
        case int():
            # Not the least of its kind either, which Postgres cannot negate.
            if not -(2**63) < item < 2**63:
                raise ValueError("bigint")
            return item
        case [str(text)]:
            time = datetime.fromisoformat(text)
            if time.tzinfo is None:
                raise ValueError("no time zone")
            return time.astimezone(UTC)
        case _:
            raise TypeError(type(item).__name__)
