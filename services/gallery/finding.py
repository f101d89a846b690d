"""Finding what is stored: lists, tags, totals, and the upkeep of the words that queries look for."""

import asyncio

from services.gallery.adapters.counts import Counts
from services.gallery.adapters.listing import Listing
from services.gallery.adapters.words import Words
from services.gallery.domain.listing import Filters, Listed, Order, Position, TagCount, Totals

IDLE_SECONDS = 60.0
"""Old words come with a migration or a restored index, both rare."""

BATCH_PAUSE_SECONDS = 0.05
"""Callers come first while a million rows are brought up."""


class Finding:
    """Every call on behalf of one owner."""

    def __init__(self, listing: Listing, counts: Counts, words: Words) -> None:
        self._listing = listing
        self._counts = counts
        self._words = words

    async def list_page(
        self, owner: str, filters: Filters, *, order: Order, size: int, after: Position | None, full: bool
    ) -> Listed:
        """Assets behind the position, and the number of all: see `Listing.list_page`."""
        return await self._listing.list_page(owner, filters, order=order, size=size, after=after, full=full)

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
