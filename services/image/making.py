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
from services.image.delivery import Deliverer
from services.image.domain.generations import (
    GENERATIONS,
    Generation,
    GenerationState,
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
from services.models.money import cost_shares, usage_shares
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

        All bytes are in the database before the first is uploaded: from that commit on no crash loses any.

        Raises:
            ServiceError: how the paid call failed.
        """
        made: Made | None = None

        async def perform(lease: Lease) -> Performed[Made]:
            async def once() -> ImageAnswer:
                lease.check()
                return await self._adapter.generate(checked, idempotency_key=opened.call.id, today=today)

            answer = await patiently(once)
            pictures = await asyncio.to_thread(_pictures, opened.call, answer, checked.request.n)
            return Performed(
                Made(answer, pictures),
                answer.usage,
                answer.raw_usage,
                answer.cost,
                date.fromisoformat(answer.price.effective_date) if answer.price else None,
                answer.provider_request_id,
            )

        async def keep(connection: AsyncConnection, call: PaidCall, performed: Performed[Made]) -> None:
            nonlocal made
            made = performed.value
            await rows.keep(connection, new.id, made.pictures, performed.usage, performed.cost)
            contents = {picture.index: content for picture, content in made.contents}
            await spool.put(connection, new.id, contents, hold_seconds=self._hold_seconds)

        endpoint = checked.model.endpoint
        call = await self._paid_calls.run(opened, perform, keep, place=lambda: self._clients.place(endpoint))
        kept = _kept(new, call, made.pictures if made else ())
        try:
            if made is not None:
                await self._deliverer.deliver(kept, made.contents)
            return await self._generations.get(new.id) or kept
        except Exception as error:
            if not may_pass(error):
                raise
            # What is spooled is safe, and is delivered when the database is back.
            _log.warning("delivery_waits_for_database", generation=new.id, error=type(error).__name__)
            return kept


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
