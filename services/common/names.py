"""Resource names after AIP-122: one pattern per collection, and ids that sort by time.

Ids are RFC 1034 labels (lower-case letters, digits, hyphens, a letter first), so they can stand in paths,
DNS names and blob names unescaped.
"""

import re
import secrets
import time
import uuid
from datetime import datetime

from services.common.errors import InvalidArgument, Reason

RFC_1034_LABEL = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"

_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: sorts as the numbers do, no look-alikes
_PREFIX = "c"  # RFC 1034 wants a letter first


class ResourceName:
    """A resource name pattern with one variable, such as `assets/{asset}`."""

    def __init__(self, pattern: str, *, id_pattern: str = RFC_1034_LABEL) -> None:
        variables = _VARIABLE.findall(pattern)
        if len(variables) != 1:
            raise ValueError(f"a resource name pattern has exactly one variable: {pattern!r}")
        self.pattern = pattern
        prefix, suffix = _VARIABLE.split(pattern)[0], _VARIABLE.split(pattern)[2]
        self._template = f"{prefix}{{}}{suffix}"
        self._regex = re.compile(f"{re.escape(prefix)}({id_pattern}){re.escape(suffix)}")

    def format(self, resource_id: str) -> str:
        """The name of the resource with this id.

        Raises:
            ValueError: the id could not be parsed back, which is a bug of ours.
        """
        name = self._template.format(resource_id)
        if not self._regex.fullmatch(name):
            raise ValueError(f"{resource_id!r} is not an id of {self.pattern}")
        return name

    def parse(self, name: str, *, field: str = "name") -> str:
        """The id in `name`.

        Raises:
            InvalidArgument: INVALID_RESOURCE_NAME, with `field` as the violated field.
        """
        match = self._regex.fullmatch(name)
        if match is None:
            raise InvalidArgument.field(field, f"must have the form {self.pattern}", Reason.INVALID_RESOURCE_NAME)
        return match.group(1)

    def __repr__(self) -> str:
        return f"ResourceName({self.pattern!r})"


def new_id() -> str:
    """A fresh id that sorts after the earlier ones: a UUIDv7 (RFC 9562, 5.7, method 3) in base 32, 27 characters.

    48 bits of Unix milliseconds, 12 bits of the fraction below, 62 random bits. Time order keeps B-tree inserts
    local and makes (create time, id) a stable order; 27 lower-case characters are shorter than a UUID's 36 and,
    unlike it, start with a letter.
    """
    milliseconds, below = divmod(time.time_ns(), 1_000_000)
    fraction = below * 4096 // 1_000_000
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return _encode(value)


def earliest_id(moment: datetime) -> str:
    """What sorts before every id that `new_id` gives from this moment on, and after those of milliseconds before."""
    return _encode(int(moment.timestamp() * 1000) << 80)


def derived_id(namespace: str, *parts: str | int) -> str:
    """The id that these parts always give: a UUIDv5 in the shape of `new_id`.

    Whoever repeats a step derives the same id again, so a retried upload lands on the same asset. Parts are
    length-prefixed: ("a", "bc") and ("ab", "c") differ.
    """
    text = "".join(f"{len(str(part))}:{part}" for part in (namespace, *parts))
    return _encode(uuid.uuid5(uuid.NAMESPACE_OID, text).int)


def _encode(value: int) -> str:
    digits = [_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5)]
    return _PREFIX + "".join(digits)
