"""Contents for an answer: sentences, tags and names made of what was asked and shown, in the manner of each field."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emulator.vision import Seen

_MAX_SUBJECT = 300
_FILLERS = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "in", "into", "is", "it", "its", "of", "on"}
    | {"or", "over", "the", "this", "that", "these", "to", "with", "without", "under", "please", "make", "create"}
    | {"generate", "describe", "write", "picture", "image", "photo", "prompt", "following", "return", "answer"}
    | {"json", "only", "user", "text"}
)
_SPARE_WORDS = ("emulated", "illustration", "composition", "colour", "light", "shape", "depth", "scene")
# A model knows brands; the emulator knows these few, so that a rewritten prompt can be seen to be rewritten.
_BRANDS = {
    "coca-cola": "a cola drink", "pepsi": "a cola drink", "nike": "sportswear", "adidas": "sportswear",
    "apple": "an electronics maker", "iphone": "a smartphone", "samsung": "an electronics maker",
    "starbucks": "a coffee house", "lego": "toy bricks", "disney": "an animation studio", "ferrari": "a sports car",
    "tesla": "an electric car", "ikea": "a furniture shop", "rolex": "a luxury watch",
    "mcdonald's": "a burger restaurant", "microsoft": "a software maker", "gucci": "a fashion house",
}  # fmt: skip
_BRAND = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, _BRANDS)) + r")(?!\w)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Topic:
    """What a conversation is about.

    Attributes:
        subject: the last thing the user said, without what looks like code or JSON.
        instructions: everything else that was said.
        pictures: what was shown.
    """

    subject: str
    instructions: str
    pictures: tuple[Seen, ...]

    @property
    def brands(self) -> list[str]:
        """Brand names in the subject, as they are written there."""
        return list(dict.fromkeys(match.group(0) for match in _BRAND.finditer(self.subject)))

    @property
    def keywords(self) -> list[str]:
        """Lower-case words that carry meaning, then colours of the pictures, then words that always fit."""
        words = [word for word in re.findall(r"[^\W\d_]{2,}", self.subject.lower()) if word not in _FILLERS]
        colours = [colour for picture in self.pictures for colour in picture.colours]
        return list(dict.fromkeys([*words[:8], *colours, *_SPARE_WORDS]))


def subject_of(text: str) -> str:
    """The part of a message that a picture could be of."""
    without_code = re.sub(r"```.*?```|\{.*\}", " ", text, flags=re.DOTALL)
    return " ".join(without_code.split())[:_MAX_SUBJECT].strip()


def neutral(text: str) -> str:
    """`text` with every known brand replaced by what it stands for."""
    return _BRAND.sub(lambda match: _BRANDS[match.group(0).lower()], text)


def sentence(field: str, topic: Topic, index: int, rng: random.Random) -> str:
    """A string for a field of that name; `index` counts the items of a list."""
    words = _words(field)
    for names, write in _WRITERS:
        if words & names:
            return write(topic, index, rng)
    keyword = topic.keywords[index % len(topic.keywords)]
    return f"{' '.join(sorted(words)) or 'value'}: {keyword}"


def free_text(topic: Topic) -> str:
    """The whole of an unstructured answer, guessed from what was asked for."""
    asked = topic.instructions.lower()
    rng = random.Random(0)  # noqa: S311 - a choice of words
    for hint, field in (("file name", "filename"), ("filename", "filename"), ("tags", "tags"), ("title", "title")):
        if hint in asked:
            return sentence(field, topic, 0, rng)
    return _description(topic, 0, rng) if topic.pictures else _prompt(topic, 0, rng)


def _words(field: str) -> set[str]:
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", field)
    return {word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word}


def _about(topic: Topic) -> str:
    return topic.subject or "something that was not named"


def _description(topic: Topic, index: int, rng: random.Random) -> str:
    if topic.pictures:
        shown = "; ".join(picture.sentence() for picture in topic.pictures[:3])
        return f"An emulated description of {shown}."
    return f"An emulated description of {_about(topic)}."


def _prompt(topic: Topic, index: int, rng: random.Random) -> str:
    subject = neutral(_about(topic)) if _cares_for_brands(topic) else _about(topic)
    light = rng.choice(("soft morning light", "warm evening light", "diffuse studio light", "clear northern light"))
    if _cares_for_brands(topic):
        return subject
    return f"{subject.rstrip('.')}, in {light}, with one clear focal point, fine texture and room to breathe"


def _cares_for_brands(topic: Topic) -> bool:
    return any(word in topic.instructions.lower() for word in ("brand", "trademark"))


def _filename(topic: Topic, index: int, rng: random.Random) -> str:
    words = re.findall(r"[^\W_]+", topic.subject.lower())
    kept = [word for word in words if word not in _FILLERS][:6] or topic.keywords[:3]
    return "-".join("-".join(kept).split())[:60] + (f"-{index + 1}" if index else "")


def _title(topic: Topic, index: int, rng: random.Random) -> str:
    words = topic.keywords[index : index + 4]
    return " ".join(word.capitalize() for word in words or topic.keywords[:1])


def _keyword(topic: Topic, index: int, rng: random.Random) -> str:
    return topic.keywords[index % len(topic.keywords)]


def _brand(topic: Topic, index: int, rng: random.Random) -> str:
    found = topic.brands
    return found[index] if index < len(found) else f"unbranded {_keyword(topic, index, rng)}"


def _feedback(topic: Topic, index: int, rng: random.Random) -> str:
    advice = (
        "The subject reads at once; more contrast with its ground would let it stand out further.",
        "The colours agree with each other; one cooler accent would give the eye a place to rest.",
        "The composition is calm; moving the subject off the centre would add some tension.",
    )
    return advice[(index + rng.randrange(len(advice))) % len(advice)]


def _colour(topic: Topic, index: int, rng: random.Random) -> str:
    known = [colour for picture in topic.pictures for colour in picture.colours] or ["blue", "amber", "white"]
    return known[index % len(known)]


def _reason(topic: Topic, index: int, rng: random.Random) -> str:
    return f"Because the request was about {_about(topic)[:80]}; an emulator wrote this, no model."


_Writer = Callable[[Topic, int, random.Random], str]

# The first set that shares a word with the field's name decides.
_WRITERS: Sequence[tuple[frozenset[str], _Writer]] = (
    (frozenset({"filename", "file", "slug", "stem"}), _filename),
    (frozenset({"prompt", "rewritten", "enhanced", "protected"}), _prompt),
    (frozenset({"brand", "brands", "trademark", "trademarks"}), _brand),
    (frozenset({"tag", "tags", "keyword", "keywords", "label", "labels", "category"}), _keyword),
    (frozenset({"product", "products", "object", "objects", "item", "items"}), _keyword),
    (frozenset({"feedback", "critique", "comment", "advice", "suggestion", "suggestions"}), _feedback),
    (frozenset({"description", "summary", "caption", "alt", "overview"}), _description),
    (frozenset({"colour", "colours", "color", "colors", "palette"}), _colour),
    (frozenset({"reason", "reasons", "rationale", "explanation", "why"}), _reason),
    (frozenset({"title", "name", "headline", "display"}), _title),
)


def count(field: str, topic: Topic) -> int:
    """How many items a list of that name has, where its schema leaves it open."""
    words = _words(field)
    if words & {"brand", "brands", "trademarks"}:
        return len(topic.brands)
    return 4 if words & {"tags", "keywords", "labels"} else 2
