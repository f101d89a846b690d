"""A real Envoy in front of real gRPC servers whose methods do what a test says."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc.aio
import httpx2

from contentlab.gallery.v1 import gallery_service_pb2_grpc
from contentlab.image.v1 import image_service_pb2_grpc
from contentlab.usage.v1 import usage_service_pb2_grpc
from contentlab.video.v1 import video_service_pb2_grpc
from gateway.binary import envoy_command
from gateway.render import render
from gateway.settings import UPSTREAM_NAMES, Address, GatewaySettings, Limits, Times
from services.common.server import Application, Service, running_server
from services.common.settings import ServiceSettings
from tests.support.contract import DESCRIPTOR_SET
from tests.support.ports import free_port

START_SECONDS = 20.0
INLINE_LIMIT = 32 * 1024 * 1024

Behaviour = Callable[[Any, Any], Any]

SERVICERS: Mapping[str, tuple[str, type, Callable[..., None]]] = {
    "image": (
        "contentlab.image.v1.ImageService",
        image_service_pb2_grpc.ImageServiceServicer,
        image_service_pb2_grpc.add_ImageServiceServicer_to_server,
    ),
    "video": (
        "contentlab.video.v1.VideoService",
        video_service_pb2_grpc.VideoServiceServicer,
        video_service_pb2_grpc.add_VideoServiceServicer_to_server,
    ),
    "gallery": (
        "contentlab.gallery.v1.GalleryService",
        gallery_service_pb2_grpc.GalleryServiceServicer,
        gallery_service_pb2_grpc.add_GalleryServiceServicer_to_server,
    ),
    "usage": (
        "contentlab.usage.v1.UsageService",
        usage_service_pb2_grpc.UsageServiceServicer,
        usage_service_pb2_grpc.add_UsageServiceServicer_to_server,
    ),
}


@dataclass
class Script:
    """What the methods of one service do, and the calls they got. A method without a behaviour is UNIMPLEMENTED."""

    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    calls: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)

    def on(self, method: str, behaviour: Behaviour) -> None:
        """Gives a method its behaviour: a servicer's method without `self`."""
        self.behaviours[method] = behaviour

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(name == method for name, _, _ in self.calls)

    def metadata(self) -> dict[str, str]:
        """The metadata of the last call."""
        return self.calls[-1][2]

    def reset(self) -> None:
        self.behaviours.clear()
        self.calls.clear()

    def play(self, method: str, request: Any, context: Any) -> Any:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self.calls.append((method, request, metadata))
        if method not in self.behaviours:
            raise NotImplementedError(method)
        return self.behaviours[method](request, context)


def scripted(upstream: str, script: Script) -> Service:
    """The service of an upstream with every method of its contract under the script."""
    name, base, add = SERVICERS[upstream]

    def player(method: str) -> Callable[..., Any]:
        return lambda servicer, request, context: script.play(method, request, context)

    methods = {method: player(method) for method in vars(base) if method[0].isupper()}
    return Service(name, functools.partial(add, type("Scripted", (base,), methods)()))


@asynccontextmanager
async def upstream(
    name: str, script: Script, port: int = 0, *, is_ready: Callable[[], bool] = lambda: True
) -> AsyncIterator[int]:
    """A server of the suite's own kind, with its interceptors and its health, for the duration of the block."""

    async def ready() -> bool:
        return is_ready()

    settings = ServiceSettings(
        listen=f"127.0.0.1:{port}", lame_duck_seconds=0, drain_seconds=0, max_receive_bytes=INLINE_LIMIT
    )
    application = Application([scripted(name, script)], ready=ready)
    async with running_server(application, settings, poll_seconds=0.1) as server:
        yield server.port


@dataclass
class Gateway:
    """A running gateway and the scripts behind it."""

    settings: GatewaySettings
    log: Path
    scripts: Mapping[str, Script] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.settings.listen.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def image(self) -> Script:
        return self.scripts["image"]

    @property
    def gallery(self) -> Script:
        return self.scripts["gallery"]

    def client(self, *, http2: bool = False, timeout: float = 20) -> httpx2.AsyncClient:
        """A REST client."""
        return httpx2.AsyncClient(base_url=self.url, http1=not http2, http2=http2, timeout=timeout)

    def channel(self) -> grpc.aio.Channel:
        """A native gRPC channel without retries of its own: a call counted twice was the gateway's doing."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.enable_retries", 0)])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection, for what no client library would send."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    @property
    def admin_url(self) -> str:
        """Envoy's admin interface."""
        return f"http://127.0.0.1:{self.settings.admin.port}"


@asynccontextmanager
async def running_envoy(settings: GatewaySettings, directory: Path) -> AsyncIterator[Path]:
    """Envoy with the rendered settings; yields its log. One worker, so that connections cannot avoid each other."""
    render(settings, directory)
    log = directory / "envoy.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *envoy_command(directory, concurrency=1), stdout=output, stderr=asyncio.subprocess.STDOUT
        )
    try:

        async def is_ready() -> bool:
            assert process.returncode is None, log.read_text()
            return await _is_ready(settings.admin.port)

        await eventually(is_ready)
        yield log
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), 10)


async def _is_ready(admin_port: int) -> bool:
    try:
        async with httpx2.AsyncClient(timeout=1) as client:
            return (await client.get(f"http://127.0.0.1:{admin_port}/ready")).status_code == 200
    except httpx2.HTTPError:
        return False


def gateway_settings(
    ports: Mapping[str, int],
    *,
    times: Times | None = None,
    limits: Limits | None = None,
    more: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> GatewaySettings:
    """Settings on free ports; a service without a port gets one where nothing listens, one in `more` has several."""
    upstreams = {name: (ports.get(name) or free_port(), *more.get(name, ())) for name in UPSTREAM_NAMES}
    return GatewaySettings(
        upstreams={name: tuple(Address("127.0.0.1", port) for port in found) for name, found in upstreams.items()},
        descriptor=DESCRIPTOR_SET,
        listen=Address("127.0.0.1", free_port()),
        admin=Address("127.0.0.1", free_port()),
        times=times or Times(),
        limits=limits or Limits(),
    )


@asynccontextmanager
async def running_gateway(directory: Path, times: Times | None = None) -> AsyncIterator[Gateway]:
    """A gateway with all four services behind it."""
    scripts = {name: Script() for name in UPSTREAM_NAMES}
    async with AsyncExitStack() as stack:
        ports = {name: await stack.enter_async_context(upstream(name, script)) for name, script in scripts.items()}
        settings = gateway_settings(ports, times=times)
        log = await stack.enter_async_context(running_envoy(settings, directory))
        gateway = Gateway(settings, log, scripts)
        await healthy(gateway)
        yield gateway


async def healthy(gateway: Gateway, *, status: int = 200) -> None:
    """Waits until the gateway's health page has the status."""

    async def has_status() -> bool:
        async with gateway.client() as client:
            return (await client.get("/healthz")).status_code == status

    await eventually(has_status)


async def eventually(condition: Callable[[], bool | Awaitable[bool]], seconds: float = START_SECONDS) -> None:
    """Waits until the condition holds; fails the test when it does not in time."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.05)
