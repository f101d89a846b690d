"""What callers may change of an asset. Each rule takes the asset as it is now and gives the asset as it shall be.

A soft-deleted asset may be changed like any other: it is still its owner's, and comes back as it was left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from services.common.errors import InvalidArgument
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset, Folder
from services.gallery.domain.folders import Contents, FolderRef
from services.gallery.domain.lifecycle import check_etag, soft_delete
from services.gallery.domain.media import made_name

MAX_TAGS = 50


@dataclass(frozen=True, slots=True)
class AssetUpdate:
    """New values of the fields named in `fields`; what is not named there means nothing."""

    fields: frozenset[str]
    display_name: str = ""
    folder: FolderRef | None = None
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    favorite: bool = False
    etag: str = ""


def update(asset: Asset, new: AssetUpdate, folder: Folder | None) -> Asset:
    """The asset with the fields that the update names, and no other, changed; `folder` is the one that it means.

    An empty display name gives the made one back, as an upload without a name has it.

    Raises:
        Aborted: ETAG_MISMATCH.
    """
    check_etag(asset, new.etag)
    values: dict[str, Any] = {
        "display_name": new.display_name or made_name(asset.id, asset.media.mime_type),
        "folder": folder,
        "tags": new.tags,
        "labels": new.labels,
        "favorite": new.favorite,
    }
    return replace(asset, **{name: value for name, value in values.items() if name in new.fields})


def move(asset: Asset, folder: Folder | None) -> Asset:
    """The asset in another folder, or in none."""
    return replace(asset, folder=folder)


def undelete(asset: Asset) -> Asset:
    """The asset as it was before it was deleted; if its folder has gone meanwhile, it is in none.

    Raises:
        AlreadyExists: ASSET_NOT_DELETED.
    """
    if asset.delete_time is None:
        raise failures.asset_not_deleted(asset.name)
    return replace(asset, delete_time=None, purge_time=None)


def check_retagging(add: Sequence[str], remove: Sequence[str]) -> None:
    """Refuses a tag that is to come and to go at once.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    if not set(add).isdisjoint(remove):
        raise InvalidArgument.field("remove_tags", "must not have a tag that is also in add_tags")


def retag(asset: Asset, add: Sequence[str], remove: Sequence[str]) -> Asset:
    """The asset with some tags more and some fewer: kept ones stay in their order, new ones come behind.

    Raises:
        InvalidArgument: INVALID_FIELD, too many tags.
    """
    tags = tuple(dict.fromkeys([*(tag for tag in asset.tags if tag not in remove), *add]))
    if len(tags) > MAX_TAGS:
        raise failures.too_many_tags(asset.name, len(tags), MAX_TAGS)
    return replace(asset, tags=tags)


def leave_folder(
    asset: Asset, now: datetime, contents: Contents, parent: Folder | None, *, retention: timedelta
) -> Asset:
    """The asset when its folder is deleted. One that is soft-deleted does not keep a folder from being deleted."""
    match contents:
        case Contents.MOVE_TO_PARENT:
            return replace(asset, folder=parent)
        case Contents.DELETE:
            return replace(soft_delete(asset, now, retention=retention), folder=None)
        case Contents.REFUSE:
            return replace(asset, folder=None)
