"""A living process keeps its calls, whatever holds up some of them."""

import asyncio
from contextlib import AsyncExitStack

from sqlalchemy import select

from services.models.paid_calls import State
from tests.models.payers import LEASE, Payer, process, tables


async def test_a_row_that_somebody_locks_costs_no_other_call_its_lease(schema: str) -> None:
    async with process(schema) as owner, process(schema) as other:
        done = asyncio.Event()
        locked, healthy = await owner.open(), await owner.open()
        paying = [asyncio.create_task(owner.pay(one, after=done)) for one in (locked, healthy)]
        await until_called(owner, 2)
        async with other.engine.begin() as connection:
            row = tables.paid_call.c.id == locked.call.id
            await connection.execute(select(tables.paid_call.c.id).where(row).with_for_update())
            await asyncio.sleep(LEASE * 2.5)
            assert (await other.read(healthy.call.id)).state is State.CALLING
        done.set()
        assert {call.state for call in await asyncio.gather(*paying)} == {State.SUCCEEDED}
        assert [event["billed"] for event in await other.events(healthy.call.id)] == ["yes"]


async def test_a_pool_without_a_free_connection_costs_no_lease(schema: str) -> None:
    async with process(schema) as owner, process(schema) as other:
        done = asyncio.Event()
        opened = await owner.open()
        paying = asyncio.create_task(owner.pay(opened, after=done))
        await until_called(owner, 1)
        async with AsyncExitStack() as stack:
            for _ in range(15):
                await stack.enter_async_context(owner.engine.connect())
            await asyncio.sleep(LEASE * 2.5)
            assert (await other.read(opened.call.id)).state is State.CALLING
        done.set()
        assert (await paying).state is State.SUCCEEDED


async def until_called(payer: Payer, count: int) -> None:
    async with asyncio.timeout(10):
        while len(payer.calls) < count:  # noqa: ASYNC110 - counted by the provider's side
            await asyncio.sleep(0.01)
