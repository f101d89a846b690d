"""Signed links to one blob each: how long they live, and how a browser is to show what they lead to."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

DEFAULT_TTL = timedelta(minutes=15)
LONGEST_TTL = timedelta(hours=24)
"""The contract's, for links to read; those to write live no longer either."""


NAME_BYTES = 150
"""Of a file's name in a link, in UTF-8: a byte may take five characters there (`%25E5`, escaped for the header and for
the address), and not everything that hands a link on takes more than about 2,000."""


def short_name(name: str) -> str:
    """A file's name as links have it: its beginning, whole characters, and its extension."""
    stem, dot, extension = name.rpartition(".")
    ending = f"{dot}{extension}".encode()
    return stem.encode()[: max(NAME_BYTES - len(ending), 0)].decode(errors="ignore").rstrip(" .") + ending.decode()


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
