"""The only automatic repetition of a provider call: of one that provably was not accepted, and seldom."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from services.models.failures import CallFailed

# Seconds before the second and the third attempt to connect. A server that restarts is back within them.
CONNECT_PAUSES = (0.25, 1.0)
# A provider that asks to wait longer is the client's to wait for: it gets RetryInfo.
LONGEST_WAIT = 5.0

T = TypeVar("T")

_log = structlog.get_logger(__name__)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The call's result; repeated at most twice when no connection came about, and once when the provider refused it
    for now (429, or 503 where the dialect says so) and asks for at most 5 s of patience.

    Raises:
        CallFailed: of the last attempt.
    """
    refused = False
    connects = 0
    while True:
        try:
            return await call()
        except CallFailed as failed:
            if not failed.not_accepted:
                raise
            pause = failed.error.retry_after
            if pause is None and connects < len(CONNECT_PAUSES):
                pause = CONNECT_PAUSES[connects]
                connects += 1
            elif pause is not None and pause <= LONGEST_WAIT and not refused:
                refused = True
            else:
                raise
            _log.info("provider_call_repeated", reason=failed.error.reason, pause=pause)
        await asyncio.sleep(pause * random.uniform(1.0, 1.2))  # noqa: S311 - spreads load, guards nothing
