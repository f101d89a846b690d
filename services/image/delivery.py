"""Handing finished pictures to the gallery: at once by their maker, and from the spool until it has them."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.common.errors import ServiceError
from services.image.adapters.gallery import Gallery, Refused, Upload
from services.image.adapters.generations import Generations
from services.image.adapters.spool import Spool
from services.image.domain.generations import (
    Delivery,
    Generation,
    Picture,
    Spooled,
    broken_picture,
    placed_elsewhere,
    refused_picture,
)
from services.image.domain.naming import display_name_of, numbered
from services.image.domain.requests import Placement
from services.models.paid_calls import may_pass

AT_A_TIME = 4
POLL_SECONDS = 1.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
REFUSED_KEPT_FOR = timedelta(days=7)
TIDY_EVERY_SECONDS = 3600.0

_log = structlog.get_logger(__name__)


class Deliverer:
    """Delivers pictures; many processes may do so over one spool, and a picture delivered twice is one asset."""

    def __init__(
        self,
        gallery: Gallery,
        spool: Spool,
        generations: Generations,
        *,
        hold_seconds: float,
        registry: CollectorRegistry,
    ) -> None:
        self._gallery = gallery
        self._spool = spool
        self._generations = generations
        self._hold_seconds = hold_seconds
        self._waiting = Gauge(
            "contentlab_spooled_images", "Finished images that the gallery does not have yet.", registry=registry
        )

    async def store(
        self, generation: Generation, contents: Sequence[tuple[Picture, bytes]]
    ) -> Sequence[Delivery | None]:
        """Hands pictures to the gallery; None for each that it does not take now."""
        places = asyncio.Semaphore(AT_A_TIME)

        async def one(picture: Picture, content: bytes) -> Delivery | None:
            async with places:
                return await self._store(generation, picture, content)

        return await asyncio.gather(*(one(picture, content) for picture, content in contents))

    async def settle(
        self, generation_id: str, pictures: Sequence[Picture], outcomes: Sequence[Delivery | None]
    ) -> None:
        """Takes note of what came of spooled pictures; what the gallery did not take stays in the spool."""
        settled = [delivery for delivery in outcomes if delivery is not None]
        if settled:
            await self._spool.settle(generation_id, settled)
        for picture, delivery in zip(pictures, outcomes, strict=True):
            if delivery is None:
                await self._spool.postpone(generation_id, picture.index, FIRST_PAUSE)

    async def deliver_forever(self) -> None:
        """Empties the spool, as fast as the gallery takes it, until cancelled."""
        while True:
            try:
                delivered = await self.deliver_due()
            except Exception as error:
                if not may_pass(error):
                    raise
                _log.warning("spool_waits_for_database", error=type(error).__name__)
                delivered = 0
            if not delivered:
                await asyncio.sleep(POLL_SECONDS)

    async def deliver_due(self) -> int:
        """One attempt at what is due; returns how many pictures that were."""
        due = await self._spool.claim(AT_A_TIME, hold_seconds=self._hold_seconds)
        await asyncio.gather(*(self._deliver_spooled(one) for one in due))
        self._waiting.set(await self._spool.waiting())
        return len(due)

    async def _deliver_spooled(self, one: Spooled) -> None:
        generation = await self._generations.get(one.generation_id)
        content = await self._spool.content(one)
        if generation is None or content is None:
            return
        delivery = await self._store(generation, generation.pictures[one.index], content)
        if delivery is None:
            await self._spool.postpone(generation.id, one.index, _pause(one.attempts))
            return
        await self._spool.settle(generation.id, [delivery])
        _log.info("spooled_image_settled", generation=generation.id, index=one.index, attempts=one.attempts + 1)

    async def tidy_forever(self) -> None:
        """Forgets refused bytes after a week, until cancelled."""
        while True:
            if forgotten := await self._spool.forget_refused(REFUSED_KEPT_FOR):
                _log.info("refused_images_forgotten", count=forgotten)
            await asyncio.sleep(TIDY_EVERY_SECONDS)

    async def _store(self, generation: Generation, picture: Picture, content: bytes) -> Delivery | None:
        """What came of it for good; None: not this time."""
        log = _log.bind(generation=generation.id, index=picture.index)
        try:
            try:
                return Delivery(picture.index, await self._gallery.store(_upload(generation, picture, content)))
            except Refused as refused:
                if not refused.misplaced:
                    raise
                # Paid for and finished: better in the wrong place than nowhere.
                log.warning("image_stored_without_placement", reason=refused.reason)
                elsewhere = _upload(generation, picture, content, placement=Placement())
                facts = await self._gallery.store(elsewhere)
                return Delivery(picture.index, facts, note=placed_elsewhere(refused.reason))
        except Refused as refused:
            log.error("image_refused_by_gallery", reason=refused.reason)
            no_image = refused.reason == "UNSUPPORTED_MEDIA"
            error = broken_picture("the gallery cannot read it") if no_image else refused_picture(refused.reason)
            return Delivery(picture.index, error=error)
        except ServiceError as error:
            log.warning("image_not_stored_yet", reason=error.reason, code=error.code.name)
            return None


def _upload(generation: Generation, picture: Picture, content: bytes, *, placement: Placement | None = None) -> Upload:
    wanted = generation.placement if placement is None else placement
    name = wanted.display_name or display_name_of(generation.prompt)
    return Upload(
        asset_id=picture.asset_id,
        content=content,
        sha256=picture.sha256,
        owner=generation.owner,
        origin=generation.name,
        prompt=generation.final_prompt or generation.prompt,
        model=generation.model,
        parameters=generation.parameters,
        placement=Placement(wanted.folder, numbered(name, picture.index, len(generation.pictures)), wanted.tags),
        usage=picture.usage,
        cost=picture.cost,
    )


def _pause(attempts: int) -> float:
    """Seconds until the next attempt: doubling, spread, at most a quarter of a minute."""
    longest = min(FIRST_PAUSE * 2.0 ** min(attempts, 20), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
