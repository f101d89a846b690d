"""Protocol buffers to domain and back; pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.errors import Billed, InvalidArgument, ServiceError
from services.common.status import to_status
from services.image.convert_inputs import EditMessage, to_inputs
from services.image.convert_text import MODES, refuse_nul
from services.image.domain.generations import ASSETS, PAID_CALLS, Generation, GenerationState, Picture, PictureState
from services.image.domain.requests import GenerateRequest, Placement
from services.image.domain.steps import Protection, Steps
from services.models.image_requests import CheckedImageRequest, ImageRequest
from services.models.money import Cost, CostSource
from services.models.paid_calls import PaidCall
from services.models.usage import Usage

GenerateMessage = pb.GenerateImagesRequest | pb.StreamGenerateImagesRequest
StreamMessage = pb.StreamGenerateImagesRequest | pb.StreamEditImagesRequest
BASIC_PROMPT_CHARACTERS = 200

_STATES = {state: pb.ImageGeneration.State.Value(state.value) for state in GenerationState}
_PICTURE_STATES = {state: pb.ImageResult.State.Value(state.value) for state in PictureState}
_OPERATIONS = {"generate": pb.ImageGeneration.GENERATE, "edit": pb.ImageGeneration.EDIT}
_SOURCES = {source: pb.Cost.Source.Value(source.name) for source in CostSource}
_BILLED = {billed: pb.PaidCall.Billed.Value(billed.name) for billed in Billed}


def to_request(message: GenerateMessage | EditMessage) -> GenerateRequest:
    """The request in domain terms. Digests inline bytes: with large ones it belongs off the event loop.

    Raises:
        InvalidArgument: INVALID_FIELD for text that cannot be stored, or that nobody would read.
    """
    refuse_nul(message)
    known = ImageRequest.__dataclass_fields__
    image: dict[str, Any] = {one.name: value for one, value in message.ListFields() if one.name in known}
    image["model"] = message.model.removeprefix("imageModels/")
    return GenerateRequest(
        image=ImageRequest(**image),
        placement=Placement(message.folder, message.display_name, tuple(message.tags)),
        request_id=message.request_id.lower(),
        validate_only=message.validate_only,
        inputs=to_inputs(message) if isinstance(message, EditMessage) else None,
        partial_images=message.partial_images if isinstance(message, StreamMessage) else 0,
        steps=_to_steps(message),
    )


def _to_steps(message: GenerateMessage | EditMessage) -> Steps:
    if message.analysis_instructions and not message.analyze:
        raise InvalidArgument.field("analysis_instructions", "is for an analysis only: set analyze")
    protection = message.brand_protection
    wanted = Protection(MODES.get(protection.mode, "NEUTRALIZE"), tuple(protection.brands), protection.allow_failure)
    return Steps(
        enhance_prompt=message.enhance_prompt,
        brand_protection=wanted if message.HasField("brand_protection") else None,
        suggest_display_name=message.suggest_display_name,
        analyze=message.analyze,
        analysis_instructions=message.analysis_instructions,
    )


def to_generation(generation: Generation, *, basic: bool = False) -> pb.ImageGeneration:
    """The resource; with `basic`, as lists have it, prompts are cut."""
    most = BASIC_PROMPT_CHARACTERS if basic else None
    return pb.ImageGeneration(
        name=generation.name,
        state=_STATES[generation.state],
        operation=_OPERATIONS[generation.operation],
        prompt=generation.prompt[:most],
        final_prompt=generation.final_prompt[:most],
        model=generation.model,
        parameters=generation.parameters,
        assets=[ASSETS.format(one.asset_id) for one in generation.pictures if one.state is PictureState.STORED],
        results=[to_result(one) for one in generation.pictures],
        usage=to_usage(generation.usage),
        cost=to_cost(generation.cost),
        steps=[_to_step(call, generation.notes) for call in generation.calls],
        error=_to_error(generation.error),
        request_id=generation.request_id,
        owner=generation.owner,
        create_time=_time(generation.create_time),
        update_time=_time(generation.update_time),
        end_time=_time(generation.end_time),
    )


def to_preview(checked: CheckedImageRequest, owner: str) -> pb.ImageGeneration:
    """What a request with `validate_only` would become: without a name and a state, since there is nothing."""
    return pb.ImageGeneration(
        operation=_OPERATIONS[checked.operation],
        prompt=checked.request.prompt,
        model=checked.model_id,
        parameters={name: str(value) for name, value in checked.parameters.items()},
        owner=owner,
    )


def to_result(picture: Picture) -> pb.ImageResult:
    """What became of one picture."""
    facts = picture.facts
    return pb.ImageResult(
        index=picture.index,
        state=_PICTURE_STATES[picture.state],
        asset=ASSETS.format(picture.asset_id) if picture.asset_id and picture.state is not PictureState.FAILED else "",
        sha256=picture.sha256,
        size_bytes=picture.size_bytes,
        mime_type=facts.mime_type if facts else "",
        width_px=facts.width_px if facts else None,
        height_px=facts.height_px if facts else None,
        has_transparency=facts.has_transparency if facts else None,
        error=_to_error(picture.error),
    )


def _to_step(call: PaidCall, notes: Sequence[ServiceError]) -> pb.PaidStep:
    """A call that gave an answer which is of no use has failed as a step, though it is paid."""
    name = PAID_CALLS.format(call.id)
    unfit = next((note for note in notes if note.metadata.get("paidCall") == name), None)
    return pb.PaidStep(
        operation=call.operation,
        paid_call=name,
        model=call.model,
        usage=to_usage(call.usage),
        cost=to_cost(call.cost),
        error=_to_error(call.error or unfit),
    )


def to_paid_call(call: PaidCall) -> pb.PaidCall:
    """The resource."""
    return pb.PaidCall(
        name=PAID_CALLS.format(call.id),
        state=pb.PaidCall.State.Value(call.state.value),
        billed=_BILLED[call.billed],
        operation=call.operation,
        model=call.model,
        endpoint=call.endpoint,
        image_generation=call.subject,
        usage=to_usage(call.usage),
        cost=to_cost(call.cost),
        provider_request_id=call.provider_request_id,
        error=_to_error(call.error),
        resolution_note=call.resolution_note,
        owner=call.principal,
        create_time=_time(call.create_time),
        call_time=_time(call.call_time),
        end_time=_time(call.end_time),
    )


def to_usage(usage: Usage | None) -> pb.Usage | None:
    """Absent when the provider reported none."""
    if usage is None:
        return None
    return pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        input_text_tokens=usage.input_text_tokens,
        input_image_tokens=usage.input_image_tokens,
        output_text_tokens=usage.output_text_tokens,
        output_image_tokens=usage.output_image_tokens,
    )


def to_cost(cost: Cost | None) -> pb.Cost | None:
    """Absent while nothing was paid; UNPRICED, without an amount, when it is not known how much."""
    return None if cost is None else pb.Cost(source=_SOURCES[cost.source], amount_micro_usd=cost.micro_usd)


def _to_error(error: ServiceError | None) -> Status | None:
    return None if error is None else to_status(error)


def _time(value: datetime | None) -> Timestamp | None:
    if value is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(value)
    return timestamp
