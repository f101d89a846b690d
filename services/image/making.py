"""The work of one generation: the one call, the one commit that keeps what it gave, and the first delivery."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.image.adapters import generations as rows
from services.image.adapters import spool
from services.image.adapters.gallery import digest
from services.image.adapters.generations import Generations
from services.image.delivery import AT_A_TIME, Deliverer
from services.image.domain.generations import (
    GENERATIONS,
    Delivery,
    Generation,
    GenerationState,
    Later,
    NewGeneration,
    Picture,
    PictureState,
    asset_id_of,
    broken_picture,
    missing_picture,
)
from services.models.endpoints import EndpointClients
from services.models.image_requests import CheckedImageRequest
from services.models.images import Image, ImageAdapter, ImageAnswer
from services.models.money import UNPRICED, cost_shares, usage_shares
from services.models.paid_calls import Lease, Opened, PaidCall, PaidCalls, Performed, may_pass
from services.models.patience import patiently

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """An answer whose pictures are ready to be written down. `contents` are the bytes of those that have any."""

    answer: ImageAnswer
    pictures: Sequence[Picture]

    @property
    def contents(self) -> list[tuple[Picture, bytes]]:
        """Pictures with their bytes."""
        images = self.answer.images[: len(self.pictures)]
        pairs = zip(self.pictures, images, strict=False)
        return [(picture, image.content) for picture, image in pairs if image.content is not None]


class Maker:
    """Makes the pictures of generations that are written down."""

    def __init__(
        self,
        paid_calls: PaidCalls,
        adapter: ImageAdapter,
        clients: EndpointClients,
        generations: Generations,
        deliverer: Deliverer,
        *,
        hold_seconds: float,
    ) -> None:
        self._paid_calls = paid_calls
        self._adapter = adapter
        self._clients = clients
        self._generations = generations
        self._deliverer = deliverer
        self._hold_seconds = hold_seconds

    async def make(self, opened: Opened, checked: CheckedImageRequest, new: NewGeneration, today: date) -> Generation:
        """The generation as it stands after one attempt to store every picture.

        All bytes are in the database with the settlement of the call: from that commit on no crash loses any. The
        gallery gets them meanwhile, since the commit takes as long as half an upload; should the process die between
        an upload and the commit, the pictures are in the gallery although the generation's outcome is unknown.

        Raises:
            ServiceError: how the paid call failed.
        """
        made: Made | None = None
        storing: asyncio.Task[Sequence[Delivery | Later]] | None = None

        async def perform(lease: Lease) -> Performed[Made]:
            nonlocal made, storing
            answer = await self._call(opened, checked, lease, today)
            pictures = await asyncio.to_thread(_pictures, opened.call, answer, checked.request.n)
            made = Made(answer, pictures)
            storing = asyncio.create_task(self._deliverer.store(_kept(new, opened.call, pictures), made.contents))
            return _performed(made)

        async def keep(connection: AsyncConnection, call: PaidCall, performed: Performed[Made]) -> None:
            kept = performed.value
            pictures = kept.pictures if performed.cost is kept.answer.cost else _unpriced(kept.pictures)
            await rows.keep(connection, new.id, pictures, performed.usage, performed.cost)
            contents = {picture.index: content for picture, content in kept.contents}
            rounds = -(-len(contents) // AT_A_TIME)
            await spool.put(connection, new.id, contents, hold_seconds=self._hold_seconds * rounds)

        try:
            endpoint = checked.model.endpoint
            call = await self._paid_calls.run(opened, perform, keep, place=lambda: self._clients.place(endpoint))
            return await self._delivered(_kept(new, call, made.pictures if made else ()), made, storing)
        finally:
            if storing is not None:
                storing.cancel()

    async def _call(self, opened: Opened, checked: CheckedImageRequest, lease: Lease, today: date) -> ImageAnswer:
        async def once() -> ImageAnswer:
            lease.check()
            return await self._adapter.generate(checked, idempotency_key=opened.call.id, today=today)

        return await patiently(once)

    async def _delivered(
        self, kept: Generation, made: Made | None, storing: asyncio.Task[Sequence[Delivery | Later]] | None
    ) -> Generation:
        """The generation after its first delivery."""
        try:
            if made is not None and storing is not None:
                pictures = [picture for picture, _ in made.contents]
                await self._deliverer.settle(kept.id, pictures, await storing)
            return await self._generations.get(kept.id) or kept
        except Exception as error:
            if not may_pass(error):
                raise
            # What is spooled is safe, and is delivered when the database is back.
            _log.warning("delivery_waits_for_database", generation=kept.id, error=type(error).__name__)
            return kept


def _performed(made: Made) -> Performed[Made]:
    answer = made.answer
    price_date = date.fromisoformat(answer.price.effective_date) if answer.price else None
    return Performed(made, answer.usage, answer.raw_usage, answer.cost, price_date, answer.provider_request_id)


def _pictures(call: PaidCall, answer: ImageAnswer, asked: int) -> list[Picture]:
    """A picture for each image of the answer, and for each that was asked for and is missing.

    Usage and cost are shared out among those that can be stored.
    """
    good = [index for index, image in enumerate(answer.images) if image.content is not None]
    costs = dict(zip(good, cost_shares(answer.cost, len(good)), strict=True))
    usages = dict(zip(good, usage_shares(answer.usage, len(good)) if answer.usage else [None] * len(good), strict=True))
    pictures = [
        replace(_picture(call, index, image), usage=usages.get(index), cost=costs.get(index))
        for index, image in enumerate(answer.images)
    ]
    missing = range(len(pictures), asked)
    return [*pictures, *(Picture(index, PictureState.FAILED, error=missing_picture()) for index in missing)]


def _unpriced(pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures of a call whose numbers could not be written down."""
    return [replace(picture, usage=None, cost=picture.cost and UNPRICED) for picture in pictures]


def _picture(call: PaidCall, index: int, image: Image) -> Picture:
    if image.content is None:
        return Picture(index, PictureState.FAILED, error=broken_picture(image.problem))
    return Picture(
        index,
        PictureState.SPOOLED,
        asset_id=asset_id_of(call, index),
        sha256=digest(image.content),
        size_bytes=len(image.content),
    )


def _kept(new: NewGeneration, call: PaidCall, pictures: Sequence[Picture]) -> Generation:
    """The generation right after its result was kept."""
    return Generation(
        id=GENERATIONS.parse(call.subject),
        owner=new.owner,
        request_id=new.request_id,
        operation=new.operation,
        state=GenerationState.STORING,
        prompt=new.prompt,
        final_prompt="",
        model=new.model,
        parameters=new.parameters,
        placement=new.placement,
        usage=call.usage,
        cost=call.cost,
        error=None,
        create_time=call.create_time,
        update_time=call.end_time or call.create_time,
        end_time=None,
        pictures=pictures,
        calls=[call],
    )
