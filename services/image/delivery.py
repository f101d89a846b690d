"""Handing finished pictures to the gallery: at once by their maker, and from the spool until it has them."""

import asyncio
import random
from collections.abc import Mapping, Sequence
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
    Later,
    Picture,
    Spooled,
    broken_picture,
    placed_elsewhere,
    refused_picture,
    shown_prompt,
)
from services.image.domain.naming import display_name_of, numbered
from services.image.domain.requests import Placement
from services.models.paid_calls import may_pass

AT_A_TIME = 4
POLL_SECONDS = 1.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
# A gallery that asks for more patience than that, because each attempt costs it much, gets ever more of it.
LONGEST_ASKED_PAUSE = 3600.0
# The gallery's limits are its operator's to widen: that takes people, not moments.
LIMITED_PAUSE = 900.0
LIMITED_FOR = timedelta(days=7)
NEW = timedelta(0)

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
        self._refused = Gauge(
            "contentlab_refused_images",
            "Finished images that wait for the operator to requeue them.",
            registry=registry,
        )

    def begin(
        self, generation: Generation, contents: Mapping[int, bytes]
    ) -> Mapping[int, asyncio.Task[Delivery | Later]]:
        """Hands pictures to the gallery, by index, a few at a time; Later for each that it does not take now.

        The caller owns the tasks.
        """
        places = asyncio.Semaphore(AT_A_TIME)

        async def one(index: int, content: bytes) -> Delivery | Later:
            async with places:
                return await self._store(generation, generation.pictures[index], content, attempts=0, waited=NEW)

        return {
            index: asyncio.create_task(one(index, content), name=f"delivery of {generation.id} {index}")
            for index, content in contents.items()
        }

    async def settle(
        self, generation_id: str, pictures: Sequence[Picture], outcomes: Sequence[Delivery | Later]
    ) -> None:
        """Takes note of what came of spooled pictures; what the gallery did not take stays in the spool."""
        settled = [outcome for outcome in outcomes if isinstance(outcome, Delivery)]
        if settled:
            await self._spool.settle(generation_id, settled)
        for picture, outcome in zip(pictures, outcomes, strict=True):
            if isinstance(outcome, Later):
                await self._spool.postpone(generation_id, picture.index, outcome.seconds)

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
        waiting, refused = await self._spool.count()
        self._waiting.set(waiting)
        self._refused.set(refused)
        return len(due)

    async def _deliver_spooled(self, one: Spooled) -> None:
        generation = await self._generations.get(one.generation_id)
        content = await self._spool.content(one)
        if generation is None or content is None:
            return
        picture = generation.pictures[one.index]
        outcome = await self._store(generation, picture, content, attempts=one.attempts, waited=one.waited)
        if isinstance(outcome, Later):
            await self._spool.postpone(generation.id, one.index, outcome.seconds)
            return
        await self._spool.settle(generation.id, [outcome])
        _log.info("spooled_image_settled", generation=generation.id, index=one.index, attempts=one.attempts + 1)

    async def _store(
        self, generation: Generation, picture: Picture, content: bytes, *, attempts: int, waited: timedelta
    ) -> Delivery | Later:
        """What came of it for good, or when to try again."""
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
            if refused.limited and waited < LIMITED_FOR:
                return Later(LIMITED_PAUSE)
            no_image = refused.reason == "UNSUPPORTED_MEDIA"
            error = broken_picture("the gallery cannot read it") if no_image else refused_picture(refused.reason)
            return Delivery(picture.index, error=error)
        except ServiceError as error:
            log.warning("image_not_stored_yet", reason=error.reason, code=error.code.name)
            return Later(_pause(attempts, error.retry_after or 0.0))


def _upload(generation: Generation, picture: Picture, content: bytes, *, placement: Placement | None = None) -> Upload:
    wanted = generation.placement if placement is None else placement
    name = wanted.display_name or generation.suggested_name or display_name_of(shown_prompt(generation))
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
        inputs=generation.inputs,
        revisions=generation.revisions,
    )


def _pause(attempts: int, asked: float) -> float:
    """Seconds until the next attempt: doubling, spread, at most a quarter of a minute.

    Unless the gallery asks for more: then at least what it asks for, and doubling up to an hour.
    """
    doubled = 2.0 ** min(attempts, 20)
    if asked > LONGEST_PAUSE:
        return min(asked * doubled, LONGEST_ASKED_PAUSE) * random.uniform(1.0, 1.2)  # noqa: S311 - spreads load only
    return min(FIRST_PAUSE * doubled, LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load only
