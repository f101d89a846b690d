"""What every request with texts has in common."""

from google.protobuf.message import Message

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.errors import InvalidArgument
from services.models.helpers.protect import Mode

MODES: dict[int, Mode] = {pb.BrandProtection.NEUTRALIZE: "NEUTRALIZE", pb.BrandProtection.REPLACE: "REPLACE"}


def refuse_nul(message: Message, path: str = "") -> None:
    """Refuses NUL characters, which no column holds, in all texts of a message.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    for descriptor, value in message.ListFields():
        name = f"{path}{descriptor.name}"
        for each in value if descriptor.is_repeated else [value]:
            if isinstance(each, Message):
                refuse_nul(each, f"{name}.")
            elif isinstance(each, str) and "\0" in each:
                raise InvalidArgument.field(name, "must not contain a NUL character")
