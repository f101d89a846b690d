"""Adding up what the steps of a generation used and cost."""

from datetime import UTC, datetime

import pytest

from services.common.errors import Billed, Unavailable
from services.image.domain.accounts import billed_with, in_order, total_cost, total_usage, without
from services.models.money import UNPRICED, Cost, CostSource
from services.models.paid_calls import PaidCall, State
from services.models.usage import Usage


def call(
    operation: str = "enhance",
    cost: Cost | None = None,
    *,
    state: State = State.SUCCEEDED,
    billed: Billed = Billed.YES,
    call_id: str = "a",
    usage: Usage | None = None,
) -> PaidCall:
    now = datetime.now(UTC)
    return PaidCall(
        call_id, "local", "m", "r", b"", operation, "model", "here", "", state, billed, 1, "", usage, cost, None, None,
        "", now, now, now,
    )  # fmt: skip


def computed(micro_usd: int) -> Cost:
    return Cost(CostSource.COMPUTED, micro_usd)


def test_a_sum_is_exact_and_as_certain_as_its_least_certain_part() -> None:
    estimated = Cost(CostSource.ESTIMATED, 3)
    assert total_cost([call(cost=computed(1)), call(cost=computed(2))], computed(4)) == computed(7)
    assert total_cost([call(cost=computed(1)), call(cost=estimated)]) == Cost(CostSource.ESTIMATED, 4)
    assert total_cost([]) is None


@pytest.mark.parametrize(
    "unknown",
    [
        call(cost=UNPRICED),
        call(state=State.OUTCOME_UNKNOWN, billed=Billed.UNKNOWN),
        call(state=State.FAILED, billed=Billed.YES),
    ],
)
def test_with_a_part_that_nobody_knows_the_whole_is_unknown_and_not_zero(unknown: PaidCall) -> None:
    assert total_cost([unknown, call(cost=computed(1))]) == UNPRICED
    assert total_cost([unknown], computed(1)) == UNPRICED


def test_what_cost_nothing_adds_nothing() -> None:
    free = call(state=State.FAILED, billed=Billed.NO)
    assert total_cost([free], computed(5)) == computed(5)
    assert total_usage([free]) is None


def test_of_pictures_that_were_found_the_main_call_gets_what_its_steps_leave() -> None:
    steps = [call(cost=computed(20), usage=Usage(100, 0, 20, 0))]
    usage, cost = without(Usage(140, 10, 20, 1000), computed(30_070), steps)
    assert (usage, cost) == (Usage(40, 10, 0, 1000), computed(30_050))
    assert without(None, UNPRICED, steps) == (None, UNPRICED)


def test_an_error_says_billed_as_soon_as_a_step_was() -> None:
    error = Unavailable("UNAVAILABLE", "x", billed=Billed.NO)
    free = call(state=State.FAILED, billed=Billed.NO)
    unknown = call(state=State.OUTCOME_UNKNOWN, billed=Billed.UNKNOWN)
    for steps, billed in (([free], "no"), ([free, unknown], "unknown"), ([unknown, call()], "yes")):
        error.billed = Billed.NO
        told = billed_with(error, steps)
        assert told is not None
        assert told.billed.value == billed


def test_steps_are_told_in_the_order_in_which_they_follow_each_other() -> None:
    order = ["enhance", "protect", "suggest_filename", "generate", "analyze"]
    calls = [call(each, call_id=str(9 - number)) for number, each in enumerate(order)]
    assert [each.operation for each in in_order(list(reversed(calls)))] == order
