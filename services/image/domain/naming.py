"""Display names from prompts: short, Unicode, and safe as file names."""

import re
import unicodedata

LONGEST = 60
FALLBACK = "Image"

# Not allowed in file names somewhere, and separators that would make two lines of one name.
_UNSAFE = re.compile(r'[\\/:*?"<>|]')
_SPACES = re.compile(r"\s+")
# Invisible characters that join what is on both sides: zero-width joiner, variation selectors.
_JOINERS = "\u200d\ufe0e\ufe0f"


def display_name_of(prompt: str) -> str:
    """The beginning of the prompt: at most 60 characters, cut between words where there are any."""
    visible = "".join(c for c in unicodedata.normalize("NFC", prompt[: LONGEST * 8]) if _is_shown(c))
    text = _SPACES.sub(" ", _UNSAFE.sub(" ", visible)).strip(" .")
    return _cut(text).strip(" .,;") or FALLBACK


def numbered(name: str, index: int, count: int) -> str:
    """The name of one picture of several: with its number, from 1."""
    return name if count == 1 else f"{name} ({index + 1})"


def _is_shown(c: str) -> bool:
    """Control, format (text direction among them), private and unassigned characters are left out; joiners are not."""
    return c in _JOINERS or c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    end = LONGEST
    # Not inside what a reader sees as one character.
    while end and _belongs_to_previous(text, end):
        end -= 1
    words = text[:end].rpartition(" ")[0] if text[end] != " " else text[:end]
    # Languages without spaces, and one very long word, are cut where they are.
    return words if len(words) > LONGEST // 2 else text[:end]


def _belongs_to_previous(text: str, index: int) -> bool:
    c = text[index]
    return (
        unicodedata.combining(c) != 0
        or c in _JOINERS
        or text[index - 1] == "\u200d"
        or "\U0001f3fb" <= c <= "\U0001f3ff"
    )
