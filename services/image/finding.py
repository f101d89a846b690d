"""Looking in the gallery for the pictures of a call that nobody lived to settle."""

import asyncio
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from services.image.adapters import generations as rows
from services.image.adapters import spool
from services.image.adapters.gallery import Gallery
from services.image.adapters.generations import Generations
from services.image.domain.accounts import without
from services.image.domain.adoption import Stored, adopted_cost, adopted_pictures, adopted_usage, partly_lost
from services.image.domain.generations import GENERATIONS, MAIN_OPERATIONS, Generation, asset_id_of
from services.models.paid_calls import Found, PaidCall

MOST_PICTURES = 10
"""The contract's limit of pictures in one call."""


class Finder:
    """Finds results by the ids that their pictures have in the gallery."""

    def __init__(self, gallery: Gallery, generations: Generations) -> None:
        self._gallery = gallery
        self._generations = generations

    async def find(self, call: PaidCall) -> Found | None:
        """What the gallery has of the call's pictures, with the shares of usage and cost that were stored with them.

        Raises:
            ServiceError: the gallery does not say for the moment.
        """
        if call.operation not in MAIN_OPERATIONS:
            return None
        generation = await self._generations.get(GENERATIONS.parse(call.subject))
        if generation is None:
            return None
        asked = int(generation.parameters.get("n", 1))
        stored = await self._stored(call, generation, asked)
        return _found(generation, call, stored, max(asked, len(stored))) if stored else None

    async def _stored(self, call: PaidCall, generation: Generation, asked: int) -> Mapping[int, Stored]:
        """By index; beyond what was asked for as well, because providers have sent more."""

        async def look(index: int) -> Stored | None:
            found = await self._gallery.find(call.principal, asset_id_of(call, index))
            return found if found is not None and found.origin == generation.name else None

        found = await asyncio.gather(*(look(index) for index in range(asked)))
        stored = {index: one for index, one in enumerate(found) if one is not None}
        further = asked
        while len(stored) == further < MOST_PICTURES and (one := await look(further)) is not None:
            stored[further] = one
            further += 1
        return stored


def _found(generation: Generation, call: PaidCall, stored: Mapping[int, Stored], count: int) -> Found:
    pictures = adopted_pictures(call, stored, count)
    steps = [one for one in generation.calls if one.operation not in MAIN_OPERATIONS]
    usage, cost = without(adopted_usage(stored, count), adopted_cost(stored, count), steps)

    async def keep(connection: AsyncConnection, settled: PaidCall) -> None:
        await rows.keep(connection, generation.id, pictures, usage, cost)
        await spool.conclude(connection, generation.id, [])

    return Found(usage, cost, keep, partly_lost() if len(stored) < count else None)
