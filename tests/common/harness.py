"""A server with all four kinds of call, behind the real chain on a real port, and what a client sees of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2

from services.common.interceptors.base import Handler
from services.common.server import Application, RunningServer, Service, running_server
from services.common.settings import ServiceSettings
from services.common.status import STATUS_METADATA_KEY

KINDS = "test.v1.Kinds"
METHODS = {"Unary": (False, False), "ServerStream": (False, True), "ClientStream": (True, False), "Bidi": (True, True)}
Behaviour = Callable[..., Any]


def settings(**overrides: Any) -> ServiceSettings:
    defaults: dict[str, Any] = {"listen": "127.0.0.1:0", "lame_duck_seconds": 0, "drain_seconds": 0}
    return ServiceSettings(**(defaults | overrides))


async def echo_unary(request: StringValue, context: Any) -> StringValue:
    return request


async def echo_server_stream(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
    for _ in range(3):
        yield request


async def echo_client_stream(requests: AsyncIterator[StringValue], context: Any) -> StringValue:
    return StringValue(value="".join([request.value async for request in requests]))


async def echo_bidi(requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
    async for request in requests:
        yield request


def kinds(
    *,
    unary: Behaviour = echo_unary,
    server_stream: Behaviour = echo_server_stream,
    client_stream: Behaviour = echo_client_stream,
    bidi: Behaviour = echo_bidi,
) -> Service:
    """A service with one method of each kind; every message is a StringValue."""
    codec: dict[str, Any] = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handlers: dict[str, Handler] = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary, **codec),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream, **codec),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream, **codec),
        "Bidi": grpc.stream_stream_rpc_method_handler(bidi, **codec),
    }
    return Service(KINDS, partial(_register, handlers))


def _register(handlers: dict[str, Handler], server: grpc.aio.Server) -> None:
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(KINDS, handlers),))


class KindsStub:
    """Client of `kinds`; requests may be raw bytes, so that a test can send what is no message at all."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        codec: dict[str, Any] = {"request_serializer": _serialize, "response_deserializer": StringValue.FromString}
        self.unary: Any = channel.unary_unary(f"/{KINDS}/Unary", **codec)
        self.server_stream: Any = channel.unary_stream(f"/{KINDS}/ServerStream", **codec)
        self.client_stream: Any = channel.stream_unary(f"/{KINDS}/ClientStream", **codec)
        self.bidi: Any = channel.stream_stream(f"/{KINDS}/Bidi", **codec)

    async def call(self, kind: str, *values: str | bytes, **options: Any) -> list[str]:
        """Calls the method of that kind and returns all values it answered with."""
        method = getattr(self, kind)
        requests = iter(values) if kind in ("client_stream", "bidi") else values[0]
        if kind in ("server_stream", "bidi"):
            return [response.value async for response in method(requests, **options)]
        return [(await method(requests, **options)).value]


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Waits until the condition holds, asking every 10 ms."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


ALL_KINDS = ("unary", "server_stream", "client_stream", "bidi")


def _serialize(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else StringValue(value=value).SerializeToString()


def _describe() -> None:
    """The service's contract, in the pool where the server looks for it."""
    file = descriptor_pb2.FileDescriptorProto(name="test/v1/kinds.proto", package="test.v1", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    message = ".google.protobuf.StringValue"
    service = file.service.add(name="Kinds")
    for name, (from_client, from_server) in METHODS.items():
        service.method.add(
            name=name,
            input_type=message,
            output_type=message,
            client_streaming=from_client,
            server_streaming=from_server,
        )
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


_describe()


async def raw_call(channel: grpc.aio.Channel, path: str, request: bytes = b"") -> bytes:
    """A unary call of any method, known or not, with bytes as they are."""
    method: Any = channel.unary_unary(path)
    response: bytes = await method(request)
    return response


@asynccontextmanager
async def started(application: Application, **overrides: Any) -> AsyncIterator[tuple[RunningServer, grpc.aio.Channel]]:
    """The application on a free port, and a plain channel to it."""
    async with (
        running_server(application, settings(**overrides), poll_seconds=0.02) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield server, channel


@dataclass(frozen=True)
class Refusal:
    """A failed call as a client sees it."""

    code: grpc.StatusCode
    message: str
    status: status_pb2.Status
    trailing: dict[str, str | bytes]

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        info = error_details_pb2.ErrorInfo()
        self.detail(info)
        return info

    @property
    def reason(self) -> str:
        return self.info.reason

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.info.metadata)

    @property
    def fields(self) -> dict[str, str]:
        """Violated fields and their descriptions."""
        return {v.field: v.description for v in self.detail(error_details_pb2.BadRequest()).field_violations}

    def detail(self, empty: Any) -> Any:
        """The one detail of this type."""
        found = [packed for packed in self.status.details if packed.Is(empty.DESCRIPTOR)]
        assert len(found) == 1, f"{len(found)} details of type {empty.DESCRIPTOR.full_name}"
        found[0].Unpack(empty)
        return empty


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """What a failed call carried; the status in the details agrees with the call's own."""
    trailing = {str(key): value for key, value in error.trailing_metadata() or ()}
    raw = trailing.get(STATUS_METADATA_KEY, b"")
    assert isinstance(raw, bytes)
    status = status_pb2.Status.FromString(raw)
    if raw:
        assert (status.code, status.message) == (error.code().value[0], error.details())
    return Refusal(error.code(), error.details() or "", status, trailing)
