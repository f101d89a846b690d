"""An image service on a real port, over a real Postgres, and its callers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import grpc.aio
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from contentlab.image.v1 import image_service_pb2 as pb
from contentlab.image.v1 import image_service_pb2_grpc as rpc
from services.common.errors import ServiceError
from services.common.server import running_server
from services.common.status import from_rpc_error
from services.image.__main__ import image
from services.image.settings import ImageSettings
from services.models.binding import bind_all
from services.models.registry import shipped
from services.models.rows import Endpoint
from services.models.selection import Selection, select

TODAY = date(2026, 11, 23)

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """A running image service."""

    stub: Any
    channel: grpc.aio.Channel
    settings: ImageSettings
    selection: Selection
    metrics: CollectorRegistry

    def metric(self, name: str, **labels: str) -> float:
        """The present value of a metric."""
        return self.metrics.get_sample_value(name, labels) or 0.0

    async def generate(self, prompt: str = "a harbour", **fields: Any) -> pb.ImageGeneration:
        """One call of GenerateImages."""
        timeout = fields.pop("timeout", 60)
        request = pb.GenerateImagesRequest(prompt=prompt, **fields)
        generation: pb.ImageGeneration = await self.stub.GenerateImages(request, timeout=timeout)
        return generation

    async def edit(self, *images: str | bytes, prompt: str = "a harbour", **fields: Any) -> pb.ImageGeneration:
        """One call of EditImages; inputs are names of assets or bytes."""
        timeout = fields.pop("timeout", 60)
        request = pb.EditImagesRequest(prompt=prompt, images=[image_input(one) for one in images], **fields)
        generation: pb.ImageGeneration = await self.stub.EditImages(request, timeout=timeout)
        return generation

    async def streamed(self, prompt: str = "a harbour", **fields: Any) -> list[pb.StreamImagesResponse]:
        """All events of one call of StreamGenerateImages."""
        request = pb.StreamGenerateImagesRequest(prompt=prompt, **fields)
        return [event async for event in self.stub.StreamGenerateImages(request, timeout=60)]

    async def streamed_edit(
        self, *images: str | bytes, prompt: str = "a harbour", **fields: Any
    ) -> list[pb.StreamImagesResponse]:
        """All events of one call of StreamEditImages."""
        request = pb.StreamEditImagesRequest(prompt=prompt, images=[image_input(one) for one in images], **fields)
        return [event async for event in self.stub.StreamEditImages(request, timeout=60)]

    async def ended(self, name: str, *states: str) -> pb.ImageGeneration:
        """The generation as soon as it is in one of the states."""

        async def look() -> pb.ImageGeneration | None:
            found = await self.get(name)
            return found if pb.ImageGeneration.State.Name(found.state) in states else None

        return await until(look)

    async def get(self, name: str) -> pb.ImageGeneration:
        """One generation as it stands."""
        generation: pb.ImageGeneration = await self.stub.GetImageGeneration(
            pb.GetImageGenerationRequest(name=name), timeout=10
        )
        return generation


def image_input(source: str | bytes) -> pb.ImageInput:
    """An asset's name, or bytes."""
    return pb.ImageInput(asset=source) if isinstance(source, str) else pb.ImageInput(inline=source)


def kinds(events: list[pb.StreamImagesResponse]) -> list[str]:
    """What the events of a stream are, in order."""
    return [str(event.WhichOneof("event")) for event in events]


def image_settings(database_url: str, **overrides: Any) -> ImageSettings:
    """Settings that take nothing from the environment of the tests."""
    defaults: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "lame_duck_seconds": 0,
        "drain_seconds": 0,
        "database_url": SecretStr(database_url),
        "openai_api_key": None,
        "openai_base_url": None,
        "models_file": None,
        "model_provider": None,
        "image_model": "",
        "llm_model": "",
        "lease_seconds": 2.0,
    }
    return ImageSettings(**(defaults | overrides))


@asynccontextmanager
async def running_image(
    settings: ImageSettings, selection: Selection | None = None, *, today: date = TODAY
) -> AsyncIterator[Service]:
    """The service as its `__main__` builds it, on a port of its own."""
    chosen = selection or select(settings, {})
    async with (
        image(settings, chosen, today=lambda: today) as application,
        running_server(application, settings) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Service(rpc.ImageServiceStub(channel), channel, settings, chosen, application.registry)


async def refusal(call: Awaitable[Any]) -> ServiceError:
    """The typed error that the call ends with."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError(f"no error but {answer!r:.300}")


def selection_for(url: str, *, dialect: str = "openai") -> Selection:
    """Every shipped model, with its price, at one endpoint."""
    endpoint = Endpoint(base_url=url, dialect=dialect, auth="key", key=SecretStr("sk-a-made-up-key"))
    return Selection("openai", bind_all(shipped(), "here", endpoint, "", ""))


async def until(condition: Callable[[], Awaitable[T | None]], *, seconds: float = 20.0) -> T:
    """What the condition gives as soon as it gives anything."""
    async with asyncio.timeout(seconds):
        while True:
            found = await condition()
            if found:
                return found
            await asyncio.sleep(0.05)
