"""Turns are shared: by owner, by weight, by arrival, and none is lost."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from services.gallery.turns import Turns


@asynccontextmanager
async def held(turns: Turns, *owners: str) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for owner in owners:
            await stack.enter_async_context(turns.turn(owner))
        yield


async def test_an_owner_with_as_many_as_one_may_have_holds_up_nobody() -> None:
    turns = Turns(4, of_one=2)
    async with held(turns, "anna", "anna"):
        third = asyncio.create_task(turns.turn("anna").__aenter__())
        async with asyncio.timeout(5), held(turns, "bela", "bela"):
            assert not third.done()
    await asyncio.wait_for(third, 5)


async def test_the_lightest_is_next_and_then_who_came_first() -> None:
    turns, order = Turns(1, of_one=1), list[str]()

    async def wait(name: str, weight: int) -> None:
        async with turns.turn(name, weight=weight):
            order.append(name)

    async with asyncio.TaskGroup() as group, held(turns, "first"):
        for name, weight in (("large", 9), ("small", 1), ("small too", 1), ("larger", 10), ("smallest", 0)):
            group.create_task(wait(name, weight))
        await asyncio.sleep(0)
    assert order == ["smallest", "small", "small too", "large", "larger"]


@pytest.mark.parametrize("seed", range(5))
async def test_no_turn_is_lost_and_none_is_given_twice_whoever_leaves(seed: int) -> None:
    chance, turns = random.Random(seed), Turns(3, of_one=2)
    holding: Counter[str] = Counter()

    async def use(owner: str) -> None:
        async with turns.turn(owner, weight=chance.randrange(3)):
            holding[owner] += 1
            assert holding.total() <= 3
            assert holding[owner] <= 2
            try:
                await asyncio.sleep(chance.random() / 500)
            finally:
                holding[owner] -= 1

    tasks = [asyncio.create_task(use(chance.choice("abc"))) for _ in range(200)]
    for task in chance.sample(tasks, 80):
        await asyncio.sleep(chance.random() / 2000)
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in ended} <= {type(None), asyncio.CancelledError}
    async with asyncio.timeout(5), held(turns, "a", "a", "b"):
        assert holding.total() == 0
