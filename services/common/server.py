"""The aio server: built from an `Application`, run until SIGTERM, drained, stopped."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import grpc.aio
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server

from services.common.background import Background, background_tasks
from services.common.channels import MAX_MESSAGE_BYTES
from services.common.health import POLL_SECONDS, HealthServicer, Readiness
from services.common.interceptors import build_chain
from services.common.settings import ServiceSettings, read_service_token

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    # Two processes on one port would share it silently, and Envoy would starve one of them.
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # With the soft limit (8 KiB by default) below the hard one gRPC refuses at random in between. The principal
    # interceptor refuses above 16 KiB, always and typed.
    ("grpc.max_metadata_size", 32 * 1024),
    ("grpc.absolute_max_metadata_size", 32 * 1024),
    # A frozen client is noticed after 30 + 10 seconds; siblings ping every 20 s, the gateway every 30 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)

_log = structlog.get_logger(__name__)


async def _always() -> bool:
    return True


def new_registry() -> CollectorRegistry:
    """A metrics registry with the process's own numbers in it."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


@dataclass(frozen=True)
class Service:
    """One gRPC service: its full name, what adds its servicer to a server, and its paying methods' short names.

    `Service("contentlab.image.v1.ImageService", partial(add_ImageServiceServicer_to_server, servicer),
    paid_methods=frozenset({"GenerateImages"}))`
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    paid_methods: frozenset[str] = frozenset()

    def paid_paths(self) -> frozenset[str]:
        """The paying methods as on the wire.

        Raises:
            ValueError: the contract has no such method; unnoticed, its failures would claim `billed: no`.
        """
        known = descriptor_pool.Default().FindServiceByName(self.name).methods_by_name if self.paid_methods else {}
        unknown = self.paid_methods - set(known)
        if unknown:
            raise ValueError(f"{self.name} has no method {', '.join(sorted(unknown))}")
        return frozenset(f"/{self.name}/{method}" for method in self.paid_methods)


@dataclass(frozen=True)
class Application:
    """What one process serves.

    `ready` is polled every second and decides SERVING or NOT_SERVING. `background` tasks are restarted when they
    fail and cancelled after the last call has ended. `draining` is set when the server begins to stop: endless
    streams end themselves on it (UNAVAILABLE, so that clients reconnect elsewhere), or they use up the whole grace.
    """

    services: Sequence[Service]
    ready: Callable[[], Awaitable[bool]] = _always
    background: Mapping[str, Background] = field(default_factory=dict)
    registry: CollectorRegistry = field(default_factory=new_registry)
    draining: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class RunningServer:
    """Where a started server listens; ports are the real ones also when 0 was asked for."""

    port: int
    metrics_port: int | None


async def serve(application: Application, settings: ServiceSettings) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.

    Resources of the application (engine, channels) belong into an `async with` around this call: they are closed
    after the last call has ended.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
        stop.set()
        _log.info("stopping", signal=number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    async with running_server(application, settings):
        # Modules and wiring live as long as the process: a full collection that walks them stops every call for 0.1 s.
        gc.collect()
        gc.freeze()
        await stop.wait()
    _log.info("stopped")


@asynccontextmanager
async def running_server(
    application: Application, settings: ServiceSettings, *, poll_seconds: float = POLL_SECONDS
) -> AsyncIterator[RunningServer]:
    """A started server for the duration of the block; tests start it on port 0 with `drain_seconds=0`."""
    health = HealthServicer(application.draining)
    readiness = Readiness(health, [service.name for service in application.services], application.ready)
    server = build_server(application, settings, health)
    port = server.add_insecure_port(settings.listen)
    await readiness.poll()  # before the first call, so that health is true from the start
    with metrics_page(application.registry, settings.metrics_listen) as metrics_port:
        await server.start()
        _log.info("listening", port=port, metrics_port=metrics_port)
        async with background_tasks(application.background):
            try:
                async with background_tasks({"readiness": lambda: readiness.poll_forever(poll_seconds)}):
                    yield RunningServer(port, metrics_port)
            finally:
                await _drain(server, health, application.draining, settings)


def build_server(application: Application, settings: ServiceSettings, health: HealthServicer) -> grpc.aio.Server:
    """The server with interceptors, health and, where wanted, reflection; not yet listening."""
    names = [service.name for service in application.services]
    server = grpc.aio.server(
        interceptors=build_chain(
            registry=application.registry,
            services=names,
            service_token=read_service_token(settings.service_token_file) if settings.service_token_file else None,
            paid_methods=frozenset().union(*(service.paid_paths() for service in application.services)),
        ),
        options=(*SERVER_OPTIONS, ("grpc.max_receive_message_length", settings.max_receive_bytes)),
        maximum_concurrent_rpcs=settings.max_concurrent_calls,
    )
    for service in application.services:
        service.register(server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if settings.reflection:
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*names, health_name, reflection.SERVICE_NAME), server)
    return server


async def _drain(
    server: grpc.aio.Server, health: HealthServicer, draining: asyncio.Event, settings: ServiceSettings
) -> None:
    """NOT_SERVING; time for load balancers to see it; no new calls; time for running ones; the rest is cancelled."""
    await health.begin_drain()
    await asyncio.sleep(settings.lame_duck_seconds)
    draining.set()
    await server.stop(settings.drain_seconds)


@contextmanager
def metrics_page(registry: CollectorRegistry, address: str | None) -> Iterator[int | None]:
    """Serves `registry` over HTTP on `host:port`, from a thread of its own, and yields the port."""
    if address is None:
        yield None
        return
    host, _, port = address.rpartition(":")
    httpd, thread = start_http_server(int(port), host.strip("[]"), registry)
    try:
        yield httpd.server_port
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
