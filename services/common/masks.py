"""Field masks of Update methods after AIP-134 and AIP-161.

Descriptors are `Any` here: their stubs keep the C and the pure Python implementation apart without a common base.
"""

from collections.abc import Iterator
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from services.common.errors import InvalidArgument

ETAG = "etag"
"""A precondition of the update (AIP-154), never something to write."""

_SERVER_OWNED = frozenset({field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER})


def paths_to_update(resource: Message, mask: FieldMask | None, *, field: str = "update_mask") -> tuple[str, ...]:
    """The field paths of `resource` that an Update request changes, in the contract's spelling.

    No mask means the populated fields, `*` every field. Fields that only the server sets (OUTPUT_ONLY, IDENTIFIER)
    are left out, named or not. A path may go into singular messages (`analysis.summary`), never into lists or maps.

    Raises:
        InvalidArgument: INVALID_FIELD on `field`, naming the unknown path, or `*` next to other paths.
    """
    if mask is None or not mask.paths:
        return tuple(f.name for f, _ in resource.ListFields() if not _server_owned(f))
    if "*" in mask.paths:
        if len(mask.paths) > 1:
            raise InvalidArgument.field(field, "'*' stands for every field and must be alone")
        return tuple(f.name for f in resource.DESCRIPTOR.fields if not _server_owned(f))
    kept = (path for path in mask.paths if not _path_is_server_owned(resource.DESCRIPTOR, path, field))
    return tuple(dict.fromkeys(kept))


def _path_is_server_owned(message: Any, path: str, field: str) -> bool:
    steps = list(_resolve(message, path, field))  # to the end, so that an unknown tail is refused as well
    return any(_server_owned(step) for step in steps)


def _resolve(message: Any, path: str, field: str) -> Iterator[Any]:
    present = message
    for segment in path.split("."):
        step = present.fields_by_name.get(segment) if present else None
        if step is None:
            raise InvalidArgument.field(field, f"{path!r} is not a field of {message.name}")
        yield step
        present = None if step.is_repeated else step.message_type


def _server_owned(field: Any) -> bool:
    if field.name == ETAG:
        return True
    behaviours = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return not _SERVER_OWNED.isdisjoint(behaviours)
