"""The work of one generation: the one call, the first delivery, and the one commit that keeps what came of both."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.errors import ServiceError
from services.image.adapters import generations as rows
from services.image.adapters import spool
from services.image.adapters.gallery import digest
from services.image.adapters.generations import Generations
from services.image.delivery import AT_A_TIME, Deliverer
from services.image.domain.accounts import total_cost, total_usage
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
from services.image.pipeline import Pipeline
from services.image.references import CheckedInputs, References
from services.models.endpoints import EndpointClients
from services.models.image_bytes import Image
from services.models.image_files import EditFiles
from services.models.image_requests import CheckedImageRequest
from services.models.image_streams import OnPreview, unseen
from services.models.images import ImageAdapter, ImageAnswer
from services.models.money import UNPRICED, cost_shares, usage_shares
from services.models.paid_calls import Lease, Opened, PaidCall, PaidCalls, Performed, may_pass
from services.models.patience import patiently

STRAIGHT_SECONDS = 2.0
"""How long finished pictures exist in memory and on their way to the gallery only. Those that it has not acknowledged
by then are written to the database; an upload takes some tens of milliseconds."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """An answer whose pictures are ready to be written down, and on their way to the gallery.

    `contents` are the bytes of those that have any, `uploads` their deliveries, and `settled` those whose delivery was
    written down with the settlement of the call; all by index.
    """

    answer: ImageAnswer
    pictures: Sequence[Picture]
    contents: Mapping[int, bytes]
    uploads: Mapping[int, asyncio.Task[Delivery | Later]]
    settled: set[int] = field(default_factory=set)

    def deliveries(self) -> list[Delivery]:
        """What has been delivered or refused for good by now."""
        done = (task for task in self.uploads.values() if task.done() and not task.cancelled() and not task.exception())
        return [outcome for task in done if isinstance(outcome := task.result(), Delivery)]

    def rest(self) -> list[tuple[Picture, asyncio.Task[Delivery | Later]]]:
        """Pictures whose delivery is not written down yet."""
        waiting = (picture for picture in self.pictures if picture.index in self.uploads.keys() - self.settled)
        return [(picture, self.uploads[picture.index]) for picture in waiting]


class Maker:
    """Makes the pictures of generations that are written down."""

    def __init__(
        self,
        paid_calls: PaidCalls,
        adapter: ImageAdapter,
        clients: EndpointClients,
        generations: Generations,
        deliverer: Deliverer,
        references: References,
        pipeline: Pipeline,
        *,
        hold_seconds: float,
    ) -> None:
        self._paid_calls = paid_calls
        self._references = references
        self._pipeline = pipeline
        self._adapter = adapter
        self._clients = clients
        self._generations = generations
        self._deliverer = deliverer
        self._hold_seconds = hold_seconds

    async def make(
        self,
        opened: Opened,
        checked: CheckedImageRequest,
        new: NewGeneration,
        today: date,
        *,
        inputs: CheckedInputs | None = None,
        on_preview: OnPreview = unseen,
    ) -> Generation:
        """The generation as it stands after one attempt to store every picture.

        Pictures go straight to the gallery, and the settlement of the call says so in one commit. What the gallery has
        not acknowledged within STRAIGHT_SECONDS, or does not take, is in the database with that commit: from then on no
        crash loses any. Should the process die before it, `finding.py` looks in the gallery for what got there.

        Raises:
            ServiceError: how the paid call failed.
        """
        made: Made | None = None
        files: EditFiles | None = None

        async def prepare() -> None:
            nonlocal checked, new
            checked, new = await self._pipeline.prepare(checked, new)

        @asynccontextmanager
        async def place() -> AsyncIterator[None]:
            nonlocal files
            async with self._clients.place(checked.model.endpoint), self._held(inputs) as files:
                yield
            files = None

        async def perform(lease: Lease) -> Performed[Made]:
            nonlocal made

            async def once() -> ImageAnswer:
                lease.check()
                return await self._adapter.make(
                    checked, files, idempotency_key=opened.call.id, today=today, on_preview=on_preview
                )

            answer = await patiently(once)
            pictures = await asyncio.to_thread(_pictures, opened.call, answer, checked.request.n, new.steps_before)
            contents = _contents(answer, pictures)
            made = Made(answer, pictures, contents, self._deliverer.begin(_kept(new, opened.call, pictures), contents))
            if made.uploads:
                await asyncio.wait(made.uploads.values(), timeout=STRAIGHT_SECONDS)
            return _performed(made)

        async def keep(connection: AsyncConnection, call: PaidCall, performed: Performed[Made]) -> None:
            await self._keep(connection, new.id, performed)

        try:
            call = await self._paid_calls.run(opened, perform, keep, place=place, prepare=prepare)
            return await self._delivered(_kept(new, call, made.pictures if made else ()), made)
        except ServiceError:
            # The call was settled otherwise before its result was there. It is paid for: the gallery may have it.
            if made is not None and made.uploads:
                await asyncio.wait(made.uploads.values())
            raise
        finally:
            for task in made.uploads.values() if made else ():
                task.cancel()

    async def _keep(self, connection: AsyncConnection, generation_id: str, performed: Performed[Made]) -> None:
        """Writes down the pictures, the bytes of those that the gallery does not have, and without such the end."""
        made = performed.value
        pictures = made.pictures if performed.cost is made.answer.cost else _unpriced(made.pictures)
        deliveries = made.deliveries()
        await rows.keep(connection, generation_id, _after(pictures, deliveries), performed.usage, performed.cost)
        stored = {one.index for one in deliveries if not one.error}
        refused = {one.index for one in deliveries if one.error}
        contents = {index: content for index, content in made.contents.items() if index not in stored}
        hold_seconds = self._hold_seconds * -(-len(contents) // AT_A_TIME)
        await spool.put(connection, generation_id, contents, refused=refused, hold_seconds=hold_seconds)
        await spool.conclude(connection, generation_id, deliveries)
        made.settled.clear()  # of an attempt to commit that failed
        made.settled.update(stored | refused)

    @asynccontextmanager
    async def _held(self, inputs: CheckedInputs | None) -> AsyncIterator[EditFiles | None]:
        if inputs is None:
            yield None
        else:
            async with self._references.held(inputs) as files:
                yield files

    async def _delivered(self, kept: Generation, made: Made | None) -> Generation:
        """The generation after its first delivery."""
        try:
            if made is not None and (rest := made.rest()):
                outcomes = [await task for _, task in rest]
                await self._deliverer.settle(kept.id, [picture for picture, _ in rest], outcomes)
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


def _pictures(call: PaidCall, answer: ImageAnswer, asked: int, steps: Sequence[PaidCall]) -> list[Picture]:
    """A picture for each image of the answer, and for each that was asked for and is missing.

    Usage and cost, also those of the steps before, are shared out among those that can be stored.
    """
    usage, cost = total_usage(steps, answer.usage), total_cost(steps, answer.cost) or UNPRICED
    good = [index for index, image in enumerate(answer.images) if image.content is not None]
    costs = dict(zip(good, cost_shares(cost, len(good)), strict=True))
    usages = dict(zip(good, usage_shares(usage, len(good)) if usage else [None] * len(good), strict=True))
    pictures = [
        replace(_picture(call, index, image), usage=usages.get(index), cost=costs.get(index))
        for index, image in enumerate(answer.images)
    ]
    missing = range(len(pictures), asked)
    return [*pictures, *(Picture(index, PictureState.FAILED, error=missing_picture()) for index in missing)]


def _contents(answer: ImageAnswer, pictures: Sequence[Picture]) -> dict[int, bytes]:
    pairs = zip(pictures, answer.images[: len(pictures)], strict=False)
    return {picture.index: image.content for picture, image in pairs if image.content is not None}


def _after(pictures: Iterable[Picture], deliveries: Iterable[Delivery]) -> list[Picture]:
    """The pictures as they are once these are delivered."""
    outcomes = {one.index: one for one in deliveries}
    return [outcomes[picture.index].of(picture) if picture.index in outcomes else picture for picture in pictures]


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
        final_prompt=new.final_prompt,
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
        calls=[*new.steps_before, call],
        inputs=new.inputs,
        steps=new.steps,
        revisions=new.revisions,
        suggested_name=new.suggested_name,
    )
