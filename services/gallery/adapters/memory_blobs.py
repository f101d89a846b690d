"""Blob storage in a dictionary, for unit tests."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from services.gallery.ports import BlobConflict, BlobKey, BlobMissing, Content

PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Blob:
    data: bytes
    sha256: str


class MemoryBlobStore:
    """Implements `ports.BlobStore`."""

    def __init__(self) -> None:
        self._blobs: dict[BlobKey, _Blob] = {}

    async def prepare(self) -> None:
        """Nothing to do."""

    async def put(self, key: BlobKey, content: Content, *, mime_type: str, sha256: str) -> None:
        """See `ports.BlobStore`."""
        pieces = [await content.read(at, PIECE_BYTES) for at in range(0, content.size, PIECE_BYTES)]
        stored = self._blobs.setdefault(key, _Blob(b"".join(pieces), sha256))
        if stored.sha256 != sha256:
            raise BlobConflict

    async def replace(self, key: BlobKey, data: bytes, *, mime_type: str) -> None:
        """See `ports.BlobStore`."""
        self._blobs[key] = _Blob(data, "")

    async def read(self, key: BlobKey, *, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """See `ports.BlobStore`."""
        blob = self._blobs.get(key)
        if blob is None:
            raise BlobMissing
        for at in range(start, start + length, PIECE_BYTES):
            yield blob.data[at : min(at + PIECE_BYTES, start + length)]

    async def delete(self, key: BlobKey) -> None:
        """See `ports.BlobStore`."""
        self._blobs.pop(key, None)

    async def is_reachable(self) -> bool:
        """Always."""
        return True
