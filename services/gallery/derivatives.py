"""Derivatives: made in the background soon after an upload, or when somebody asks first, and again when they are lost.

An upload never waits for them. All that there can be of an asset are made from one look at it and stored beside the
original; then its row says so. A purge that comes in between leaves nothing behind: whoever finds the row gone takes
back what was stored, and the purge looks a second time, for who died before that.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from services.common.errors import ServiceError
from services.gallery.adapters.derivation import Derivation
from services.gallery.adapters.inspection.renderer import NotRenderableError, NotRenderedError, Renderer
from services.gallery.adapters.spool import Spool
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.variants import MIME_TYPE, Variant, variants_of
from services.gallery.ports import BlobFacts, BlobMissing, BlobStore, original_key, variant_key

PAUSE_SECONDS = 1.0
OUTAGE_SECONDS = 10.0
BACKOFF = timedelta(minutes=1)
"""After the first failure, twice as long after the second; there is no fourth attempt."""

MAX_AT_ONCE = 64
"""Assets that requests wait for; each waits without bytes until it is its turn."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DerivativeLimits:
    """`concurrent`: originals held at a time. `wait_seconds`: how long a request waits for what is being made."""

    concurrent: int
    wait_seconds: float
    spool_directory: str | None = None


class Derivatives:
    """Makes derivatives, and knows those that are there."""

    def __init__(
        self,
        derivation: Derivation,
        blobs: BlobStore,
        renderer: Renderer,
        limits: DerivativeLimits,
        registry: CollectorRegistry,
    ) -> None:
        self._derivation = derivation
        self._blobs = blobs
        self._renderer = renderer
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.concurrent)
        self._making: dict[str, asyncio.Task[None]] = {}
        self._made = Counter("contentlab_gallery_derivatives", "Derivatives stored.", ["variant"], registry=registry)
        self._failed = Counter(
            "contentlab_gallery_derivative_failures", "Assets of which none were made.", ["cause"], registry=registry
        )
        self._waiting = Gauge(
            "contentlab_gallery_derivatives_waiting", "Assets that wait for theirs, at most 10,000.", registry=registry
        )

    async def find(self, asset: Asset, variant: Variant) -> BlobFacts:
        """What storage has for a variant; it is made if it is not there.

        Raises:
            NotFound: VARIANT_NOT_FOUND: there can be none of this asset. ASSET_NOT_FOUND: purged meanwhile.
            Unavailable: not made in time; STORAGE_UNAVAILABLE.
        """
        if variant not in variants_of(asset):
            raise failures.variant_not_found(asset.name, variant.name)
        key = variant_key(asset.media.media_type, asset.id, variant)
        try:
            return await self._blobs.facts(key)
        except BlobMissing:
            await self._wait_for(asset, variant)
        try:
            return await self._blobs.facts(key)
        except BlobMissing:  # gone again, or another variant was what we waited for
            raise failures.derivative_not_made() from None

    async def make_forever(self) -> None:
        """Makes what waits, one asset at a time: those that are asked for have the other turns."""
        while True:
            try:
                found = await self.make_one()
            except ServiceError:  # storage does not answer: the asset's attempt was given back
                await asyncio.sleep(OUTAGE_SECONDS)
                continue
            if not found:
                await asyncio.sleep(PAUSE_SECONDS)

    async def make_one(self) -> bool:
        """Makes the derivatives of one asset whose time has come; False: there was none.

        Raises:
            Unavailable: STORAGE_UNAVAILABLE.
        """
        self._waiting.set(await self._derivation.count_waiting())
        asset = await self._derivation.claim()
        if asset is None:
            return False
        wanted = [variant for variant in variants_of(asset) if variant not in asset.variants]
        try:
            await asyncio.shield(self._start(asset, wanted, claimed=True))
        except ServiceError as error:
            if error.reason == "STORAGE_UNAVAILABLE":
                raise
        return True

    async def close(self) -> None:
        """Gives up what is being made: the next process makes it."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_for(self, asset: Asset, variant: Variant) -> None:
        task = self._making.get(asset.id)
        if task is None:
            if len(self._making) >= MAX_AT_ONCE:
                raise failures.derivative_not_made()
            wanted = [other for other in variants_of(asset) if other == variant or other not in asset.variants]
            task = self._start(asset, wanted, claimed=False)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await asyncio.shield(task)
        except TimeoutError:
            raise failures.derivative_not_made() from None
        except asyncio.CancelledError:
            if task.cancelled():  # the service ends, not this request
                raise failures.derivative_not_made() from None
            raise

    def _start(self, asset: Asset, wanted: Sequence[Variant], *, claimed: bool) -> asyncio.Task[None]:
        """One making of an asset at a time in this process: nothing is awaited before it is entered here."""
        if asset.id in self._making:
            return self._making[asset.id]
        task = asyncio.create_task(self._make(asset, wanted, claimed=claimed), name=f"derive {asset.id}")
        self._making[asset.id] = task

        def forget(done: asyncio.Task[None]) -> None:
            del self._making[asset.id]
            if not done.cancelled():
                done.exception()  # seen; whoever waits gets it too

        task.add_done_callback(forget)
        return task

    async def _make(self, asset: Asset, wanted: Sequence[Variant], *, claimed: bool) -> None:
        """Whatever comes of it is in the index before this ends.

        Raises:
            NotFound: VARIANT_NOT_FOUND, ASSET_NOT_FOUND.
            Unavailable: it did not work this time; STORAGE_UNAVAILABLE.
        """
        if not claimed and await self._derivation.begin(asset.id) is None:
            raise failures.variant_not_found(asset.name, wanted[0].name)
        try:
            made = await self._render(asset, wanted) if wanted else {}
            await self._store(asset, made)
        except NotRenderableError as error:
            self._note(asset, str(error))
            await self._derivation.give_up(asset.id)
            raise failures.variant_not_found(asset.name, wanted[0].name) from error
        except NotRenderedError as error:
            self._note(asset, str(error))
            await self._derivation.postpone(asset.id, BACKOFF)
            raise failures.derivative_not_made() from error
        except ServiceError as error:
            if error.reason == "STORAGE_UNAVAILABLE":
                await self._derivation.postpone(asset.id, BACKOFF, counted=False)
            raise
        except Exception as error:  # such as bytes that are gone; nobody else is held up by it
            self._note(asset, type(error).__name__)
            await self._derivation.postpone(asset.id, BACKOFF)
            raise failures.derivative_not_made() from error

    async def _render(self, asset: Asset, wanted: Sequence[Variant]) -> Mapping[Variant, bytes]:
        async with self._turns:
            with Spool(self._limits.spool_directory) as spool:
                key = original_key(asset.media.media_type, asset.id)
                async for piece in self._blobs.read(key, start=0, length=asset.media.size_bytes):
                    await spool.write(piece)
                await spool.seal()
                with spool.opened_for_reading() as descriptor:
                    return await self._renderer.render(descriptor, wanted)

    async def _store(self, asset: Asset, made: Mapping[Variant, bytes]) -> None:
        for variant, data in made.items():
            await self._blobs.replace(variant_key(asset.media.media_type, asset.id, variant), data, mime_type=MIME_TYPE)
        if not await self._derivation.done(asset.id, made):
            await self._take_back(asset, made)
            raise failures.asset_not_found(asset.name)
        for variant in made:
            self._made.labels(variant.value).inc()

    async def _take_back(self, asset: Asset, variants: Collection[Variant]) -> None:
        """The asset was purged while its derivatives were stored."""
        for variant in variants:
            await self._blobs.delete(variant_key(asset.media.media_type, asset.id, variant))

    def _note(self, asset: Asset, cause: str) -> None:
        self._failed.labels(cause).inc()
        _log.warning("no_derivatives", asset=asset.id, cause=cause)
