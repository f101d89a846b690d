"""How long a call may wait for its answer."""

from typing import Any

import grpc.aio

# Time to get an answer out before the caller's deadline; a late one would be no answer.
ANSWER_MARGIN_SECONDS = 0.25


def patience_of(context: grpc.aio.ServicerContext[Any, Any], answer_seconds: float) -> float:
    """Seconds until shortly before the caller's deadline; `answer_seconds` for a call without one."""
    left = context.time_remaining()
    if left is None:
        return answer_seconds
    return max(left - ANSWER_MARGIN_SECONDS, left / 2)
