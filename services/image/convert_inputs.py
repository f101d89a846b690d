"""The pictures of a request: protocol buffers to domain."""

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.errors import InvalidArgument
from services.image.domain.generations import ASSETS
from services.image.domain.inputs import EditInputs, Source

EditMessage = pb.EditImagesRequest | pb.StreamEditImagesRequest


def to_inputs(message: EditMessage) -> EditInputs:
    """What the edit works on. Digests inline bytes: with large ones it belongs off the event loop.

    Raises:
        InvalidArgument: INVALID_RESOURCE_NAME, or INVALID_FIELD for both a mask and a markup.
    """
    if message.HasField("mask") and message.HasField("markup"):
        raise InvalidArgument.field("markup", "cannot be given together with mask")
    return EditInputs(
        tuple(_source(one, f"images[{index}]") for index, one in enumerate(message.images)),
        _source(message.mask, "mask") if message.HasField("mask") else None,
        _source(message.markup, "markup") if message.HasField("markup") else None,
    )


def _source(message: pb.ImageInput, field: str) -> Source:
    if message.WhichOneof("source") == "inline":
        return Source.inline(message.inline)
    return Source(asset_id=ASSETS.parse(message.asset, field=f"{field}.asset"))
