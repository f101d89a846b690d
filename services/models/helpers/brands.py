"""Finding brands in a text however they are written: case, accents, width, punctuation and spacing do not hide them."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# What stands between two letters: nothing; a change of case, of script or to digits; punctuation; space.
_NOTHING, _CHANGE, _MARK, _SPACE = range(4)

# Where scripts begin whose accents are no part of the letter: Latin, Greek, Cyrillic lie before.
_ACCENTS_COUNT_FROM = 0x0530
# Scripts written without spaces, and those whose particles are written onto a word: a word may end anywhere in them.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x11FF),  # Myanmar, Hangul letters
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x31FF),  # kana, Bopomofo
    (0x3400, 0x9FFF),  # Han
    (0xAC00, 0xD7AF),  # Hangul
    (0xF900, 0xFAFF),  # Han, compatibility
    (0x20000, 0x3FFFF),  # Han, further planes
)
# A shorter name without its punctuation is a word by chance: "hm" is no "H&M".
_SURE_LETTERS = 4


@dataclass(frozen=True, slots=True)
class _Folded:
    """The letters and digits of a text, folded; `gaps[i]` is what stands before letter i, the last one behind all."""

    letters: str
    gaps: tuple[int, ...]


def brands_in(text: str, brands: Sequence[str], *, allowed: str = "") -> list[str]:
    """Those of the brands that the text names, but for where they are part of the `allowed` one.

    As whole words, or with a plural's s; parts of a word count in scripts that have no spaces, and where the text marks
    the part by case, digits or punctuation.
    """
    folded = _fold(text)
    kept = list(_occurrences(folded, _fold(allowed)))
    return [brand for brand in brands if _is_left(text, folded, brand, kept)]


def same_brand(one: str, other: str) -> bool:
    """Whether two names are the same but for how they are written."""
    return _fold(one).letters == _fold(other).letters and bool(_fold(one).letters)


def _is_left(text: str, folded: _Folded, brand: str, kept: Sequence[tuple[int, int]]) -> bool:
    name = _fold(brand)
    if not name.letters:
        # A sign: there is nothing to fold.
        return unicodedata.normalize("NFKC", brand) in unicodedata.normalize("NFKC", text)
    return any(
        not any(first <= start and end <= last for first, last in kept) for start, end in _occurrences(folded, name)
    )


def _occurrences(text: _Folded, name: _Folded) -> Iterator[tuple[int, int]]:
    length = len(name.letters)
    start = text.letters.find(name.letters) if length else -1
    while start >= 0:
        end = start + length
        if text.gaps[start] and _ends(text, end) and _same_inside(text, name, start):
            yield start, end
        start = text.letters.find(name.letters, start + 1)


def _ends(text: _Folded, end: int) -> bool:
    return bool(text.gaps[end]) or (text.letters[end] == "s" and bool(text.gaps[end + 1]))


def _same_inside(text: _Folded, name: _Folded, start: int) -> bool:
    inner = range(1, len(name.letters))
    gaps = [(text.gaps[start + index], name.gaps[index]) for index in inner]
    if len(name.letters) < _SURE_LETTERS and any(wanted >= _MARK and not given for given, wanted in gaps):
        return False
    if gaps and all(given for given, _ in gaps):
        return True  # spelled out: N I K E
    # "as us" is no Asus: where the name goes on, the text has no space.
    return all(given != _SPACE or wanted for given, wanted in gaps)


def _fold(text: str) -> _Folded:
    letters: list[str] = []
    gaps: list[int] = []
    pending, previous = _SPACE, ""
    for character in unicodedata.normalize("NFKC", text):
        category = unicodedata.category(character)
        if category == "Cf" or (category[0] == "M" and previous and ord(previous) < _ACCENTS_COUNT_FROM):
            continue
        if category[0] not in "LNM":
            pending = max(pending, _SPACE if character.isspace() else _MARK)
            continue
        for letter in _base(character).casefold():
            letters.append(letter)
            gaps.append(max(pending, _CHANGE if previous and _changes(previous, character) else _NOTHING))
            pending, previous = _NOTHING, character
    return _Folded("".join(letters), (*gaps, _SPACE))


def _base(character: str) -> str:
    """The letter without its accent."""
    base = unicodedata.normalize("NFD", character)[0]
    return base if ord(base) < _ACCENTS_COUNT_FROM else character


def _changes(previous: str, character: str) -> bool:
    """Whether a word may end between the two although nothing stands there."""
    if _is_unspaced(previous) or _is_unspaced(character):
        return True
    if previous.isdigit() != character.isdigit():
        return True
    return previous.islower() and character.isupper()


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return any(first <= code <= last for first, last in _UNSPACED)
