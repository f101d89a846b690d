"""The RPCs that settle what is OUTCOME_UNKNOWN: a part of `ImageServicer`."""

from typing import Any

import grpc.aio

from contentlab.image.v1 import image_service_pb2 as pb
from services.image import convert
from services.image.convert_resolving import to_word
from services.image.domain.generations import GENERATIONS, PAID_CALLS
from services.image.patience import patience_of
from services.image.resolving import Resolving

Context = grpc.aio.ServicerContext[Any, Any]


class ResolvingMethods:
    """Generations and paid calls."""

    _resolving: Resolving
    _answer_seconds: float

    async def ResolveImageGeneration(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.ResolveImageGenerationRequest, context: Context
    ) -> pb.ImageGeneration:
        generation_id, word = GENERATIONS.parse(request.name), to_word(request)
        patience = patience_of(context, self._answer_seconds)
        return convert.to_generation(await self._resolving.generation(generation_id, word, patience=patience))

    async def ResolvePaidCall(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.ResolvePaidCallRequest, context: Context
    ) -> pb.PaidCall:
        call_id, word = PAID_CALLS.parse(request.name), to_word(request)
        return convert.to_paid_call(await self._resolving.paid_call(call_id, word))
