"""What is in storage, asset by asset, and a walk of it beside the index."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from services.gallery.domain.assets import MediaType
from services.gallery.domain.variants import EXTENSION, Variant
from services.gallery.ports import BlobFacts, BlobStore

ORIGINAL = "original"
DOCUMENT = "asset.json"

_OURS = "_"  # begins the names of what belongs to no asset
_R = TypeVar("_R")
_S = TypeVar("_S")


@dataclass(frozen=True, slots=True)
class StoredAsset:
    """The blobs of one asset in one container, by their last name."""

    media_type: MediaType
    id: str
    blobs: dict[str, BlobFacts] = field(default_factory=dict)

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of its derivatives."""
        return tuple(variant.value for variant in Variant if variant.value + EXTENSION in self.blobs)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names that the gallery never writes."""
        known = {ORIGINAL, DOCUMENT, *(variant.value + EXTENSION for variant in Variant)}
        return tuple(sorted(set(self.blobs) - known))


async def stored_assets(
    blobs: BlobStore, container: MediaType, prefix: str = ""
) -> AsyncGenerator[tuple[str, StoredAsset], None]:
    """Every asset that has blobs in the container, by the order of the listing; one of them is held at a time."""
    current: StoredAsset | None = None
    async with aclosing(blobs.walk(container, prefix)) as listing:
        async for facts in listing:
            asset_id, _, part = facts.key.name.partition("/")
            if asset_id.startswith(_OURS):
                continue
            if current is None or current.id != asset_id:
                if current is not None:
                    yield current.id, current
                current = StoredAsset(container, asset_id)
            current.blobs[part] = facts
    if current is not None:
        yield current.id, current


async def side_by_side(
    pages: AsyncIterator[Sequence[tuple[str, _R]]], listing: AsyncGenerator[tuple[str, _S], None], *, suffix: str
) -> AsyncGenerator[tuple[str, _R | None, _S | None], None]:
    """Rows and blobs of the same id together; None where the other side has nothing.

    Both come by id, but storage compares whole names: `a-b/` stands before `a/`, although the id `a` before `a-b`. Held
    are a page of rows, and the blobs that such a family of ids puts ahead of its rows.
    """
    early: dict[str, _S] = {}
    ahead = await anext(listing, None)
    async for page in pages:
        wanted, last = {item_id for item_id, _ in page}, page[-1][0]
        furthest = max(item_id + suffix for item_id in wanted)
        while ahead is not None and ahead[0] + suffix <= furthest:
            if ahead[0] in wanted or ahead[0] > last:
                early[ahead[0]] = ahead[1]
            else:
                yield ahead[0], None, ahead[1]
            ahead = await anext(listing, None)
        for item_id, row in page:
            yield item_id, row, early.pop(item_id, None)
        for item_id in [item_id for item_id in early if item_id <= last]:
            yield item_id, None, early.pop(item_id)
    for item_id, found in early.items():
        yield item_id, None, found
    while ahead is not None:
        yield ahead[0], None, ahead[1]
        ahead = await anext(listing, None)
