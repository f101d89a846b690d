"""Finding the JSON object in what a language model wrote, with whatever it wrote around it."""

import json
import re
from collections.abc import Iterator
from typing import Any

# More than an answer of any helper has. Within it, broken braces cannot take more than a moment to be tried.
MAX_CHARS = 512 * 1024
MAX_ATTEMPTS = 64

_HALVES = re.compile("[\ud800-\udfff]")
# Thoughts that a server did not take out: they may hold drafts of the answer.
_THOUGHTS = re.compile(r"^.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
# Line breaks and tabs as they are, within strings, are a common slip.
_DECODER = json.JSONDecoder(strict=False)


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects in the text, in its order; those within a fence of code or prose are found too.

    Strings are as they were written; half a surrogate pair, which is no character, becomes U+FFFD.
    """
    text = text[:MAX_CHARS]
    if not text.lstrip().startswith(("{", "```")):
        text = _THOUGHTS.sub("", text, count=1)
    place = text.find("{")
    for _ in range(MAX_ATTEMPTS):
        if place < 0:
            return
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            yield _whole(value)
        place = text.find("{", end)


def _whole(value: Any) -> Any:
    match value:
        case str():
            return _HALVES.sub("\ufffd", value)
        case list():
            return [_whole(each) for each in value]
        case dict():
            return {_whole(name): _whole(each) for name, each in value.items()}
        case _:
            return value
