"""A service whose every process is known to be unwell gets no calls: a refusal at once beats an unknown outcome."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.image.v1 import image_service_pb2 as image_pb
from contentlab.image.v1 import image_service_pb2_grpc as image_rpc
from gateway.settings import Times
from services.common.status import from_rpc_error
from tests.gateway.harness import Gateway, Script, gateway_settings, healthy, running_envoy, upstream
from tests.support.errors import rest_error

GENERATE = "/api/v1/images:generate"
SOON = Times(health=0.5)


async def answered(request: Any, context: Any) -> image_pb.ImageGeneration:
    return image_pb.ImageGeneration(name="imageGenerations/1")


@asynccontextmanager
async def frozen_port() -> AsyncIterator[int]:
    """A process that has stopped running while the kernel goes on taking its connections."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_paid_call_is_not_sent_to_a_process_that_is_not_ready(tmp_path: Path) -> None:
    image, ready = Script({"GenerateImages": answered}), True
    async with AsyncExitStack() as stack:
        ports = {
            name: await stack.enter_async_context(upstream(name, Script())) for name in ("video", "gallery", "usage")
        }
        ports["image"] = await stack.enter_async_context(upstream("image", image, is_ready=lambda: ready))
        settings = gateway_settings(ports, times=SOON)
        gateway = Gateway(settings, await stack.enter_async_context(running_envoy(settings, tmp_path)))
        await healthy(gateway)
        ready = False
        await healthy(gateway, status=503)
        async with gateway.client() as client:
            error = rest_error(await client.post(GENERATE, json={"prompt": "a"}))
        assert (error.status, error.code, error.reason, error.billed) == (503, 14, "UNAVAILABLE", "no")
        assert error.metadata["retrySafe"] == "true"
        async with gateway.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as native:
                await image_rpc.ImageServiceStub(channel).GenerateImages(image_pb.GenerateImagesRequest(prompt="a"))
        typed = from_rpc_error(native.value)
        assert (typed.code, typed.billed, typed.retry_safe) == (grpc.StatusCode.UNAVAILABLE, "no", True)
        assert not image.calls
        ready = True
        await healthy(gateway)
        async with gateway.client() as client:
            assert (await client.post(GENERATE, json={"prompt": "a"})).status_code == 200


async def test_a_paid_call_does_not_wait_for_a_frozen_process(tmp_path: Path) -> None:
    async with frozen_port() as port:
        settings = gateway_settings({"image": port}, times=SOON)
        async with running_envoy(settings, tmp_path) as log, Gateway(settings, log).client(timeout=5) as client:
            error = rest_error(await client.post(GENERATE, json={"prompt": "a"}))
    assert (error.status, error.reason, error.billed) == (503, "UNAVAILABLE", "no")
    assert error.metadata["retrySafe"] == "true"


async def test_of_several_processes_the_ready_ones_are_called(tmp_path: Path) -> None:
    async def asset(request: Any, context: Any) -> gallery_pb.Asset:
        return gallery_pb.Asset(name=request.name)

    unready, well = Script({"GetAsset": asset}), Script({"GetAsset": asset})
    async with AsyncExitStack() as stack:
        down = await stack.enter_async_context(upstream("gallery", unready, is_ready=lambda: False))
        up = await stack.enter_async_context(upstream("gallery", well))
        settings = gateway_settings({"gallery": up}, times=SOON, more={"gallery": (down,)})
        log = await stack.enter_async_context(running_envoy(settings, tmp_path))
        async with Gateway(settings, log).client() as client:
            async with asyncio.timeout(20):  # until both have been asked how they are
                while (await client.get("/api/v1/assets/a")).status_code != 200:  # noqa: ASYNC110 - Envoy asks them
                    await asyncio.sleep(0.05)
            for _ in range(19):
                assert (await client.get("/api/v1/assets/a")).status_code == 200
    assert (len(unready.calls), len(well.calls)) == (0, 20)
