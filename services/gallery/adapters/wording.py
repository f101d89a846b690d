"""Search words of assets whose texts change: made in a thread, because those of a hundred long prompts take seconds."""

import asyncio
from collections.abc import Iterable, Mapping

from services.gallery.domain.assets import Analysis, Asset
from services.gallery.domain.search import document_of

Texts = tuple[str, tuple[str, ...], str, Analysis | None]
"""All that an asset's words are made of."""

Words = Mapping[Texts, str]


def texts_of(asset: Asset) -> Texts:
    """Two assets with the same texts have the same words."""
    return asset.display_name, asset.tags, asset.provenance.prompt, asset.analysis


async def words_of(assets: Iterable[Asset], known: Words) -> Words:
    """The words of these assets by their texts, and those that are known."""
    missing = {texts_of(asset) for asset in assets} - known.keys()
    return {**known, **await asyncio.to_thread(_make, missing)} if missing else known


def _make(missing: Iterable[Texts]) -> dict[Texts, str]:
    return {texts: document_of(*texts) for texts in missing}
