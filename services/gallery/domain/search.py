"""Full text: the words of an asset with their weights, and the words that somebody asks for.

Both sides are made here and not by a text configuration of Postgres, so every server finds the same. A word is a run of
letters, digits and their marks after NFKC and case folding. Scripts that put no spaces between words are cut into pairs
of neighbouring characters; the last character of such a run stands alone too, so that one character finds every place
where it is. There is no stemming: prompts come in many languages, and the last word asked for may be a beginning.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Final

from services.gallery.domain.assets import Analysis

VERSION: Final = 1
"""Counts the rules below: rows of older rules are brought up in the background (a migration renews their index)."""

MAX_LEXEME_CHARACTERS = 40
"""A longer word is cut, on both sides."""

MAX_POSITIONS = 4
"""Places of one word that are kept: more hardly change a rank, and ranking reads them all. Postgres takes 256."""

MAX_TERMS = 32
"""Words, or pairs of characters, that may be asked for at once: each is looked for in every candidate."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """Words read of one weight, and bytes that they may take.

    Together below the 16,383 positions and the megabyte that a tsvector may have
    (https://www.postgresql.org/docs/current/textsearch-limitations.html).
    """

    words: int
    size: int


_LIMITS = {"A": _Limit(2_048, 128 * 1024), "B": _Limit(8_192, 384 * 1024), "C": _Limit(4_096, 256 * 1024)}

# Bytes of a lexeme besides its text: entry, count and positions.
_ENTRY_BYTES = 8 + 2 * MAX_POSITIONS

# Invisible inside a word: soft hyphen, joiners, variation selectors, byte order mark.
_IGNORED = dict.fromkeys((0xAD, 0x200C, 0x200D, 0x2060, 0xFEFF, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))


def _marks() -> str:
    """Combining marks: letters of many scripts are not whole without them, and Python does not count them as such."""
    found = (chr(code) for code in range(0x300, 0x1EA00) if unicodedata.category(chr(code))[0] == "M")
    return "".join(found)


_WORD = re.compile(rf"[^\W_](?:[^\W_]|[{_marks()}])*")

# Thai, Lao, Myanmar, Khmer, Hangul, kana and their marks, Han with its extensions and compatibility forms.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
_UNSPACED += "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f"
_UNSPACED += "\U00020000-\U000323af"
_RUN = re.compile(rf"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")


def document_of(display_name: str, tags: Iterable[str], prompt: str, analysis: Analysis | None) -> str:
    """The tsvector of an asset as Postgres reads it: A name and tags, B prompt, C what a model saw.

    Of very long texts the beginning counts: 8,192 words or pairs of a prompt.
    """
    seen = analysis or Analysis()
    fields = {
        "A": (display_name, *tags),
        "B": (prompt,),
        "C": (seen.description, seen.products, *seen.tags, seen.feedback),
    }
    places: dict[str, list[str]] = {}
    position = 0
    for weight, texts in fields.items():
        limit = _LIMITS[weight]
        size = 0
        for lexeme in islice(_lexemes(texts), limit.words):
            position += 1
            known = places.get(lexeme)
            if known is None:
                size += len(lexeme.encode()) + _ENTRY_BYTES
                if size > limit.size:
                    break
                known = places[lexeme] = []
            if len(known) < MAX_POSITIONS:
                known.append(f"{position}{weight}")
    return " ".join(f"'{lexeme}':{','.join(known)}" for lexeme, known in places.items())


def terms_of(text: str) -> tuple[str, ...]:
    """The words of a query as terms of a tsquery, each once, the last also as a beginning; empty: there is none.

    Whatever the text, they are only words: it cannot bring operators along.
    """
    terms: list[str] = []
    runs = [run for word in _words(text) for run in _RUN.findall(word)]
    for number, run in enumerate(runs, start=1):
        if not _IS_UNSPACED.match(run):
            terms.append(f"'{run[:MAX_LEXEME_CHARACTERS]}'" + (":*" if number == len(runs) else ""))
        elif len(run) == 1:
            # Found where it begins a pair, and where it ends a run.
            terms.append(f"'{run}':*")
        else:
            terms += [f"'{first}{second}'" for first, second in pairwise(run)]
    return tuple(dict.fromkeys(terms))


def query_of(terms: Iterable[str]) -> str:
    """The tsquery for assets that have all the terms."""
    return " & ".join(terms)


def ranking_of(terms: Iterable[str]) -> str:
    """The tsquery by which assets that have all the terms are ranked.

    Each term counts by itself. Ranked by all of them together Postgres compares every place of each with every place of
    each other: seconds for words that somebody chose to be slow.
    """
    return " | ".join(terms)


def _lexemes(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for word in _words(text):
            for run in _RUN.findall(word):
                if _IS_UNSPACED.match(run):
                    yield from (first + second for first, second in pairwise(run))
                    yield run[-1]
                else:
                    yield run[:MAX_LEXEME_CHARACTERS]


def _words(text: str) -> Iterator[str]:
    # Case folding can leave what NFKC would compose: once more, as in Unicode's toNFKC_Casefold.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return (match.group() for match in _WORD.finditer(folded.translate(_IGNORED)))
