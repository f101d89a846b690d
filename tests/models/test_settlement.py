"""What a call gave is written down, whatever the database does meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.errors import Billed, InvalidArgument, Unavailable, Violation
from services.models.failures import CallFailed
from services.models.paid_calls import Lease, PaidCall, Performed, State
from tests.models.payers import LEASE, Payer, keep, performed, place, process

IDLE_TOO_LONG = "SET LOCAL idle_in_transaction_session_timeout = 50"


@pytest.mark.parametrize(
    ("setting", "seconds"),
    [
        pytest.param("SET TRANSACTION READ ONLY", 0.0, id="a standby after a failover"),
        pytest.param(IDLE_TOO_LONG, 0.3, id="a transaction that idled too long"),
        pytest.param("SET LOCAL statement_timeout = 1", 0.0, id="a statement that took too long"),
    ],
)
async def test_a_result_outlives_whatever_a_database_does_for_a_moment(
    setting: str, seconds: float, payer: Payer
) -> None:
    opened = await payer.open()
    attempts = 0

    async def perform(lease: Lease) -> Performed[str]:
        return performed("x")

    async def keep_the_second_time(connection: AsyncConnection, call: PaidCall, done: Performed[str]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await connection.execute(text(setting))
            await asyncio.sleep(seconds)
            await connection.execute(text("SELECT pg_sleep(0.05)"))
        await keep(connection, call, done)

    call = await payer.paid.run(opened, perform, keep_the_second_time, place=place)
    assert (call.state, attempts) == (State.SUCCEEDED, 2)
    assert await payer.kept(call.subject) == "x"
    assert len(await payer.events(call.id)) == 1


@asynccontextmanager
async def read_only(payer: Payer) -> AsyncIterator[None]:
    """The database takes no writes, as a standby does, on no connection."""
    name = payer.engine.url.database
    flip = "ALTER DATABASE {} SET default_transaction_read_only = {}"
    try:
        await run(payer, flip.format(name, "on"))
        yield
    finally:
        await run(payer, "SET SESSION default_transaction_read_only = off", flip.format(name, "off"))


async def run(payer: Payer, *statements: str) -> None:
    async with payer.engine.connect() as connection:
        free = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in statements:
            await free.execute(text(statement))
    # What is pooled does not know it yet.
    await payer.engine.dispose()


async def test_a_call_that_a_read_only_database_could_not_begin_cost_nothing(payer: Payer) -> None:
    opened = await payer.open()
    async with read_only(payer):
        paying = asyncio.create_task(payer.pay(opened))
        await asyncio.sleep(0.5)
        assert not paying.done()
    with pytest.raises(Unavailable) as raised:
        await paying
    assert (raised.value.billed, raised.value.retry_safe) == (Billed.NO, True)
    assert payer.calls == []


async def test_the_living_keep_their_calls_over_a_time_without_writes(schema: str) -> None:
    async with process(schema) as owner, process(schema) as other:
        done = asyncio.Event()
        opened = await owner.open()
        paying = asyncio.create_task(owner.pay(opened, after=done))
        await owner.called.wait()
        async with read_only(owner):
            await other.engine.dispose()
            await asyncio.sleep(LEASE * 1.5)
        await other.engine.dispose()
        await asyncio.sleep(LEASE)
        assert (await owner.read(opened.call.id)).state is State.CALLING
        done.set()
        assert (await paying).state is State.SUCCEEDED


async def test_a_refusal_is_told_whatever_characters_a_provider_uses(payer: Payer) -> None:
    opened = await payer.open()
    odd = InvalidArgument(
        "PROVIDER_REJECTED",
        "refused\0: \ud800 ü",
        metadata={"providerCode": "\udfff\0"},
        violations=[Violation("prompt\0", "\ud800")],
    )
    with pytest.raises(InvalidArgument) as raised:
        await payer.pay(opened, CallFailed(odd))
    assert (raised.value.message, raised.value.billed) == ("refused: ? ü", Billed.NO)
    assert raised.value.metadata["providerCode"] == "?"
    assert raised.value.violations == (Violation("prompt", "?"),)
    call = await payer.read(opened.call.id)
    assert (call.state, call.billed) == (State.FAILED, Billed.NO)
