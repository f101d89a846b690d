"""Real emulators for tests: in this process, or in one of its own that can be killed."""

import asyncio
import base64
import contextlib
import io
import re
import sqlite3
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx2
from openai import AsyncOpenAI
from openai.types import ImagesResponse
from PIL import Image

from emulator.server import Server
from emulator.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
# Models end: tests live on the day the emulator's rows were written for.
TODAY = date(2026, 11, 23)
MODEL, CHAT_MODEL = "gpt-image-2.5-flare", "gpt-6-luna"
START_SECONDS = 30.0


@dataclass(frozen=True)
class Emulator:
    """A running emulator and two ways to speak to it."""

    url: str
    openai: AsyncOpenAI
    http: httpx2.AsyncClient

    async def charges(self, **filters: Any) -> list[dict[str, Any]]:
        """Rows of its ledger."""
        answer = await self.http.get("/ledger", params=filters)
        rows: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return rows

    async def some_charges(self, **filters: Any) -> list[dict[str, Any]]:
        """Rows of its ledger, as soon as there are any."""
        async with asyncio.timeout(10):
            while True:
                if rows := await self.charges(**filters):
                    return rows
                await asyncio.sleep(0.01)

    async def charge(self, key: str) -> dict[str, Any]:
        """The one charge of the call with this idempotency key, once its outcome is known."""
        async with asyncio.timeout(10):
            while True:
                [row] = await self.charges(idempotency_key=key)
                if row["outcome"] != "open":
                    return row
                await asyncio.sleep(0.01)

    def spoken(self, dialect: str, root: str = "/v1") -> AsyncOpenAI:
        """A client of this emulator in another dialect."""
        return self.openai.with_options(base_url=f"{self.url}/dialects/{dialect}{root}")

    async def arrived(self, **filters: Any) -> list[dict[str, Any]]:
        """What it received on the wire."""
        answer = await self.http.get("/requests", params=filters)
        entries: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return entries

    async def fault(self, kind: str, prompt: str = "", **details: Any) -> dict[str, Any]:
        """Order a fault for calls with this prompt, or for what `match` says."""
        order = {"kind": kind, "match": {"prompt_contains": prompt}, **details}
        answer = await self.http.post("/faults", json=order)
        assert answer.status_code == 201, answer.text
        shown: dict[str, Any] = answer.json()
        return shown


@asynccontextmanager
async def clients(url: str, key: str = "sk-test") -> AsyncIterator[Emulator]:
    """Clients of the emulator at `url`; nothing is ever retried."""
    headers = {"authorization": f"Bearer {key}"}
    async with (
        AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30) as openai,
        httpx2.AsyncClient(base_url=url, headers=headers, timeout=30) as http,
    ):
        yield Emulator(url, openai, http)


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Emulator]:
    """An emulator on a free port, served by this process."""
    given: dict[str, Any] = {"port": 0, "today": TODAY, "log_level": "warning", "drain_seconds": 1.0} | settings
    server = Server(Settings(**given))
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(START_SECONDS):
            while not server.started:
                assert not serving.done(), "the emulator ended before it served"
                await asyncio.sleep(0.01)
        async with clients(
            f"http://127.0.0.1:{server.bound_port}", settings.get("require_key") or "sk-test"
        ) as emulator:
            yield emulator
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """An emulator in a process of its own, and its address."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "emulator", "--port", "0", "--today", TODAY.isoformat(), *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_SECONDS):
            yield child, await _address(child)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _address(child: asyncio.subprocess.Process) -> str:
    assert child.stderr is not None
    while line := (await child.stderr.readline()).decode():
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
            return found.group(1)
    raise AssertionError("the emulator ended before it served")


def rows_on_disk(ledger: Path) -> list[dict[str, Any]]:
    """The charges in a ledger file, read without the emulator."""
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute("SELECT * FROM charges ORDER BY id")]


def new_key() -> str:
    """An idempotency key nobody else has."""
    return str(uuid.uuid4())


def files(response: ImagesResponse) -> list[bytes]:
    """The files in an answer."""
    return [base64.b64decode(each.b64_json or "", validate=True) for each in response.data or []]


def opened(data: bytes) -> Image.Image:
    """A picture, wholly decoded."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def pixels(picture: Image.Image) -> list[tuple[int, int, int, int]]:
    """Every pixel as red, green, blue, alpha."""
    flat = picture.convert("RGBA").tobytes()
    return list(zip(flat[0::4], flat[1::4], flat[2::4], flat[3::4], strict=True))


def png(width: int, height: int, colour: tuple[int, ...], mode: str = "RGB") -> bytes:
    """A PNG of one colour."""
    target = io.BytesIO()
    Image.new(mode, (width, height), colour).save(target, "PNG")
    return target.getvalue()
