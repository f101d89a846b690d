"""One making of an asset's derivatives: read, rendered, stored, written down. Whatever comes of it is in the index.

Only what a file did to its rendering counts against it. Whatever else goes wrong (storage, the spool's disk, a process
that does not start, the end of this service) gives the asset back as it was.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter

from services.common.errors import ServiceError
from services.gallery.adapters.derivation import Derivation
from services.gallery.adapters.inspection.renderer import OUT_OF_TIME, NotRenderableError, NotRenderedError, Renderer
from services.gallery.adapters.spool import Spool
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.variants import MIME_TYPE, Variant
from services.gallery.ports import BlobStore, original_key, variant_key

AT_ONCE = timedelta(0)
BACKOFF = timedelta(minutes=1)
"""After the first failure, twice as long after the second."""

ODD = timedelta(hours=1)
"""After what nobody thought of, such as bytes that are gone."""

_log = structlog.get_logger(__name__)


class Making:
    """Makes derivatives; who calls holds the asset's lease and bounds how many are made at a time."""

    def __init__(
        self, derivation: Derivation, blobs: BlobStore, spool_directory: str | None, registry: CollectorRegistry
    ) -> None:
        self._derivation = derivation
        self._blobs = blobs
        self._spool_directory = spool_directory
        self._made = Counter("contentlab_gallery_derivatives", "Derivatives stored.", ["variant"], registry=registry)
        self._failed = Counter(
            "contentlab_gallery_derivative_failures", "Assets of which none were made.", ["cause"], registry=registry
        )

    async def make(self, asset: Asset, wanted: Sequence[Variant], renderer: Renderer, *, patient: bool = False) -> None:
        """`patient`: in a process that runs when nobody else does, so the clock says nothing about the file.

        Raises:
            NotRenderableError, NotRenderedError: it is about this asset.
            NotFound: ASSET_NOT_FOUND: purged meanwhile.
            Unavailable: nothing can be made for the moment.
        """
        try:
            made = await self._render(asset, wanted, renderer) if wanted else {}
            await self._store(asset, made)
        except asyncio.CancelledError:
            await self._give_back(asset)
            raise
        except NotRenderableError as error:
            self._note(asset, str(error))
            await self._derivation.give_up(asset.id)
            raise
        except NotRenderedError as error:
            self._note(asset, str(error))
            if patient and str(error) == OUT_OF_TIME:
                await self._derivation.postpone(asset.id, ODD)
            else:
                await self._derivation.failed(asset.id, BACKOFF)
            raise
        except (ServiceError, OSError) as error:
            await self._derivation.postpone(asset.id, BACKOFF)
            raise error if isinstance(error, ServiceError) else failures.derivative_not_made() from error
        except Exception as error:
            self._note(asset, type(error).__name__)
            await self._derivation.postpone(asset.id, ODD)
            raise NotRenderedError(type(error).__name__) from error

    async def _give_back(self, asset: Asset) -> None:
        """This service ends, or somebody else makes it: the next one may begin at once."""
        await asyncio.shield(self._derivation.postpone(asset.id, AT_ONCE))

    async def _render(self, asset: Asset, wanted: Sequence[Variant], renderer: Renderer) -> Mapping[Variant, bytes]:
        with Spool(self._spool_directory) as spool:
            key = original_key(asset.media.media_type, asset.id)
            async for piece in self._blobs.read(key, start=0, length=asset.media.size_bytes):
                await spool.write(piece)
            await spool.seal()
            with spool.opened_for_reading() as descriptor:
                return await renderer.render(descriptor, wanted)

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
