"""Links and direct uploads between the contract's messages and the domain."""

from datetime import timedelta

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.names import ResourceName, new_id
from services.gallery.convert import refuse_nul
from services.gallery.direct import REQUIRED_HEADERS
from services.gallery.domain.links import DEFAULT_TTL, Link
from services.gallery.domain.staging import Announced

_UPLOAD = ResourceName("uploads/{upload}")


def ttl_of(request: pb.CreateAssetLinkRequest) -> timedelta:
    """How long a link is to live, in whole seconds: a signature knows no smaller ones."""
    return timedelta(seconds=request.ttl.seconds) if request.HasField("ttl") else DEFAULT_TTL


def link_message(link: Link) -> pb.AssetLink:
    """The answer of `CreateAssetLink`."""
    message = pb.AssetLink(uri=link.uri)
    message.expire_time.FromDatetime(link.expire_time)
    return message


def announced_of(request: pb.CreateUploadRequest, owner: str) -> Announced:
    """The upload that `CreateUpload` opens, under a new id.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    refuse_nul(request)
    return Announced(
        id=new_id(),
        owner=owner,
        size_bytes=request.size_bytes,
        sha256=request.sha256,
        display_name=request.display_name,
        folder=request.folder,
        tags=tuple(request.tags),
    )


def upload_message(announced: Announced, link: Link) -> pb.Upload:
    """The answer of `CreateUpload`."""
    message = pb.Upload(name=announced.name, upload_uri=link.uri, required_headers=REQUIRED_HEADERS)
    message.expire_time.FromDatetime(link.expire_time)
    return message


def upload_id_of(name: str) -> str:
    """The id in an upload's name.

    Raises:
        InvalidArgument: INVALID_RESOURCE_NAME.
    """
    return _UPLOAD.parse(name)
