"""Adding up what several paid calls used and cost."""

from collections.abc import Sequence

from services.common.errors import Billed, ServiceError
from services.models.money import UNPRICED, Cost, CostSource
from services.models.paid_calls import PaidCall, State
from services.models.usage import Usage

# From the least to the most certain: a sum is as certain as its least certain part.
_CERTAINTY = (CostSource.ESTIMATED, CostSource.COMPUTED, CostSource.PROVIDER_REPORTED)
# As they follow each other, but for the calls' own order.
_ORDER = ("enhance", "protect", "suggest_filename", "generate", "edit", "analyze")


def total_usage(calls: Sequence[PaidCall], besides: Usage | None = None) -> Usage | None:
    """The usage of all calls together, and what there is besides; None: none has said any."""
    usages = [usage for usage in (besides, *(call.usage for call in calls)) if usage is not None]
    return sum(usages[1:], usages[0]) if usages else None


def total_cost(calls: Sequence[PaidCall], besides: Cost | None = None) -> Cost | None:
    """The cost of all calls together, exact in micro-USD, and what there is besides; None: nothing was paid.

    With a part whose cost nobody knows the whole has none: UNPRICED.
    """
    known = [cost for cost in (besides, *(_cost(call) for call in calls)) if cost is not None]
    if len(known) <= 1:
        return known[0] if known else None
    if any(cost.micro_usd is None for cost in known):
        return UNPRICED
    source = min((cost.source for cost in known), key=_CERTAINTY.index)
    return Cost(source, sum(cost.micro_usd or 0 for cost in known))


def _cost(call: PaidCall) -> Cost | None:
    """What one call cost; one that may have cost something, nobody knows what, is UNPRICED."""
    unknown = call.state in (State.FAILED, State.OUTCOME_UNKNOWN) and call.billed is not Billed.NO
    return UNPRICED if call.cost is None and unknown else call.cost


def billed_with(error: ServiceError | None, steps: Sequence[PaidCall]) -> ServiceError | None:
    """The error of a main call that cost nothing, saying so only if its steps did not cost anything either."""
    if error is not None and error.billed is Billed.NO:
        billed = {call.billed for call in steps if not call.running}
        error.billed = next((each for each in (Billed.YES, Billed.UNKNOWN) if each in billed), Billed.NO)
    return error


def without(usage: Usage | None, cost: Cost, steps: Sequence[PaidCall]) -> tuple[Usage | None, Cost]:
    """What is left for the main call of the sums of all."""
    used, paid = total_usage(steps), total_cost(steps)
    if usage is not None and used is not None:
        usage = Usage(**{name: max(count - used.to_json()[name], 0) for name, count in usage.to_json().items()})
    if cost.micro_usd is not None and paid is not None and paid.micro_usd is not None:
        cost = Cost(cost.source, max(cost.micro_usd - paid.micro_usd, 0))
    return usage, cost


def in_order(calls: Sequence[PaidCall]) -> list[PaidCall]:
    """The calls as the steps follow each other."""
    return sorted(calls, key=lambda call: (_ORDER.index(call.operation) if call.operation in _ORDER else 0, call.id))
