"""Derivatives: made in the background soon after an upload, or when somebody asks first, and again when they are lost.

An upload never waits for them. All that there can be of an asset are made from one look at it and stored beside the
original; then its row says so. A purge that comes in between leaves nothing behind: whoever finds the row gone takes
back what was stored, and the purge looks a second time, for who died before that.

Requests wait in one line, where no owner takes all turns and the smallest original comes first; who is in it holds no
bytes. What the background is making of an asset gives way to a request for it: its process runs when nobody else does.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge

from services.common.errors import NotFound, ServiceError
from services.gallery.adapters.derivation import Derivation
from services.gallery.adapters.inspection.renderer import NotRenderableError, NotRenderedError, Renderer
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.variants import Variant, variants_of
from services.gallery.making import Making
from services.gallery.ports import BlobFacts, BlobMissing, BlobStore, variant_key
from services.gallery.turns import Turns

PAUSE_SECONDS = 1.0
OUTAGE_SECONDS = 10.0

MAX_IN_LINE = 2_048
MAX_IN_LINE_OF_ONE = 256
"""Assets that requests wait for: all, and one owner's. A page of a list, 200, fits in."""


@dataclass(frozen=True, slots=True)
class DerivativeLimits:
    """`concurrent`: originals held at a time for requests. `wait_seconds`: how long a request waits."""

    concurrent: int
    wait_seconds: float
    spool_directory: str | None = None


@dataclass(frozen=True, slots=True)
class Renderers:
    """For what somebody waits for, and for the rest."""

    asked: Renderer
    background: Renderer


class _GivenUpError(Exception):
    """Nobody tries it for the moment, or it is there no more."""


@dataclass(eq=False)
class _Place:
    """An asset in the line, or at work once it has `begun`; `waiting` requests want `variants` of it."""

    asset: Asset
    variants: set[Variant]
    waiting: int = 0
    begun: bool = False


class Derivatives:
    """Makes derivatives, and knows those that are there."""

    def __init__(
        self,
        derivation: Derivation,
        blobs: BlobStore,
        renderers: Renderers,
        limits: DerivativeLimits,
        registry: CollectorRegistry,
    ) -> None:
        self._derivation = derivation
        self._blobs = blobs
        self._renderers = renderers
        self._limits = limits
        self._making = Making(derivation, blobs, limits.spool_directory, registry)
        # One turn is always left for somebody else.
        self._turns = Turns(limits.concurrent, of_one=max(1, limits.concurrent - 1))
        self._line: dict[str, tuple[_Place, asyncio.Task[None]]] = {}
        self._background: Mapping[str, asyncio.Task[None]] = {}
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
        """Makes what waits, one asset at a time."""
        while True:
            try:
                found = await self.make_one()
            except ServiceError:  # nothing that one asset could help
                await asyncio.sleep(OUTAGE_SECONDS)
                continue
            if not found:
                await asyncio.sleep(PAUSE_SECONDS)

    async def make_one(self) -> bool:
        """Makes the derivatives of one asset whose time has come; False: there was none.

        Raises:
            Unavailable: storage, disk or processes are missing; the asset waits as before.
        """
        self._waiting.set(await self._derivation.count_waiting())
        asset = await self._derivation.claim()
        if asset is None:
            return False
        if asset.id in self._line and self._line[asset.id][0].begun:
            return True  # it takes longer than the lease, which goes on
        wanted = [variant for variant in variants_of(asset) if variant not in asset.variants]
        task = asyncio.create_task(
            self._making.make(asset, wanted, self._renderers.background, patient=True), name=f"derive {asset.id}"
        )
        self._background = {asset.id: task}
        try:
            await task
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is None or this.cancelling():
                raise
            # A request makes it now.
        except (NotRenderableError, NotRenderedError, NotFound):
            return True
        finally:
            self._background = {}
        return True

    async def close(self) -> None:
        """Gives up what is being made: the next process makes it."""
        tasks = [task for _, task in self._line.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_for(self, asset: Asset, variant: Variant) -> None:
        place, task = self._line.get(asset.id) or self._enter(asset)
        place.variants.add(variant)
        place.waiting += 1
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await asyncio.shield(task)
        except (TimeoutError, NotRenderedError):
            raise failures.derivative_not_made() from None
        except (NotRenderableError, _GivenUpError):
            raise failures.variant_not_found(asset.name, variant.name) from None
        except asyncio.CancelledError:
            if task.cancelled():  # the service ends, not this request
                raise failures.derivative_not_made() from None
            raise
        finally:
            place.waiting -= 1
            if not place.waiting and not place.begun:
                self._leave(place)
                task.cancel()

    def _enter(self, asset: Asset) -> tuple[_Place, asyncio.Task[None]]:
        """One making of an asset at a time in this process: nothing is awaited before it is entered here."""
        of_owner = sum(place.asset.owner == asset.owner for place, _ in self._line.values())
        if len(self._line) >= MAX_IN_LINE or of_owner >= MAX_IN_LINE_OF_ONE:
            raise failures.derivative_not_made()
        place = _Place(asset, set())
        task = asyncio.create_task(self._serve(place), name=f"derive {asset.id} for a request")
        self._line[asset.id] = place, task

        def forget(done: asyncio.Task[None]) -> None:
            self._leave(place)
            if not done.cancelled():
                done.exception()  # seen; whoever waits gets it too

        task.add_done_callback(forget)
        return place, task

    def _leave(self, place: _Place) -> None:
        """Another request may have entered the asset anew."""
        if self._line.get(place.asset.id, (None, None))[0] is place:
            del self._line[place.asset.id]

    async def _serve(self, place: _Place) -> None:
        """Raises what `Making.make` does, and _GivenUpError."""
        asset = place.asset
        async with self._turns.turn(asset.owner, weight=asset.media.size_bytes):
            place.begun = True
            await self._stop_background(asset)
            current = await self._derivation.begin(asset.id)
            if current is None:
                raise _GivenUpError
            # What the index knew when it was asked for is lost; what it knows since was made meanwhile.
            lost = {variant for variant in place.variants if variant in asset.variants}
            wanted = [each for each in variants_of(asset) if each in lost or each not in current.variants]
            await self._making.make(current, wanted, self._renderers.asked)

    async def _stop_background(self, asset: Asset) -> None:
        """It has given the asset back when this ends."""
        if (task := self._background.get(asset.id)) is not None:
            task.cancel()
            await asyncio.wait([task])
