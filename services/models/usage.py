"""What a provider says it used: one shape for every dialect, split by kind because kinds have different prices."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, Self

UsageNames = Literal["images", "chat", "none"]
"""How a dialect spells usage: the Images API's names, those of chat completions, or not at all."""

# More than any call can use: a number that a sum of costs in 64 bits is safe from.
_MOST_TOKENS = 10**10

_NAMES: Mapping[UsageNames, tuple[str, str]] = {
    "images": ("input_tokens", "output_tokens"),
    "chat": ("prompt_tokens", "completion_tokens"),
}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens by kind. Zero where a kind does not apply."""

    input_text_tokens: int = 0
    input_image_tokens: int = 0
    output_text_tokens: int = 0
    output_image_tokens: int = 0

    @property
    def input_tokens(self) -> int:
        """All tokens in."""
        return self.input_text_tokens + self.input_image_tokens

    @property
    def output_tokens(self) -> int:
        """All tokens out."""
        return self.output_text_tokens + self.output_image_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def to_json(self) -> dict[str, int]:
        """For a JSON column."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, int] | None) -> Self | None:
        """What `to_json` wrote; None stays None."""
        return None if data is None else cls(**data)


def image_usage(raw: object, names: UsageNames, *, has_image_inputs: bool = False) -> Usage | None:
    """The usage of an image call, or None if the provider reports none that can be believed.

    Tokens that the provider does not split by kind are counted as the kind they must be: text in, unless pictures were
    sent, then images in, which is the dearer; images out. A usage of nothing at all is what servers send that do not
    count, and is none.
    """
    if names == "none" or not isinstance(raw, Mapping):
        return None
    total_in, total_out = (sane_count(raw.get(name)) for name in _NAMES[names])
    if total_in is None or total_out is None or total_in + total_out == 0:
        return None
    text_in, image_in = _split(raw.get(f"{_NAMES[names][0]}_details"), total_in)
    text_out, image_out = _split(raw.get(f"{_NAMES[names][1]}_details"), total_out)
    rest_in, rest_out = total_in - text_in - image_in, total_out - text_out - image_out
    return Usage(
        input_text_tokens=text_in + (0 if has_image_inputs else rest_in),
        input_image_tokens=image_in + (rest_in if has_image_inputs else 0),
        output_text_tokens=text_out,
        output_image_tokens=image_out + rest_out,
    )


@dataclass(frozen=True, slots=True)
class ChatUsage:
    """The usage of a chat. None: the provider does not say.

    `image_tokens` and `cached_tokens` are shares of the tokens in, `reasoning_tokens` of those out.
    """

    usage: Usage | None
    image_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


def chat_usage(raw: object) -> ChatUsage:
    """The usage of a chat. Tokens in that are not split by kind count as text: in chats pictures cost the same."""
    if not isinstance(raw, Mapping):
        return ChatUsage(None)
    tokens_in, tokens_out = (sane_count(raw.get(name)) for name in _NAMES["chat"])
    if tokens_in is None or tokens_out is None or tokens_in + tokens_out == 0:
        return ChatUsage(None)
    details_in, details_out = (raw.get(f"{name}_details") for name in _NAMES["chat"])
    image_in = _share(details_in, "image_tokens", tokens_in)
    return ChatUsage(
        Usage(tokens_in - (image_in or 0), image_in or 0, tokens_out, 0),
        image_in,
        _share(details_in, "cached_tokens", tokens_in),
        _share(details_out, "reasoning_tokens", tokens_out),
    )


def _share(details: object, name: str, total: int) -> int | None:
    count = sane_count(details.get(name)) if isinstance(details, Mapping) else None
    return count if count is not None and count <= total else None


def sane_count(value: object) -> int | None:
    """The number of tokens that a provider gives, or None where it cannot be one."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _MOST_TOKENS else None


def _split(details: object, total: int) -> tuple[int, int]:
    """Text and image tokens as the details say, or none of either where they do not add up to at most the total."""
    if not isinstance(details, Mapping):
        return 0, 0
    text, image = sane_count(details.get("text_tokens")) or 0, sane_count(details.get("image_tokens")) or 0
    return (text, image) if text + image <= total else (0, 0)
