"""A gallery with a Postgres of its own, as processes that can be killed; Azurite is the test run's and lives on."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from deploy.local.postgres import remove_postgres
from services.common.caller import PRINCIPAL_KEY, SERVICE_KEY, TOKEN_KEY
from tests.conftest import ROOT
from tests.support.ports import free_port

TOKEN = "a-made-up-token"
LEFTOVER_SECONDS = 6
STARTER = """
import asyncio, sys
from pathlib import Path
from typing import Any
from deploy.local.postgres import ensure_postgres
print(asyncio.run(ensure_postgres(Path(sys.argv[1]), int(sys.argv[2]))))
"""


@dataclass
class KillableGallery:
    """Both processes are started again by whoever kills them."""

    home: Path
    environment: dict[str, str]
    port: int
    postgres_port: int
    process: asyncio.subprocess.Process | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.home / "gallery.log"

    async def start(self) -> None:
        """Starts the gallery; callers wait for it."""
        command = [sys.executable, "-m", "services.gallery"]
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )

    async def kill_gallery(self) -> None:
        """`kill -9`, and a new one."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        await self.start()

    async def kill_postgres(self) -> None:
        """`kill -9` of the postmaster, whose children end with it, and recovery."""
        pid = int((self.home / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        await self.ensure_postgres()

    async def ensure_postgres(self) -> str:
        """URL of a Postgres that answers. Started by a process of its own: this one has gRPC's threads, and may not
        fork into another user."""
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", STARTER, str(self.home), str(self.postgres_port)),
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
        assert process.returncode == 0
        return output.decode().strip()

    def unexpected_errors(self) -> list[str]:
        """What the gallery could not name, with its trace."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line.get("exception", "")[-2000:] for line in lines if line.get("event") == "unexpected_error"]

    def channel(self) -> grpc.aio.Channel:
        """A connection that looks for the gallery again soon after it was killed."""
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options)

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Runs the gallery's command line: exit code and what it says."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.gallery", *arguments),
            cwd=ROOT,
            env=self.environment,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(120):
            output, _ = await process.communicate()
        return process.returncode or 0, output.decode()


def metadata(principal: str, service: str) -> tuple[tuple[str, str], ...]:
    """A caller as the gateway, or a sibling, vouches for it."""
    return ((TOKEN_KEY, TOKEN), (SERVICE_KEY, service), (PRINCIPAL_KEY, principal))


def stub(channel: grpc.aio.Channel) -> Any:
    """The gallery's methods; the stubs' types are those of gRPC's blocking API."""
    return rpc.GalleryServiceStub(channel)


@asynccontextmanager
async def killable_gallery(home: Path, azurite: str) -> AsyncIterator[KillableGallery]:
    """Running, and stopped at the end."""
    (home / "token").write_text(TOKEN, encoding="ascii")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AZURE_", "CONTENTLAB_", "DATABASE_URL"))
    }
    port, postgres_port = free_port(), free_port()
    running = KillableGallery(home, inherited, port, postgres_port)
    running.environment |= {
        "DATABASE_URL": await running.ensure_postgres(),
        "AZURE_STORAGE_CONNECTION_STRING": azurite,
        "AZURE_BLOB_IMAGE_CONTAINER": f"killed-images-{port}",
        "AZURE_BLOB_VIDEO_CONTAINER": f"killed-videos-{port}",
        "CONTENTLAB_LISTEN": f"127.0.0.1:{port}",
        "CONTENTLAB_SERVICE_TOKEN_FILE": str(home / "token"),
        "CONTENTLAB_STORE_SECONDS": str(LEFTOVER_SECONDS / 2),
        "CONTENTLAB_LEFTOVER_SECONDS": str(LEFTOVER_SECONDS),
    }
    try:
        await running.start()
        yield running
    finally:
        if running.process is not None:
            with contextlib.suppress(ProcessLookupError):
                running.process.kill()
            await running.process.wait()
        await remove_postgres(home)
