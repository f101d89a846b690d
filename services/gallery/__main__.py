"""Serves the gallery, or brings its schema up to date: `python -m services.gallery --help`."""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from contentlab.gallery.v1.gallery_service_pb2_grpc import add_GalleryServiceServicer_to_server
from services.common.database import create_engine, is_reachable, wait_until_reachable
from services.common.errors import Unavailable
from services.common.main import AnyCommand, Command, CommandWithOptions, main
from services.common.migrations import migrate
from services.common.server import Application, Service, new_registry, serve
from services.gallery.adapters.attempts import Attempts
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.adapters.azure_client import open_client, storage_kind
from services.gallery.adapters.candidates import DATABASE_SETTINGS
from services.gallery.adapters.catalog import Catalog
from services.gallery.adapters.changes import ChangeLog
from services.gallery.adapters.counts import Counts
from services.gallery.adapters.derivation import Derivation
from services.gallery.adapters.folder_tree import Folders
from services.gallery.adapters.inspection.fair_turns import FairTurns
from services.gallery.adapters.inspection.pool import InspectionLimits, Inspector
from services.gallery.adapters.inspection.processes import LARGE_AT_ONCE
from services.gallery.adapters.inspection.renderer import Renderer
from services.gallery.adapters.inspection.sandbox import keep_memory_private
from services.gallery.adapters.listing import Listing
from services.gallery.adapters.mirror import Mirror
from services.gallery.adapters.purges import Purges
from services.gallery.adapters.removals import Removals
from services.gallery.adapters.signing import Signing, link_signer
from services.gallery.adapters.staging import Staging
from services.gallery.adapters.tables import SCHEMA
from services.gallery.adapters.transactions import Transactions
from services.gallery.adapters.words import Words
from services.gallery.derivatives import DerivativeLimits, Derivatives, Renderers
from services.gallery.direct import DirectLimits, DirectUploads
from services.gallery.domain.assets import MediaType
from services.gallery.domain.environment import Environment
from services.gallery.edits import Edits
from services.gallery.finding import Finding
from services.gallery.folder_tree import FolderTree
from services.gallery.housekeeping import Housekeeping
from services.gallery.library import Library
from services.gallery.links import AssetLinks
from services.gallery.maintenance import add_rebuild_options, add_verify_options, rebuild_index, verify
from services.gallery.mirroring import Mirroring
from services.gallery.ports import BlobStore
from services.gallery.servicer import GalleryServicer
from services.gallery.settings import GallerySettings
from services.gallery.staging_sweep import StagingSweep
from services.gallery.storage_watch import StorageWatch
from services.gallery.storing import Storing
from services.gallery.uploads import UploadLimits, Uploads
from services.gallery.watch_hub import WatchHub, WatchLimits
from services.gallery.watching import Watching

SERVICE_NAME = "contentlab.gallery.v1.GalleryService"

_log = structlog.get_logger(__name__)


async def run(settings: GallerySettings) -> None:
    """Serves until SIGTERM."""
    keep_memory_private()
    async with gallery(settings) as application:
        await serve(application, settings)


@asynccontextmanager
async def gallery(settings: GallerySettings) -> AsyncIterator[Application]:
    """The whole service, wired to its database and storage, which are up when the block begins.

    Raises:
        ConnectionError: database or storage did not come up in time.
    """
    async with AsyncExitStack() as stack:
        engine = create_engine(settings, application_name="gallery", server_settings=DATABASE_SETTINGS)
        stack.push_async_callback(engine.dispose)
        await wait_until_reachable(engine, seconds=settings.database_wait_seconds)
        if settings.migrate:
            await apply_migrations(settings)
        client = await stack.enter_async_context(open_client(settings))
        containers = {MediaType.IMAGE: settings.image_container, MediaType.VIDEO: settings.video_container}
        blobs = AzureBlobStore(client, containers)
        await _prepare(blobs, seconds=settings.storage_wait_seconds)
        large = FairTurns(LARGE_AT_ONCE)
        inspector = Inspector(_inspection_limits(settings), processes=settings.inspection_workers, large=large)
        stack.push_async_callback(inspector.close)
        rendering = _rendering_limits(settings)
        renderer = Renderer(rendering, processes=settings.derivative_workers, large=large)
        stack.push_async_callback(renderer.close)
        # Large pictures in turns of its own: an upload may not wait for a process that runs when nobody else does.
        idle_renderer = Renderer(rendering, processes=1, background=True)
        stack.push_async_callback(idle_renderer.close)
        transactions = Transactions(engine)
        catalog = Catalog(engine, transactions)
        attempts = Attempts(engine)
        storing = Storing(catalog, attempts, blobs, seconds=settings.store_seconds)
        uploads = Uploads(catalog, storing, blobs, inspector, _upload_limits(settings))
        stack.push_async_callback(uploads.close)
        signer = link_signer(client, settings, containers)
        staging = Staging(engine, transactions)
        direct = DirectUploads(staging, catalog, uploads, blobs, signer, _direct_limits(settings))
        stack.push_async_callback(direct.close)
        environment = _environment(settings, storage_kind(client.url), signer.signing)
        purges, mirroring = Purges(engine, transactions), Mirroring(Mirror(transactions), blobs)
        library = Library(catalog, purges, blobs)
        finding = Finding(Listing(engine), Counts(engine), Words(engine))
        registry, draining, log = new_registry(), asyncio.Event(), ChangeLog(engine)
        hub = WatchHub(log, _watch_limits(settings), draining, registry)
        stack.push_async_callback(hub.close)
        leftover = timedelta(seconds=settings.leftover_seconds)
        removals = Removals(engine, transactions, settle=leftover)
        housekeeping = Housekeeping(attempts, purges, removals, blobs, limit=leftover, registry=registry)
        derivatives = Derivatives(
            Derivation(engine, lease=timedelta(seconds=settings.derivative_lease_seconds)),
            blobs,
            Renderers(asked=renderer, background=idle_renderer),
            _derivative_limits(settings),
            registry,
        )
        stack.push_async_callback(derivatives.close)
        servicer = GalleryServicer(
            uploads,
            library,
            environment,
            direct=direct,
            derivatives=derivatives,
            links=AssetLinks(catalog, derivatives, signer),
            edits=Edits(catalog, retention=environment.delete_retention),
            finding=finding,
            folders=FolderTree(Folders(engine, transactions), retention=environment.delete_retention),
            watching=Watching(hub),
            stall_seconds=settings.download_idle_seconds,
        )
        yield Application(
            [Service(SERVICE_NAME, partial(add_GalleryServiceServicer_to_server, servicer))],
            ready=partial(is_reachable, engine),
            background={
                "mirror": mirroring.mirror_assets,
                "words": finding.bring_up_words,
                "second_mirror": mirroring.mirror_assets,
                "folder_mirror": mirroring.mirror_folders,
                **housekeeping.tasks,
                "staged_uploads": StagingSweep(staging, blobs).run_forever,
                "change_log": log.trim_forever,
                "watchers": hub.run,
                **({"derivatives": derivatives.make_forever} if settings.derive_on_ingest else {}),
                "storage_watch": StorageWatch(blobs, registry).poll_forever,
            },
            registry=registry,
            draining=draining,
        )


async def apply_migrations(settings: GallerySettings) -> None:
    """Brings the schema up to date."""
    await migrate(settings.database_url.get_secret_value(), SCHEMA, Path(__file__).parent / "migrations")


async def rebuild(settings: GallerySettings, options: argparse.Namespace) -> int:
    """Restores the index into a schema that is up to date."""
    if settings.migrate:
        await apply_migrations(settings)
    return await rebuild_index(settings, options)


async def _prepare(blobs: BlobStore, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            return await blobs.prepare()
        except Unavailable as error:
            if time.monotonic() > end:
                raise ConnectionError(f"blob storage did not answer within {seconds:g} s") from error
            _log.warning("waiting_for_storage")
            await asyncio.sleep(0.5)


def _upload_limits(settings: GallerySettings) -> UploadLimits:
    return UploadLimits(
        max_bytes=settings.max_upload_bytes,
        concurrent=settings.max_concurrent_uploads,
        of_one=settings.max_concurrent_uploads_per_principal or max(1, settings.max_concurrent_uploads // 4),
        wait_seconds=settings.upload_wait_seconds,
        idle_seconds=settings.upload_idle_seconds,
        minimum_rate=settings.upload_minimum_rate,
        spool_directory=settings.spool_directory,
    )


def _direct_limits(settings: GallerySettings) -> DirectLimits:
    return DirectLimits(
        max_bytes=settings.max_direct_upload_bytes,
        lifetime=timedelta(seconds=settings.direct_upload_seconds),
        open_uploads=settings.max_open_direct_uploads,
    )


def _watch_limits(settings: GallerySettings) -> WatchLimits:
    return WatchLimits(
        watchers=settings.max_watchers,
        watchers_of_one=settings.max_watchers_per_principal,
        checkpoint_seconds=settings.watch_checkpoint_seconds,
        outage_seconds=settings.watch_outage_seconds,
        stall_seconds=settings.watch_stall_seconds,
        lifetime_seconds=settings.watch_lifetime_seconds,
    )


def _inspection_limits(settings: GallerySettings) -> InspectionLimits:
    return InspectionLimits(
        max_pixels=settings.max_image_pixels,
        seconds=settings.inspection_seconds,
        memory_bytes=settings.inspection_memory_bytes,
    )


def _rendering_limits(settings: GallerySettings) -> InspectionLimits:
    return replace(_inspection_limits(settings), seconds=settings.derivative_seconds)


def _derivative_limits(settings: GallerySettings) -> DerivativeLimits:
    return DerivativeLimits(
        concurrent=settings.derivative_workers,
        wait_seconds=settings.derivative_wait_seconds,
        spool_directory=settings.spool_directory,
    )


def _environment(settings: GallerySettings, kind: str, signing: Signing) -> Environment:
    return Environment(
        storage_kind=kind,
        storage_auth=settings.storage_auth,
        image_container=settings.image_container,
        video_container=settings.video_container,
        max_upload_bytes=settings.max_upload_bytes,
        max_image_pixels=settings.max_image_pixels,
        delete_retention=timedelta(days=settings.delete_retention_days),
        link_signing=signing,
        max_direct_upload_bytes=settings.max_direct_upload_bytes,
    )


if __name__ == "__main__":
    commands: dict[str, AnyCommand[GallerySettings]] = {
        "serve": Command("serve RPCs until SIGTERM", run),
        "migrate": Command("bring the database schema up to date", apply_migrations),
        "rebuild-index": CommandWithOptions("restore the index from storage alone", add_rebuild_options, rebuild),
        "verify": CommandWithOptions("compare index and storage, and bytes with hashes", add_verify_options, verify),
    }
    sys.exit(main("gallery", GallerySettings, commands))
