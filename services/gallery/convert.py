"""Requests of the contract to the domain's terms, and answers back. Pure."""

from collections.abc import Mapping

from google.protobuf.message import Message

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.caller import Caller
from services.common.errors import InvalidArgument
from services.common.names import ResourceName
from services.gallery.convert_assets import provenance_of
from services.gallery.domain import failures
from services.gallery.domain.downloads import Conditions
from services.gallery.domain.environment import Environment
from services.gallery.domain.folders import parse_folder
from services.gallery.domain.uploads import Declared, UploadRequest

ASSET = ResourceName("assets/{asset}", id_pattern=r"[a-z0-9-]{1,63}")

PAGE_BYTES = 300 * 1024
"""A page ends early here. JSON can be six times as large (control characters), and must stay below 2 MiB."""

UPLOAD_LENGTH_KEY = "x-upload-content-length"
"""The Content-Length of a raw body, handed on by the gateway, which takes it from nobody else."""


def asset_id_of(name: str, *, field: str = "name") -> str:
    """The id in a resource name; `field` is where it stands in the request.

    Raises:
        InvalidArgument: INVALID_RESOURCE_NAME.
    """
    return ASSET.parse(name, field=field)


def upload_of(message: pb.UploadMetadata, caller: Caller) -> UploadRequest:
    """The upload that the first message of `UploadAsset` opens.

    Raises:
        InvalidArgument: INVALID_FIELD, INVALID_FOLDER_PATH.
        PermissionDenied: FIELD_RESERVED.
    """
    refuse_nul(message, "metadata")
    if caller.service is None:
        if message.asset_id:
            raise failures.field_reserved("metadata.asset_id")
        if message.HasField("provenance"):
            raise failures.field_reserved("metadata.provenance")
    owner = message.provenance.owner if message.HasField("provenance") else caller.principal
    return UploadRequest(
        owner=owner,
        declared=Declared(message.size_bytes, message.sha256),
        asset_id=message.asset_id or None,
        display_name=message.display_name,
        folder=parse_folder(message.folder, field="metadata.folder"),
        tags=tuple(message.tags),
        labels=dict(message.labels),
        provenance=provenance_of(message.provenance),
        by_service=caller.service is not None,
    )


def content_upload_of(message: pb.UploadAssetContentRequest, length: str, caller: Caller) -> UploadRequest:
    """The upload that a raw body opens; `length` is its Content-Length as the gateway tells it, or empty.

    Raises:
        InvalidArgument: LENGTH_REQUIRED, INVALID_FIELD, INVALID_FOLDER_PATH.
    """
    refuse_nul(message)
    known = int(length) if length.isascii() and length.isdecimal() and len(length) < 19 else None
    return UploadRequest(
        owner=caller.principal,
        declared=Declared(known, message.sha256 or None),
        display_name=message.display_name,
        folder=parse_folder(message.folder),
        tags=tuple(message.tags),
    )


def conditions_of(metadata: Mapping[str, str]) -> Conditions:
    """The conditional headers of a download."""
    return Conditions(
        range=metadata.get("range", ""),
        if_none_match=metadata.get("if-none-match", ""),
        if_range=metadata.get("if-range", ""),
    )


def environment_message(environment: Environment) -> pb.GalleryEnvironment:
    """The answer of `GetGalleryEnvironment`."""
    message = pb.GalleryEnvironment(
        storage_kind=environment.storage_kind,
        storage_auth=environment.storage_auth,
        image_container=environment.image_container,
        video_container=environment.video_container,
        max_upload_bytes=environment.max_upload_bytes,
        max_image_pixels=environment.max_image_pixels,
        accepted_mime_types=environment.accepted_mime_types,
        link_signing=environment.link_signing,
        max_direct_upload_bytes=environment.max_direct_upload_bytes,
    )
    message.delete_retention.FromTimedelta(environment.delete_retention)
    return message


def refuse_nul(message: Message, prefix: str = "") -> None:
    """Refuses U+0000 in any text: neither Postgres nor a file name can hold it.

    Raises:
        InvalidArgument: INVALID_FIELD, with the path of the field.
    """
    for field, value in message.ListFields():
        path = f"{prefix}.{field.name}" if prefix else field.name
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            texts = [text for pair in value.items() for text in pair if isinstance(text, str)]
        elif field.message_type is not None:
            for index, part in enumerate(value if field.is_repeated else [value]):
                refuse_nul(part, f"{path}[{index}]" if field.is_repeated else path)
            continue
        else:
            texts = [text for text in (value if field.is_repeated else [value]) if isinstance(text, str)]
        if any("\0" in text for text in texts):
            raise InvalidArgument.field(path, "must not contain the character U+0000")
