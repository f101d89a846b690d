"""Housekeeping, rebuild and verify of a running gallery, done by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.database import create_engine
from services.gallery import verify
from services.gallery.adapters.attempts import Attempts
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.adapters.inventory import Inventory
from services.gallery.adapters.mirror import Mirror
from services.gallery.adapters.purges import Purges
from services.gallery.adapters.removals import Removals
from services.gallery.adapters.restoring import Restoring
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain.assets import MediaType
from services.gallery.domain.findings import Finding
from services.gallery.housekeeping import Housekeeping
from services.gallery.mirroring import Mirroring
from services.gallery.ports import BlobStore
from services.gallery.rebuild import Rebuild, Summary
from services.gallery.verify import Verification
from tests.gallery.harness import Gallery

AT_ONCE = timedelta(microseconds=1)


class Silent:
    """Steps that nobody watches."""

    def advance(self, number: int = 1) -> None:
        pass


@dataclass(frozen=True)
class Upkeep:
    """One more process beside the gallery."""

    engine: AsyncEngine
    blobs: BlobStore

    @cached_property
    def transactions(self) -> Transactions:
        return Transactions(self.engine)

    def housekeeping(self, limit: timedelta = AT_ONCE) -> Housekeeping:
        removals = Removals(self.engine, self.transactions, settle=limit)
        purges, registry = Purges(self.engine, self.transactions), CollectorRegistry()
        return Housekeeping(Attempts(self.engine), purges, removals, self.blobs, limit=limit, registry=registry)

    async def sweep(self, limit: timedelta = AT_ONCE) -> None:
        """Everything that housekeeping would do in the course of time."""
        keeper = self.housekeeping(limit)
        while await keeper.sweep_some():
            pass
        async with self.engine.begin() as connection:
            for table in ("asset_removal", "folder_removal"):
                await connection.execute(sa.text(f"UPDATE gallery.{table} SET try_time = now()"))  # noqa: S608 - ours
        while await keeper.remove_some_assets() + await keeper.remove_some_folders():
            pass

    async def mirror(self) -> None:
        """Until no document is behind its row."""
        mirroring = Mirroring(Mirror(self.transactions), self.blobs)
        behind = " UNION ALL ".join(
            f"SELECT id FROM gallery.{table} WHERE document_revision < revision"  # noqa: S608 - ours
            for table in ("asset", "folder")
        )
        async with asyncio.timeout(20):
            while True:
                await mirroring.mirror_some_assets()
                await mirroring.mirror_some_folders()
                async with self.engine.connect() as connection:
                    if (await connection.execute(sa.text(behind))).first() is None:
                        return
                await asyncio.sleep(0.05)

    async def findings(self, *, fast: bool = False, second_look_seconds: float = 0.2) -> list[Finding]:
        """What `verify` tells."""
        found: list[Finding] = []
        run = Verification(self.blobs, Inventory(self.engine), Silent(), found.append, fast=fast)
        before, verify.SECOND_LOOK_SECONDS = verify.SECOND_LOOK_SECONDS, second_look_seconds
        try:
            await run.run()
        finally:
            verify.SECOND_LOOK_SECONDS = before
        return found

    async def rebuild(self) -> Summary:
        """What `rebuild-index` does."""
        return await Rebuild(self.blobs, Restoring(self.engine, self.transactions), Silent()).run()


@asynccontextmanager
async def upkeep_of(gallery: Gallery, *, page_size: int = 3) -> AsyncIterator[Upkeep]:
    """A process of its own as far as database and locks are concerned; listings come in small pages."""
    engine = create_engine(gallery.settings, application_name="upkeep")
    containers = {MediaType.IMAGE: gallery.settings.image_container, MediaType.VIDEO: gallery.settings.video_container}
    try:
        yield Upkeep(engine, AzureBlobStore(gallery.storage, containers, page_size=page_size))
    finally:
        await engine.dispose()
