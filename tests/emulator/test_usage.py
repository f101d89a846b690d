"""Tokens and money, worked out by hand."""

import pytest

from emulator.models import Price
from emulator.usage import cost_micro_usd, input_image_tokens, output_image_tokens, seen_image_tokens, text_tokens
from tests.emulator.harness import MODEL, Emulator, new_key, png


@pytest.mark.parametrize(
    ("width", "height", "quality", "tokens"),
    [
        (1024, 1024, "low", 196),
        (1024, 1024, "medium", 1756),
        (1024, 1024, "high", 7024),
        (1536, 1024, "high", 5488),
        (1024, 1536, "high", 5488),
        (1792, 1024, "high", 5063),
        (3584, 2048, "high", 12329),
        (1024, 1024, "xhigh", 12487),
        (1024, 1024, "max", 19511),
    ],
)
def test_output_tokens_follow_the_formula(width: int, height: int, quality: str, tokens: int) -> None:
    """The values for `high` are those of OpenAI's own calculator."""
    assert output_image_tokens(width, height, quality) == tokens


@pytest.mark.parametrize(("text", "tokens"), [("", 1), ("abcd", 1), ("abcde", 2), ("猫猫", 2), ("x" * 400, 100)])
def test_text_tokens_are_a_quarter_of_the_bytes(text: str, tokens: int) -> None:
    assert text_tokens(text) == tokens


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [(512, 512, 194), (513, 512, 323), (1024, 1024, 581), (6000, 6000, 1226), (1, 1, 194)],
)
def test_input_pictures_are_counted_in_tiles(width: int, height: int, tokens: int) -> None:
    assert input_image_tokens(width, height) == tokens
    assert seen_image_tokens(width, height, "high") == tokens
    assert seen_image_tokens(width, height, "low") == 85


def test_a_fraction_of_a_micro_usd_is_rounded_up() -> None:
    price = Price(text_in=100_000, image_in=2_500_000, out=500_000)
    assert cost_micro_usd(price, 1, 0, 0) == 1
    assert cost_micro_usd(price, 10, 0, 0) == 1
    assert cost_micro_usd(price, 11, 2, 3) == 8
    assert cost_micro_usd(price, 0, 0, 0) == 0


async def test_an_answers_usage_and_its_charge_agree_to_the_token(emulator: Emulator) -> None:
    key = new_key()
    response = await emulator.openai.images.generate(
        model=MODEL, prompt="twelve bytes", n=3, quality="high", extra_headers={"Idempotency-Key": key}
    )
    usage = response.usage
    assert usage is not None
    assert usage.output_tokens_details is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (3, 3 * 7024, 3 + 3 * 7024)
    assert (usage.input_tokens_details.text_tokens, usage.input_tokens_details.image_tokens) == (3, 0)
    assert (usage.output_tokens_details.image_tokens, usage.output_tokens_details.text_tokens) == (3 * 7024, 0)
    charge = await emulator.charge(key)
    assert charge["usage"] == usage.model_dump()
    assert charge["cost_micro_usd"] == 3 * 5 + 3 * 7024 * 30
    assert charge["n"] == 3


async def test_an_edit_pays_for_the_pictures_it_sends(emulator: Emulator) -> None:
    key = new_key()
    response = await emulator.openai.images.edit(
        model="gpt-image-1-mini",
        image=("a.png", png(600, 400, (1, 2, 3)), "image/png"),
        prompt="more",
        size="1024x1024",
        quality="low",
        extra_headers={"Idempotency-Key": key},
    )
    assert response.usage is not None
    assert response.usage.input_tokens_details.image_tokens == 65 + 2 * 129
    # 1 text token at 2, 323 picture tokens at 2.5 and 196 output tokens at 8 micro-USD.
    assert (await emulator.charge(key))["cost_micro_usd"] == -(-(1 * 20 + 323 * 25 + 196 * 80) // 10)
