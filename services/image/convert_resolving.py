"""Requests to resolve something, to domain terms; pure."""

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.errors import InvalidArgument
from services.image.resolving import Word


def to_word(message: pb.ResolveImageGenerationRequest | pb.ResolvePaidCallRequest) -> Word:
    """What the caller says.

    Raises:
        InvalidArgument: INVALID_FIELD for a note that cannot be stored.
    """
    if "\0" in message.note:
        raise InvalidArgument.field("note", "must not contain a NUL character")
    return Word(
        is_billed=message.billed == pb.PaidCall.YES,
        note=message.note,
        run_again=isinstance(message, pb.ResolveImageGenerationRequest) and message.run_again,
        request_id=message.request_id.lower(),
    )
