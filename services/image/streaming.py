"""A generation as events: started, previews, each image, and last how it ended. What is watched goes on without us."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias

from services.common.errors import ServiceError
from services.image.domain.generations import Generation, Picture
from services.image.domain.requests import GenerateRequest
from services.image.generating import Generating
from services.image.previews import Previews, ShownPreview
from services.models.paid_calls import PaidCall


@dataclass(frozen=True, slots=True)
class Started:
    """The generation is written down: `name` and `request_id` find it again."""

    name: str
    request_id: str


Event: TypeAlias = Started | ShownPreview | Picture | Generation | ServiceError


class Streaming:
    """The use case of the streaming methods, for the present caller."""

    def __init__(self, generating: Generating, previews: Previews) -> None:
        self._generating = generating
        self._previews = previews

    async def events(self, request: GenerateRequest, *, patience: float) -> AsyncGenerator[Event, None]:
        """The events. The last one is the generation or the error that it ended with.

        Raises:
            ServiceError: a refusal, before the first event: nothing is written down then.
        """
        call = await self._generating.begin(request)
        yield Started(call.subject, call.request_id)
        attachable = bool(request.request_id)
        ending = asyncio.create_task(self._generating.outcome(call, patience, attachable=attachable))
        try:
            async for preview in self._until(ending, call):
                yield preview
            try:
                generation = await ending
            except ServiceError as error:
                yield error
                return
            for picture in generation.pictures:
                yield picture
            yield generation
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _until(self, ending: asyncio.Task[Generation], call: PaidCall) -> AsyncIterator[ShownPreview]:
        """The previews that are ready before the end."""
        channel = self._previews.find(call.id)
        if channel is None:
            await asyncio.wait({ending})
            return
        with channel.watched() as queue:
            while not ending.done():
                getting = asyncio.create_task(queue.get())
                try:
                    await asyncio.wait({getting, ending}, return_when=asyncio.FIRST_COMPLETED)
                    if getting.done():
                        yield getting.result()
                finally:
                    getting.cancel()
