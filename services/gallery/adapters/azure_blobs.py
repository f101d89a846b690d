"""Azure Blob Storage; locally Azurite, through the same code.

Time and repetition are bounded on purpose: one attempt has ATTEMPT_SECONDS, one call with its retries CALL_SECONDS.
The SDK's own defaults would wait up to a minute for a connection and then 15 s between attempts.
"""

import asyncio
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock, BlobProperties, ContentSettings, StorageErrorCode
from azure.storage.blob.aio import BlobClient, BlobLeaseClient, BlobServiceClient, ExponentialRetry

from services.gallery.domain import failures
from services.gallery.domain.assets import MediaType
from services.gallery.domain.media import SVG
from services.gallery.ports import (
    MAX_DOCUMENT_BYTES,
    NO_VERSION,
    BlobConflict,
    BlobFacts,
    BlobKey,
    BlobMissing,
    Content,
)

CONNECT_SECONDS = 5
ATTEMPT_SECONDS = 20
CALL_SECONDS = 45
READINESS_SECONDS = 3
RETRIES = 2

BLOCK_BYTES = 4 * 1024 * 1024
"""Above this a blob is written in blocks of this size, one in memory at a time; 50,000 blocks make 195 GiB."""

PIECE_BYTES = 1024 * 1024
"""What one request reads at first: all that a reader holds who stalls at once."""

LARGE_PIECE_BYTES = 4 * PIECE_BYTES
LARGE_PIECES = 12
FAST_SECONDS = 1.0
"""A reader who takes a piece within this gets larger ones next: a request costs the more the less it brings. At most
LARGE_PIECES readers at a time, so that no number of readers who stall later holds much."""

LISTED_BLOBS = 5000
"""What one request lists: the service's own limit."""

_HASH = "sha256"
_CONDITION_FAILED = 412
_COPY_PENDING = "pending"

_log = structlog.get_logger(__name__)


def client_options() -> dict[str, Any]:
    """How a `BlobServiceClient` waits and repeats."""
    return {
        "connection_timeout": CONNECT_SECONDS,
        "read_timeout": ATTEMPT_SECONDS,
        # Waits of 1 to 3 and then 3 to 5 seconds: long enough for a restart, and not all clients at once.
        "retry_policy": ExponentialRetry(
            initial_backoff=0, increment_base=2, retry_total=RETRIES, random_jitter_range=1
        ),
        # A piece is one request.
        "max_single_get_size": LARGE_PIECE_BYTES,
        "max_chunk_get_size": LARGE_PIECE_BYTES,
    }


class AzureBlobStore:
    """Implements `ports.BlobStore`. The client belongs to the caller, who closes it."""

    def __init__(
        self, client: BlobServiceClient, containers: Mapping[MediaType, str], *, page_size: int = LISTED_BLOBS
    ) -> None:
        self._client = client
        self._containers = containers
        self._page_size = page_size
        self._large_readers = 0

    async def prepare(self) -> None:
        """See `ports.BlobStore`. An identity that may only write blobs is enough where the containers exist."""
        for name in self._containers.values():
            async with _call(), self._client.get_container_client(name) as container:
                if not await container.exists():
                    try:
                        await container.create_container()
                    except ResourceExistsError:
                        _log.debug("container_exists", container=name)

    async def put(self, key: BlobKey, content: Content, *, mime_type: str, sha256: str) -> None:
        """See `ports.BlobStore`."""
        blob = self._blob(key)
        try:
            if content.size <= BLOCK_BYTES:
                await _put_whole(blob, content, mime_type, sha256)
            elif await self._exists(blob):
                raise _TakenError
            else:
                await _put_blocks(blob, content, mime_type, sha256)
        except _TakenError:
            await _check_same(blob, content.size, sha256)

    async def load(self, key: BlobKey) -> tuple[bytes, str]:
        """See `ports.BlobStore`."""
        try:
            async with _call():
                download = await self._blob(key).download_blob(max_concurrency=1)
                return await download.read(MAX_DOCUMENT_BYTES), download.properties.etag.strip('"')
        except (ResourceNotFoundError, ResourceModifiedError, ResourceExistsError) as error:
            raise BlobMissing from error

    async def replace(self, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None) -> None:
        """See `ports.BlobStore`."""
        named: dict[str, Any] = {"overwrite": over != NO_VERSION, "content_settings": _settings(mime_type)}
        try:
            async with _call():
                await self._blob(key).upload_blob(data, **named, **_only(over))
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError) as error:
            raise BlobConflict from error

    async def read(
        self, key: BlobKey, *, start: int, length: int, etag: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """See `ports.BlobStore`. Pieces are requests of their own, all of one version of the blob (If-Match)."""
        clock, blob, at, size = time.monotonic, self._blob(key), start, PIECE_BYTES
        try:
            while at < start + length:
                piece, etag = await _piece(blob, at, min(size, start + length - at), etag)
                at += len(piece)
                given = clock()
                yield piece
                if size == PIECE_BYTES and clock() - given < FAST_SECONDS and self._large_readers < LARGE_PIECES:
                    size = LARGE_PIECE_BYTES
                    self._large_readers += 1
        finally:
            if size == LARGE_PIECE_BYTES:
                self._large_readers -= 1

    async def facts(self, key: BlobKey) -> BlobFacts:
        """See `ports.BlobStore`."""
        try:
            async with _call():
                return _facts(key, await self._blob(key).get_blob_properties())
        except (ResourceNotFoundError, ResourceExistsError) as error:  # 409: encrypted with a client's own key
            raise BlobMissing from error

    async def walk(self, container: MediaType, prefix: str = "") -> AsyncGenerator[BlobFacts, None]:
        """See `ports.BlobStore`."""
        client = self._client.get_container_client(self._containers[container])
        pages = client.list_blobs(
            name_starts_with=prefix, include=["metadata"], results_per_page=self._page_size
        ).by_page()
        while True:
            async with _call():
                page = await anext(pages, None)
                if page is None:
                    return
                found = [_facts(BlobKey(container, blob.name), blob) async for blob in page]
            for facts in found:
                yield facts

    async def delete(self, key: BlobKey, *, etag: str | None = None) -> None:
        """See `ports.BlobStore`."""
        async with _call():
            with suppress(ResourceNotFoundError, ResourceModifiedError):
                await self._blob(key).delete_blob(**_only(etag))

    async def discard(self, key: BlobKey) -> None:
        """See `ports.BlobStore`. Who may write may also lease, snapshot, copy, and stage blocks without committing.

        Whoever still writes, or discards it too, can come in between: then storage is called unavailable.
        """
        blob = self._blob(key)
        try:
            async with _call():
                with suppress(ResourceNotFoundError, ResourceExistsError):  # there is none, or none is leased
                    await BlobLeaseClient(blob).break_lease(lease_break_period=0)
                await _delete_whole(blob)
                await blob.commit_block_list([])  # drops the blocks that it does not name
                await _delete_whole(blob)
        except (ResourceNotFoundError, ResourceExistsError, ResourceModifiedError) as error:
            _log.warning("blob_not_discarded", status=error.status_code)
            raise failures.storage_unavailable() from error

    async def is_reachable(self) -> bool:
        """See `ports.BlobStore`."""
        try:
            async with asyncio.timeout(READINESS_SECONDS):
                for name in self._containers.values():
                    await self._client.get_container_client(name).get_container_properties(
                        retry_total=0, connection_timeout=READINESS_SECONDS
                    )
        except (AzureError, TimeoutError) as error:
            _log.warning("storage_unreachable", error=type(error).__name__)
            return False
        return True

    async def _exists(self, blob: BlobClient) -> bool:
        """Spares a large upload that could only be refused at its end."""
        async with _call():
            return await blob.exists()

    def _blob(self, key: BlobKey) -> BlobClient:
        return self._client.get_blob_client(self._containers[key.container], key.name)


class _TakenError(Exception):
    """The name has a blob already."""


@asynccontextmanager
async def _call() -> AsyncIterator[None]:
    """One call with a bound on its time; whatever storage does wrong is one typed error."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield
    except (ResourceNotFoundError, ResourceExistsError, ResourceModifiedError):
        raise
    except (AzureError, TimeoutError) as error:
        status = error.status_code if isinstance(error, HttpResponseError) else None
        _log.warning("storage_call_failed", error=type(error).__name__, status=status)
        raise failures.storage_unavailable() from error


def _facts(key: BlobKey, found: BlobProperties) -> BlobFacts:
    return BlobFacts(
        key,
        size=found.size,
        etag=found.etag.strip('"'),
        sha256=(found.metadata or {}).get(_HASH, ""),
        mime_type=found.content_settings.content_type or "",
        write_time=found.last_modified,
    )


def _only(etag: str | None) -> dict[str, Any]:
    """The condition that a blob is of this version, if one is given."""
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}


def _settings(mime_type: str) -> ContentSettings:
    # Also behind a signed link an SVG is a download and never a page.
    disposition = "attachment" if mime_type == SVG.mime_type else None
    return ContentSettings(content_type=mime_type, content_disposition=disposition)


async def _piece(blob: BlobClient, offset: int, length: int, etag: str | None) -> tuple[bytes, str]:
    """One request's bytes, and the version that they are of."""
    try:
        async with _call():
            download = await blob.download_blob(offset=offset, length=length, max_concurrency=1, **_only(etag))
            return await download.readall(), download.properties.etag
    except (ResourceNotFoundError, ResourceModifiedError, ResourceExistsError) as error:
        raise BlobMissing from error


async def _put_whole(blob: BlobClient, content: Content, mime_type: str, sha256: str) -> None:
    data = await content.read(0, content.size)
    async with _call(), _if_none_there():
        await blob.upload_blob(
            data,
            overwrite=False,
            max_concurrency=1,
            content_settings=_settings(mime_type),
            metadata={_HASH: sha256},
        )


async def _put_blocks(blob: BlobClient, content: Content, mime_type: str, sha256: str) -> None:
    """Blocks are named at random for each writer: two of one blob cannot mix theirs, as the SDK's numbered ones can."""
    writer, blocks = secrets.token_hex(8), []
    for offset in range(0, content.size, BLOCK_BYTES):
        block_id = f"{writer}{offset // BLOCK_BYTES:08d}"
        data = await content.read(offset, BLOCK_BYTES)
        async with _call(), _if_none_there():
            await blob.stage_block(b64encode(block_id.encode()).decode(), data, length=len(data))
        blocks.append(BlobBlock(b64encode(block_id.encode()).decode()))
    async with _call(), _if_none_there():
        await blob.commit_block_list(
            blocks,
            content_settings=_settings(mime_type),
            metadata={_HASH: sha256},
            match_condition=MatchConditions.IfMissing,
        )


@asynccontextmanager
async def _if_none_there() -> AsyncIterator[None]:
    """A refused condition, or blocks that another writer's commit has swept away: the name is taken."""
    try:
        yield
    except (ResourceExistsError, ResourceModifiedError) as error:
        raise _TakenError from error
    except HttpResponseError as error:
        if (
            error.status_code == _CONDITION_FAILED
            or getattr(error, "error_code", None) == StorageErrorCode.INVALID_BLOCK_LIST
        ):
            raise _TakenError from error
        raise


async def _delete_whole(blob: BlobClient) -> None:
    """With its snapshots; that there is none is no error. What is being copied into can only be deleted after that."""
    with suppress(ResourceNotFoundError):
        try:
            await blob.delete_blob(delete_snapshots="include")
        except ResourceExistsError:
            copy = (await blob.get_blob_properties()).copy
            if copy.status != _COPY_PENDING or not copy.id:
                raise
            with suppress(ResourceExistsError):  # it has ended meanwhile
                await blob.abort_copy(copy.id)
            await blob.delete_blob(delete_snapshots="include")


async def _check_same(blob: BlobClient, size: int, sha256: str) -> None:
    try:
        async with _call():
            present = await blob.get_blob_properties()
    except ResourceNotFoundError as error:  # removed since: what an earlier attempt left was swept, say
        raise failures.storage_unavailable() from error
    if present.size != size or (present.metadata or {}).get(_HASH) != sha256:
        raise BlobConflict
