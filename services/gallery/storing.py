"""From verified bytes to an asset: attempt ──> original ──> asset.json ──> index row ──> acknowledgement.

`adapters/attempts.py` says what each step leaves when it is the last, and who takes it away.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import structlog

from services.common.errors import ServiceError
from services.gallery.adapters.attempts import AttemptGivenUp, Attempts
from services.gallery.adapters.catalog import Catalog
from services.gallery.documents import write_asset_document
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.uploads import NewAsset
from services.gallery.ports import BlobConflict, BlobKey, BlobStore, document_key, original_key

TAKE_BACK_SECONDS = 5.0
"""The caller waits for its refusal meanwhile, and storage that has just failed may be down for long."""

Put = Callable[[BlobKey], Awaitable[None]]
"""Stores the original under this key, whole or not at all; raises BlobConflict where other bytes are."""

_log = structlog.get_logger(__name__)


class Storing:
    """Makes assets durable, each within `seconds`: what takes longer is given up, and swept some time later."""

    def __init__(self, catalog: Catalog, attempts: Attempts, blobs: BlobStore, *, seconds: float) -> None:
        self._catalog = catalog
        self._attempts = attempts
        self._blobs = blobs
        self._seconds = seconds

    async def check(self, owner: str, asset_id: str) -> None:
        """Refuses an id that `store` would refuse whatever the bytes are: see `Attempts.check`."""
        await self._attempts.check(owner, asset_id)

    async def store(self, new: NewAsset, put: Put, *, own_id: bool) -> Asset:
        """The asset, once it is durable, or the one that is there already under its id with the same bytes.

        `own_id`: nobody else can store under this id, so a failure may take the bytes back. Under any other they stay
        until the sweep: they may by now be those of a repetition.

        Raises:
            AlreadyExists: ASSET_EXISTS.
            FailedPrecondition: ASSET_PURGED.
            NotFound: FOLDER_NOT_FOUND.
            Unavailable: STORAGE_UNAVAILABLE, or leftovers under this id are being removed, or it was given up.
        """
        attempt = await self._attempts.begin(new.owner, new.id)
        try:
            asset = await self._store(new, put, attempt, own_id=own_id)
        except BlobConflict:
            await self._end(new.id, attempt)
            raise failures.asset_exists(f"assets/{new.id}") from None
        except AttemptGivenUp:
            await self._attempts.reopen(new.owner, new.id, attempt)
            raise failures.upload_given_up() from None
        if asset is not None:
            return asset
        return self._same(await self._catalog.find(new.id), new)

    async def _store(self, new: NewAsset, put: Put, attempt: uuid.UUID, *, own_id: bool) -> Asset | None:
        media, documented = new.media, False

        async def write_document(asset: Asset) -> None:
            nonlocal documented
            await write_asset_document(self._blobs, asset, is_first=own_id)
            documented = True

        try:
            async with asyncio.timeout(self._seconds):
                await put(original_key(media.media_type, new.id))
                return await self._catalog.insert(new, write_document, attempt)
        except (BlobConflict, AttemptGivenUp):
            raise
        except Exception as error:
            # Neither before its document is written nor beside a refusal can a row have committed.
            undone = not documented or isinstance(error, ServiceError)
            if own_id and undone and await self._take_back(new):
                await self._end(new.id, attempt)
            if isinstance(error, TimeoutError):
                raise self._timed_out(undone=undone, own_id=own_id) from error
            raise

    @staticmethod
    def _timed_out(*, undone: bool, own_id: bool) -> ServiceError:
        # A repetition under the same id is the same asset.
        return failures.storage_unavailable() if undone else failures.upload_outcome_unknown(retry_safe=not own_id)

    async def _take_back(self, new: NewAsset) -> bool:
        try:
            async with asyncio.timeout(TAKE_BACK_SECONDS):
                await self._blobs.delete(document_key(new.media.media_type, new.id))
                await self._blobs.delete(original_key(new.media.media_type, new.id))
        except (ServiceError, TimeoutError) as error:
            _log.warning("bytes_left_behind", asset=new.id, error=type(error).__name__)
            return False
        return True

    async def _end(self, asset_id: str, attempt: uuid.UUID) -> None:
        """The outcome is decided; an attempt that stays only gives the sweep something to look at."""
        try:
            async with asyncio.timeout(TAKE_BACK_SECONDS):
                await self._attempts.end(asset_id, attempt)
        except Exception as error:
            _log.warning("attempt_left_behind", asset=asset_id, error=type(error).__name__)

    @staticmethod
    def _same(stored: Asset | None, new: NewAsset) -> Asset:
        """Another upload of this id came first; another owner's is neither shown nor told of."""
        if stored is None or stored.owner != new.owner or stored.media.sha256 != new.media.sha256:
            raise failures.asset_exists(f"assets/{new.id}")
        return stored
