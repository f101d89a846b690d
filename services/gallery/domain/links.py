"""Signed links to one blob each: how long they live, and how a browser is to show what they lead to."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

DEFAULT_TTL = timedelta(minutes=15)
LONGEST_TTL = timedelta(hours=24)
"""The contract's, for links to read; those to write live no longer either."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where to read or write one blob until it expires. A secret: it shows in no log and in no traceback."""

    uri: str = field(repr=False)
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Presentation:
    """Headers that storage sends with the bytes, whatever it keeps of them itself."""

    content_type: str
    content_disposition: str
