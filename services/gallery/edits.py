"""Changing assets: every call on behalf of one owner, all or none of the assets that it names.

`asset.json` follows within seconds: see `Library.mirror_changes`.
"""

from collections.abc import Sequence
from datetime import timedelta

from services.gallery.adapters.catalog import Catalog, Check
from services.gallery.domain import annotations, edits, failures, lifecycle
from services.gallery.domain.annotations import Annotation
from services.gallery.domain.assets import Asset
from services.gallery.domain.edits import AssetUpdate
from services.gallery.domain.folders import FolderRef


class Edits:
    """Every method raises NotFound ASSET_NOT_FOUND when the owner has no such asset, and then has changed nothing.

    `check` refuses an answer, before anything is changed.
    """

    def __init__(self, catalog: Catalog, *, retention: timedelta) -> None:
        self._catalog = catalog
        self._retention = retention

    async def get_many(self, owner: str, asset_ids: Sequence[str]) -> list[Asset]:
        """Assets in the order asked, as lists show them."""
        found = await self._catalog.get_many(owner, asset_ids, full=False)
        for asset_id in asset_ids:
            if asset_id not in found:
                raise failures.asset_not_found(f"assets/{asset_id}")
        return [found[asset_id] for asset_id in asset_ids]

    async def update(self, owner: str, asset_id: str, new: AssetUpdate) -> Asset:
        """Changes the fields that the update names; a folder's path is created where it is missing.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
            Aborted: ETAG_MISMATCH.
        """
        [updated] = await self._catalog.change(
            owner, [asset_id], lambda asset, at: edits.update(asset, new, at.folder), folder=new.folder
        )
        return updated

    async def delete(
        self, owner: str, asset_ids: Sequence[str], *, etag: str = "", check: Check | None = None
    ) -> list[Asset]:
        """Soft-deletes assets; repeating it changes nothing.

        Raises:
            Aborted: ETAG_MISMATCH.
        """
        return await self._catalog.change(
            owner,
            asset_ids,
            lambda asset, at: lifecycle.soft_delete(asset, at.now, retention=self._retention, etag=etag),
            check=check,
        )

    async def undelete(self, owner: str, asset_id: str) -> Asset:
        """Brings a soft-deleted asset back.

        Raises:
            AlreadyExists: ASSET_NOT_DELETED.
        """
        [undeleted] = await self._catalog.change(owner, [asset_id], lambda asset, _: edits.undelete(asset))
        return undeleted

    async def move(self, owner: str, asset_ids: Sequence[str], folder: FolderRef | None, check: Check) -> list[Asset]:
        """Moves assets into a folder, whose path is created where it is missing; None: out of any.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
        """
        return await self._catalog.change(
            owner, asset_ids, lambda asset, at: edits.move(asset, at.folder), folder=folder, check=check
        )

    async def retag(
        self, owner: str, asset_ids: Sequence[str], add: Sequence[str], remove: Sequence[str], check: Check
    ) -> list[Asset]:
        """Adds and removes tags.

        Raises:
            InvalidArgument: INVALID_FIELD, too many tags, or one to add and to remove.
        """
        edits.check_retagging(add, remove)
        return await self._catalog.change(
            owner, asset_ids, lambda asset, _: edits.retag(asset, add, remove), check=check, words_ahead=True
        )

    async def annotate(self, owner: str, asset_id: str, annotation: Annotation) -> Asset:
        """Adds what a service has learned and spent; a repeated request id changes nothing.

        Raises:
            InvalidArgument: INVALID_FIELD, a sum that no field can hold; REQUEST_ID_REUSED.
        """
        [annotated] = await self._catalog.change(
            owner, [asset_id], lambda asset, at: annotations.annotate(asset, annotation, at.now)
        )
        return annotated
