"""Blob storage in a dictionary, for unit tests."""

import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime

from services.gallery.domain.assets import MediaType
from services.gallery.ports import (
    MAX_DOCUMENT_BYTES,
    NO_VERSION,
    BlobConflict,
    BlobFacts,
    BlobKey,
    BlobMissing,
    Content,
)

PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Blob:
    data: bytes
    sha256: str
    mime_type: str
    etag: str
    write_time: datetime

    @classmethod
    def of(cls, data: bytes, sha256: str, mime_type: str) -> "_Blob":
        return cls(data, sha256, mime_type, secrets.token_hex(8), datetime.now(UTC))


class MemoryBlobStore:
    """Implements `ports.BlobStore`."""

    def __init__(self) -> None:
        self._blobs: dict[BlobKey, _Blob] = {}

    async def prepare(self) -> None:
        """Nothing to do."""

    async def put(self, key: BlobKey, content: Content, *, mime_type: str, sha256: str) -> None:
        """See `ports.BlobStore`."""
        pieces = [await content.read(at, PIECE_BYTES) for at in range(0, content.size, PIECE_BYTES)]
        stored = self._blobs.setdefault(key, _Blob.of(b"".join(pieces), sha256, mime_type))
        if stored.sha256 != sha256:
            raise BlobConflict

    async def load(self, key: BlobKey) -> tuple[bytes, str]:
        """See `ports.BlobStore`."""
        facts = await self.facts(key)
        return self._blobs[key].data[:MAX_DOCUMENT_BYTES], facts.etag

    async def replace(self, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None) -> None:
        """See `ports.BlobStore`."""
        present = self._blobs[key].etag if key in self._blobs else NO_VERSION
        if over not in (None, present):
            raise BlobConflict
        self._blobs[key] = _Blob.of(data, "", mime_type)

    async def read(
        self, key: BlobKey, *, start: int, length: int, etag: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """See `ports.BlobStore`."""
        blob = self._blobs.get(key)
        if blob is None or etag not in (None, blob.etag):
            raise BlobMissing
        for at in range(start, start + length, PIECE_BYTES):
            yield blob.data[at : min(at + PIECE_BYTES, start + length)]

    async def facts(self, key: BlobKey) -> BlobFacts:
        """See `ports.BlobStore`."""
        if key not in self._blobs:
            raise BlobMissing
        blob = self._blobs[key]
        return BlobFacts(key, len(blob.data), blob.etag, blob.sha256, blob.mime_type, blob.write_time)

    async def walk(self, container: MediaType, prefix: str = "") -> AsyncGenerator[BlobFacts, None]:
        """See `ports.BlobStore`."""
        keys = [key for key in self._blobs if key.container is container and key.name.startswith(prefix)]
        for key in sorted(keys, key=lambda found: found.name):
            yield await self.facts(key)

    async def delete(self, key: BlobKey, *, etag: str | None = None) -> None:
        """See `ports.BlobStore`."""
        if key in self._blobs and etag in (None, self._blobs[key].etag):
            del self._blobs[key]

    async def discard(self, key: BlobKey) -> None:
        """See `ports.BlobStore`."""
        await self.delete(key)

    async def is_reachable(self) -> bool:
        """Always."""
        return True
