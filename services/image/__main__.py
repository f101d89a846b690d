"""Serves the image service, or brings its schema up to date: `python -m services.image --help`."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import grpc.aio
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from contentlab.image.v1.image_service_pb2_grpc import add_ImageServiceServicer_to_server
from services.common.channels import SiblingCredentials, open_channel
from services.common.database import create_engine, is_reachable, wait_until_reachable
from services.common.main import Command, main
from services.common.migrations import migrate
from services.common.server import Application, Service, new_registry, serve
from services.common.settings import EXIT_CONFIGURATION
from services.image.adapters import generations as rows
from services.image.adapters.gallery import Gallery
from services.image.adapters.generations import Generations
from services.image.adapters.library import Library
from services.image.adapters.originals import Originals
from services.image.adapters.retention import Retention
from services.image.adapters.spool import Spool
from services.image.adapters.tables import SCHEMA, paid_calls
from services.image.delivery import Deliverer
from services.image.domain.generations import PAID_CALLS, Generation
from services.image.finding import Finder
from services.image.generating import Generating, today_utc
from services.image.housekeeping import Housekeeping
from services.image.language import Language
from services.image.making import Maker
from services.image.previews import Previews
from services.image.reading import Reading
from services.image.references import References
from services.image.resolving import Resolving
from services.image.running import Running
from services.image.servicer import ImageServicer
from services.image.settings import ImageSettings
from services.image.streaming import Streaming
from services.models.endpoints import EndpointClients
from services.models.helpers.flattener import Flattener
from services.models.images import ImageAdapter
from services.models.lifecycles import Lifecycles
from services.models.paid_calls import PaidCallMetrics, PaidCalls, Subjects
from services.models.registry import RegistryError
from services.models.selection import Selection, select

SERVICE_NAME = "contentlab.image.v1.ImageService"
PAID_METHODS = frozenset(
    {
        "GenerateImages",
        "StreamGenerateImages",
        "EditImages",
        "StreamEditImages",
        "AnalyzeImage",
        "EnhanceImagePrompt",
        "ProtectImagePrompt",
        "SuggestImageFilename",
        "ResolveImageGeneration",
    }
)
# A process that is frozen within a settlement holds its row for so long; one that is alive never idles in it.
IDLE_SECONDS = 60.0
REFUSED_KEPT_FOR = timedelta(days=7)

_log = structlog.get_logger(__name__)


async def run(settings: ImageSettings) -> None:
    """Serves until SIGTERM."""
    if settings.drain_seconds < settings.provider_seconds:
        problem = "CONTENTLAB_DRAIN_SECONDS is below CONTENTLAB_PROVIDER_SECONDS: stopping leaves outcomes unknown"
        _log.warning("configuration", problem=problem)
    async with image(settings, _selection(settings)) as application:
        await serve(application, settings)


@asynccontextmanager
async def image(
    settings: ImageSettings, selection: Selection, *, today: Callable[[], date] = today_utc
) -> AsyncIterator[Application]:
    """The whole service, wired to its database, the gallery and the models, for the duration of the block.

    Leaving it waits for the generations under way, for what is left of the time to drain.

    Raises:
        ConnectionError: the database did not come up in time.
    """
    async with AsyncExitStack() as stack:
        engine = create_engine(settings, application_name="image", idle_in_transaction_timeout=IDLE_SECONDS)
        stack.push_async_callback(engine.dispose)
        lease_engine = _lease_engine(settings)
        stack.push_async_callback(lease_engine.dispose)
        await wait_until_reachable(engine, seconds=settings.database_wait_seconds)
        if settings.migrate:
            await apply_migrations(settings)
        channel = open_channel(settings.gallery_target, credentials=_credentials(settings))
        stack.push_async_callback(channel.close)
        clients = EndpointClients(selection.registry, seconds=settings.provider_seconds, places=settings.provider_calls)
        stack.push_async_callback(clients.aclose)
        gallery = Gallery(channel, upload_seconds=settings.upload_seconds)
        parts = _Parts(settings, selection, engine, lease_engine, gallery, clients, channel, Library(channel), today)
        await stack.enter_async_context(parts.paid_calls.at_work())
        stack.push_async_callback(parts.drain)
        yield parts.application(today)


class _Parts:
    """The service's parts, each made of those before it."""

    def __init__(
        self,
        settings: ImageSettings,
        selection: Selection,
        engine: AsyncEngine,
        lease_engine: AsyncEngine,
        gallery: Gallery,
        clients: EndpointClients,
        channel: grpc.aio.Channel,
        library: Library,
        today: Callable[[], date],
    ) -> None:
        self.settings, self.selection, self.engine, self.gallery = settings, selection, engine, gallery
        self.metrics, self.draining, self._drain_until = new_registry(), asyncio.Event(), 0.0
        self.generations = Generations(engine)
        self.paid_calls = PaidCalls(
            engine,
            paid_calls,
            lease_seconds=settings.lease_seconds,
            subjects=Subjects(PAID_CALLS, "imageGeneration", rows.follow, Finder(gallery, self.generations).find),
            metrics=PaidCallMetrics(self.metrics),
            lease_engine=lease_engine,
        )
        hold = settings.lease_seconds
        self.deliverer = Deliverer(gallery, Spool(engine), self.generations, hold_seconds=hold, registry=self.metrics)
        adapter = ImageAdapter(
            selection.registry, clients, seconds=settings.provider_seconds, max_answer_bytes=settings.provider_max_bytes
        )
        self.language = Language(
            settings, selection.registry, engine, self.paid_calls, clients, library, self.generations, today=today
        )
        originals = Originals(channel, seconds=settings.upload_seconds)
        self.references = References(originals, capacity=settings.max_reference_bytes)
        self.previews = Previews(Flattener(processes=1))
        self.maker = Maker(
            self.paid_calls,
            adapter,
            clients,
            self.generations,
            self.deliverer,
            self.references,
            self.language.pipeline,
            hold_seconds=hold,
        )
        self.running = Running[Generation](settings.max_generations)
        keep = timedelta(days=settings.retention_days)
        self.housekeeping = Housekeeping(Retention(engine), keep=keep, registry=self.metrics)
        self.lifecycles = Lifecycles(selection.registry, clients, today=today, metrics=self.metrics)

    def application(self, today: Callable[[], date]) -> Application:
        """What the server serves."""
        generating = Generating(
            self.selection.registry,
            self.paid_calls,
            self.maker,
            self.gallery,
            self.generations,
            self.running,
            self.references,
            self.previews,
            self.language.pipeline,
            self.language.analysing,
            today=today,
        )
        reading = Reading(
            self.generations,
            self.paid_calls,
            self.selection,
            today=today,
            model_warnings=lambda: self.lifecycles.warnings,
        )
        resolving = Resolving(
            reading,
            self.paid_calls,
            self.maker,
            self.running,
            self.references,
            self.language.analysing,
            today=today,
        )
        servicer = ImageServicer(
            generating,
            Streaming(generating, self.previews),
            reading,
            self.language.helpers,
            resolving,
            answer_seconds=self.settings.answer_seconds,
        )
        register = partial(add_ImageServiceServicer_to_server, servicer)
        return Application(
            [Service(SERVICE_NAME, register, paid_methods=PAID_METHODS)],
            ready=partial(is_reachable, self.engine),
            background={
                "lifecycles": self.lifecycles.compare_forever,
                "purge": self.housekeeping.purge_forever,
                "deliver": self.deliverer.deliver_forever,
                "analyze": self.language.analysing.analyze_forever,
                "drain_clock": self._start_drain_clock,
            },
            registry=self.metrics,
            draining=self.draining,
        )

    async def _start_drain_clock(self) -> None:
        await self.draining.wait()
        self._drain_until = time.monotonic() + self.settings.drain_seconds

    async def drain(self) -> None:
        """Gives work without a waiting client the same time as the calls had, counted from the same moment."""
        left = self._drain_until - time.monotonic()
        await asyncio.gather(self.running.drain(left), self.language.running.drain(left))


def _lease_engine(settings: ImageSettings) -> AsyncEngine:
    """Connections that wait for nobody: a call whose lease is not renewed in time is taken for dead."""
    few = settings.model_copy(update={"database_pool_size": 1, "database_pool_overflow": 1})
    return create_engine(few, application_name="image-leases", idle_in_transaction_timeout=IDLE_SECONDS)


def _credentials(settings: ImageSettings) -> SiblingCredentials | None:
    """Without them the gallery takes no asset of another owner or with an id: only for a gallery of one's own tests."""
    if settings.service_token_file is None:
        _log.warning("configuration", problem="CONTENTLAB_SERVICE_TOKEN_FILE is not set: the gallery will refuse us")
        return None
    return SiblingCredentials.from_file("image", settings.service_token_file)


def _selection(settings: ImageSettings) -> Selection:
    """The models; a mistake ends the process with the exit code of wrong settings and one line that names it."""
    try:
        selection = select(settings)
    except RegistryError as error:
        print(f"configuration: {error}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIGURATION) from None
    for warning in selection.warnings:
        _log.warning("configuration", problem=warning)
    _log.info("models", provider=selection.provider, count=len(selection.registry.models))
    return selection


async def apply_migrations(settings: ImageSettings) -> None:
    """Brings the schema up to date."""
    await migrate(settings.database_url.get_secret_value(), SCHEMA, Path(__file__).parent / "migrations")


async def requeue(settings: ImageSettings) -> None:
    """Hands every finished image that the gallery refused for good to it once more; the serving processes do it."""
    async with _spool(settings) as spool:
        _log.info("refused_images_requeued", count=await spool.requeue_refused())


async def forget_refused(settings: ImageSettings) -> None:
    """Deletes the bytes of images that were refused for good, a week ago or longer. Nothing does so by itself."""
    async with _spool(settings) as spool:
        _log.info("refused_images_forgotten", count=await spool.forget_refused(REFUSED_KEPT_FOR))


@asynccontextmanager
async def _spool(settings: ImageSettings) -> AsyncIterator[Spool]:
    engine = create_engine(settings, application_name="image-operator", idle_in_transaction_timeout=IDLE_SECONDS)
    try:
        yield Spool(engine)
    finally:
        await engine.dispose()


if __name__ == "__main__":
    commands = {
        "serve": Command("serve RPCs until SIGTERM", run),
        "migrate": Command("bring the database schema up to date", apply_migrations),
        "requeue": Command("hand images that the gallery refused for good to it once more", requeue),
        "forget-refused": Command("delete the bytes of images that it refused a week ago or longer", forget_refused),
    }
    sys.exit(main("image", ImageSettings, commands))
