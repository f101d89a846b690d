"""The RPCs of the image service."""

from typing import Any

import grpc.aio

from contentlab.image.v1 import image_service_pb2 as pb
from contentlab.image.v1 import image_service_pb2_grpc as rpc
from services.common.caller import current_caller
from services.common.pages import read_page
from services.image import convert, convert_models
from services.image.domain.generations import GENERATIONS, PAID_CALLS, GenerationState
from services.image.generating import Generating
from services.image.helpers import Helpers
from services.image.patience import patience_of
from services.image.reading import Reading
from services.image.resolving import Resolving
from services.image.servicer_helpers import HelperMethods
from services.image.servicer_resolving import ResolvingMethods
from services.image.servicer_streams import StreamMethods
from services.image.streaming import Streaming
from services.models.paid_calls import State

Context = grpc.aio.ServicerContext[Any, Any]

MAX_PAGE = 200
MODELS_PAGE = 100


class ImageServicer(HelperMethods, ResolvingMethods, StreamMethods, rpc.ImageServiceServicer):
    """`contentlab.image.v1.ImageService`.

    `answer_seconds` is how long a call without a deadline waits for its generation.
    """

    def __init__(
        self,
        generating: Generating,
        streaming: Streaming,
        reading: Reading,
        helpers: Helpers,
        resolving: Resolving,
        *,
        answer_seconds: float,
    ) -> None:
        self._generating = generating
        self._streaming = streaming
        self._reading = reading
        self._helpers = helpers
        self._resolving = resolving
        self._answer_seconds = answer_seconds

    async def GenerateImages(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.GenerateImagesRequest, context: Context
    ) -> pb.ImageGeneration:
        wanted = convert.to_request(request)
        if wanted.validate_only:
            return convert.to_preview(await self._generating.check(wanted), current_caller().principal)
        return convert.to_generation(
            await self._generating.generate(wanted, patience=patience_of(context, self._answer_seconds))
        )

    async def GetImageGeneration(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.GetImageGenerationRequest, context: Context
    ) -> pb.ImageGeneration:
        return convert.to_generation(await self._reading.generation(GENERATIONS.parse(request.name)))

    async def ListImageGenerations(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.ListImageGenerationsRequest, context: Context
    ) -> pb.ListImageGenerationsResponse:
        page = read_page(request, max_size=MAX_PAGE)
        state = GenerationState(pb.ImageGeneration.State.Name(request.state)) if request.state else None
        found, more = await self._reading.generations(page, state)
        return pb.ListImageGenerationsResponse(
            image_generations=[convert.to_generation(one, basic=True) for one in found],
            next_page_token=page.next_token(found[-1].id) if more else "",
        )

    async def GetPaidCall(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.GetPaidCallRequest, context: Context
    ) -> pb.PaidCall:
        return convert.to_paid_call(await self._reading.paid_call(PAID_CALLS.parse(request.name)))

    async def ListPaidCalls(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.ListPaidCallsRequest, context: Context
    ) -> pb.ListPaidCallsResponse:
        page = read_page(request, max_size=MAX_PAGE)
        state = State(pb.PaidCall.State.Name(request.state)) if request.state else None
        found, more = await self._reading.paid_calls(page, state)
        return pb.ListPaidCallsResponse(
            paid_calls=[convert.to_paid_call(one) for one in found],
            next_page_token=page.next_token(found[-1].id) if more else "",
        )

    async def GetImageModel(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.GetImageModelRequest, context: Context
    ) -> pb.ImageModel:
        model_id, model = self._reading.model(convert_models.MODELS.parse(request.name))
        return convert_models.to_model(self._reading.registry, model_id, model, self._reading.today())

    async def ListImageModels(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.ListImageModelsRequest, context: Context
    ) -> pb.ListImageModelsResponse:
        page = read_page(request, default_size=MODELS_PAGE, max_size=MAX_PAGE)
        found, more = self._reading.models(page, show_retired=request.show_retired)
        registry, today = self._reading.registry, self._reading.today()
        return pb.ListImageModelsResponse(
            image_models=[convert_models.to_model(registry, model_id, model, today) for model_id, model in found],
            next_page_token=page.next_token(found[-1][0]) if more else "",
        )

    async def GetImageEnvironment(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.GetImageEnvironmentRequest, context: Context
    ) -> pb.ImageEnvironment:
        return convert_models.to_environment(
            self._reading.selection, self._reading.today(), self._reading.model_warnings()
        )
