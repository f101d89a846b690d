"""Analysing pictures after they were stored: by their maker at once, else by whoever is free.

What is to be done is written down with the pictures, so that it is done whatever becomes of their maker. The intent of
the paid call and the id of the annotation follow from the asset: however often it is tried, it is paid and counts once.
"""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import structlog

from services.common.caller import acting_for
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound, ServiceError
from services.image.adapters import analyses
from services.image.adapters import generations as rows
from services.image.adapters.analyses import Analyses, Due
from services.image.adapters.generations import Generations
from services.image.adapters.library import Library
from services.image.asking import Asking, Scope
from services.image.domain.accounts import total_cost, total_usage
from services.image.domain.generations import GENERATIONS, Generation, NewGeneration, Picture
from services.image.domain.helping import Analysis
from services.image.domain.steps import intent_id, step_failed
from services.image.helpers import analysis_of
from services.models.helpers import analyze
from services.models.helpers.flattener import Flattener
from services.models.paid_calls import PaidCall, fingerprint, may_pass
from services.models.text_requests import Picture as Shown

METHOD = "ImageGeneration/analyze"
AT_A_TIME = 4
POLL_SECONDS = 1.0
LONGEST_PAUSE = 300.0
MOST_ATTEMPTS = 40
"""A gallery that does not give or take anything for hours: the picture stays without an analysis, and it is told."""

_log = structlog.get_logger(__name__)


class Analysing:
    """Analyses stored pictures; many processes may do so over one database."""

    def __init__(
        self,
        due: Analyses,
        asking: Asking,
        library: Library,
        flattener: Flattener,
        generations: Generations,
        *,
        hold_seconds: float,
    ) -> None:
        self._due = due
        self._asking = asking
        self._library = library
        self._flattener = flattener
        self._generations = generations
        self._hold_seconds = hold_seconds

    async def finish(self, new: NewGeneration, work: Coroutine[Any, Any, Generation]) -> Generation:
        """What the work ends with, after the analyses that were asked for.

        Raises:
            ServiceError: how the work failed; with what its steps have cost.
        """
        try:
            generation = await work
        except ServiceError as error:
            found = await self._again(new.id) if new.steps.before else None
            raise (found.error if found else None) or error from None
        if not new.steps.analyze:
            return generation
        try:
            claimed = await self._due.claim(
                len(generation.pictures), hold_seconds=self._hold_seconds, generation_id=generation.id
            )
            await asyncio.gather(*(self._attempt(one) for one in claimed))
        except Exception as error:
            if not may_pass(error):
                raise
            _log.warning("analysis_waits_for_database", generation=generation.id, error=type(error).__name__)
        return await self._again(generation.id) or generation

    async def due(self, generation_id: str) -> bool:
        """Whether something is still to be analysed."""
        return await self._due.remain(generation_id)

    async def analyze_forever(self) -> None:
        """Does what nobody else does, until cancelled."""
        while True:
            done = 0
            try:
                claimed = await self._due.claim(AT_A_TIME, hold_seconds=self._hold_seconds)
                await asyncio.gather(*(self._attempt(one) for one in claimed))
                done = len(claimed)
            except Exception as error:
                if not may_pass(error):
                    raise
                _log.warning("analyses_wait_for_database", error=type(error).__name__)
            if not done:
                await asyncio.sleep(POLL_SECONDS)

    async def _again(self, generation_id: str) -> Generation | None:
        try:
            return await self._generations.get(generation_id)
        except Exception as error:
            if not may_pass(error):
                raise
            return None

    async def _attempt(self, due: Due) -> None:
        generation = await self._generations.get(due.generation_id)
        if generation is None:
            return
        picture = generation.pictures[due.index]
        with acting_for(generation.owner):
            await self._analyze(due, generation, picture)

    async def _analyze(self, due: Due, generation: Generation, picture: Picture) -> None:
        turns: list[PaidCall] = []
        try:
            content = await self._library.picture(generation.owner, picture.asset_id, field="image")
        except ServiceError as error:
            await self._not_now(due, error)
            return
        seen: Analysis | None = None
        failure: ServiceError | None = None
        try:
            seen = await self._seen(generation, picture, content, turns)
        except ServiceError as error:
            failure = step_failed("analyze", error)
        billed = await self._asking.ended(turns)
        if seen is not None or total_cost(billed) is not None:
            try:
                await self._annotate(generation, picture, seen, billed)
            except ServiceError as error:
                await self._not_now(due, error)
                return
        await self._end(due, failure)

    async def _seen(self, generation: Generation, picture: Picture, content: bytes, turns: list[PaidCall]) -> Analysis:
        instructions = generation.steps.analysis_instructions
        bare = analyze.task([analyze.Frame(Shown(b"", "image/png"))], instructions=instructions)
        edge_px = self._asking.check(bare.request).model.picture_edge_px
        [shown] = await self._flattener.prepare([content], edge_px=edge_px)
        task = analyze.task([analyze.Frame(shown)], instructions=instructions)
        scope = Scope(
            generation.owner,
            METHOD,
            intent_id(picture.asset_id, "analyze"),
            fingerprint(METHOD, {"asset": picture.asset_id}),
            "analyze",
            GENERATIONS.format(generation.id),
        )
        asked = await self._asking.obtain(task, self._asking.check(task.request), scope, turns)
        return analysis_of(asked.value, asked.calls[-1].model, instructions)

    async def _annotate(
        self, generation: Generation, picture: Picture, seen: Analysis | None, billed: list[PaidCall]
    ) -> None:
        await self._library.annotate(
            generation.owner,
            picture.asset_id,
            request_id=intent_id(picture.asset_id, "annotate"),
            analysis=seen,
            usage=total_usage(billed),
            cost=total_cost(billed),
        )

    async def _not_now(self, due: Due, error: ServiceError) -> None:
        """The gallery gives or takes nothing: later, unless that would be the same."""
        for_good = isinstance(error, NotFound | FailedPrecondition | InvalidArgument) or due.attempts >= MOST_ATTEMPTS
        if for_good:
            await self._end(due, step_failed("analyze", error))
            return
        _log.warning("analysis_waits_for_gallery", generation=due.generation_id, reason=error.reason)
        pause = min(2.0 ** min(due.attempts, 20), LONGEST_PAUSE)
        await self._due.postpone(due, pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load only

    async def _end(self, due: Due, failure: ServiceError | None) -> None:
        async with self._due.engine.begin() as connection:
            if await analyses.done(connection, due) and failure is not None:
                await rows.note(connection, due.generation_id, failure)
