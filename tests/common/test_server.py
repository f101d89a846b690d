"""A server's life: health, drain, metrics, limits."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import httpx2
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.server import Application, Service, running_server
from tests.common.harness import KINDS, KindsStub, eventually, kinds, settings, started

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health_of(channel: grpc.aio.Channel, service: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    status: int = (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status
    return status


async def until_health_is(channel: grpc.aio.Channel, expected: int) -> None:
    async def holds() -> bool:
        return await health_of(channel) == expected and await health_of(channel, KINDS) == expected

    await eventually(holds)


class Database:
    """Something that a service depends on, up or down."""

    def __init__(self, *, up: bool) -> None:
        self.up = up

    async def ready(self) -> bool:
        return self.up


async def test_a_server_is_healthy_under_its_own_name_and_overall() -> None:
    async with started(Application([kinds()])) as (_, channel):
        assert await health_of(channel) == await health_of(channel, KINDS) == SERVING
        stub: Any = health_pb2_grpc.HealthStub(channel)
        listed = (await stub.List(health_pb2.HealthListRequest())).statuses
        assert {name: response.status for name, response in listed.items()} == {"": SERVING, KINDS: SERVING}


async def test_an_unknown_service_has_no_health() -> None:
    async with started(Application([kinds()])) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await health_of(channel, "no.such.Service")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_server_that_starts_without_its_database_says_so_from_the_first_answer() -> None:
    database = Database(up=False)
    async with started(Application([kinds()], ready=database.ready)) as (_, channel):
        assert await health_of(channel) == await health_of(channel, KINDS) == NOT_SERVING
        database.up = True
        await until_health_is(channel, SERVING)


async def test_health_follows_the_database_down_and_up_again() -> None:
    database = Database(up=True)
    async with started(Application([kinds()], ready=database.ready)) as (_, channel):
        for up in (False, True, False, True):
            database.up = up
            await until_health_is(channel, SERVING if up else NOT_SERVING)


async def test_one_failed_poll_alone_takes_nobody_out_of_service() -> None:
    answers = iter([True, False, True, False, True])
    seen: list[int] = []

    async def ready() -> bool:
        return next(answers, True)

    async with started(Application([kinds()], ready=ready)) as (_, channel):
        for _ in range(30):
            seen.append(await health_of(channel))
            await asyncio.sleep(0.005)
    assert set(seen) == {SERVING}


async def test_a_readiness_check_that_raises_or_hangs_counts_as_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.common.health.CHECK_SECONDS", 0.05)

    async def raises() -> bool:
        raise OSError("no route")

    async def hangs() -> bool:
        await asyncio.sleep(60)
        return True

    async def resists() -> bool:
        """As a driver does that waits for an answer to its cancel request."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            raise
        return True

    for ready in (raises, hangs, resists):
        async with asyncio.timeout(10), started(Application([kinds()], ready=ready)) as (_, channel):
            assert await health_of(channel) == NOT_SERVING


async def test_a_hanging_readiness_check_is_never_started_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would hold a connection of the pool."""
    monkeypatch.setattr("services.common.health.CHECK_SECONDS", 0.01)
    running = most = 0

    async def resists() -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
        running -= 1
        return True

    async with started(Application([kinds()], ready=resists)):
        await asyncio.sleep(0.8)
    assert most == 1


async def test_a_watch_on_health_sees_the_change_and_does_not_hold_up_the_stop() -> None:
    server = running_server(Application([kinds()]), settings(lame_duck_seconds=0.2, drain_seconds=60))
    running = await server.__aenter__()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = aiter(stub.Watch(health_pb2.HealthCheckRequest(service=KINDS)))
        assert (await anext(watch)).status == SERVING
        async with asyncio.timeout(20):  # an endless stream would use up the 60 s of grace
            await server.__aexit__(None, None, None)
        assert [response.status async for response in watch] == [NOT_SERVING]


async def drain_with_open_call(drain_seconds: float) -> str:
    """Starts to stop a server while a call runs that would take 0.3 s; what becomes of the call."""
    entered = asyncio.Event()

    async def slow(request: StringValue, context: Any) -> StringValue:
        entered.set()
        await asyncio.sleep(0.3)
        return request

    application = Application([kinds(unary=slow)])
    server = running_server(application, settings(drain_seconds=drain_seconds))
    running = await server.__aenter__()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        call = asyncio.create_task(KindsStub(channel).call("unary", "x"))
        await entered.wait()
        await server.__aexit__(None, None, None)
        try:
            return (await call)[0]
        except grpc.aio.AioRpcError as error:
            return error.code().name


async def test_a_call_that_ends_within_the_grace_succeeds() -> None:
    assert await drain_with_open_call(20) == "x"


async def test_a_call_that_outlives_the_grace_is_cut() -> None:
    assert await drain_with_open_call(0.05) in ("UNAVAILABLE", "CANCELLED")


async def test_draining_goes_not_serving_first_then_waits_then_refuses() -> None:
    application = Application([kinds()])
    server = running_server(application, settings(lame_duck_seconds=0.5, drain_seconds=1))
    running = await server.__aenter__()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        assert await health_of(channel) == SERVING
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        await until_health_is(channel, NOT_SERVING)
        assert await KindsStub(channel).call("unary", "still served") == ["still served"]
        assert not application.draining.is_set()
        await stopping
        assert application.draining.is_set()
        with pytest.raises(grpc.aio.AioRpcError):
            await KindsStub(channel).call("unary", "x", timeout=2)


async def test_an_endless_stream_ends_itself_when_the_server_drains() -> None:
    draining = asyncio.Event()

    async def watch(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        await draining.wait()

    application = Application([kinds(server_stream=watch)], draining=draining)
    server = running_server(application, settings(drain_seconds=30))
    running = await server.__aenter__()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        call = KindsStub(channel).server_stream("x")
        assert (await anext(aiter(call))).value == "x"
        async with asyncio.timeout(10):
            await server.__aexit__(None, None, None)
        assert await call.code() is grpc.StatusCode.OK


async def test_background_tasks_run_until_the_last_call_has_ended() -> None:
    events: list[str] = []
    entered = asyncio.Event()

    async def work() -> None:
        events.append("task started")
        try:
            await asyncio.sleep(3600)
        finally:
            events.append("task stopped")

    async def slow(request: StringValue, context: Any) -> StringValue:
        entered.set()
        await asyncio.sleep(0.1)
        events.append("call ended")
        return request

    application = Application([kinds(unary=slow)], background={"work": work})
    server = running_server(application, settings(drain_seconds=10))
    running = await server.__aenter__()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        call = asyncio.create_task(KindsStub(channel).call("unary", "x"))
        await entered.wait()
        await server.__aexit__(None, None, None)
        await call
    assert events == ["task started", "call ended", "task stopped"]


async def test_metrics_are_served_over_http() -> None:
    async with started(Application([kinds()]), metrics_listen="127.0.0.1:0") as (server, channel):
        await KindsStub(channel).call("unary", "x")
        async with httpx2.AsyncClient() as client:
            page = await client.get(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10)
    assert page.status_code == 200
    labels = f'grpc_code="OK",grpc_method="Unary",grpc_service="{KINDS}",grpc_type="unary"'
    assert f"grpc_server_handled_total{{{labels}}} 1.0" in page.text
    assert "process_resident_memory_bytes" in page.text


async def test_the_port_of_another_server_is_not_shared_silently() -> None:
    async with started(Application([kinds()])) as (server, _):
        with pytest.raises(RuntimeError, match="Failed to bind"):
            async with running_server(Application([kinds()]), settings(listen=f"127.0.0.1:{server.port}")):
                pass


async def listed_by_reflection(channel: grpc.aio.Channel) -> set[str]:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    return {service.name for service in (await anext(aiter(call))).list_services_response.service}


async def test_reflection_lists_the_services_where_it_is_wanted() -> None:
    async with started(Application([kinds()]), reflection=True) as (_, channel):
        assert KINDS in await listed_by_reflection(channel)


async def test_reflection_is_off_unless_it_is_wanted() -> None:
    async with started(Application([kinds()])) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await listed_by_reflection(channel)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_above_the_limit_is_refused() -> None:
    async with started(Application([kinds()]), max_receive_bytes=64 * 1024) as (_, channel):
        stub = KindsStub(channel)
        assert await stub.call("unary", "x" * 60_000)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.call("unary", "x" * 70_000)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_paying_method_that_the_contract_does_not_have_is_refused_at_start() -> None:
    """A misspelt one would go unnoticed until its failures claim that nothing was billed."""
    name = pb.DESCRIPTOR.services_by_name["GalleryService"].full_name
    good = Service(name, lambda server: None, paid_methods=frozenset({"GetAsset"}))
    assert good.paid_paths() == {f"/{name}/GetAsset"}
    with pytest.raises(ValueError, match="has no method GetAset"):
        Service(name, lambda server: None, paid_methods=frozenset({"GetAset"})).paid_paths()


async def test_probes_do_not_fill_the_log() -> None:
    with capture_logs() as logs:
        async with started(Application([kinds()])) as (_, channel):
            await health_of(channel)
    assert [entry["log_level"] for entry in logs if entry["event"] == "call"] == ["debug"]
