"""What a settlement writes down: errors of calls that were not sent, and a provider's words as columns hold them."""

import math
from collections.abc import Mapping
from typing import Any

from services.common.errors import Billed, ServiceError, Unavailable
from services.models.failures import outcome_unknown
from services.models.money import Cost
from services.models.paid_calls.records import PaidCall, State
from services.models.usage import Usage

MAX_TEXT = 200
MAX_ITEMS = 50


def abandoned(call: PaidCall) -> ServiceError:
    """What is known of a call whose process died."""
    if call.state is State.OUTCOME_UNKNOWN:
        return outcome_unknown()
    return not_begun("The service stopped before the call was sent.")


def not_begun(why: str) -> ServiceError:
    """A call that ended before anything was sent."""
    return Unavailable(
        "UNAVAILABLE", f"{why} Nothing was paid; try again.", billed=Billed.NO, retry_safe=True, retry_after=1.0
    )


def accounting(usage: Usage | None, cost: Cost | None) -> dict[str, Any]:
    """The columns of usage and cost."""
    return {
        "usage": None if usage is None else usage.to_json(),
        "cost_source": None if cost is None else cost.source,
        "cost_micro_usd": None if cost is None else cost.micro_usd,
    }


def printable(text: str) -> str:
    """A provider's header as a column may hold it."""
    return "".join(c for c in text[:MAX_TEXT] if c.isascii() and c.isprintable())


def plain(value: object, depth: int = 4) -> Any:
    """What a provider said, without anything that a JSON column refuses: a result is not lost to an odd string."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case str():
            return printable(value)
        case Mapping() if depth:
            return {printable(str(key)): plain(item, depth - 1) for key, item in list(value.items())[:MAX_ITEMS]}
        case list() if depth:
            return [plain(item, depth - 1) for item in value[:MAX_ITEMS]]
        case _:
            return None
