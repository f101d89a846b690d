"""What an upload claims, and whether the bytes that came are what it claimed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.gallery.domain import failures
from services.gallery.domain.assets import Asset, Folder, Media, Provenance
from services.gallery.domain.folders import FolderRef
from services.gallery.domain.media import made_name


@dataclass(frozen=True, slots=True)
class Declared:
    """What the caller said of the bytes before they came. One of the two is always there.

    A client that vanishes looks like one that has finished: only these tell a cut upload from a whole one.
    """

    size_bytes: int | None
    sha256: str | None

    def __post_init__(self) -> None:
        if self.size_bytes is None and self.sha256 is None:
            raise failures.length_required()

    def check_size(self, received: int, limit: int) -> None:
        """Refuses an upload as soon as it has more bytes than declared or allowed.

        Raises:
            InvalidArgument: UPLOAD_TOO_LARGE, UPLOAD_INCOMPLETE.
        """
        if max(received, self.size_bytes or 0) > limit:
            raise failures.upload_too_large(limit)
        if self.size_bytes is not None and received > self.size_bytes:
            raise failures.upload_incomplete(self.size_bytes, received)

    def check_whole(self, received: int, sha256: str) -> None:
        """Refuses bytes that are not those declared.

        Raises:
            InvalidArgument: UPLOAD_INCOMPLETE, CHECKSUM_MISMATCH.
        """
        if self.size_bytes is not None and received != self.size_bytes:
            raise failures.upload_incomplete(self.size_bytes, received)
        if self.sha256 is not None and self.sha256 != sha256:
            raise failures.checksum_mismatch(self.sha256, sha256)


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """An asset to be, without its bytes. `asset_id` is a service's or a direct upload's; None: a new one.

    `by_service`: a sibling service stores it, as a rule what was paid for. `max_bytes`: a limit of its own.
    """

    owner: str
    declared: Declared
    asset_id: str | None = None
    display_name: str = ""
    folder: FolderRef | None = None
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)
    by_service: bool = False
    max_bytes: int | None = None

    def with_bytes(self, asset_id: str, media: Media) -> "NewAsset":
        """The asset to store, now that its bytes are known and in order."""
        return NewAsset(
            id=asset_id,
            owner=self.owner,
            display_name=self.display_name or made_name(asset_id, media.mime_type),
            folder=self.folder,
            media=media,
            provenance=self.provenance,
            tags=self.tags,
            labels=self.labels,
        )


@dataclass(frozen=True, slots=True)
class NewAsset:
    """An asset whose bytes are verified and that the index does not have yet."""

    id: str
    owner: str
    display_name: str
    folder: FolderRef | None
    media: Media
    provenance: Provenance
    tags: tuple[str, ...]
    labels: Mapping[str, str]

    def as_stored(self, folder: Folder | None, create_time: datetime) -> Asset:
        """The asset as the index has it."""
        return Asset(
            id=self.id,
            owner=self.owner,
            display_name=self.display_name,
            folder=folder,
            media=self.media,
            provenance=self.provenance,
            tags=self.tags,
            labels=self.labels,
            create_time=create_time,
            update_time=create_time,
        )
