"""A call of unknown outcome is settled by its owner's word: once, and only while nobody knows better."""

import asyncio
import uuid
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.errors import Billed, FailedPrecondition, InvalidArgument, ServiceError
from services.models.failures import CallFailed, outcome_unknown
from services.models.money import UNPRICED
from services.models.paid_calls import PaidCall, Resolution, State, fingerprint
from tests.models.payers import Payer, intent, nothing, process


async def unknown(payer: Payer) -> PaidCall:
    """A call whose outcome nobody knows."""
    opened = await payer.open()
    with pytest.raises(ServiceError):
        await payer.pay(opened, CallFailed(outcome_unknown()))
    return await payer.read(opened.call.id)


def word(*, is_billed: bool = True, note: str = "", body: str = "") -> Resolution:
    said = fingerprint("Resolve", {"billed": is_billed, "note": note, "body": body})
    return Resolution("somebody", "Resolve", str(uuid.uuid4()), said, is_billed, note)


@pytest.mark.parametrize(("is_billed", "billed"), [(True, Billed.YES), (False, Billed.NO)])
async def test_the_owners_word_settles_a_call(is_billed: bool, billed: Billed, payer: Payer) -> None:
    call = await unknown(payer)
    resolved = await payer.paid.resolve(call, word(is_billed=is_billed, note="as the bill\0 says"))
    assert resolved.again is None
    settled = await payer.read(call.id)
    assert (settled.state, settled.billed) == (State.FAILED, billed)
    assert settled.resolution_note == "as the bill says"
    assert settled.cost == (UNPRICED if is_billed else None)
    assert settled.error is not None
    assert (settled.error.billed, settled.error.retry_safe) == (billed, False)
    assert settled.error.metadata["paidCall"] == f"paidCalls/{call.id}"
    assert [event["billed"] for event in await payer.events(call.id)] == ["unknown", billed]
    assert payer.changes[-1] == (call.id, State.FAILED)


async def test_a_word_given_twice_counts_once_and_another_under_its_id_is_refused(payer: Payer) -> None:
    call, said = await unknown(payer), word()
    await payer.paid.resolve(call, said)
    again = await payer.paid.resolve(await payer.read(call.id), said)
    assert (again.call.state, again.call.billed) == (State.FAILED, Billed.YES)
    assert len(await payer.events(call.id)) == 2
    other = replace(word(is_billed=False), request_id=said.request_id)
    with pytest.raises(InvalidArgument) as refused:
        await payer.paid.resolve(call, other)
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert (await payer.read(call.id)).billed is Billed.YES


async def test_of_many_who_give_the_same_word_at_once_one_settles_and_one_begins_again(payer: Payer) -> None:
    call, said = await unknown(payer), word()
    again = intent(request_id=said.request_id, method="Resolve", subject=call.subject)
    resolved = await asyncio.gather(*(payer.paid.resolve(call, said, again=again) for _ in range(8)))
    assert sum(one.again is not None for one in resolved) == 1
    assert len(await payer.events(call.id)) == 2


async def test_only_what_is_unknown_can_be_resolved(payer: Payer) -> None:
    paid = await payer.pay(await payer.open())
    resolved = (await payer.paid.resolve(await unknown(payer), word())).call
    for call in (paid, resolved, (await payer.open()).call):
        said = word()
        with pytest.raises(FailedPrecondition) as refused:
            await payer.paid.resolve(call, said)
        assert refused.value.reason == "NOT_RESOLVABLE"
        # The refusal took no note of the word: it is no result.
        with pytest.raises(FailedPrecondition):
            await payer.paid.resolve(call, said)


async def test_the_new_call_and_the_word_are_one_commit(payer: Payer) -> None:
    call, said = await unknown(payer), word()
    again = intent(request_id=said.request_id, method="Resolve", subject=call.subject)

    async def breaks(connection: AsyncConnection, new: PaidCall) -> None:
        raise RuntimeError("made up")

    with pytest.raises(RuntimeError):
        await payer.paid.resolve(call, said, again=again, create=breaks)
    assert (await payer.read(call.id)).state is State.OUTCOME_UNKNOWN
    resolved = await payer.paid.resolve(call, said, again=again, create=nothing)
    assert resolved.again is not None
    assert resolved.again.call.id != call.id
    assert (await payer.pay(resolved.again)).state is State.SUCCEEDED
    assert len(payer.calls) == 2


async def test_a_result_that_comes_later_than_its_resolution_changes_nothing(payer: Payer, schema: str) -> None:
    done = asyncio.Event()
    async with process(schema, at_work=False) as frozen:
        opened = await frozen.open()
        running = asyncio.create_task(frozen.pay(opened, after=done))
        await asyncio.sleep(1.1)
        await payer.paid.sweep()
        await payer.paid.resolve(await payer.read(opened.call.id), word(is_billed=False))
        done.set()
        with pytest.raises(ServiceError) as raised:
            await running
    assert raised.value.billed is Billed.NO
    call = await payer.read(opened.call.id)
    assert (call.state, call.billed) == (State.FAILED, Billed.NO)
    assert await payer.kept(opened.call.subject) is None
