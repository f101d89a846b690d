"""What a call gave is written down, whatever the database does meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from services.common.errors import Billed, InvalidArgument, ServiceError, Unavailable, Violation
from services.models.failures import CallFailed, outcome_unknown
from services.models.money import UNPRICED, Cost, CostSource
from services.models.paid_calls import Lease, PaidCall, Performed, State
from tests.models.payers import LEASE, Payer, keep, performed, place, process, tables

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
    """The database takes no writes, as a standby does; a connection that is made meanwhile never takes any."""
    flip = "ALTER DATABASE {} SET default_transaction_read_only = {}"
    await run(payer, flip.format(payer.engine.url.database, "on"))
    await payer.engine.dispose()
    try:
        yield
    finally:
        await run(payer, flip.format(payer.engine.url.database, "off"))


async def run(payer: Payer, statement: str) -> None:
    engine = create_async_engine(payer.engine.url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text("SET SESSION default_transaction_read_only = off"))
        await connection.execute(text(statement))
    await engine.dispose()


async def test_a_result_that_came_while_the_database_took_no_writes_is_written_down_when_it_does(payer: Payer) -> None:
    opened, done = await payer.open(), asyncio.Event()
    paying = asyncio.create_task(payer.pay(opened, after=done))
    await payer.called.wait()
    async with read_only(payer):
        done.set()
        await asyncio.sleep(0.5)
        assert not paying.done()
    async with asyncio.timeout(10):
        assert (await paying).state is State.SUCCEEDED


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


@pytest.mark.parametrize(
    ("told", "booked"),
    [
        pytest.param(Cost(CostSource.COMPUTED, 10**30), UNPRICED, id="more than a column holds"),
        pytest.param(Cost(CostSource.COMPUTED, -(10**9)), Cost(CostSource.COMPUTED, -(10**9)), id="less than nothing"),
    ],
)
async def test_no_number_of_a_provider_costs_a_result(told: Cost, booked: Cost, payer: Payer) -> None:
    opened = await payer.open()

    async def perform(lease: Lease) -> Performed[str]:
        return replace(performed("x"), cost=told)

    call = await payer.paid.run(opened, perform, keep, place=place)
    assert (call.state, call.billed, call.cost) == (State.SUCCEEDED, Billed.YES, booked)
    assert await payer.kept(call.subject) == "x"


async def test_no_number_of_a_provider_costs_a_refusal_its_meaning(payer: Payer) -> None:
    opened = await payer.open()
    charged = CallFailed(Unavailable("X", "y", billed=Billed.YES), cost=Cost(CostSource.COMPUTED, 10**30))
    with pytest.raises(Unavailable) as raised:
        await payer.pay(opened, charged)
    assert raised.value.billed is Billed.YES
    call = await payer.read(opened.call.id)
    assert (call.state, call.cost) == (State.FAILED, UNPRICED)


async def test_a_settlement_takes_longer_than_other_statements_may(schema: str) -> None:
    async with process(schema, options="-c statement_timeout=200") as payer:
        opened = await payer.open()

        async def perform(lease: Lease) -> Performed[str]:
            return performed("x")

        async def keep_slowly(connection: AsyncConnection, call: PaidCall, done: Performed[str]) -> None:
            await connection.execute(text("SELECT pg_sleep(0.6)"))
            await keep(connection, call, done)

        async with asyncio.timeout(10):
            call = await payer.paid.run(opened, perform, keep_slowly, place=place)
    assert call.state is State.SUCCEEDED


async def test_a_settlement_that_waits_is_seen_by_whoever_watches(payer: Payer) -> None:
    opened = await payer.open()
    waiting: list[float | None] = []

    async def perform(lease: Lease) -> Performed[str]:
        return performed("x")

    async def keep_the_second_time(connection: AsyncConnection, call: PaidCall, done: Performed[str]) -> None:
        waiting.append(payer.registry.get_sample_value("contentlab_settlements_waiting"))
        if len(waiting) == 1:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        await keep(connection, call, done)

    await payer.paid.run(opened, perform, keep_the_second_time, place=place)
    assert waiting == [0, 1]
    assert payer.registry.get_sample_value("contentlab_settlements_waiting") == 0


async def test_a_process_that_is_told_to_end_writes_down_what_it_has(payer: Payer) -> None:
    opened, settling = await payer.open(), asyncio.Event()

    async def perform(lease: Lease) -> Performed[str]:
        return performed("x")

    async def keep_slowly(connection: AsyncConnection, call: PaidCall, done: Performed[str]) -> None:
        settling.set()
        await asyncio.sleep(0.3)
        await keep(connection, call, done)

    paying = asyncio.create_task(payer.paid.run(opened, perform, keep_slowly, place=place))
    await settling.wait()
    paying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await paying
    assert (await payer.read(opened.call.id)).state is State.SUCCEEDED
    assert await payer.kept(opened.call.subject) == "x"


async def test_an_intent_that_the_database_forgot_cost_nothing(payer: Payer) -> None:
    """It commits intents without waiting for the disk; a crash may take one back."""
    opened = await payer.open()
    await forget(payer, opened.call.id)
    with pytest.raises(Unavailable) as raised:
        await payer.pay(opened)
    assert (raised.value.billed, raised.value.retry_safe) == (Billed.NO, True)
    assert payer.calls == []


async def test_a_call_whose_row_is_gone_says_of_the_money_what_is_known(payer: Payer) -> None:
    opened, done = await payer.open(), asyncio.Event()
    paying = asyncio.create_task(payer.pay(opened, CallFailed(outcome_unknown()), after=done))
    await payer.called.wait()
    await forget(payer, opened.call.id)
    done.set()
    with pytest.raises(ServiceError) as raised:
        await paying
    assert (raised.value.reason, raised.value.billed) == ("OUTCOME_UNKNOWN", Billed.UNKNOWN)


async def forget(payer: Payer, call_id: str) -> None:
    async with payer.engine.begin() as connection:
        await connection.execute(delete(tables.paid_call).where(tables.paid_call.c.id == call_id))
