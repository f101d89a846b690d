"""A bound on bytes that are held in memory at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """So many bytes. Who waits gets them in the order of asking, a large one not passed over by small ones."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = capacity
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, size: int) -> bool:
        """Takes so many bytes if they are free at once and nobody waits; they are given back with `give`."""
        if self._waiting or size > self._free:
            return False
        self._free -= size
        return True

    def give(self, size: int) -> None:
        """Gives bytes back, and to those who wait for them."""
        self._free += size
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Waits for so many bytes and holds them within the block; more than there can be would wait for ever."""
        if not self.take(size):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.give(size)
                else:
                    turn.cancel()
                    self.give(0)  # whoever stood behind a large one may go on
                raise
        try:
            yield
        finally:
            self.give(size)
