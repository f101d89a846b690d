"""Turns at something scarce, shared between owners: nobody gets all of them, however much they ask."""

import asyncio
from bisect import insort
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(order=True)
class _Waiting:
    weight: int
    number: int
    owner: str = field(compare=False)
    turn: asyncio.Future[None] = field(compare=False)


class Turns:
    """`count` turns at a time, at most `of_one` of them one owner's. The lightest is next, then who came first.

    An owner who holds as many as one may have waits aside and holds up nobody.
    """

    def __init__(self, count: int, *, of_one: int) -> None:
        self._free = count
        self._of_one = of_one
        self._held: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []
        self._number = 0

    def has_all(self, owner: str) -> bool:
        """Whether an owner holds as many as one may have."""
        return self._held[owner] >= self._of_one

    @asynccontextmanager
    async def turn(self, owner: str, *, weight: int = 0) -> AsyncIterator[None]:
        """Waits for a turn and holds it for the length of the block."""
        await self._acquire(owner, weight)
        try:
            yield
        finally:
            self._release(owner)

    async def _acquire(self, owner: str, weight: int) -> None:
        self._number += 1
        this = _Waiting(weight, self._number, owner, asyncio.get_running_loop().create_future())
        insort(self._waiting, this)
        self._hand_out()
        try:
            await this.turn
        except asyncio.CancelledError:
            if this in self._waiting:
                self._waiting.remove(this)
            else:  # it was given just before
                self._release(owner)
            raise

    def _release(self, owner: str) -> None:
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and (found := self._next()) is not None:
            self._waiting.remove(found)
            self._free -= 1
            self._held[found.owner] += 1
            found.turn.set_result(None)

    def _next(self) -> _Waiting | None:
        # A cancelled waiter stays in line until it has run; a turn must not go to it.
        may = (each for each in self._waiting if not self.has_all(each.owner) and not each.turn.done())
        return next(may, None)
