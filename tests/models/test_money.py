"""Money is exact: integers, rounded once, shared out without losing a millionth."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.models.money import (
    UNPRICED,
    Cost,
    CostSource,
    TokenPrice,
    cost_of,
    cost_shares,
    split_evenly,
    usage_shares,
)
from services.models.usage import Usage

PRICE = TokenPrice(5_000_000, 8_000_000, None, 30_000_000, "2026-04-21", "made up")
TOKENS = st.integers(0, 10**7)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS)


def test_a_cost_is_tokens_times_price() -> None:
    usage = Usage(input_text_tokens=40, input_image_tokens=10, output_image_tokens=1001)
    assert cost_of(usage, PRICE) == Cost(CostSource.COMPUTED, 40 * 5 + 10 * 8 + 1001 * 30)


def test_a_cost_is_rounded_up_once_and_not_for_each_kind() -> None:
    price = TokenPrice(100_000, 100_000, 100_000, 100_000, "2026-04-21", "made up")
    assert cost_of(Usage(1, 1, 1, 1), price).micro_usd == 1
    assert cost_of(Usage(11, 0, 0, 0), price).micro_usd == 2


@pytest.mark.parametrize(
    ("usage", "price"),
    [
        pytest.param(None, PRICE, id="no usage"),
        pytest.param(Usage(1), None, id="no price"),
        pytest.param(Usage(output_text_tokens=1), PRICE, id="tokens of a kind without a price"),
    ],
)
def test_what_has_no_price_is_unpriced_and_never_free(usage: Usage | None, price: TokenPrice | None) -> None:
    assert cost_of(usage, price) is UNPRICED
    assert UNPRICED.micro_usd is None


def test_an_amount_without_a_source_cannot_be() -> None:
    with pytest.raises(ValueError, match="unpriced"):
        Cost(CostSource.UNPRICED, 0)
    with pytest.raises(ValueError, match="unpriced"):
        Cost(CostSource.COMPUTED, None)


@given(st.integers(0, 10**12), st.integers(1, 20))
def test_shares_add_up_exactly_and_differ_by_at_most_one(total: int, parts: int) -> None:
    shares = split_evenly(total, parts)
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1
    assert shares == sorted(shares, reverse=True)


@given(USAGES, st.integers(1, 10))
def test_shares_of_usage_and_cost_add_up_to_the_whole(usage: Usage, parts: int) -> None:
    cost = cost_of(Usage(usage.input_text_tokens, usage.input_image_tokens, 0, usage.output_image_tokens), PRICE)
    assert sum(share.micro_usd or 0 for share in cost_shares(cost, parts)) == cost.micro_usd
    shares = usage_shares(usage, parts)
    for field in fields(Usage):
        assert sum(getattr(share, field.name) for share in shares) == getattr(usage, field.name)
    assert sum(share.input_tokens for share in shares) == usage.input_tokens


def test_shares_of_an_unknown_cost_are_unknown() -> None:
    assert cost_shares(UNPRICED, 3) == [UNPRICED] * 3
