"""Changes of assets, from the contract's terms to the domain's, and the answers to batches. Pure."""

from collections.abc import Iterable, Sequence

from google.protobuf import json_format
from google.protobuf.message import Message

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.errors import InvalidArgument
from services.common.masks import paths_to_update
from services.gallery.convert import PAGE_BYTES, asset_id_of, refuse_nul
from services.gallery.convert_assets import analysis_of, asset_message, cost_of, usage_of
from services.gallery.domain.annotations import Annotation
from services.gallery.domain.assets import Asset
from services.gallery.domain.edits import AssetUpdate
from services.gallery.domain.folders import FolderRef, parse_folder

ANSWER_BYTES = 2 * 1024 * 1024 - 64 * 1024
"""No JSON that the suite sends is larger than 2 MiB; what is estimated here needs some room."""

# The longest escape, `\\ud83d\\ude00`, has 12 characters for one of 4 bytes.
_ESCAPE_EXCESS = 8


def update_of(request: pb.UpdateAssetRequest) -> AssetUpdate:
    """What an update changes. What its mask leaves out is not looked at.

    Raises:
        InvalidArgument: INVALID_FIELD, INVALID_FOLDER_PATH.
    """
    refuse_nul(request)
    asset, mask = request.asset, request.update_mask if request.HasField("update_mask") else None
    fields = frozenset(paths_to_update(asset, mask))
    return AssetUpdate(
        fields=fields,
        display_name=asset.display_name,
        folder=parse_folder(asset.folder, field="asset.folder") if "folder" in fields else None,
        tags=tuple(asset.tags),
        labels=dict(asset.labels),
        favorite=asset.favorite,
        etag=asset.etag,
    )


def target_of(request: pb.BatchMoveAssetsRequest) -> FolderRef | None:
    """The folder to move to; None: out of any.

    Raises:
        InvalidArgument: INVALID_FIELD, INVALID_FOLDER_PATH.
    """
    refuse_nul(request)
    return parse_folder(request.folder)


def tags_of(request: pb.BatchTagAssetsRequest) -> tuple[Sequence[str], Sequence[str]]:
    """Tags to add and tags to remove.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    refuse_nul(request)
    return tuple(request.add_tags), tuple(request.remove_tags)


def annotation_of(request: pb.AnnotateAssetRequest) -> Annotation:
    """What a service adds to an asset.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    refuse_nul(request)
    return Annotation(
        request_id=request.request_id.lower(),
        analysis=analysis_of(request.analysis) if request.HasField("analysis") else None,
        usage=usage_of(request.usage, "usage") if request.HasField("usage") else None,
        cost=cost_of(request.cost, "cost") if request.HasField("cost") else None,
    )


def asset_ids_of(names: Iterable[str]) -> list[str]:
    """The ids of a batch's assets.

    Raises:
        InvalidArgument: INVALID_RESOURCE_NAME.
    """
    return [asset_id_of(name) for name in names]


def batch_of(assets: Iterable[Asset]) -> list[pb.Asset]:
    """The assets of a batch's answer, view BASIC."""
    return [asset_message(asset, full=False) for asset in assets]


def check_answer(assets: Sequence[Asset]) -> None:
    """Refuses a batch whose answer would be larger than an answer may be, before anything is changed.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    answer = pb.BatchGetAssetsResponse(assets=batch_of(assets))
    if answer.ByteSize() > PAGE_BYTES and (answer.ByteSize() > ANSWER_BYTES or _json_bytes(answer) > ANSWER_BYTES):
        raise InvalidArgument.field("names", "these assets make an answer that is too large; name fewer at a time")


def _json_bytes(message: Message) -> int:
    """No fewer bytes than the gateway's JSON has, which escapes more characters than this one."""
    text = json_format.MessageToJson(message, indent=None, ensure_ascii=False)
    escaped = sum(character in "<>" or not character.isprintable() for character in text)
    return len(text.encode()) + _ESCAPE_EXCESS * escaped
