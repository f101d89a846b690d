"""Money: integer micro-USD (1 USD = 1,000,000), never a float. What has no price is unpriced, never free."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Self

from services.models.usage import Usage

TOKENS_PER_PRICE = 1_000_000


class CostSource(StrEnum):
    """Where an amount comes from."""

    COMPUTED = "computed"
    PROVIDER_REPORTED = "provider_reported"
    ESTIMATED = "estimated"
    UNPRICED = "unpriced"


@dataclass(frozen=True, slots=True)
class Cost:
    """An amount in micro-USD with its source; None: the amount is unknown."""

    source: CostSource
    micro_usd: int | None

    def __post_init__(self) -> None:
        if (self.micro_usd is None) != (self.source is CostSource.UNPRICED):
            raise ValueError("exactly an unpriced cost has no amount")

    @classmethod
    def from_columns(cls, source: str | None, micro_usd: int | None) -> Self | None:
        """The cost in a row's two columns; None where there is none."""
        return None if source is None else cls(CostSource(source), micro_usd)


UNPRICED = Cost(CostSource.UNPRICED, None)


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Micro-USD for a million tokens of each kind. None: this kind has no price."""

    input_text: int | None
    input_image: int | None
    output_text: int | None
    output_image: int | None
    effective_date: str
    source: str


def cost_of(usage: Usage | None, price: TokenPrice | None) -> Cost:
    """What the usage costs, rounded up once to a whole micro-USD, so that a sum of costs never understates.

    UNPRICED without a price, without a usage, and when tokens were used of a kind that has no price. Cached input is
    priced as fresh, as the contract says: image calls do not report it, and of chats the amount is an upper bound.
    """
    if usage is None or price is None:
        return UNPRICED
    parts = (
        (usage.input_text_tokens, price.input_text),
        (usage.input_image_tokens, price.input_image),
        (usage.output_text_tokens, price.output_text),
        (usage.output_image_tokens, price.output_image),
    )
    total = 0
    for tokens, micro_usd in parts:
        if tokens and micro_usd is None:
            return UNPRICED
        total += tokens * (micro_usd or 0)
    return Cost(CostSource.COMPUTED, -(-total // TOKENS_PER_PRICE))


def split_evenly(total: int, parts: int) -> list[int]:
    """`parts` shares as equal as integers can be that add up to `total` exactly; the first ones get the remainder."""
    share, remainder = divmod(total, parts)
    return [share + (1 if index < remainder else 0) for index in range(parts)]


def cost_shares(cost: Cost, parts: int) -> list[Cost]:
    """The cost of each of `parts` equal images; the shares add up to the whole."""
    if cost.micro_usd is None:
        return [cost] * parts
    return [Cost(cost.source, amount) for amount in split_evenly(cost.micro_usd, parts)]


def usage_shares(usage: Usage, parts: int) -> list[Usage]:
    """The usage of each of `parts` equal images; the shares add up to the whole, kind by kind."""
    kinds = {field.name: split_evenly(getattr(usage, field.name), parts) for field in fields(usage)}
    return [Usage(**{name: shares[index] for name, shares in kinds.items()}) for index in range(parts)]
