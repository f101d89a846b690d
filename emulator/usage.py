"""Tokens and money. Every number here is a documented rule, so that a test can work it out for itself."""

from fractions import Fraction
from typing import Any

from emulator.models import Price

# Tokens along the longer edge. Low to high follow the community's formula, which reproduces OpenAI's calculator for
# gpt-image-2; xhigh and max continue it and are the emulator's own.
_EDGE_TOKENS = {"low": 16, "medium": 48, "high": 96, "xhigh": 128, "max": 160}

_TILE = 512
_TILE_TOKENS = 129
_IMAGE_TOKENS = 65
_FITTED_EDGE = 1536
_THUMBNAIL_TOKENS = 85


def text_tokens(text: str) -> int:
    """A quarter of the UTF-8 bytes, rounded up, at least one: near a real tokenizer for English."""
    return max(1, -(-len(text.encode()) // 4))


def input_image_tokens(width: int, height: int) -> int:
    """65 and 129 for each begun 512-pixel tile, after fitting the picture into 1536 pixels."""
    scale = min(Fraction(1), Fraction(_FITTED_EDGE, max(width, height)))
    tiles = _tiles(width * scale) * _tiles(height * scale)
    return _IMAGE_TOKENS + _TILE_TOKENS * tiles


def seen_image_tokens(width: int, height: int, detail: str) -> int:
    """A chat model's view of a picture: 85 at low detail, otherwise as for an image model."""
    return _THUMBNAIL_TOKENS if detail == "low" else input_image_tokens(width, height)


def output_image_tokens(width: int, height: int, quality: str) -> int:
    """ceil(F * round(F * short / long) * (2,000,000 + width * height) / 4,000,000), F by quality; halves round up."""
    edge = _EDGE_TOKENS[quality]
    short, long = min(width, height), max(width, height)
    across = (2 * edge * short + long) // (2 * long)
    return -(-edge * across * (2_000_000 + width * height) // 4_000_000)


def image_usage(text_in: int, image_in: int, out: int, *, streamed: bool = False) -> dict[str, Any]:
    """The `usage` object of the Images API. A streamed event's lacks `output_tokens_details`, as the API's does."""
    usage: dict[str, Any] = {
        "input_tokens": text_in + image_in,
        "input_tokens_details": {"image_tokens": image_in, "text_tokens": text_in},
        "output_tokens": out,
        "total_tokens": text_in + image_in + out,
    }
    if not streamed:
        usage["output_tokens_details"] = {"image_tokens": out, "text_tokens": 0}
    return usage


# Tokens that the author of an SVG thinks before it writes, by effort.
_THOUGHT = {"none": 0, "minimal": 64, "low": 256, "medium": 1024, "high": 4096, "xhigh": 8192, "max": 16384}
_REFERENCE_TOKENS = 1_226


def svg_usage(author: str, text_in: int, file_bytes: int, effort: str) -> dict[str, Any]:
    """The `svg_usage` object: the prompt and a reference picture in; thinking, and a token for 4 bytes of SVG, out."""
    thought = _THOUGHT[effort]
    written = thought + max(1, -(-file_bytes // 4))
    read = text_in + _REFERENCE_TOKENS
    return {
        "model": author,
        "input_tokens": read,
        "output_tokens": written,
        "reasoning_tokens": thought,
        "total_tokens": read + written,
    }


def plain_chat_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """As servers tell it that have no details."""
    return {name: count for name, count in usage.items() if not name.endswith("_details")}


def chat_usage(text_in: int, image_in: int, out: int) -> dict[str, Any]:
    """The `usage` object of chat completions."""
    return {
        "prompt_tokens": text_in + image_in,
        "completion_tokens": out,
        "total_tokens": text_in + image_in + out,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "audio_tokens": 0,
            "image_tokens": image_in,
            "text_tokens": text_in,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def cost_micro_usd(price: Price, text_in: int, image_in: int, out: int) -> int:
    """What the tokens cost, rounded up to a whole micro-USD."""
    return -(-(text_in * price.text_in + image_in * price.image_in + out * price.out) // 1_000_000)


def _tiles(edge: Fraction) -> int:
    return max(1, -(-edge.numerator // (edge.denominator * _TILE)))
