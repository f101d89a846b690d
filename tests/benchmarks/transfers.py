"""How fast the gallery takes and gives a large video, against what azure-storage-blob alone does with the same storage.

    python -m tests.benchmarks.transfers            # 500 MB, three rounds
    python -m tests.benchmarks.transfers --megabytes 100 --rounds 1

Both speak to the same Azurite in the same run, by turns. The gallery hashes, spools and inspects besides, and moves
every byte twice. Exits with 1 when it reaches less than a third of the SDK's own speed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import httpx2
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from deploy.local.postgres import ensure_postgres, remove_postgres
from tests.gateway.harness import eventually, gateway_settings, running_envoy
from tests.support.azurite import running_azurite
from tests.support.gallery_process import GalleryProcess, running_gallery_process
from tests.support.ports import free_port
from tests.support.transfers import (
    Video,
    download_by_grpc,
    download_by_rest,
    large_video,
    upload_by_grpc,
    upload_by_rest,
)

WANTED = 1 / 3
SDK = "azure-storage-blob"
WAYS = (SDK, "gallery, gRPC", "gallery, REST")


@dataclass(frozen=True)
class Parts:
    """What is measured: the SDK's own client, the gallery, and the gallery behind Envoy."""

    container: ContainerClient
    gallery: GalleryProcess
    gateway: httpx2.AsyncClient


@dataclass
class Speeds:
    """Megabytes a second of every way, one a round."""

    up: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    down: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Parts]:
    """Postgres, Azurite, the gallery and Envoy, all of this run's own."""
    async with AsyncExitStack() as stack:
        database = await ensure_postgres(directory / "postgres", free_port(), environment={})
        stack.push_async_callback(remove_postgres, directory / "postgres")
        azurite = await stack.enter_async_context(running_azurite(directory / "azurite"))
        variables = {
            "AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string,
            # They read every original once more, in the background of whatever is measured next.
            "CONTENTLAB_DERIVE_ON_INGEST": "false",
        }
        gallery = await stack.enter_async_context(running_gallery_process(database, variables))
        settings = gateway_settings({"gallery": gallery.port})
        await stack.enter_async_context(running_envoy(settings, directory))
        url = f"http://127.0.0.1:{settings.listen.port}"
        gateway = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=900))

        async def is_routed() -> bool:
            return (await gateway.get("/api/v1/gallery:environment")).status_code == 200

        await eventually(is_routed)
        service = BlobServiceClient.from_connection_string(azurite.connection_string)
        await stack.enter_async_context(service)
        container = await service.create_container("alone")
        yield Parts(container, gallery, gateway)


async def measure(parts: Parts, video: Video, speeds: Speeds) -> None:
    """One round: every way up and down once."""
    ways: dict[str, tuple[Callable[[], Awaitable[str]], Callable[[str], Awaitable[str]]]] = {
        SDK: (partial(_sdk_up, parts.container, video), partial(_sdk_down, parts.container)),
        "gallery, gRPC": (partial(upload_by_grpc, parts.gallery, video), partial(download_by_grpc, parts.gallery)),
        "gallery, REST": (partial(upload_by_rest, parts.gateway, video), partial(download_by_rest, parts.gateway)),
    }
    for way, (up, down) in ways.items():
        name = await _timed(up, video, speeds.up[way])
        await _timed(partial(down, name), video, speeds.down[way])


async def _timed(work: Callable[[], Awaitable[str]], video: Video, into: list[float]) -> str:
    begin = time.perf_counter()
    answer = await work()
    into.append(video.size / 1e6 / (time.perf_counter() - begin))
    return answer


async def _sdk_up(container: ContainerClient, video: Video) -> str:
    """As the SDK's documentation does it: a file, and its own choice of blocks."""
    name = f"alone-{time.monotonic_ns()}"
    with video.path.open("rb") as file:
        await container.upload_blob(name, file, length=video.size)
    return name


async def _sdk_down(container: ContainerClient, name: str) -> str:
    download = await container.download_blob(name)
    async for _ in download.chunks():
        pass
    return name


def report(speeds: Speeds, size: int) -> bool:
    """Prints medians and ratios; whether every ratio is as wanted."""
    lines, ratios = [f"{size / 1e6:g} MB, MB/s (median of rounds, and against {SDK})"], []
    for title, found in (("up", speeds.up), ("down", speeds.down)):
        alone = median(found[SDK])
        for way in WAYS:
            speed = median(found[way])
            ratios.append(speed / alone)
            rounds = " ".join(f"{value:.0f}" for value in found[way])
            lines.append(f"  {title:<5}{way:<20}{speed:8.0f}  {speed / alone:5.2f}   ({rounds})")
    verdict = min(ratios) >= WANTED
    lines.append(f"  lowest ratio {min(ratios):.2f}, wanted {WANTED:.2f}: {'reached' if verdict else 'NOT REACHED'}")
    sys.stdout.write("\n".join(lines) + "\n")
    return verdict


async def run(megabytes: int, rounds: int) -> bool:
    """Measures and reports."""
    with tempfile.TemporaryDirectory(prefix="transfers-") as scratch:
        directory, speeds = Path(scratch), Speeds()
        video = large_video(directory / "video.mp4", megabytes * 1_000_000)
        async with running(directory) as parts:
            warm = large_video(directory / "warm.mp4", 12_000_000)
            await measure(parts, warm, Speeds())
            for _ in range(rounds):
                await measure(parts, video, speeds)
        return report(speeds, video.size)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    return 0 if asyncio.run(run(options.megabytes, options.rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
