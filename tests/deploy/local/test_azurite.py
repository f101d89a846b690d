"""Azurite under the runner: it loses acknowledged blobs when it is killed, so it never is."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from deploy.local.azurite import connection_string
from deploy.local.postgres import remove_postgres
from deploy.local.settings import Settings
from deploy.local.state import load_state
from tests.deploy.local.support import ROOT, kill, quiet_environment, settings_for
from tests.support.ports import free_port_base

BLOBS = 40


class Storage:
    """Azurite alone, by the commands that a person types."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {"CONTENTLAB_HOME": str(self.settings.home), "CONTENTLAB_PORT_BASE": str(self.settings.port_base)}
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "deploy.local", *arguments],
            cwd=ROOT,
            env=quiet_environment(**variables),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    async def up(self) -> None:
        done = await self.command("up", "--only", "azurite")
        assert done.returncode == 0, done.stdout + done.stderr

    async def write(self, first: int) -> None:
        async with self.client() as client, client.get_container_client("images") as container:
            if not await container.exists():
                await container.create_container()
            await asyncio.gather(*(self._write(container, number) for number in range(first, first + BLOBS)))

    async def _write(self, container: ContainerClient, number: int) -> None:
        await container.upload_blob(f"{number:03}", f"blob {number}".encode() * 100)

    async def stored(self) -> list[int]:
        """The blobs whose bytes are all there."""
        async with self.client() as client, client.get_container_client("images") as container:
            found = [int(name) async for name in container.list_blob_names()]
            for number in found:
                stream = await container.download_blob(f"{number:03}")
                assert await stream.readall() == f"blob {number}".encode() * 100
        return sorted(found)

    def client(self) -> BlobServiceClient:
        return BlobServiceClient.from_connection_string(connection_string(self.settings), retry_total=0)


@pytest_asyncio.fixture(loop_scope="session")
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    made = Storage(settings_for(tmp_path, free_port_base()))
    yield made
    await made.command("down")
    await remove_postgres(tmp_path)


async def test_azurite_keeps_every_blob_when_it_is_stopped(storage: Storage) -> None:
    await storage.up()
    await storage.write(0)
    assert (await storage.command("down")).returncode == 0
    await storage.up()
    assert await storage.stored() == list(range(BLOBS))


async def test_azurite_keeps_every_blob_when_the_runner_is_killed_and_started_again_at_once(storage: Storage) -> None:
    await storage.up()
    for turn in range(2):
        await storage.write(turn * BLOBS)
        state = load_state(storage.settings.home)
        assert state is not None
        kill(state.runner.pid)
        await storage.up()
    assert await storage.stored() == list(range(2 * BLOBS))


async def test_the_well_known_key_of_azurite_opens_nothing(storage: Storage) -> None:
    key = connection_string(storage.settings).split("AccountKey=")[1].split(";")[0]
    file = storage.settings.home / "secrets" / "azurite-key"
    assert file.read_text(encoding="ascii") == key
    assert len(key) == 88
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


async def test_up_twice_status_and_down_say_what_is_so(storage: Storage) -> None:
    assert (await storage.command("status")).returncode == 1
    await storage.up()
    again = await storage.command("up")
    assert again.returncode == 0
    assert "Already running" in again.stdout
    refused = await storage.command("run")
    assert refused.returncode == 1
    assert "Already running" in refused.stderr
    status = await storage.command("status")
    assert status.returncode == 0, status.stdout
    assert "azurite" in status.stdout
    logs = await storage.command("logs", "azurite")
    assert "successfully listens" in logs.stdout
    down = await storage.command("down")
    assert (down.returncode, down.stdout.splitlines()[-1]) == (0, "Stopped.")
    assert (await storage.command("down")).stdout == "Nothing was running.\n"
