"""What is sent again by itself: only what provably was not accepted, and seldom."""

from collections.abc import Awaitable, Callable

import pytest

from services.common.errors import ServiceError, Unavailable
from services.models import patience
from services.models.failures import CallFailed, outcome_unknown, unreachable
from services.models.patience import patiently
from tests.models.conftest import Calls
from tests.support.openai_server import OpenAIServer, fails, says


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "CONNECT_PAUSES", (0.01, 0.01))


def failing(*failures: CallFailed) -> tuple[Callable[[], Awaitable[str]], list[int]]:
    """A call that fails so and then succeeds, and the number of its attempts."""
    attempts = [0]

    async def call() -> str:
        attempts[0] += 1
        if attempts[0] <= len(failures):
            raise failures[attempts[0] - 1]
        return "done"

    return call, attempts


def busy(seconds: float | None) -> CallFailed:
    error: ServiceError = Unavailable("PROVIDER_UNAVAILABLE", "busy", retry_safe=True, retry_after=seconds)
    return CallFailed(error, not_accepted=True)


def no_connection() -> CallFailed:
    return CallFailed(unreachable(), not_accepted=True)


async def test_a_server_that_restarts_is_found_again() -> None:
    call, attempts = failing(no_connection(), no_connection())
    assert await patiently(call) == "done"
    assert attempts == [3]


async def test_a_server_that_stays_away_is_given_up_after_three_attempts() -> None:
    call, attempts = failing(*[no_connection() for _ in range(9)])
    with pytest.raises(CallFailed):
        await patiently(call)
    assert attempts == [3]


async def test_a_short_wait_that_the_provider_asks_for_is_granted_once() -> None:
    call, attempts = failing(busy(0.01))
    assert await patiently(call) == "done"
    call, attempts = failing(busy(0.01), busy(0.01))
    with pytest.raises(CallFailed):
        await patiently(call)
    assert attempts == [2]


async def test_a_long_wait_is_the_clients() -> None:
    call, attempts = failing(busy(6.0))
    with pytest.raises(CallFailed):
        await patiently(call)
    assert attempts == [1]


async def test_what_may_have_been_accepted_is_never_sent_again() -> None:
    call, attempts = failing(CallFailed(outcome_unknown()))
    with pytest.raises(CallFailed):
        await patiently(call)
    assert attempts == [1]


async def test_a_quota_that_is_used_up_is_not_asked_again(provider: OpenAIServer, calls: Calls) -> None:
    provider.otherwise = fails(429, "insufficient_quota")
    with pytest.raises(CallFailed):
        await patiently(calls.generate)
    assert len(provider.received) == 1


async def test_a_throttled_call_succeeds_the_second_time(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(says(429, {"error": {"message": "slow down"}}, retry_after_ms="20"))
    assert len((await patiently(calls.generate)).images) == 1
    assert len(provider.received) == 2
    assert len(provider.charges) == 1
