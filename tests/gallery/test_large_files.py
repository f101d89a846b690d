"""A video of 500 MB (80 MB in `make test`) goes in and out, and no process on its way grows with it."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx2
import pytest
import pytest_asyncio

from tests.conftest import NewDatabase
from tests.gateway.harness import eventually, gateway_settings, running_envoy
from tests.support.azurite import running_azurite
from tests.support.campaign import scaled
from tests.support.gallery_process import GalleryProcess, running_gallery_process
from tests.support.memory import MIB, Watched, child_with, children, watch
from tests.support.transfers import (
    Video,
    download_by_grpc,
    download_by_rest,
    large_video,
    upload_by_grpc,
    upload_by_rest,
)

SIZE = scaled(80, 500) * 1_000_000
GROWTH = 64 * MIB
"""For every process, whatever the size: pieces on their way, buffers of sockets, and the allocator's reserve."""


@dataclass(frozen=True)
class Way:
    """All that bytes pass: the gallery with its workers, and the gateway."""

    gallery: GalleryProcess
    gateway: httpx2.AsyncClient
    envoy_pid: int

    def watched(self) -> Mapping[str, Watched]:
        workers = {f"worker {pid}": watch(pid) for pid in children(self.gallery.pid)}
        return {"gallery": watch(self.gallery.pid), "Envoy": watch(self.envoy_pid), **workers}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def way(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Way]:
    """Warm: a small video has gone in and out before anything is measured."""
    directory = tmp_path_factory.mktemp("large")
    async with AsyncExitStack() as stack:
        azurite = await stack.enter_async_context(running_azurite(directory / "azurite"))
        variables = {
            "AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string,
            # They would be made of the last video while the next transfer is measured.
            "CONTENTLAB_DERIVE_ON_INGEST": "false",
        }
        gallery = await stack.enter_async_context(running_gallery_process(await new_database(), variables))
        settings = gateway_settings({"gallery": gallery.port})
        await stack.enter_async_context(running_envoy(settings, directory))
        url = f"http://127.0.0.1:{settings.listen.port}"
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=600))

        async def is_routed() -> bool:
            return (await client.get("/api/v1/gallery:environment")).status_code == 200

        await eventually(is_routed)
        way = Way(gallery, client, child_with(str(directory / "envoy")))
        small = large_video(directory / "small.mp4", 12_000_000)
        for _ in range(2):
            await download_by_grpc(gallery, await upload_by_grpc(gallery, small))
            await download_by_rest(client, await upload_by_rest(client, small))
        yield way


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    return large_video(tmp_path_factory.mktemp("video") / "large.mp4", SIZE)


def grew_little(watched: Mapping[str, Watched]) -> None:
    growth = {name: process.growth for name, process in watched.items()}
    shown = ", ".join(f"{name} {size / MIB:.1f}" for name, size in growth.items())
    sys.stdout.write(f"\n{SIZE / 1e6:g} MB; growth in MiB: {shown}\n")
    assert all(size < GROWTH for size in growth.values()), growth


async def test_a_large_video_goes_through_grpc_with_flat_memory(way: Way, video: Video) -> None:
    watched = way.watched()
    assert len(watched) > 2, "workers are watched too"
    name = await upload_by_grpc(way.gallery, video)
    grew_little(watched)
    watched = way.watched()
    assert await download_by_grpc(way.gallery, name) == video.sha256
    grew_little(watched)


async def test_a_large_raw_body_goes_through_the_gateway_with_flat_memory(way: Way, video: Video) -> None:
    watched = way.watched()
    name = await upload_by_rest(way.gateway, video)
    grew_little(watched)
    watched = way.watched()
    assert await download_by_rest(way.gateway, name) == video.sha256
    grew_little(watched)
