"""The models this provider has, as data: what they can do, what they cost, and when they end.

Capabilities and dates follow the OpenAI API of November 2026. Prices are micro-USD per million tokens and belong to
the emulator: where the API publishes a price it is that one, else a made-up one. Creation times are midnight UTC of
the launch where it is known, else of 1 January 2026.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from emulator.errors import ApiError, model_not_found

_LMH = ("low", "medium", "high")
_LMHXM = (*_LMH, "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Price:
    """Micro-USD per million tokens, by kind of token."""

    text_in: int
    image_in: int
    out: int


@dataclass(frozen=True, slots=True)
class ImageTraits:
    """What an image model can do beyond the common part of the protocol.

    Attributes:
        free_sizes: every size on the grid of 16 within bounds, instead of three.
        any_size: no rule at all, as models that are not OpenAI's have it.
    """

    free_sizes: bool = True
    qualities: tuple[str, ...] = _LMH
    input_fidelity: tuple[str, ...] = ()
    markup: bool = False
    complexity: bool = False
    gif: bool = False
    svg: bool = False
    any_size: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """One row. `image` is None for a language model; from `shutdown` on the model is gone.

    Attributes:
        max_tokens: whether a language model still takes that parameter beside `max_completion_tokens`.
    """

    id: str
    price: Price
    image: ImageTraits | None = None
    created: date = date(2026, 1, 1)
    shutdown: date | None = None
    max_tokens: bool = False


_GEN2 = Price(5_000_000, 8_000_000, 30_000_000)
_GEN15 = Price(5_000_000, 8_000_000, 32_000_000)
_MINI = Price(2_000_000, 2_500_000, 8_000_000)
_OLD = Price(5_000_000, 10_000_000, 40_000_000)

_FIXED = ImageTraits(free_sizes=False)
_FREE = ImageTraits()
_GEN25 = ImageTraits(qualities=_LMHXM, markup=True)
_GEN26 = ImageTraits(qualities=_LMHXM, markup=True, complexity=True, gif=True, svg=True)

_END_OF_1X = date(2026, 12, 1)


def _text(text_in: int, out: int) -> Price:
    return Price(text_in, text_in, out)


ROWS = (
    Model("gpt-image-1", _OLD, _FIXED, date(2025, 4, 23), date(2026, 10, 23)),
    Model(
        "gpt-image-1-mini", _MINI, ImageTraits(free_sizes=False, input_fidelity=("low",)), date(2025, 10, 6), _END_OF_1X
    ),
    Model(
        "gpt-image-1.5",
        _GEN15,
        ImageTraits(free_sizes=False, input_fidelity=("low", "high")),
        date(2025, 12, 16),
        _END_OF_1X,
    ),
    Model("chatgpt-image-latest", _GEN15, _FIXED, date(2025, 12, 16), _END_OF_1X),
    Model("gpt-image-2", _GEN2, _FREE, date(2026, 4, 21)),
    Model("gpt-image-2-2026-04-21", _GEN2, _FREE, date(2026, 4, 21)),
    Model("gpt-image-2.5-sunburst", _GEN2, _GEN25, date(2026, 9, 8)),
    Model("gpt-image-2.5-sunburst-2026-09-08", _GEN2, _GEN25, date(2026, 9, 8)),
    Model("gpt-image-2.5-flare", _GEN2, _GEN25, date(2026, 9, 8)),
    Model("gpt-image-2.5-flare-2026-09-08", _GEN2, _GEN25, date(2026, 9, 8)),
    Model("gpt-image-2.6-sunburst", _GEN2, _GEN26, date(2026, 11, 4)),
    Model("gpt-image-2.6-flare", _GEN2, _GEN26, date(2026, 11, 4)),
    Model("gpt-6-luna", _text(100_000, 500_000)),
    Model("gpt-6.1-terra", _text(1_000_000, 5_000_000)),
    Model("gpt-6.1-sol", _text(2_000_000, 10_000_000)),
    Model("gpt-6.2-sol", _text(2_000_000, 10_000_000)),
    Model("gpt-5.4-mini", _text(250_000, 2_000_000)),
    Model("gpt-5.1", _text(1_250_000, 10_000_000), shutdown=date(2027, 4, 1)),
    Model("gpt-5", _text(1_250_000, 10_000_000), shutdown=date(2026, 12, 11)),
    Model("gpt-5-mini", _text(250_000, 2_000_000), shutdown=date(2026, 12, 11)),
    Model("gpt-4.1", _text(2_000_000, 8_000_000), shutdown=date(2027, 1, 14), max_tokens=True),
    Model("gpt-4.1-mini", _text(400_000, 1_600_000), shutdown=date(2027, 1, 14), max_tokens=True),
    Model("gpt-4o", _text(2_500_000, 10_000_000), shutdown=date(2027, 1, 14), max_tokens=True),
    Model("gpt-4o-mini", _text(150_000, 600_000), shutdown=date(2027, 1, 14), max_tokens=True),
)


class Catalogue:
    """The models alive on a day."""

    def __init__(self, today: date | None = None, rows: Sequence[Model] = ROWS) -> None:
        self._today = today
        self._rows: Mapping[str, Model] = {row.id: row for row in rows}

    def alive(self) -> list[Model]:
        """Every model that has not been shut down."""
        return [model for model in self._rows.values() if not self._gone(model)]

    def get(self, model_id: str) -> Model:
        """The model of that id. Raises a 404 for an unknown or a retired one."""
        model = self._rows.get(model_id)
        if model is None:
            raise model_not_found(model_id)
        if self._gone(model):
            raise model_not_found(model_id, f"was shut down on {model.shutdown} and is no longer available")
        return model

    def image_model(self, model_id: str) -> tuple[Model, ImageTraits]:
        """As `get`, for an endpoint that makes pictures."""
        model = self.get(model_id)
        if model.image is None:
            raise _wrong_kind(model_id, "is not an image model")
        return model, model.image

    def chat_model(self, model_id: str) -> Model:
        """As `get`, for chat completions."""
        model = self.get(model_id)
        if model.image is not None:
            raise _wrong_kind(model_id, "is not a chat model and is not supported in the v1/chat/completions endpoint")
        return model

    def _gone(self, model: Model) -> bool:
        today = self._today or datetime.now(UTC).date()
        return model.shutdown is not None and model.shutdown <= today


def _wrong_kind(model_id: str, reason: str) -> ApiError:
    return model_not_found(model_id, reason)
