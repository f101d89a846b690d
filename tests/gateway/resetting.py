"""A server that says it is healthy, takes every other call, and drops the connection instead of answering."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from grpc_health.v1 import health_pb2
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived

HEALTH = "/grpc.health.v1.Health/Check"


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
                        if path != HEALTH:
                            self.paths.append(path)
                    elif isinstance(event, DataReceived):
                        if path != HEALTH:
                            return
                        _serving(connection, event.stream_id)
                writer.write(connection.data_to_send())
        finally:
            writer.transport.abort()


def _serving(connection: H2Connection, stream: int) -> None:
    message = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()
    connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    connection.send_data(stream, struct.pack(">BI", 0, len(message)) + message)
    connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)


@asynccontextmanager
async def resetting_server() -> AsyncIterator[ResettingServer]:
    """The server on a free port for the duration of the block."""
    state = ResettingServer()
    server = await asyncio.start_server(state.serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    async with server:
        yield state
