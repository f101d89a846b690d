"""The helpers' RPCs."""

import asyncio
from typing import Any

import grpc.aio

from contentlab.image.v1 import image_service_pb2 as pb
from services.image import convert_helpers as convert
from services.image.helpers import Helpers
from services.image.patience import patience_of

Context = grpc.aio.ServicerContext[Any, Any]


class HelperMethods:
    """Analysis and the three prompt helpers."""

    _helpers: Helpers
    _answer_seconds: float

    async def AnalyzeImage(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.AnalyzeImageRequest, context: Context
    ) -> pb.AnalyzeImageResponse:
        wanted = await asyncio.to_thread(convert.analyze_request, request)
        patience = patience_of(context, self._answer_seconds)
        return convert.to_analyzed(await self._helpers.analyze(wanted, patience=patience))

    async def EnhanceImagePrompt(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.EnhanceImagePromptRequest, context: Context
    ) -> pb.EnhanceImagePromptResponse:
        patience = patience_of(context, self._answer_seconds)
        wanted = convert.enhance_request(request)
        return convert.to_enhanced(await self._helpers.enhance(wanted, patience=patience))

    async def ProtectImagePrompt(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.ProtectImagePromptRequest, context: Context
    ) -> pb.ProtectImagePromptResponse:
        patience = patience_of(context, self._answer_seconds)
        wanted = convert.protect_request(request)
        return convert.to_protected(await self._helpers.protect(wanted, patience=patience))

    async def SuggestImageFilename(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.SuggestImageFilenameRequest, context: Context
    ) -> pb.SuggestImageFilenameResponse:
        patience = patience_of(context, self._answer_seconds)
        wanted = convert.name_request(request)
        return convert.to_named(await self._helpers.name(wanted, patience=patience))
