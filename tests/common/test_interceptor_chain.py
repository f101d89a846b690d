"""The chain as data, and the wrapping helper on all four kinds of call."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry

from services.common.interceptors import CHAIN, Call, CallInterceptor, build_chain, check_order
from tests.common.harness import ALL_KINDS, KindsStub, kinds


def test_the_chain_has_this_order() -> None:
    assert [interceptor.name for interceptor in CHAIN] == [
        "request_context",
        "principal",
        "access_log",
        "metrics",
        "errors",
        "validation",
    ]


def test_every_interceptor_but_the_first_says_what_must_have_run_before_it() -> None:
    names = {interceptor.name for interceptor in CHAIN}
    assert len(names) == len(CHAIN)
    for interceptor in CHAIN[1:]:
        assert interceptor.after, f"{interceptor.name} declares nothing"
        assert interceptor.after <= names
    check_order(CHAIN)


def test_a_wrong_order_is_refused() -> None:
    with pytest.raises(ValueError, match="'principal' must come after"):
        check_order((CHAIN[1], CHAIN[0], *CHAIN[2:]))
    with pytest.raises(ValueError, match="'validation' must come after"):
        check_order(CHAIN[:4] + CHAIN[5:])


def test_a_server_gets_one_of_each_in_that_order() -> None:
    assert tuple(type(each) for each in build_chain(registry=CollectorRegistry())) == CHAIN


class Recorder(CallInterceptor):
    """Notes what it sees, and prefixes every request message."""

    name: ClassVar[str] = "recorder"

    def __init__(self, prefix: str, seen: list[str]) -> None:
        self.prefix = prefix
        self.seen = seen

    def receive(self, call: Call, message: Any) -> Any:
        return StringValue(value=self.prefix + message.value)

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        self.seen.append(f"{self.prefix} before {call.kind} {call.method}")
        try:
            yield
        except BaseException as error:
            self.seen.append(f"{self.prefix} {type(error).__name__}")
            raise
        self.seen.append(f"{self.prefix} after")


@asynccontextmanager
async def recorded(seen: list[str], **behaviours: Callable[..., Any]) -> AsyncIterator[KindsStub]:
    server = grpc.aio.server(interceptors=[Recorder("1", seen), Recorder("2", seen)])
    kinds(**behaviours).register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield KindsStub(channel)
    await server.stop(None)


@pytest.mark.parametrize(
    ("kind", "method", "answer"),
    [
        ("unary", "unary Unary", ["21a"]),
        ("server_stream", "server_stream ServerStream", ["21a"] * 3),
        ("client_stream", "client_stream ClientStream", ["21a21b"]),
        ("bidi", "bidi_stream Bidi", ["21a", "21b"]),
    ],
)
async def test_outer_hooks_surround_inner_ones_and_see_every_message(kind: str, method: str, answer: list[str]) -> None:
    seen: list[str] = []
    async with recorded(seen) as stub:
        assert await stub.call(kind, "a", "b") == answer
    assert seen == [f"1 before {method}", f"2 before {method}", "2 after", "1 after"]


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_an_exception_passes_every_hook_on_its_way_out(kind: str) -> None:
    async def fails(request: Any, context: Any) -> StringValue:
        raise KeyError("x")

    async def fails_in_stream(request: Any, context: Any) -> AsyncIterator[StringValue]:
        yield StringValue(value="first")
        raise KeyError("x")

    seen: list[str] = []
    behaviour = fails if kind in ("unary", "client_stream") else fails_in_stream
    async with recorded(seen, **{kind: behaviour}) as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.call(kind, "a")
    assert seen[2:] == ["2 KeyError", "1 KeyError"]


async def test_a_servicer_that_writes_instead_of_yielding_is_served() -> None:
    async def writes(request: StringValue, context: Any) -> None:
        await context.write(request)

    async with recorded([], server_stream=writes) as stub:
        assert await stub.call("server_stream", "a") == ["21a"]


async def test_a_request_stream_that_nobody_reads_leaves_nothing_behind(recwarn: pytest.WarningsRecorder) -> None:
    async def reads_nothing(requests: Any, context: Any) -> StringValue:
        return StringValue(value="done")

    async with recorded([], client_stream=reads_nothing) as stub:
        assert await stub.call("client_stream", "a") == ["done"]
    gc.collect()
    assert not recwarn.list


async def test_when_the_client_leaves_a_stream_is_unwound_at_once_and_in_its_own_task() -> None:
    """A generator that is merely dropped would be finished by the garbage collector, some time, in another task."""
    tasks: list[asyncio.Task[Any] | None] = []
    closed = asyncio.Event()

    async def endless(request: Any, context: Any) -> AsyncIterator[StringValue]:
        tasks.append(asyncio.current_task())
        try:
            while True:
                yield StringValue(value="x" * 100_000)
        finally:
            tasks.append(asyncio.current_task())
            closed.set()

    seen: list[str] = []
    gc.disable()
    try:
        async with recorded(seen, server_stream=endless) as stub:
            call = stub.server_stream("a")
            await anext(aiter(call))
            call.cancel()
            async with asyncio.timeout(5):
                await closed.wait()
    finally:
        gc.enable()
    assert tasks[0] is tasks[1]
    assert seen[2:] == ["2 CancelledError", "1 CancelledError"]
