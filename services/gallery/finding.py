"""Finding what is stored: lists, tags, totals, and the upkeep of the words that queries look for."""

import asyncio

from services.gallery.adapters.counts import Counts
from services.gallery.adapters.listing import Listing
from services.gallery.adapters.words import Words
from services.gallery.domain import failures
from services.gallery.domain.listing import Filters, Listed, Order, Position, TagCount, Totals
from services.gallery.turns import Turns

IDLE_SECONDS = 60.0
"""Old words come with a migration or a restored index, both rare."""

BATCH_PAUSE_SECONDS = 0.05
"""Callers come first while a million rows are brought up."""


LIST_SECONDS = 5.0
"""A page takes hundredths of a second. What takes this long costs everybody."""

LISTS_AT_ONCE = 8
LISTS_AT_ONCE_OF_ONE = 4
"""Each holds a connection: whatever one owner looks for, others get theirs."""


class Finding:
    """Every call on behalf of one owner."""

    def __init__(self, listing: Listing, counts: Counts, words: Words) -> None:
        self._listing = listing
        self._counts = counts
        self._words = words
        self._turns = Turns(LISTS_AT_ONCE, of_one=LISTS_AT_ONCE_OF_ONE)

    async def list_page(
        self, owner: str, filters: Filters, *, order: Order, size: int, after: Position | None, full: bool
    ) -> Listed:
        """Assets behind the position, and the number of all: see `Listing.list_page`.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
            DeadlineExceeded: the filters take too long together.
        """
        async with self._turns.turn(owner):
            try:
                async with asyncio.timeout(LIST_SECONDS):
                    return await self._listing.list_page(owner, filters, order=order, size=size, after=after, full=full)
            except TimeoutError:
                raise failures.list_too_slow(LIST_SECONDS) from None

    async def tags(self, owner: str, *, prefix: str, size: int, after: TagCount | None) -> list[TagCount]:
        """Tags in use, most used first: see `Counts.tags`."""
        return await self._counts.tags(owner, prefix=prefix, size=size, after=after)

    async def totals(self, owner: str) -> Totals:
        """What the owner has."""
        return await self._counts.totals(owner)

    async def bring_up_words(self) -> None:
        """Makes assets findable by the present rules, for ever."""
        while True:
            found = await self._words.bring_up()
            await asyncio.sleep(BATCH_PAUSE_SECONDS if found else IDLE_SECONDS)
