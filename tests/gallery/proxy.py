"""A line to storage that a test can cut, silence and mend."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Forwards bytes to Azurite until told otherwise."""

    def __init__(self, connection_string: str) -> None:
        found = re.search(r"BlobEndpoint=http://127\.0\.0\.1:(\d+)/", connection_string)
        assert found is not None
        self._target = int(found[1])
        self._template = connection_string
        self._port = 0
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._lines: set[asyncio.StreamWriter] = set()

    @property
    def connection_string(self) -> str:
        """The same storage, through this line."""
        return self._template.replace(f"127.0.0.1:{self._target}/", f"127.0.0.1:{self._port}/")

    @classmethod
    @asynccontextmanager
    async def to(cls, connection_string: str) -> AsyncIterator["Proxy"]:
        proxy = cls(connection_string)
        async with await asyncio.start_server(proxy._serve, "127.0.0.1", 0) as server:
            proxy._port = server.sockets[0].getsockname()[1]
            try:
                yield proxy
            finally:
                proxy.cut()

    def cut(self) -> None:
        """Every connection breaks, and new ones at once."""
        self._refusing = True
        self._open.set()
        for writer in self._lines:
            writer.transport.abort()

    def freeze(self) -> None:
        """Connections stay, and nothing moves any more."""
        self._open.clear()

    def mend(self) -> None:
        self._refusing = False
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._lines |= {writer, back_writer}
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(self._pump(reader, back_writer), self._pump(back_reader, writer))
        for each in (writer, back_writer):
            self._lines.discard(each)
            each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64 * 1024):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        writer.write_eof()
