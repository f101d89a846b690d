"""The whole suite as a user runs it: started by the stack runner, reached through the gateway."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2

from deploy.local.postgres import remove_postgres
from deploy.local.settings import PORTS
from deploy.local.state import load_state
from tests.support.ports import free_port_base

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0
# A test's stack takes its provider from the test alone, never from the machine it runs on.
PROVIDER_VARIABLES = ("OPENAI_", "AZURE_", "MODEL_PROVIDER", "DATABASE_URL", "CONTENTLAB_")


@dataclass(frozen=True)
class Stack:
    """One running suite."""

    home: Path
    port_base: int
    environment: Mapping[str, str]

    def port(self, name: str) -> int:
        """The port of a part, named as in the stack runner's table."""
        return PORTS[name] + self.port_base

    @property
    def url(self) -> str:
        """Address of the gateway."""
        return f"http://127.0.0.1:{self.port('gateway')}"

    @property
    def emulator_url(self) -> str:
        """Address of the emulator."""
        return f"http://127.0.0.1:{self.port('emulator')}"

    def client(self, *, timeout: float = 60) -> httpx2.AsyncClient:
        """A REST client of the gateway."""
        return httpx2.AsyncClient(base_url=self.url, timeout=timeout)

    def channel(self) -> grpc.aio.Channel:
        """A gRPC channel to the gateway."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port('gateway')}")

    def pid(self, name: str) -> int | None:
        """The process id of a part, as the runner last wrote it down; None while it waits to be started again."""
        state = load_state(self.home)
        assert state is not None, "the stack keeps no state: it does not run"
        record = next(process for process in state.processes if process.name == name)
        return record.identity.pid if record.identity is not None else None

    async def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the stack runner's command line for this stack."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "deploy.local", *arguments],
            cwd=ROOT,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )

    async def healthy(self, seconds: float = 60) -> None:
        """Waits until every part is ready and the gateway routes to all of them."""
        deadline = time.monotonic() + seconds
        paths = ("/healthz", "/api/v1/assets?pageSize=1", "/api/v1/images:environment")
        while True:
            status = await self.command("status")
            if status.returncode == 0 and await self._answer(paths):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the stack is not healthy after {seconds} s:\n{status.stdout}{status.stderr}")
            await asyncio.sleep(0.2)

    async def _answer(self, paths: tuple[str, ...]) -> bool:
        try:
            async with self.client(timeout=5) as client:
                return all([(await client.get(path)).status_code == 200 for path in paths])
        except httpx2.HTTPError:
            return False

    async def charges(self) -> list[dict[str, Any]]:
        """Every call that the emulator says it charged, oldest first."""
        rows: list[dict[str, Any]] = []
        async with httpx2.AsyncClient(timeout=10) as client:
            while True:
                after = rows[-1]["id"] if rows else 0
                page = (await client.get(f"{self.emulator_url}/ledger", params={"after": after})).json()
                rows += page["data"]
                if not page["has_more"]:
                    return rows

    async def fault(self, **fault: Any) -> None:
        """Plants a fault in the emulator."""
        async with httpx2.AsyncClient(timeout=10) as client:
            answer = await client.post(f"{self.emulator_url}/faults", json=fault)
            assert answer.is_success, answer.text

    async def clear_faults(self) -> None:
        """Takes all faults out of the emulator."""
        async with httpx2.AsyncClient(timeout=10) as client:
            await client.delete(f"{self.emulator_url}/faults")


@asynccontextmanager
async def running_stack(home: Path, **variables: str) -> AsyncIterator[Stack]:
    """A stack of its own for the duration of the block, on free ports."""
    base = free_port_base()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PROVIDER_VARIABLES)}
    environment = {
        **inherited,
        "CONTENTLAB_HOME": str(home),
        "CONTENTLAB_PORT_BASE": str(base),
        **variables,
    }
    stack = Stack(home, base, environment)
    try:
        started = await stack.command("up")
        assert started.returncode == 0, f"{started.stdout}\n{started.stderr}\n{_log_tails(home)}"
        await stack.healthy()
        yield stack
    finally:
        stopped = await stack.command("down")
        await remove_postgres(home)
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr


def _log_tails(home: Path, lines: int = 15) -> str:
    tails = []
    for path in sorted((home / "logs").glob("*.log")):
        text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        tails.append("\n".join([f"--- {path.name}", *text]))
    return "\n".join(tails)
