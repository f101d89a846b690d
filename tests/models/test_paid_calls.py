"""The paid-call protocol on a real Postgres: one intent, one call, one settlement, whatever dies in between."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from sqlalchemy import column, func, select, table, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import Billed, InvalidArgument, ServiceError, Unavailable
from services.models.failures import CallFailed, outcome_unknown, unreachable
from services.models.money import Cost, CostSource
from services.models.paid_calls import (
    Lease,
    Opened,
    PaidCall,
    Performed,
    State,
    fingerprint,
    sweeper,
)
from services.models.usage import Usage
from tests.models.payers import LEASE, Payer, intent, keep, nothing, performed, place, process, tables


async def test_a_call_that_goes_well_is_settled_with_its_result_and_its_event(payer: Payer) -> None:
    opened = await payer.open()
    assert (opened.call.state, opened.call.billed, opened.is_ours) == (State.PLANNED, Billed.NO, True)
    call = await payer.pay(opened)
    assert (call.state, call.billed) == (State.SUCCEEDED, Billed.YES)
    assert call.cost == Cost(CostSource.COMPUTED, 1234)
    assert call.provider_request_id == "req_1"
    assert call.call_time is not None
    assert call.end_time is not None
    assert await payer.kept(call.subject) == "a picture"
    [event] = await payer.events(call.id)
    assert (event["billed"], event["cost_micro_usd"], event["subject"]) == ("yes", 1234, call.subject)
    assert payer.changes == [(call.id, State.CALLING)]


async def test_calling_is_committed_before_anything_is_sent(payer: Payer) -> None:
    seen: list[State] = []
    opened = await payer.open()

    async def perform(lease: Lease) -> Performed[str]:
        seen.append((await payer.read(opened.call.id)).state)
        return performed("x")

    await payer.paid.run(opened, perform, keep, place=place)
    assert seen == [State.CALLING]


async def test_the_same_request_id_finds_the_first_call(payer: Payer) -> None:
    first = intent()
    opened = await payer.paid.open(first, nothing)
    await payer.pay(opened)
    again = await payer.paid.open(replace(first, subject="things/other"), nothing)
    assert not again.is_ours
    assert (again.call.id, again.call.state, again.call.subject) == (opened.call.id, State.SUCCEEDED, first.subject)
    found = await payer.paid.find(first.principal, first.method, first.request_id, first.fingerprint)
    assert found is not None
    assert found.id == opened.call.id


async def test_another_body_under_the_same_request_id_is_refused(payer: Payer) -> None:
    first = intent()
    await payer.paid.open(first, nothing)
    other = fingerprint("GenerateImages", {"prompt": "y"})
    with pytest.raises(InvalidArgument) as refusal:
        await payer.paid.open(replace(first, fingerprint=other), nothing)
    assert refusal.value.reason == "REQUEST_ID_REUSED"
    with pytest.raises(InvalidArgument):
        await payer.paid.find(first.principal, first.method, first.request_id, other)


async def test_request_ids_of_others_and_of_other_methods_are_other_ids(payer: Payer) -> None:
    first = intent()
    opened = [
        await payer.paid.open(one, nothing)
        for one in (first, replace(first, principal="other"), replace(first, method="Edit"))
    ]
    assert len({one.call.id for one in opened}) == 3
    assert all(one.is_ours for one in opened)


async def test_of_many_who_open_the_same_intent_at_once_one_owns_it(payer: Payer, schema: str) -> None:
    same = intent()
    async with process(schema) as other:
        opened = await asyncio.gather(*(one.paid.open(same, nothing) for one in [payer, other] * 10))
    assert sum(one.is_ours for one in opened) == 1
    assert len({one.call.id for one in opened}) == 1


@pytest.mark.parametrize(
    ("failure", "state", "billed"),
    [
        pytest.param(CallFailed(unreachable(), "req_9"), State.FAILED, Billed.NO, id="not sent"),
        pytest.param(CallFailed(outcome_unknown()), State.OUTCOME_UNKNOWN, Billed.UNKNOWN, id="unknown"),
        pytest.param(RuntimeError("a bug"), State.OUTCOME_UNKNOWN, Billed.UNKNOWN, id="a bug of ours"),
        pytest.param(
            CallFailed(InvalidArgument("CONTENT_REJECTED", "no"), usage=None), State.FAILED, Billed.NO, id="refused"
        ),
        pytest.param(
            CallFailed(Unavailable("X", "y", billed=Billed.YES), usage=Usage(1), cost=Cost(CostSource.COMPUTED, 5)),
            State.FAILED,
            Billed.YES,
            id="charged for nothing",
        ),
    ],
)
async def test_a_failure_is_settled_by_what_it_cost(
    failure: Exception, state: State, billed: Billed, payer: Payer
) -> None:
    opened = await payer.open()
    with pytest.raises(ServiceError) as raised:
        await payer.pay(opened, failure)
    assert raised.value.billed is billed
    assert raised.value.metadata["paidCall"] == f"paidCalls/{opened.call.id}"
    assert raised.value.metadata["thing"] == opened.call.subject
    call = await payer.read(opened.call.id)
    assert (call.state, call.billed) == (state, billed)
    assert call.error is not None
    assert (call.error.reason, call.error.metadata) == (raised.value.reason, raised.value.metadata)
    [event] = await payer.events(call.id)
    assert event["billed"] == billed
    assert payer.changes[-1] == (call.id, state)
    assert await payer.kept(call.subject) is None


async def test_a_failure_that_cost_nothing_and_may_pass_is_tried_again_under_the_same_id(payer: Payer) -> None:
    first = intent()
    opened = await payer.paid.open(first, nothing)
    with pytest.raises(Unavailable):
        await payer.pay(opened, CallFailed(unreachable()))
    assert await payer.paid.find(first.principal, first.method, first.request_id, first.fingerprint) is None
    again = await payer.paid.open(replace(first, subject="things/other"), nothing)
    assert again.is_ours
    assert (again.call.id, again.call.subject) == (opened.call.id, first.subject)
    assert (await payer.pay(again)).state is State.SUCCEEDED
    assert len(payer.calls) == 2


@pytest.mark.parametrize("failure", [InvalidArgument("CONTENT_REJECTED", "no"), outcome_unknown()])
async def test_any_other_failure_is_the_ids_result_for_good(failure: ServiceError, payer: Payer) -> None:
    first = intent()
    opened = await payer.paid.open(first, nothing)
    with pytest.raises(ServiceError):
        await payer.pay(opened, CallFailed(failure))
    again = await payer.paid.open(first, nothing)
    assert not again.is_ours
    assert again.call.error is not None
    assert again.call.error.reason == failure.reason


async def test_of_many_who_try_a_failed_call_again_one_owns_it(payer: Payer, schema: str) -> None:
    same = intent()
    with pytest.raises(Unavailable):
        await payer.pay(await payer.paid.open(same, nothing), CallFailed(unreachable()))
    async with process(schema) as other:
        opened = await asyncio.gather(*(one.paid.open(same, nothing) for one in [payer, other] * 10))
    assert sum(one.is_ours for one in opened) == 1


async def test_a_process_that_died_before_the_call_has_paid_nothing(payer: Payer, schema: str) -> None:
    async with process(schema, at_work=False) as dead:
        opened = await dead.open()
    await asyncio.sleep(LEASE * 1.1)
    await payer.paid.sweep()
    call = await payer.read(opened.call.id)
    assert (call.state, call.billed) == (State.FAILED, Billed.NO)
    assert call.may_run_again
    assert call.error is not None
    assert call.error.metadata == {"paidCall": f"paidCalls/{call.id}", "thing": call.subject}


async def test_a_process_that_died_during_the_call_leaves_its_outcome_unknown(payer: Payer, schema: str) -> None:
    async with process(schema, at_work=False) as dead:
        opened = await dead.open()
        await begin_and_die(dead, opened)
    await asyncio.sleep(LEASE * 1.1)
    await payer.paid.sweep()
    call = await payer.read(opened.call.id)
    assert (call.state, call.billed) == (State.OUTCOME_UNKNOWN, Billed.UNKNOWN)
    assert not call.may_run_again
    [event] = await payer.events(call.id)
    assert event["billed"] == "unknown"
    assert (call.id, State.OUTCOME_UNKNOWN) in payer.changes


async def test_what_many_dead_left_is_named_each_by_its_own_name(payer: Payer, schema: str) -> None:
    async with process(schema, at_work=False) as dead:
        opened = [await dead.open() for _ in range(5)]
    await asyncio.sleep(LEASE * 1.1)
    await payer.paid.sweep()
    for one in opened:
        call = await payer.read(one.call.id)
        assert call.error is not None
        assert call.error.metadata["paidCall"] == f"paidCalls/{one.call.id}"


async def test_a_living_process_keeps_its_calls_for_longer_than_a_lease(payer: Payer, schema: str) -> None:
    done = asyncio.Event()
    opened = await payer.open()
    running = asyncio.create_task(payer.pay(opened, after=done))
    async with process(schema) as other:
        await asyncio.sleep(LEASE * 2.5)
        await other.paid.sweep()
        assert (await payer.read(opened.call.id)).state is State.CALLING
    done.set()
    assert (await running).state is State.SUCCEEDED


async def test_after_the_database_was_away_the_living_get_time_to_say_so(
    schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = 3.0
    async with process(schema, at_work=False, lease=0.5) as silent:
        opened = await silent.open()
    await asyncio.sleep(0.6)
    away = asyncio.Event()

    async def first_away(engine: AsyncEngine) -> bool:
        if away.is_set():
            return True
        away.set()
        return False

    monkeypatch.setattr(sweeper, "is_reachable", first_away)
    async with process(schema, lease=lease) as other:
        await asyncio.wait_for(away.wait(), 10)
        await asyncio.sleep(lease / 2)
        assert (await other.read(opened.call.id)).state is State.PLANNED, "its owner may be about to renew"
        async with asyncio.timeout(20):
            while (await other.read(opened.call.id)).state is not State.FAILED:  # noqa: ASYNC110 - a row has no event
                await asyncio.sleep(0.1)


async def test_a_result_that_comes_after_the_sweep_replaces_the_unknown_outcome(payer: Payer, schema: str) -> None:
    done = asyncio.Event()
    async with process(schema, at_work=False) as frozen:
        opened = await frozen.open()
        running = asyncio.create_task(frozen.pay(opened, after=done))
        await asyncio.sleep(LEASE * 1.1)
        await payer.paid.sweep()
        assert (await payer.read(opened.call.id)).state is State.OUTCOME_UNKNOWN
        done.set()
        assert (await running).state is State.SUCCEEDED
    assert await payer.kept(opened.call.subject) == "a picture"
    assert [event["billed"] for event in await payer.events(opened.call.id)] == ["unknown", "yes"]
    assert (await payer.read(opened.call.id)).error is None


async def test_a_result_that_comes_after_a_person_settled_it_changes_nothing(payer: Payer, schema: str) -> None:
    done = asyncio.Event()
    async with process(schema, at_work=False) as frozen:
        opened = await frozen.open()
        running = asyncio.create_task(frozen.pay(opened, after=done))
        await asyncio.sleep(LEASE * 1.1)
        await payer.paid.sweep()
        async with payer.engine.begin() as connection:
            resolved = update(tables.paid_call).where(tables.paid_call.c.id == opened.call.id)
            values = {"state": "FAILED", "billed": "yes", "resolve_time": text("now()")}
            await connection.execute(resolved.values(values))
        done.set()
        with pytest.raises(ServiceError):
            await running
    assert (await payer.read(opened.call.id)).state is State.FAILED
    assert await payer.kept(opened.call.subject) is None


async def test_a_process_that_was_frozen_before_it_sent_does_not_send(payer: Payer, schema: str) -> None:
    """It knows that nothing was sent, and puts right what the sweep had to assume."""
    async with process(schema, at_work=False) as frozen:
        opened = await frozen.open()

        async def perform(lease: Lease) -> Performed[str]:
            await asyncio.sleep(LEASE * 1.1)
            await payer.paid.sweep()
            assert (await payer.read(opened.call.id)).state is State.OUTCOME_UNKNOWN
            lease.check()
            frozen.calls.append(opened.call.id)
            return performed("x")

        with pytest.raises(Unavailable) as raised:
            await frozen.paid.run(opened, perform, keep, place=place)
    assert frozen.calls == []
    assert (raised.value.billed, raised.value.retry_safe) == (Billed.NO, True)
    call = await payer.read(opened.call.id)
    assert (call.state, call.billed) == (State.FAILED, Billed.NO)


async def test_one_who_waited_long_for_a_place_has_a_fresh_lease(schema: str) -> None:
    async with process(schema, at_work=False) as alone:
        opened = await alone.open()

        @asynccontextmanager
        async def slow_place() -> AsyncIterator[None]:
            await asyncio.sleep(LEASE * 1.1)
            yield

        async def perform(lease: Lease) -> Performed[str]:
            lease.check()
            return performed("x")

        assert (await alone.paid.run(opened, perform, keep, place=slow_place)).state is State.SUCCEEDED


async def test_a_process_does_not_take_its_own_calls_for_dead(schema: str) -> None:
    """Its database was away for longer than a lease: the row looks abandoned, and its owner knows better."""
    done = asyncio.Event()
    async with process(schema, at_work=False) as alive:
        opened = await alive.open()
        running = asyncio.create_task(alive.pay(opened, after=done))
        await asyncio.sleep(LEASE * 1.1)
        await alive.paid.sweep()
        assert (await alive.read(opened.call.id)).state is State.CALLING
        done.set()
        assert (await running).state is State.SUCCEEDED


async def test_a_call_that_was_swept_before_it_was_sent_is_not_sent(payer: Payer, schema: str) -> None:
    async with process(schema, at_work=False) as slow:
        opened = await slow.open()
        await asyncio.sleep(LEASE * 1.1)
        await payer.paid.sweep()
        with pytest.raises(Unavailable):
            await slow.pay(opened)
    assert slow.calls == []


async def test_an_old_owner_cannot_touch_a_call_that_somebody_tries_again(payer: Payer, schema: str) -> None:
    same = intent()
    async with process(schema, at_work=False) as slow:
        old = await slow.paid.open(same, nothing)
        await asyncio.sleep(LEASE * 1.1)
        await payer.paid.sweep()
        new = await payer.paid.open(same, nothing)
        assert new.is_ours
        assert new.call.fence > old.call.fence
        with pytest.raises(Unavailable):
            await slow.pay(old)
        assert (await payer.pay(new)).state is State.SUCCEEDED
    assert slow.calls == []


async def test_a_result_waits_for_a_database_that_is_away(payer: Payer) -> None:
    opened = await payer.open()

    async def perform(lease: Lease) -> Performed[str]:
        # Every connection of the pool dies while the provider works.
        terminate = select(func.pg_terminate_backend(column("pid"))).select_from(table("pg_stat_activity"))
        others = terminate.where(column("datname") == func.current_database(), column("pid") != func.pg_backend_pid())
        async with payer.engine.connect() as connection:
            await connection.execute(others)
        return performed("x")

    attempts = 0

    async def keep_the_second_time(connection: AsyncConnection, call: PaidCall, done: Performed[str]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        await keep(connection, call, done)

    call = await payer.paid.run(opened, perform, keep_the_second_time, place=place)
    assert call.state is State.SUCCEEDED
    assert attempts == 2
    assert len(await payer.events(call.id)) == 1


async def test_money_is_unknown_exactly_while_nobody_can_know_it(payer: Payer) -> None:
    opened = await payer.open()
    for state, billed in (("SUCCEEDED", "unknown"), ("CALLING", "no"), ("OUTCOME_UNKNOWN", "yes")):
        wrong = update(tables.paid_call).where(tables.paid_call.c.id == opened.call.id)
        with pytest.raises(Exception, match="billed_is_known"):
            async with payer.engine.begin() as connection:
                await connection.execute(wrong.values(state=state, billed=billed))


async def test_calls_are_listed_newest_first_and_only_to_their_owner(payer: Payer) -> None:
    owner = f"owner-{uuid.uuid4().hex}"
    ids = [(await payer.open(principal=owner)).call.id for _ in range(5)]
    first = await payer.paid.page(owner, state=None, before=None, limit=3)
    rest = await payer.paid.page(owner, state=None, before=first[-1].id, limit=3)
    assert [call.id for call in [*first, *rest]] == ids[::-1]
    assert await payer.paid.page(owner, state=State.CALLING, before=None, limit=3) == []
    assert await payer.paid.get(ids[0], principal="somebody else") is None


def test_a_fingerprint_is_of_the_fields_and_not_of_their_order() -> None:
    assert fingerprint("M", {"a": 1, "b": "ü"}) == fingerprint("M", {"b": "ü", "a": 1})
    assert fingerprint("M", {"a": 1}) != fingerprint("N", {"a": 1})
    assert fingerprint("M", {"a": 1}) != fingerprint("M", {"a": "1"})


async def begin_and_die(dead: Payer, opened: Opened) -> None:
    """Brings the call to CALLING and abandons it, as a kill does."""
    task = asyncio.create_task(dead.pay(opened, after=asyncio.Event()))
    await asyncio.wait_for(dead.called.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
