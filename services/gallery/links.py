"""Links to read what is stored."""

from datetime import timedelta

from services.gallery.adapters.catalog import Catalog
from services.gallery.adapters.signing import LinkSigner
from services.gallery.domain import failures
from services.gallery.domain.downloads import content_disposition
from services.gallery.domain.links import Link, Presentation
from services.gallery.ports import original_key


class AssetLinks:
    """Makes links to assets for their owners."""

    def __init__(self, catalog: Catalog, signer: LinkSigner) -> None:
        self._catalog = catalog
        self._signer = signer

    async def original(self, owner: str, asset_id: str, *, ttl: timedelta) -> Link:
        """A link to the original, under its name; what is deleted gets none.

        Raises:
            NotFound: ASSET_NOT_FOUND.
            FailedPrecondition: LINKS_NOT_CONFIGURED.
            Unavailable: STORAGE_UNAVAILABLE.
        """
        asset = await self._catalog.get(owner, asset_id)
        if asset is None or asset.delete_time is not None:
            raise failures.asset_not_found(f"assets/{asset_id}")
        shown = Presentation(asset.media.mime_type, content_disposition(asset))
        return await self._signer.read_link(original_key(asset.media.media_type, asset.id), shown, ttl=ttl)
