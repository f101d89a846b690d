"""A server that speaks just enough HTTP/2 to take calls, and drops the connection instead of answering."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived


@dataclass
class ResettingServer:
    """Where it listens, and the paths of the calls that it took."""

    port: int = 0
    paths: list[str] = field(default_factory=list)

    def count(self, path: str) -> int:
        return self.paths.count(path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes one call with its message, then hangs up."""
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        path = ""
        try:
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, RequestReceived):
                        path = dict(event.headers)[b":path"].decode()
                        self.paths.append(path)
                    elif isinstance(event, DataReceived):
                        return
                writer.write(connection.data_to_send())
        finally:
            writer.transport.abort()


@asynccontextmanager
async def resetting_server() -> AsyncIterator[ResettingServer]:
    """The server on a free port for the duration of the block."""
    state = ResettingServer()
    server = await asyncio.start_server(state.serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    async with server:
        yield state
