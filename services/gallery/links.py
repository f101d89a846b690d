"""Links to read what is stored."""

from dataclasses import replace
from datetime import timedelta

from services.gallery.adapters.catalog import Catalog
from services.gallery.adapters.signing import LinkSigner
from services.gallery.derivatives import Derivatives
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.downloads import content_disposition, file_name, variant_disposition
from services.gallery.domain.links import Link, Presentation, short_name
from services.gallery.domain.variants import MIME_TYPE, Variant
from services.gallery.ports import original_key


class AssetLinks:
    """Makes links to assets for their owners."""

    def __init__(self, catalog: Catalog, derivatives: Derivatives, signer: LinkSigner) -> None:
        self._catalog = catalog
        self._derivatives = derivatives
        self._signer = signer

    async def create(self, owner: str, asset_id: str, variant: Variant | None, *, ttl: timedelta) -> Link:
        """A link to the original (None) or to a derivative, made if it is not there; what is deleted gets none.

        Raises:
            NotFound: ASSET_NOT_FOUND, VARIANT_NOT_FOUND.
            FailedPrecondition: LINKS_NOT_CONFIGURED.
            Unavailable: not made in time; STORAGE_UNAVAILABLE.
        """
        asset = await self._catalog.get(owner, asset_id)
        if asset is None or asset.delete_time is not None:
            raise failures.asset_not_found(f"assets/{asset_id}")
        if variant is None:
            shown = Presentation(asset.media.mime_type, content_disposition(_named_shortly(asset)))
            return await self._signer.read_link(original_key(asset.media.media_type, asset.id), shown, ttl=ttl)
        stored = await self._derivatives.find(asset, variant)
        shown = Presentation(MIME_TYPE, variant_disposition(_named_shortly(asset)))
        return await self._signer.read_link(stored.key, shown, ttl=ttl)


def _named_shortly(asset: Asset) -> Asset:
    return replace(asset, display_name=short_name(file_name(asset)))
