"""Direct uploads: a client writes to a staging blob in storage, and what it has written becomes an asset.

    CreateUpload ──> row, write-only link ──> PUT by the client ──> CompleteUpload ──> as every other upload
                                                                    (read under If-Match)

Nothing of an asset is ever where a link can write: the staged bytes are read through the spool, verified and inspected
there, and stored from there. The staging blob goes when that is done, and again when nobody can write it any more.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

import structlog

from services.common.errors import InvalidArgument, ServiceError
from services.gallery.adapters.catalog import Catalog
from services.gallery.adapters.signing import LinkSigner
from services.gallery.adapters.staging import Staging
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.links import Link
from services.gallery.domain.staging import REFUSED_FOR_GOOD, Announced, DirectUpload, Refused
from services.gallery.ports import BlobMissing, BlobStore, staging_key
from services.gallery.uploads import Uploads

REQUIRED_HEADERS = {"x-ms-blob-type": "BlockBlob"}
"""Put Blob wants it. One such request takes 5,000 MiB, more than any upload may have."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DirectLimits:
    """Bytes of one upload, how long its link lives, and how many links one owner may have."""

    max_bytes: int
    lifetime: timedelta
    open_uploads: int


class DirectUploads:
    """Opens and completes direct uploads."""

    def __init__(
        self,
        staging: Staging,
        catalog: Catalog,
        uploads: Uploads,
        blobs: BlobStore,
        signer: LinkSigner,
        limits: DirectLimits,
    ) -> None:
        self._staging = staging
        self._catalog = catalog
        self._uploads = uploads
        self._blobs = blobs
        self._signer = signer
        self._limits = limits
        self._completing: dict[str, asyncio.Task[Asset]] = {}

    async def open(self, announced: Announced) -> Link:
        """Opens an upload; its link can write the staging blob and do nothing else.

        Raises:
            InvalidArgument: UPLOAD_TOO_LARGE.
            NotFound: FOLDER_NOT_FOUND.
            FailedPrecondition: LINKS_NOT_CONFIGURED.
            ResourceExhausted: TOO_MANY_UPLOADS.
            Unavailable: STORAGE_UNAVAILABLE.
        """
        request = announced.request(max_bytes=self._limits.max_bytes)
        request.declared.check_size(0, self._limits.max_bytes)
        await self._catalog.check_folder(request.owner, request.folder)
        link = await self._signer.write_link(staging_key(announced.id), ttl=self._limits.lifetime)
        await self._staging.open(DirectUpload(announced, link.expire_time), limit=self._limits.open_uploads)
        return link

    async def complete(self, owner: str, upload_id: str) -> Asset:
        """The asset, once it is durable. Repeated calls, also at the same time, give the same one.

        A caller that leaves stops nothing: whoever repeats the call gets what came of it.

        Raises:
            NotFound: UPLOAD_NOT_FOUND, FOLDER_NOT_FOUND.
            FailedPrecondition: UPLOAD_EXPIRED, ASSET_PURGED.
            InvalidArgument: UPLOAD_INCOMPLETE, CHECKSUM_MISMATCH, UNSUPPORTED_MEDIA, IMAGE_TOO_LARGE.
            Unavailable: no turn, no room, STORAGE_UNAVAILABLE.
        """
        found = await self._staging.find(owner, upload_id)
        if found is None:
            raise failures.upload_not_found(f"uploads/{upload_id}")
        task = self._completing.get(upload_id)
        if task is None:
            task = asyncio.create_task(self._complete(*found), name=f"complete {upload_id}")
            self._completing[upload_id] = task
            task.add_done_callback(lambda done: self._forget(upload_id, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Gives up what is still being read; `Uploads.close` waits for what is being stored."""
        for task in self._completing.values():
            task.cancel()
        await asyncio.gather(*self._completing.values(), return_exceptions=True)

    async def _complete(self, upload: DirectUpload, is_expired: bool) -> Asset:
        announced = upload.announced
        asset = await self._catalog.get(announced.owner, announced.id)
        if asset is None:
            if upload.complete_time is not None:
                raise failures.asset_purged(f"assets/{announced.id}")
            if is_expired:
                raise failures.upload_expired(announced.name)
            asset = await self._stored(upload)
        if upload.complete_time is None:
            await self._staging.complete(announced.id)
            await self._discard(announced.id)
        return asset

    async def _stored(self, upload: DirectUpload) -> Asset:
        """The asset, whoever stores it: once another process has, what is staged goes, even while it is read here."""
        try:
            return await self._store(upload)
        except ServiceError:
            asset = await self._catalog.get(upload.announced.owner, upload.announced.id)
            if asset is None:
                raise
            return asset

    async def _store(self, upload: DirectUpload) -> Asset:
        announced = upload.announced
        key = staging_key(announced.id)
        try:
            staged = await self._blobs.facts(key)
        except BlobMissing:
            raise failures.upload_incomplete(announced.size_bytes, 0) from None
        announced.check_staged(staged.size)
        upload.check_not_refused(staged.etag)

        async def pieces() -> AsyncGenerator[bytes, None]:
            try:
                async with aclosing(self._blobs.read(key, start=0, length=staged.size, etag=staged.etag)) as read:
                    async for piece in read:
                        yield piece
            except BlobMissing:
                raise failures.upload_changed(announced.size_bytes) from None

        try:
            async with aclosing(pieces()) as chunks:
                return await self._uploads.store(announced.request(max_bytes=self._limits.max_bytes), chunks)
        except InvalidArgument as error:
            if error.reason in REFUSED_FOR_GOOD:
                refused = Refused(staged.etag, error.reason, error.message, error.metadata)
                await self._staging.refuse(announced.id, refused)
            raise

    async def _discard(self, upload_id: str) -> None:
        """The asset is there whatever becomes of the staged bytes: the sweep takes what is left."""
        try:
            await self._blobs.discard(staging_key(upload_id))
        except Exception as error:
            _log.warning("staged_upload_left", upload=upload_id, error=type(error).__name__)

    def _forget(self, upload_id: str, done: asyncio.Task[Asset]) -> None:
        del self._completing[upload_id]
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.info("upload_not_completed", upload=upload_id, error=type(error).__name__)
