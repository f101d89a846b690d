"""The RPCs that edit, and those that tell of a generation while it is made: a part of `ImageServicer`."""

import asyncio
from contextlib import aclosing
from typing import Any

import grpc.aio

from contentlab.image.v1 import image_service_pb2 as pb
from contentlab.image.v1 import image_service_pb2_grpc as rpc
from services.common.caller import current_caller
from services.common.errors import DeadlineExceeded
from services.image import convert
from services.image.convert_events import to_event
from services.image.domain.requests import GenerateRequest
from services.image.generating import Generating
from services.image.patience import patience_of
from services.image.streaming import Streaming

Context = grpc.aio.ServicerContext[Any, Any]

# A reader who takes nothing for so long is given up; the generation goes on, and can be read.
STALL_SECONDS = 60.0


class StreamMethods(rpc.ImageServiceServicer):
    """Edits, and streams of both."""

    _generating: Generating
    _streaming: Streaming
    _answer_seconds: float

    async def EditImages(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.EditImagesRequest, context: Context
    ) -> pb.ImageGeneration:
        # Digesting megabytes is no work for the event loop.
        wanted = await asyncio.to_thread(convert.to_request, request)
        if wanted.validate_only:
            return convert.to_preview(await self._generating.check(wanted), current_caller().principal)
        patience = patience_of(context, self._answer_seconds)
        return convert.to_generation(await self._generating.generate(wanted, patience=patience))

    async def StreamGenerateImages(  # type: ignore[override]  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.StreamGenerateImagesRequest, context: Context
    ) -> None:
        await self._stream(convert.to_request(request), context)

    async def StreamEditImages(  # type: ignore[override]  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.StreamEditImagesRequest, context: Context
    ) -> None:
        await self._stream(await asyncio.to_thread(convert.to_request, request), context)

    async def _stream(self, wanted: GenerateRequest, context: Context) -> None:
        if wanted.validate_only:
            preview = convert.to_preview(await self._generating.check(wanted), current_caller().principal)
            await context.write(pb.StreamImagesResponse(done=preview))
            return
        request_id, patience = current_caller().request_id, patience_of(context, self._answer_seconds)
        async with aclosing(self._streaming.events(wanted, patience=patience)) as events:
            async for event in events:
                await _write(context, to_event(event, request_id))


async def _write(context: Context, message: pb.StreamImagesResponse) -> None:
    try:
        async with asyncio.timeout(STALL_SECONDS):
            await context.write(message)
    except TimeoutError:
        raise DeadlineExceeded("DEADLINE_EXCEEDED", "The events were not read.", retry_safe=True) from None
