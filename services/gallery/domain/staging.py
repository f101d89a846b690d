"""Direct uploads: bytes that a client puts into storage itself, to be checked and made an asset afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.common.errors import InvalidArgument
from services.gallery.domain import failures
from services.gallery.domain.folders import parse_folder
from services.gallery.domain.uploads import Declared, UploadRequest


@dataclass(frozen=True, slots=True)
class Announced:
    """What a client says of the bytes that it will put into storage. `id` is that of the asset to be.

    `folder` is kept as it was asked for: a name or a path.
    """

    id: str
    owner: str
    size_bytes: int
    sha256: str
    display_name: str
    folder: str
    tags: tuple[str, ...]

    @property
    def name(self) -> str:
        """The upload's resource name."""
        return f"uploads/{self.id}"

    def request(self, *, max_bytes: int) -> UploadRequest:
        """The upload of these bytes, as any other.

        Raises:
            InvalidArgument: INVALID_FOLDER_PATH.
        """
        return UploadRequest(
            owner=self.owner,
            declared=Declared(self.size_bytes, self.sha256),
            asset_id=self.id,
            display_name=self.display_name,
            folder=parse_folder(self.folder),
            tags=self.tags,
            max_bytes=max_bytes,
        )

    def check_staged(self, size: int) -> None:
        """Refuses what cannot be whole, before a byte of it is read.

        Raises:
            InvalidArgument: UPLOAD_INCOMPLETE.
        """
        if size != self.size_bytes:
            raise failures.upload_incomplete(self.size_bytes, size)


REFUSED_FOR_GOOD = frozenset({"CHECKSUM_MISMATCH", "UNSUPPORTED_MEDIA", "IMAGE_TOO_LARGE"})
"""Reasons that lie in the bytes alone: the same bytes would be read in full, and refused, once more."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Staged bytes, by the etag of their blob, that were read in full and refused, and in which words."""

    etag: str
    reason: str
    message: str
    metadata: Mapping[str, str]

    @property
    def error(self) -> InvalidArgument:
        """The refusal, as it was."""
        return InvalidArgument(self.reason, self.message, metadata=self.metadata)


@dataclass(frozen=True, slots=True)
class DirectUpload:
    """An upload that was opened, until when, when it became an asset, and what of it was refused last."""

    announced: Announced
    expire_time: datetime
    complete_time: datetime | None = None
    refused: Refused | None = None

    def check_not_refused(self, etag: str) -> None:
        """Refuses bytes that were refused before.

        Raises:
            InvalidArgument: CHECKSUM_MISMATCH, UNSUPPORTED_MEDIA, IMAGE_TOO_LARGE.
        """
        if self.refused is not None and self.refused.etag == etag:
            raise self.refused.error
