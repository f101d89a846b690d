"""Compares index and storage, both ways, and bytes with their SHA-256. Changes nothing, beside a running gallery too.

Two walks by id go side by side, a page of rows and one asset's blobs at a time, so memory is bounded however many there
are. While they go, uploads, changes and removals go on: whatever looks wrong is looked at again some seconds later, by
itself and from the beginning, and only what is still wrong is told.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from services.gallery.adapters.inventory import Inventory
from services.gallery.domain.assets import MediaType
from services.gallery.domain.findings import Finding, Kind, finding
from services.gallery.judging import Judge
from services.gallery.ports import FOLDER_PREFIX, STAGING_PREFIX, BlobFacts, BlobMissing, BlobStore, folder_document_key
from services.gallery.progress import Steps
from services.gallery.stored import side_by_side, stored_assets

WORKERS = 8
SECOND_LOOK_SECONDS = 3.0
MAX_SUSPECTS = 500
"""So many wait for their second look."""

Tell = Callable[[Finding], None]
Look = Callable[[], Awaitable[list[Finding]]]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to look at: with what the walks have brought, and, where that is suspect, from the beginning."""

    first: Look
    second: Look


@dataclass
class Checked:
    """How much was looked at; `bytes` of originals."""

    assets: int = 0
    folders: int = 0
    bytes: int = 0


class Verification:
    """One run; `fast` leaves out reading the originals."""

    def __init__(self, blobs: BlobStore, inventory: Inventory, steps: Steps, tell: Tell, *, fast: bool) -> None:
        self._blobs = blobs
        self._inventory = inventory
        self._judge = Judge(blobs, inventory, fast=fast)
        self._steps = steps
        self._tell = tell
        self._checked = Checked()
        self._suspects: list[Look] = []

    async def run(self) -> Checked:
        """Everything: folders, assets of both containers, staged uploads, counts."""
        for walk in (self._folders(), self._assets(MediaType.IMAGE), self._assets(MediaType.VIDEO), self._staged()):
            async with aclosing(walk) as items:
                await self._look_at(items)
        await self._look_again()
        for wrong in await self._inventory.wrong_counts():
            self._tell(finding(Kind.COUNT_WRONG, wrong.what, f"{wrong.kept} is kept, {wrong.counted} is right"))
        self._checked.bytes = self._judge.bytes_read
        return self._checked

    async def _look_at(self, items: AsyncGenerator[Item, None]) -> None:
        """The first look, WORKERS at a time; what is suspect gets its second look later."""
        queue: asyncio.Queue[Item | None] = asyncio.Queue(WORKERS)

        async def work() -> None:
            while (item := await queue.get()) is not None:
                if await item.first():
                    self._suspects.append(item.second)

        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(work())
            async for item in items:
                await queue.put(item)
                if len(self._suspects) >= MAX_SUSPECTS:
                    await self._look_again()
            for _ in range(WORKERS):
                await queue.put(None)

    async def _look_again(self) -> None:
        suspects, self._suspects = self._suspects, []
        if suspects:
            await asyncio.sleep(SECOND_LOOK_SECONDS)
        turns = asyncio.Semaphore(WORKERS)

        async def look(second: Look) -> None:
            async with turns:
                for found in await second():
                    self._tell(found)

        await asyncio.gather(*map(look, suspects))

    async def _assets(self, kind: MediaType) -> AsyncGenerator[Item, None]:
        rows, listing = self._inventory.assets(kind), stored_assets(self._blobs, kind)
        async with aclosing(side_by_side(rows, listing, suffix="/")) as pairs:
            async for asset_id, row, stored in pairs:
                self._checked.assets += row is not None
                self._steps.advance(row is not None)
                first = partial(self._judge.asset, asset_id, row, stored)
                yield Item(first, partial(self._asset_alone, kind, asset_id))

    async def _asset_alone(self, kind: MediaType, asset_id: str) -> list[Finding]:
        # The bytes first: an upload's row comes after them, and a purge's order before they go.
        listed = [stored async for _, stored in stored_assets(self._blobs, kind, f"{asset_id}/")]
        row = await self._inventory.asset(asset_id)
        if row is not None and row.asset.media.media_type is not kind:
            row = None
        return await self._judge.asset(asset_id, row, listed[0] if listed else None)

    async def _folders(self) -> AsyncGenerator[Item, None]:
        async with aclosing(side_by_side(self._inventory.folders(), self._listed_folders(), suffix=".json")) as pairs:
            async for folder_id, row, facts in pairs:
                self._checked.folders += row is not None
                first = partial(self._judge.folder, folder_id, row, facts)
                yield Item(first, partial(self._folder_alone, folder_id))

    async def _listed_folders(self) -> AsyncGenerator[tuple[str, BlobFacts], None]:
        async with aclosing(self._blobs.walk(MediaType.IMAGE, FOLDER_PREFIX)) as listing:
            async for facts in listing:
                yield facts.key.name.removeprefix(FOLDER_PREFIX).removesuffix(".json"), facts

    async def _folder_alone(self, folder_id: str) -> list[Finding]:
        try:
            facts = await self._blobs.facts(folder_document_key(folder_id))
        except BlobMissing:
            facts = None
        return await self._judge.folder(folder_id, await self._inventory.folder(folder_id), facts)

    async def _staged(self) -> AsyncGenerator[Item, None]:
        async with aclosing(self._blobs.walk(MediaType.IMAGE, STAGING_PREFIX)) as listing:
            async for facts in listing:
                yield Item(partial(self._judge.staged, facts), partial(self._staged_alone, facts))

    async def _staged_alone(self, facts: BlobFacts) -> list[Finding]:
        try:
            return await self._judge.staged(await self._blobs.facts(facts.key))
        except BlobMissing:
            return []
