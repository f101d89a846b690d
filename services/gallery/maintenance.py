"""`rebuild-index` and `verify`: what a person runs beside the gallery, or instead of it."""

import argparse
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict

from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.database import create_engine, wait_until_reachable
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.adapters.azure_client import open_client
from services.gallery.adapters.inventory import Inventory
from services.gallery.adapters.restoring import Restoring
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain.assets import MediaType
from services.gallery.domain.findings import NOTES, Finding
from services.gallery.ports import BlobStore
from services.gallery.progress import progress
from services.gallery.rebuild import Rebuild, Summary
from services.gallery.settings import GallerySettings
from services.gallery.verify import Verification

CLEAN, FINDINGS = 0, 1

PATIENCE_SECONDS = 60.0
"""For an owner whose library a running gallery changes."""


def add_rebuild_options(parser: argparse.ArgumentParser) -> None:
    """None of its own: it may be run at any time, and again."""
    parser.epilog = (
        "Reads every asset.json and folder document; never overwrites what is newer in the index, so it can be run "
        "again, also beside a running gallery. Exit code 1: something could not be restored; each is told."
    )


async def rebuild_index(settings: GallerySettings, options: argparse.Namespace) -> int:
    """Restores the index; the exit code."""
    async with _opened(settings, "gallery-rebuild") as (engine, blobs):
        restoring = Restoring(engine, Transactions(engine, lock_seconds=PATIENCE_SECONDS))
        async with restoring.alone() as alone:
            if not alone:
                raise ConnectionError("another rebuild-index is at work")
            with progress("restoring assets") as steps:
                summary = await Rebuild(blobs, restoring, steps).run()
    _say_restored(summary)
    return FINDINGS if summary.problems else CLEAN


def add_verify_options(parser: argparse.ArgumentParser) -> None:
    """How much to read, and how to tell."""
    parser.add_argument("--fast", action="store_true", help="do not read originals: sizes and recorded hashes only")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: findings, then a summary")
    parser.epilog = (
        "Changes nothing. Exit code 0: clean, notes apart; 1: something is wrong; each is told with its advice."
    )


async def verify(settings: GallerySettings, options: argparse.Namespace) -> int:
    """Compares index and storage; the exit code."""
    told = notes = 0

    def tell(found: Finding) -> None:
        nonlocal told, notes
        notes += found.kind in NOTES
        told += found.kind not in NOTES
        _say(json.dumps(asdict(found), ensure_ascii=False) if options.json else str(found))

    async with _opened(settings, "gallery-verify") as (engine, blobs):
        inventory = Inventory(engine)
        with progress("verifying assets", await inventory.count()) as steps:
            checked = await Verification(blobs, inventory, steps, tell, fast=options.fast).run()
    if options.json:
        _say(json.dumps({**asdict(checked), "findings": told, "notes": notes}))
    else:
        _say(
            f"{told or 'no'} findings, {notes or 'no'} notes; {checked.assets} assets, {checked.folders} folders, "
            f"{checked.bytes} bytes of originals {'not ' if options.fast else ''}read"
        )
    return FINDINGS if told else CLEAN


def _say_restored(summary: Summary) -> None:
    for problem in summary.problems:
        _say(f"not restored: {problem}")
    _say(
        f"{summary.assets} assets read, {summary.written} of them written; {summary.folders} folders; "
        f"{summary.removed} left out because they are purged; {len(summary.problems)} problems"
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def _opened(settings: GallerySettings, name: str) -> AsyncIterator[tuple[AsyncEngine, BlobStore]]:
    """Database and storage. Statements may take their time: they count a whole library."""
    async with AsyncExitStack() as stack:
        patient = settings.model_copy(update={"database_statement_timeout": 0.0})
        engine = create_engine(patient, application_name=name)
        stack.push_async_callback(engine.dispose)
        await wait_until_reachable(engine, seconds=settings.database_wait_seconds)
        client = await stack.enter_async_context(open_client(settings))
        containers = {MediaType.IMAGE: settings.image_container, MediaType.VIDEO: settings.video_container}
        yield engine, AzureBlobStore(client, containers)
