"""File names: Unicode, safe on every system, of a bounded length, and different from those there are."""

import re
import unicodedata
from collections.abc import Iterable

MAX_CHARS = 80
# File systems count bytes (ext4, APFS: 255) or UTF-16 units (NTFS: 255), encrypting ones leave 143 bytes of them.
MAX_BYTES = 140

# Refused by Windows, or taken for a path, an option or a hidden file somewhere.
_UNSAFE = re.compile(r'[\\/:*?"<>|]')
_JOINS = re.compile(r"[\s_-]*\s[\s_-]*|-{2,}|_{2,}")
_EDGES = " .,;-_~"
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
# What a model adds although it is told not to.
_EXTENSION = re.compile(r"\.(png|jpe?g|webp|gif|svg|avif|bmp|tiff?|mp4|webm|mov|mkv)$", re.IGNORECASE)
# Invisible characters that join what is on both sides: zero-width (non-)joiner, variation selectors.
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"


def safe_name(text: str, extension: str = "", *, fallback: str) -> str:
    """A file name of the text, with the extension if there is one. `fallback` stands in where nothing is left of it.

    At most 80 characters and 140 bytes without the extension. Words are joined by hyphens, nothing is transliterated.
    """
    shown = "".join(c for c in unicodedata.normalize("NFC", text[: MAX_CHARS * 8]) if _is_shown(c))
    stem = _EXTENSION.sub("", shown.strip())
    stem = _JOINS.sub("-", _UNSAFE.sub(" ", stem).strip(_EDGES))
    stem = _cut(stem).strip(_EDGES + _JOINERS) or fallback
    if _RESERVED.fullmatch(stem):
        stem = f"{stem.partition('.')[0]}-{fallback}"
    return f"{stem}.{extension}" if extension else stem


def unique_name(name: str, taken: Iterable[str]) -> str:
    """The name, or the first of name-2, name-3 and so on that is not taken. Case and composition make no difference."""
    used = {_key(each) for each in taken}
    stem, dot, extension = name.rpartition(".")
    if not dot:
        stem, extension = name, ""
    number, candidate = 1, name
    while _key(candidate) in used:
        number += 1
        candidate = f"{stem}-{number}{dot}{extension}"
    return candidate


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _is_shown(c: str) -> bool:
    """Control, format (text direction among them), private and unassigned characters are left out; joiners are not."""
    return c in _JOINERS or c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def _cut(text: str) -> str:
    end = len(text)
    while end > MAX_CHARS or len(text[:end].encode()) > MAX_BYTES:
        end -= 1
    if end == len(text):
        return text
    # Not inside what a reader sees as one character.
    while end and _belongs_to_previous(text, end):
        end -= 1
    words = text[:end].rpartition("-")[0] if text[end] != "-" else text[:end]
    # Languages without spaces, and one very long word, are cut where they are.
    return words if len(words) > end // 2 else text[:end]


def _belongs_to_previous(text: str, index: int) -> bool:
    c = text[index]
    return (
        unicodedata.category(c)[0] == "M"
        or c in _JOINERS
        or text[index - 1] in "\u200c\u200d"
        or "\U0001f3fb" <= c <= "\U0001f3ff"
    )
