"""What the gallery needs of blob storage: Azure in production and in the suite, a dictionary in unit tests.

Both implementations pass `tests/contracts/test_blob_store.py`. The index has one implementation and needs no port.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.gallery.domain.assets import MediaType
from services.gallery.domain.variants import EXTENSION, Variant

FOLDER_PREFIX = "_folders/"
STAGING_PREFIX = "_staging/"

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024

NO_VERSION = ""
"""The version of a blob that is not there."""


@dataclass(frozen=True, slots=True)
class BlobKey:
    """A blob's address: the container of a media type, and a name of ours, never one of a user's."""

    container: MediaType
    name: str


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """What storage says of a blob. `etag` is another one after every write; `sha256` is empty for what was replaced."""

    key: BlobKey
    size: int
    etag: str
    sha256: str
    mime_type: str
    write_time: datetime


def original_key(media_type: MediaType, asset_id: str) -> BlobKey:
    """Where an asset's bytes are, as they were given."""
    return BlobKey(media_type, f"{asset_id}/original")


def document_key(media_type: MediaType, asset_id: str) -> BlobKey:
    """Where an asset's `asset.json` is."""
    return BlobKey(media_type, f"{asset_id}/asset.json")


def staging_key(upload_id: str) -> BlobKey:
    """Where a client puts the bytes of a direct upload. No asset's id has an underscore."""
    return BlobKey(MediaType.IMAGE, f"{STAGING_PREFIX}{upload_id}")


def folder_document_key(folder_id: str) -> BlobKey:
    """Where a folder's document is, whatever is in the folder. No asset's id has an underscore."""
    return BlobKey(MediaType.IMAGE, f"{FOLDER_PREFIX}{folder_id}.json")


def variant_key(media_type: MediaType, asset_id: str, variant: Variant) -> BlobKey:
    """Where a derivative is."""
    return BlobKey(media_type, f"{asset_id}/{variant.value}{EXTENSION}")


class Content(Protocol):
    """Bytes to be stored, read piece by piece; `read` may be called again for the same piece (retries)."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    async def read(self, offset: int, length: int) -> bytes:
        """The `length` bytes from `offset`, fewer only at the end."""


class BlobConflict(Exception):
    """A blob of this name holds other bytes, or another version than was to be replaced. It is not overwritten."""


class BlobMissing(Exception):
    """There is no such blob, although the index says so: bytes were lost or removed by hand."""


class BlobStore(Protocol):
    """Blob storage. Every call is bounded in time and retries by itself.

    Every method raises `Unavailable` STORAGE_UNAVAILABLE when storage does not answer.
    """

    async def prepare(self) -> None:
        """Creates the containers that are missing."""

    async def put(self, key: BlobKey, content: Content, *, mime_type: str, sha256: str) -> None:
        """Stores bytes under a name that has none yet. All of them or none, and for good.

        Repeating it with the same bytes does nothing. Of two writers with different bytes one wins whole.

        Raises:
            BlobConflict: the name holds other bytes, by their SHA-256.
        """

    async def load(self, key: BlobKey) -> tuple[bytes, str]:
        """A small document, whole, and its version; of one that is larger than documents are, the beginning.

        Raises:
            BlobMissing: there is none.
        """

    async def replace(self, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None) -> None:
        """Stores a small document: over whatever is there, or only over the version `over`, which may be NO_VERSION.

        Raises:
            BlobConflict: another version is there, perhaps that of an attempt of this call whose answer was lost.
        """

    def read(self, key: BlobKey, *, start: int, length: int, etag: str | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes of a range that lies within the blob, in pieces of bounded size; one piece is held at a time.

        All are of one version of the blob, that of the `etag` if one is given.

        Raises:
            BlobMissing: there is none, or none of that version.
        """

    async def facts(self, key: BlobKey) -> BlobFacts:
        """What storage knows of a blob.

        Raises:
            BlobMissing: there is none.
        """

    def walk(self, container: MediaType, prefix: str = "") -> AsyncGenerator[BlobFacts, None]:
        """Every committed blob whose name begins so, by name; a page of them is held at a time."""

    async def delete(self, key: BlobKey, *, etag: str | None = None) -> None:
        """Removes a blob; that there is none is no error. With an `etag` only that version; another one stays."""

    async def discard(self, key: BlobKey) -> None:
        """Removes a blob to which others have a link: whatever they have made of it, none being no error."""

    async def is_reachable(self) -> bool:
        """Whether storage answers right now."""
