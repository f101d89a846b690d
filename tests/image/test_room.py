"""Bytes are held up to a bound; who waits is served in turn, and one who goes away leaves nothing taken."""

import asyncio
from contextlib import AsyncExitStack

from services.image.room import Room


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_is_held_than_there_is_room_for() -> None:
    room, held, most = Room(10), 0, 0

    async def hold(size: int) -> None:
        nonlocal held, most
        async with room.taken(size):
            held += size
            most = max(most, held)
            await asyncio.sleep(0)
            held -= size

    await asyncio.gather(*(hold(size) for size in (4, 7, 10, 1, 3, 6, 2, 9, 5, 8)))
    assert most <= 10
    assert room.take(10), "everything is given back"


async def test_a_large_one_is_not_passed_over() -> None:
    room, order = Room(10), list[str]()

    async def hold(name: str, size: int) -> None:
        async with room.taken(size):
            order.append(name)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(room.taken(5))
        tasks = [asyncio.create_task(hold("large", 10)), asyncio.create_task(hold("small", 1))]
        await settle()
        assert order == []
        assert not room.take(1), "who does not wait does not overtake either"
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


async def test_one_who_gives_up_lets_the_next_one_in() -> None:
    room = Room(10)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(room.taken(5))

        async def hold(size: int) -> None:
            async with room.taken(size):
                pass

        large, small = asyncio.create_task(hold(10)), asyncio.create_task(hold(5))
        await settle()
        large.cancel()
        await settle()
        assert small.done()
    assert room.take(10)
