"""An Azurite of a test's own."""

import asyncio
import base64
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.azurite import ACCOUNT, PACKAGE, azurite_command
from deploy.local.toolchain import find_node
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0


@dataclass(frozen=True)
class Azurite:
    """A running Azurite: the service's URL, its account's key, and its process."""

    url: str
    key: str
    pid: int

    @property
    def connection_string(self) -> str:
        """For signing in with the key."""
        scheme = self.url.partition(":")[0]
        return f"DefaultEndpointsProtocol={scheme};AccountName={ACCOUNT};AccountKey={self.key};BlobEndpoint={self.url};"


@asynccontextmanager
async def running_azurite(directory: Path, *options: str, scheme: str = "http") -> AsyncIterator[Azurite]:
    """Azurite on a free port, its data in `directory`; ended by SIGTERM."""
    node = find_node()
    assert node is not None, "no Node to run Azurite on: `make setup`"
    port, key = free_port(), base64.b64encode(secrets.token_bytes(64)).decode()
    process = await asyncio.create_subprocess_exec(
        *azurite_command(node, ROOT / PACKAGE, directory, port),
        *options,
        env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _listens(port):
                assert process.returncode is None, "Azurite ended before it listened"
                await asyncio.sleep(0.05)
        yield Azurite(f"{scheme}://127.0.0.1:{port}/{ACCOUNT}", key, process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(30):
            await process.wait()


async def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False
