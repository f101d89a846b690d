"""The gallery as a process of its own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio

from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from tests.support.azurite import ROOT
from tests.support.ports import free_port

START_SECONDS = 40.0
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class GalleryProcess:
    """A running gallery whose callers are the local owner."""

    pid: int
    port: int
    stub: Any
    metadata: tuple[tuple[str, str], ...] = ()


@asynccontextmanager
async def running_gallery_process(
    database_url: str, variables: Mapping[str, str], *options: tuple[str, int]
) -> AsyncIterator[GalleryProcess]:
    """`python -m services.gallery` on a free port, with nothing in its environment but what it is given."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "CONTENTLAB_LISTEN": f"127.0.0.1:{port}",
        "CONTENTLAB_LAME_DUCK_SECONDS": "0",
        "CONTENTLAB_DRAIN_SECONDS": "0",
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gallery", cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            await asyncio.wait_for(channel.channel_ready(), START_SECONDS)
            yield GalleryProcess(process.pid, port, rpc.GalleryServiceStub(channel))
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
