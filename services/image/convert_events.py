"""Events of a generation to protocol buffers; pure."""

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.errors import ServiceError
from services.common.status import to_status
from services.image import convert
from services.image.domain.generations import Generation, Picture
from services.image.previews import ShownPreview
from services.image.streaming import Event, Started


def to_event(event: Event, request_id: str) -> pb.StreamImagesResponse:
    """One message of the stream. `request_id` is that of the call, which errors name."""
    match event:
        case Started(name, intent):
            return pb.StreamImagesResponse(
                started=pb.StreamImagesResponse.Started(image_generation=name, request_id=intent)
            )
        case ShownPreview(index, partial_index, content, mime_type):
            preview = pb.StreamImagesResponse.PartialImage(
                index=index, partial_index=partial_index, content=content, mime_type=mime_type
            )
            return pb.StreamImagesResponse(partial_image=preview)
        case Picture():
            return pb.StreamImagesResponse(image=convert.to_result(event))
        case Generation():
            return pb.StreamImagesResponse(done=convert.to_generation(event))
        case ServiceError():
            return pb.StreamImagesResponse(error=to_status(event, request_id=request_id))
