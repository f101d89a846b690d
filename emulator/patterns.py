"""Strings that match a regular expression: enough of the syntax for the patterns that schemas have.

Known: literals, escapes, `.`, classes, groups, alternatives, `^` and `$`, and every quantifier. Assertions and back
references are not; they raise UnsupportedPattern.
"""

import random
import string
from dataclasses import dataclass, field

_CLASSES = {
    "d": string.digits,
    "w": string.ascii_lowercase + string.digits + "_",
    "s": " ",
    "D": string.ascii_lowercase,
    "W": "-",
    "S": string.ascii_lowercase,
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_PRINTABLE = [chr(code) for code in range(32, 127)]
_NO_LIMIT = 10_000


class UnsupportedPattern(Exception):
    """The pattern uses syntax that is not known here, or is not well formed."""


@dataclass(slots=True)
class _Node:
    """One of: letters to choose from, a sequence, alternatives; repeated `least` to `most` times."""

    letters: str = ""
    parts: list["_Node"] = field(default_factory=list)
    choices: list["_Node"] = field(default_factory=list)
    least: int = 1
    most: int = 1

    def make(self, rng: random.Random, extra: int) -> str:
        times = min(self.most, self.least + extra) if self.most > self.least else self.least
        return "".join(self._once(rng, extra) for _ in range(times))

    def _once(self, rng: random.Random, extra: int) -> str:
        if self.letters:
            return rng.choice(self.letters)
        if self.choices:
            return rng.choice(self.choices).make(rng, extra)
        return "".join(part.make(rng, extra) for part in self.parts)


class Pattern:
    """A parsed regular expression. Raises UnsupportedPattern when it cannot be parsed."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._root = self._alternatives()
        if self._at < len(text):
            raise UnsupportedPattern(text)

    def sample(self, rng: random.Random, extra: int = 0) -> str:
        """A matching string; what may be repeated is repeated up to `extra` times more than it must."""
        return self._root.make(rng, extra)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        letter = self._peek()
        if not letter:
            raise UnsupportedPattern(self._text)
        self._at += 1
        return letter

    def _alternatives(self) -> _Node:
        choices = [self._sequence()]
        while self._peek() == "|":
            self._take()
            choices.append(self._sequence())
        return choices[0] if len(choices) == 1 else _Node(choices=choices)

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            if self._peek() in "^$":
                self._take()
                continue
            node = self._atom()
            self._quantify(node)
            parts.append(node)
        return _Node(parts=parts)

    def _atom(self) -> _Node:
        letter = self._take()
        match letter:
            case "(":
                return self._group()
            case "[":
                return _Node(letters=self._letter_class())
            case ".":
                return _Node(letters=string.ascii_lowercase)
            case "\\":
                return _Node(letters=self._escape())
            case "*" | "+" | "?" | "{":
                raise UnsupportedPattern(self._text)
            case _:
                return _Node(letters=letter)

    def _group(self) -> _Node:
        if self._peek() == "?":
            self._take()
            if self._take() != ":":
                raise UnsupportedPattern(self._text)
        inner = self._alternatives()
        if self._take() != ")":
            raise UnsupportedPattern(self._text)
        return _Node(parts=[inner])

    def _escape(self) -> str:
        letter = self._take()
        if letter in _CLASSES:
            return _CLASSES[letter]
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter.isalnum():
            raise UnsupportedPattern(self._text)
        return letter

    def _letter_class(self) -> str:
        negated = self._peek() == "^"
        if negated:
            self._take()
        letters = ""
        while self._peek() != "]" or not letters:
            first = self._take()
            options = self._escape() if first == "\\" else first
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._take()
                last = self._take()
                last = self._escape() if last == "\\" else last
                options = "".join(map(chr, range(ord(options[0]), min(ord(last), ord(options[0]) + 1000) + 1)))
            letters += options
        self._take()
        if negated:
            letters = "".join(letter for letter in _PRINTABLE if letter not in letters)
        if not letters:
            raise UnsupportedPattern(self._text)
        return letters

    def _quantify(self, node: _Node) -> None:
        match self._peek():
            case "*":
                node.least, node.most = 0, _NO_LIMIT
            case "+":
                node.least, node.most = 1, _NO_LIMIT
            case "?":
                node.least, node.most = 0, 1
            case "{":
                self._counted(node)
            case _:
                return
        self._take()
        if self._peek() in ("?", "+"):
            self._take()

    def _counted(self, node: _Node) -> None:
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : end].partition(",")
        if end < 0 or not low.isdecimal() or (high and not high.isdecimal()) or len(low + high) > 8:
            raise UnsupportedPattern(self._text)
        node.least = int(low)
        node.most = int(high) if high else _NO_LIMIT if comma else int(low)
        self._at = end
