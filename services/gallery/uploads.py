"""From a stream of bytes to a stored asset.

    receive ──> verify ──> inspect ──> store ──> acknowledgement
    (spool)     (size,     (a process  (a task of its own: storing.py)
                 sha256)    of its own)

Up to and including the inspection nothing is stored, and a client that leaves stops everything. From then on the bytes
are whole: storing runs to its end also when the client has gone, because stopping half-way would only leave bytes that
no row names.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from services.common.names import new_id
from services.gallery.adapters.catalog import Catalog
from services.gallery.adapters.inspection.pool import Inspector
from services.gallery.adapters.spool import Spool
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset, Media
from services.gallery.domain.media import BY_MIME_TYPE
from services.gallery.domain.uploads import NewAsset, UploadRequest
from services.gallery.ports import BlobKey, BlobStore
from services.gallery.storing import Storing
from services.gallery.turns import Turns

RECEIVE_SECONDS = 900.0
"""The gateway gives an upload no longer either."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Bounds on uploads: bytes of one, how many at a time, seconds to wait for a turn and for the next byte.

    `of_one` is how many of a user's may be under way at a time: slow ones of one user leave turns for the others.
    `minimum_rate` in bytes a second holds on average, beyond the first `idle_seconds`.
    """

    max_bytes: int
    concurrent: int
    of_one: int
    wait_seconds: float
    idle_seconds: float
    minimum_rate: int
    spool_directory: str | None = None


class Uploads:
    """Takes in uploads; more than `limits.concurrent` wait their turn, without their bytes.

    Services have as many turns of their own: users who hold all of theirs do not hold up what was paid for.
    """

    def __init__(
        self, catalog: Catalog, storing: Storing, blobs: BlobStore, inspector: Inspector, limits: UploadLimits
    ) -> None:
        self._catalog = catalog
        self._storing = storing
        self._blobs = blobs
        self._inspector = inspector
        self._limits = limits
        self._users_turns = Turns(limits.concurrent, of_one=limits.of_one)
        self._services_turns = Turns(limits.concurrent, of_one=limits.concurrent)
        self._under_way: set[asyncio.Task[Asset]] = set()

    async def store(self, request: UploadRequest, chunks: AsyncIterator[bytes]) -> Asset:
        """The asset, once it is durable. With an `asset_id` that is stored already: that asset, if it is the same.

        Raises:
            InvalidArgument: UPLOAD_TOO_LARGE, UPLOAD_INCOMPLETE, CHECKSUM_MISMATCH, UNSUPPORTED_MEDIA, IMAGE_TOO_LARGE.
            AlreadyExists: ASSET_EXISTS.
            NotFound: FOLDER_NOT_FOUND.
            FailedPrecondition: ASSET_PURGED.
            Unavailable: no turn, no room, not decoded within the limits, STORAGE_UNAVAILABLE.
            DeadlineExceeded: the client stopped sending, or sent too slowly.
        """
        request.declared.check_size(0, request.max_bytes or self._limits.max_bytes)
        if request.asset_id and (stored := await self._replayed(request.asset_id, request)) is not None:
            return stored
        await self._catalog.check_folder(request.owner, request.folder)
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._turn(request))
            spool = held.enter_context(Spool(self._limits.spool_directory))
            sha256 = await self._receive(request, chunks, spool)
            media = await self._inspect(request, spool, sha256)
            new = request.with_bytes(request.asset_id or new_id(), media)
            # In gRPC a client that vanished looks like one that has finished, until the next real wait.
            await asyncio.sleep(0)
            return await self._finish(new, spool, held.pop_all(), own_id=request.asset_id is None)

    async def close(self) -> None:
        """Waits for what is being stored."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    @asynccontextmanager
    async def _turn(self, request: UploadRequest) -> AsyncIterator[None]:
        turns = self._services_turns if request.by_service else self._users_turns
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._limits.wait_seconds):
                    await held.enter_async_context(turns.turn(request.owner))
            except TimeoutError:
                raise failures.uploads_busy(own=turns.has_all(request.owner)) from None
            yield

    async def _receive(self, request: UploadRequest, chunks: AsyncIterator[bytes], spool: Spool) -> str:
        clock, limits = asyncio.get_running_loop().time, self._limits
        begin, most = clock(), request.max_bytes or limits.max_bytes

        def patience() -> float:
            slowest = limits.idle_seconds + spool.size / limits.minimum_rate
            return min(begin + RECEIVE_SECONDS, begin + slowest, clock() + limits.idle_seconds)

        try:
            async with asyncio.timeout_at(patience()) as deadline:
                async for chunk in chunks:
                    request.declared.check_size(spool.size + len(chunk), most)
                    await spool.write(chunk)
                    deadline.reschedule(patience())
        except TimeoutError:
            raise failures.upload_too_slow(limits.idle_seconds, limits.minimum_rate) from None
        sha256 = await spool.seal()
        request.declared.check_whole(spool.size, sha256)
        return sha256

    async def _inspect(self, request: UploadRequest, spool: Spool, sha256: str) -> Media:
        if spool.size == 0:
            raise failures.unsupported_media("The upload is empty.")
        with spool.opened_for_reading() as descriptor:
            facts = await self._inspector.inspect(descriptor, request.owner, by_service=request.by_service)
        return Media(
            media_type=BY_MIME_TYPE[facts["mime_type"]].media_type, size_bytes=spool.size, sha256=sha256, **facts
        )

    async def _finish(self, new: NewAsset, spool: Spool, held: AsyncExitStack, *, own_id: bool) -> Asset:
        async def put(key: BlobKey) -> None:
            await self._blobs.put(key, spool, mime_type=new.media.mime_type, sha256=new.media.sha256)

        async def store_and_let_go() -> Asset:
            async with held:
                return await self._storing.store(new, put, own_id=own_id)

        task = asyncio.create_task(store_and_let_go(), name=f"store {new.id}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_unheard)
            raise

    async def _replayed(self, asset_id: str, request: UploadRequest) -> Asset | None:
        """The stored asset of this id, if its bytes are those declared: who gives ids always gives a hash."""
        stored = await self._catalog.find(asset_id)
        if stored is None:
            await self._storing.check(request.owner, asset_id)
            return None
        if stored.owner != request.owner or stored.media.sha256 != request.declared.sha256:
            raise failures.asset_exists(stored.name)
        return stored


def _log_unheard(task: asyncio.Task[Asset]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("upload_failed_unheard", error=type(error).__name__, exc_info=error)
