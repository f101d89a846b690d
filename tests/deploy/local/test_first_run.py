"""The first picture, against a gateway that only notes what it is asked."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest_asyncio

from deploy.local.first_run import announcement, first_picture


class Gateway:
    """Answers as the suite's REST interface does for the two calls that a first run makes."""

    def __init__(self, *, assets: list[str], generates: int = 200) -> None:
        self.assets, self.generates = assets, generates
        self.asked: list[tuple[str, object]] = []
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line.split(":")[1]) for line in head.splitlines() if line.startswith("Content-Length")), 0)
        body = json.loads(await reader.readexactly(length)) if length else None
        call = head.split(" HTTP")[0]
        self.asked.append((call, body))
        status, answer = 200, json.dumps({"assets": [{"name": name} for name in self.assets]})
        if call.startswith("POST"):
            status, answer = self.generates, json.dumps({"code": 14} if self.generates != 200 else {})
            self.assets += ["assets/new"] if self.generates == 200 else []
        writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode())
        await writer.drain()
        writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def empty() -> AsyncIterator[Gateway]:
    gateway = Gateway(assets=[])
    server = await asyncio.start_server(gateway.answer, "127.0.0.1", 0)
    gateway.port = server.sockets[0].getsockname()[1]
    async with server:
        yield gateway


async def test_an_empty_gallery_gets_a_picture(empty: Gateway) -> None:
    assert await first_picture(empty.port) == "assets/new"
    assert empty.asked[1] == ("POST /api/v1/images:generate", {"prompt": "a lighthouse at dusk"})


async def test_a_gallery_that_has_something_gets_nothing(empty: Gateway) -> None:
    empty.assets = ["assets/old"]
    assert await first_picture(empty.port) == "assets/old"
    assert [call.split()[0] for call, _ in empty.asked] == ["GET"]


async def test_a_picture_that_cannot_be_made_does_not_stop_the_stack(empty: Gateway) -> None:
    empty.generates = 503
    assert await first_picture(empty.port) is None
    assert await first_picture(1) is None


def test_the_announcement_gives_commands_that_work_as_they_stand() -> None:
    lines = announcement("http://127.0.0.1:8180", "assets/abc", emulated=True)
    commands = [line.strip() for line in lines if line.startswith("  curl")]
    assert len(commands) == 3
    assert "http://127.0.0.1:8180/api/v1/images:generate" in commands[0]
    assert "assets/abc:download" in commands[2]
