"""Whether one asset, folder or staged upload is in storage as the index says."""

import asyncio
import hashlib
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from services.gallery.adapters.inventory import Inventory, RecordedAsset, RecordedFolder
from services.gallery.domain.assets import Asset
from services.gallery.domain.document import from_document, to_document
from services.gallery.domain.findings import Finding, Kind, finding
from services.gallery.domain.folder_document import from_folder_document
from services.gallery.domain.folders import FolderRecord
from services.gallery.ports import STAGING_PREFIX, BlobFacts, BlobMissing, BlobStore
from services.gallery.rebuild import UnreadableError, read_document
from services.gallery.stored import DOCUMENT, ORIGINAL, StoredAsset

BEHIND = timedelta(minutes=1)
"""A document that is behind its row for longer is not being written."""


class Judge:
    """Reads only. `fast` leaves out reading the originals; `bytes_read` counts what was read of them."""

    def __init__(self, blobs: BlobStore, inventory: Inventory, *, fast: bool) -> None:
        self._blobs = blobs
        self._inventory = inventory
        self._fast = fast
        self.bytes_read = 0

    async def asset(self, asset_id: str, row: RecordedAsset | None, stored: StoredAsset | None) -> list[Finding]:
        """What is wrong with an asset; either side may be missing."""
        if row is None:
            return await self._bytes_without_row(asset_id, stored) if stored is not None else []
        stored = stored or StoredAsset(row.asset.media.media_type, asset_id)
        found = await self._original(row.asset, stored.blobs.get(ORIGINAL))
        found += await self._document(row, stored.blobs.get(DOCUMENT))
        found += _derivatives(row, stored)
        if not row.has_folder:
            found.append(finding(Kind.FOLDER_MISSING, row.asset.name, "the folder that it is in is not there"))
        return found

    async def folder(self, folder_id: str, row: RecordedFolder | None, facts: BlobFacts | None) -> list[Finding]:
        """What is wrong with a folder's document; either side may be missing."""
        name = f"folders/{folder_id}"
        if row is None:
            if facts is None or await self._inventory.is_folder_going(folder_id):
                return []
            return [finding(Kind.FOLDER_DOCUMENT_ASTRAY, name, "a document without a folder", item_id=folder_id)]
        if row.document_revision < row.folder.revision:
            return _lag(name, row.folder.update_time)
        if facts is None:
            detail = "there is no document of it"
            return [finding(Kind.DOCUMENT_MISSING, name, detail, item_id=folder_id, table="folder")]
        try:
            told = from_folder_document(await read_document(self._blobs, facts))
        except (UnreadableError, ValueError, KeyError, TypeError) as error:
            detail = f"its document cannot be read: {type(error).__name__}"
            return [finding(Kind.DOCUMENT_UNREADABLE, name, detail, item_id=folder_id, table="folder")]
        if _facts_of(told) == _facts_of(row.folder):
            return []
        detail = "its document says otherwise than the index"
        return [finding(Kind.DOCUMENT_DIFFERS, name, detail, item_id=folder_id, table="folder")]

    async def staged(self, facts: BlobFacts) -> list[Finding]:
        """Whether a blob of a direct upload has a row."""
        if await self._inventory.is_staged(facts.key.name.removeprefix(STAGING_PREFIX)):
            return []
        return [finding(Kind.BLOB_UNKNOWN, facts.key.name, "no direct upload has this name")]

    async def _bytes_without_row(self, asset_id: str, stored: StoredAsset) -> list[Finding]:
        if await self._inventory.is_under_way(asset_id):
            return []
        detail = f"{len(stored.blobs)} blobs without an asset: {', '.join(sorted(stored.blobs))}"
        if await self._inventory.was_purged(asset_id):
            return [finding(Kind.BYTES_OF_PURGED, f"assets/{asset_id}", detail, item_id=asset_id)]
        return [finding(Kind.BYTES_WITHOUT_ROW, f"{stored.media_type.value}: {asset_id}", detail)]

    async def _original(self, asset: Asset, facts: BlobFacts | None) -> list[Finding]:
        media = asset.media
        if facts is None:
            return [finding(Kind.ORIGINAL_MISSING, asset.name, "the bytes are not in storage")]
        if facts.size != media.size_bytes:
            detail = f"{facts.size} bytes are in storage, and {media.size_bytes} in the index"
            return [finding(Kind.ORIGINAL_DIFFERS, asset.name, detail)]
        digest = (facts.sha256 or media.sha256) if self._fast else await self._sha256(facts)
        detail = "the bytes have another SHA-256 than the index says"
        return [] if digest == media.sha256 else [finding(Kind.ORIGINAL_DIFFERS, asset.name, detail)]

    async def _sha256(self, facts: BlobFacts) -> str:
        digest = hashlib.sha256()
        try:
            async with aclosing(self._blobs.read(facts.key, start=0, length=facts.size)) as pieces:
                async for piece in pieces:
                    await asyncio.to_thread(digest.update, piece)
                    self.bytes_read += len(piece)
        except BlobMissing:
            return ""
        return digest.hexdigest()

    async def _document(self, row: RecordedAsset, facts: BlobFacts | None) -> list[Finding]:
        asset = row.asset
        if row.document_revision < asset.revision:
            return _lag(asset.name, asset.update_time)
        if facts is None:
            return [finding(Kind.DOCUMENT_MISSING, asset.name, "there is no asset.json", item_id=asset.id)]
        try:
            told = from_document(await read_document(self._blobs, facts))
        except (UnreadableError, ValueError, KeyError, TypeError) as error:
            detail = f"asset.json cannot be read: {type(error).__name__}"
            return [finding(Kind.DOCUMENT_UNREADABLE, asset.name, detail, item_id=asset.id)]
        if different := _differences(asset, told):
            detail = f"asset.json says otherwise than the index: {', '.join(different)}"
            return [finding(Kind.DOCUMENT_DIFFERS, asset.name, detail, item_id=asset.id)]
        return []


def _lag(name: str, since: datetime) -> list[Finding]:
    if datetime.now(UTC) - since < BEHIND:
        return []
    return [finding(Kind.DOCUMENT_BEHIND, name, f"its document lacks the change of {since.isoformat()}")]


def _derivatives(row: RecordedAsset, stored: StoredAsset) -> list[Finding]:
    asset, found = row.asset, []
    for variant in sorted(set(row.variants) - set(stored.variants)):
        found.append(finding(Kind.DERIVATIVE_MISSING, asset.name, f"its {variant} is gone", item_id=asset.id))
    # What is still to be made may be stored already: it is written down at the next making, also after a crash.
    unrecorded = set(stored.variants) - set(row.variants) if row.is_derived else set()
    for variant in sorted(unrecorded):
        detail = f"its {variant} is stored, and the index does not know"
        found.append(finding(Kind.DERIVATIVE_UNRECORDED, asset.name, detail, item_id=asset.id))
    if row.is_given_up:
        detail = "no derivatives can be made of it: it takes too much time or memory, or is broken"
        found.append(finding(Kind.DERIVATIVES_GIVEN_UP, asset.name, detail, item_id=asset.id))
    for part in stored.unknown:
        found.append(finding(Kind.BLOB_UNKNOWN, f"{asset.id}/{part}", "beside an asset's own blobs"))
    return found


def _differences(asset: Asset, told: Asset) -> list[str]:
    """Names of what differs, as documents have it. Of folders only the id counts: see `domain/document.py`."""
    kept, written = (json.loads(to_document(each)) for each in (asset, told))
    for content in (kept, written):
        content["folder"] = content["folder"] and content["folder"]["id"]
    return [name for name in kept if kept[name] != written[name]]


def _facts_of(folder: FolderRecord) -> tuple[object, ...]:
    return folder.id, folder.owner, folder.path, folder.revision, folder.create_time, folder.update_time
