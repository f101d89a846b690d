"""Turns at something scarce, taken fairly: nobody has a second one while somebody else waits for a first."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum


class Rank(IntEnum):
    """Who comes first among those who wait."""

    SERVICE = 0
    """What was paid for."""
    USER = 1
    BACKGROUND = 2


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    rank: Rank
    who: str
    turn: asyncio.Future[None]


class FairTurns:
    """`count` turns at a time; of one rank, whoever holds fewest comes next, then who had one longest ago.

    Who waits is bounded by the caller: choosing looks at each.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._holding: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []
        self._last: dict[str, int] = {}
        self._given = 0

    @asynccontextmanager
    async def taken(self, who: str = "", rank: Rank = Rank.USER) -> AsyncIterator[None]:
        """A turn of somebody's, from when it is given to the end of the block."""
        await self.take(who, rank)
        try:
            yield
        finally:
            self.give_back(who)

    async def take(self, who: str = "", rank: Rank = Rank.USER) -> None:
        """Waits for a turn; `give_back` ends it."""
        waiting = _Waiting(rank, who, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._give()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:  # it was given just before
                self.give_back(who)
            raise

    def give_back(self, who: str = "") -> None:
        """The turn that `take` gave is over."""
        self._free += 1
        self._holding[who] -= 1
        if not self._holding[who]:
            del self._holding[who]
        self._give()

    def _give(self) -> None:
        # Who was cancelled stays in line until its task has run; no turn must go there.
        while self._free and (waiting := [each for each in self._waiting if not each.turn.done()]):
            following = min(waiting, key=self._order)
            self._waiting.remove(following)
            self._free -= 1
            self._given += 1
            self._holding[following.who] += 1
            self._last[following.who] = self._given
            following.turn.set_result(None)
        if not self._waiting:
            self._last.clear()  # nobody is remembered for longer than there is somebody to be compared with

    def _order(self, waiting: _Waiting) -> tuple[Rank, int, int]:
        return waiting.rank, self._holding[waiting.who], self._last.get(waiting.who, 0)
