"""Request id, trace, principal, access log and metrics of a real call."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.common.caller import Caller, current_caller, require_service_principal
from services.common.errors import NotFound
from services.common.server import Application
from services.common.trace import trace_metadata
from tests.common.harness import ALL_KINDS, KINDS, KindsStub, Refusal, eventually, kinds, raw_call, refusal_of, started

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
Metadata = tuple[tuple[str, str], ...]


async def tell(request: StringValue, context: Any) -> StringValue:
    """Answers with what the servicer knows about its caller."""
    caller = current_caller()
    bound = structlog.contextvars.get_contextvars()
    known = {"caller": [caller.principal, caller.service, caller.request_id], "bound": bound, "out": trace_metadata()}
    return StringValue(value=json.dumps(known))


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text("suite-token\n")
    return str(file)


async def told(metadata: Metadata = (), **overrides: Any) -> dict[str, Any]:
    async with started(Application([kinds(unary=tell)]), **overrides) as (_, channel):
        (answer,) = await KindsStub(channel).call("unary", "x", metadata=metadata)
        known: dict[str, Any] = json.loads(answer)
        return known


async def refused(metadata: Metadata, **overrides: Any) -> Refusal:
    async with started(Application([kinds(unary=tell)]), **overrides) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await KindsStub(channel).call("unary", "x", metadata=metadata)
        return refusal_of(error.value)


async def test_the_request_id_of_the_caller_reaches_servicer_logs_and_answer() -> None:
    async with started(Application([kinds(unary=tell)])) as (_, channel):
        call = KindsStub(channel).unary("x", metadata=(("x-request-id", "mine-1"),))
        known = json.loads((await call).value)
        assert dict(await call.trailing_metadata())["x-request-id"] == "mine-1"
    assert known["caller"] == ["local", None, "mine-1"]
    assert known["bound"]["request_id"] == "mine-1"


@pytest.mark.parametrize("sent", [(), (("x-request-id", "not sane"),), (("x-request-id", "x" * 200),)])
async def test_without_a_sane_request_id_one_is_made(sent: Metadata) -> None:
    assert uuid.UUID((await told(sent))["caller"][2]).version == 4


async def test_the_trace_of_the_caller_is_continued() -> None:
    known = await told((("traceparent", TRACEPARENT),))
    assert known["bound"]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert known["out"]["traceparent"] == TRACEPARENT


async def test_every_call_has_a_trace_of_its_own() -> None:
    async with started(Application([kinds(unary=tell)])) as (_, channel):
        stub = KindsStub(channel)
        answers = await asyncio.gather(*(stub.call("unary", "x") for _ in range(20)))
    seen = {json.loads(answer)["bound"]["trace_id"] for (answer,) in answers}
    assert len(seen) == 20


async def test_a_user_is_local_and_cannot_say_otherwise(token_file: str) -> None:
    spoofed = (("x-principal", "anna"), ("x-contentlab-service", "image"))
    known = await told(spoofed, service_token_file=token_file)
    assert known["caller"][:2] == ["local", None]
    assert known["bound"]["principal"] == "local"


async def test_a_sibling_with_the_token_acts_for_an_owner(token_file: str) -> None:
    credentials = (
        ("x-contentlab-service", "image"),
        ("x-contentlab-token", "suite-token"),
        ("x-principal", "anna"),
    )
    known = await told(credentials, service_token_file=token_file)
    assert known["caller"][:2] == ["anna", "image"]


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_a_wrong_token_is_refused_typed_logged_and_counted(kind: str, token_file: str) -> None:
    application = Application([kinds()])
    with capture_logs() as logs:
        async with started(application, service_token_file=token_file) as (_, channel):
            credentials = (("x-contentlab-service", "image"), ("x-contentlab-token", "wrong"))
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await KindsStub(channel).call(kind, "x", metadata=credentials)
    refusal = refusal_of(error.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert [entry["code"] for entry in logs if entry["event"] == "call"] == ["UNAUTHENTICATED"]
    assert [labels["grpc_code"] for labels, _ in samples(application.registry, "grpc_server_handled_total")] == [
        "UNAUTHENTICATED"
    ]


async def test_a_refused_call_never_reaches_the_servicer(token_file: str) -> None:
    reached = []

    async def notes(request: Any, context: Any) -> StringValue:
        reached.append(request)
        return StringValue()

    async with started(Application([kinds(unary=notes)]), service_token_file=token_file) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError):
            await KindsStub(channel).call("unary", "x", metadata=(("x-contentlab-token", "wrong"),))
    assert reached == []


async def test_a_user_may_not_call_what_only_services_may() -> None:
    async def services_only(request: Any, context: Any) -> StringValue:
        require_service_principal()
        return StringValue()

    async with started(Application([kinds(unary=services_only)])) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await KindsStub(channel).call("unary", "x")
    refusal = refusal_of(error.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SERVICE_PRINCIPAL_REQUIRED")


@pytest.mark.parametrize("size", [17_000, 24_000, 30_000])
async def test_too_much_metadata_is_refused_every_time_and_typed(size: int) -> None:
    """gRPC's own soft limit refuses at random, and untyped."""
    async with started(Application([kinds()])) as (_, channel):
        for _ in range(20):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await KindsStub(channel).call("unary", "x", metadata=(("big", "x" * size),))
            refusal = refusal_of(error.value)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "METADATA_TOO_LARGE")


@pytest.mark.parametrize("size", [9_000, 15_000])
async def test_metadata_within_the_limit_passes_every_time(size: int) -> None:
    async with started(Application([kinds()])) as (_, channel):
        for _ in range(50):
            assert await KindsStub(channel).call("unary", "x", metadata=(("big", "x" * size),)) == ["x"]


async def test_callers_of_concurrent_calls_do_not_mix(token_file: str) -> None:
    async def late(request: StringValue, context: Any) -> StringValue:
        await asyncio.sleep(0.01)
        return StringValue(value=current_caller().principal)

    async with started(Application([kinds(unary=late)]), service_token_file=token_file) as (_, channel):
        stub = KindsStub(channel)

        async def call(owner: str) -> str:
            credentials = (
                ("x-contentlab-service", "image"),
                ("x-contentlab-token", "suite-token"),
                ("x-principal", owner),
            )
            (answer,) = await stub.call("unary", "x", metadata=credentials)
            return answer

        owners = [f"owner-{n}" for n in range(30)]
        assert await asyncio.gather(*map(call, owners)) == owners


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_a_call_writes_one_line_without_its_content(kind: str, token_file: str) -> None:
    with capture_logs() as logs:
        async with started(Application([kinds()]), service_token_file=token_file) as (_, channel):
            credentials = (
                ("x-contentlab-service", "image"),
                ("x-contentlab-token", "suite-token"),
                ("x-principal", "anna"),
                ("x-request-id", "r-1"),
            )
            await KindsStub(channel).call(kind, "a castle at dusk", metadata=credentials)
    (line,) = [entry for entry in logs if entry["event"] == "call"]
    assert line.pop("duration_ms") >= 0
    assert line.pop("peer").startswith("ipv4:127.0.0.1:")
    assert line.pop("rpc").startswith(f"/{KINDS}/")
    assert line == {
        "event": "call",
        "log_level": "info",
        "code": "OK",
        "principal": "anna",
        "caller_service": "image",
        "request_id": "r-1",
    }
    assert "castle" not in str(logs)


async def test_a_failed_call_is_logged_with_code_and_reason() -> None:
    async def fails(request: Any, context: Any) -> StringValue:
        raise NotFound("ASSET_NOT_FOUND", "m")

    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with started(Application([kinds(unary=fails)])) as (_, channel):
            with pytest.raises(grpc.aio.AioRpcError):
                await KindsStub(channel).call("unary", "x")
    (line,) = [entry for entry in logs if entry["event"] == "call"]
    assert (line["code"], line["reason"]) == ("NOT_FOUND", "ASSET_NOT_FOUND")


async def test_a_client_that_leaves_is_logged_as_cancelled() -> None:
    entered = asyncio.Event()

    async def waits(request: Any, context: Any) -> AsyncIterator[StringValue]:
        entered.set()
        await asyncio.sleep(60)
        yield StringValue()

    with capture_logs() as logs:
        async with started(Application([kinds(server_stream=waits)])) as (_, channel):
            call = KindsStub(channel).server_stream("x")
            await entered.wait()
            call.cancel()

            async def logged() -> bool:
                return any(entry["event"] == "call" for entry in logs)

            await eventually(logged)
    assert [entry["code"] for entry in logs if entry["event"] == "call"] == ["CANCELLED"]


def samples(registry: CollectorRegistry, name: str) -> list[tuple[dict[str, str], float]]:
    return [
        (sample.labels, sample.value)
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == name and sample.labels.get("grpc_service") != "grpc.health.v1.Health"
    ]


async def test_calls_are_counted_by_method_kind_and_code() -> None:
    async def picky(request: StringValue, context: Any) -> StringValue:
        if request.value == "bad":
            raise NotFound("R", "m")
        return request

    application = Application([kinds(unary=picky)])
    async with started(application) as (_, channel):
        stub = KindsStub(channel)
        await stub.call("unary", "good")
        await stub.call("unary", "good")
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.call("unary", "bad")
        await stub.call("bidi", "a", "b")
    unary = {"grpc_service": KINDS, "grpc_method": "Unary", "grpc_type": "unary"}
    bidi = {"grpc_service": KINDS, "grpc_method": "Bidi", "grpc_type": "bidi_stream"}
    assert samples(application.registry, "grpc_server_started_total") == [(unary, 3.0), (bidi, 1.0)]
    assert samples(application.registry, "grpc_server_handled_total") == [
        ({**unary, "grpc_code": "OK"}, 2.0),
        ({**unary, "grpc_code": "NOT_FOUND"}, 1.0),
        ({**bidi, "grpc_code": "OK"}, 1.0),
    ]
    assert samples(application.registry, "grpc_server_handling_seconds_count") == [(unary, 3.0), (bidi, 1.0)]


async def test_invented_method_names_do_not_grow_the_metrics() -> None:
    application = Application([kinds()])
    async with started(application) as (_, channel):
        for number in range(20):
            with pytest.raises(grpc.aio.AioRpcError):
                await raw_call(channel, f"/{KINDS}/Invented{number}")
    ((labels, value),) = samples(application.registry, "grpc_server_handled_total")
    assert (labels["grpc_method"], labels["grpc_code"], value) == ("unknown", "UNIMPLEMENTED", 20.0)


async def test_outside_of_calls_the_caller_is_local() -> None:
    await told((("x-request-id", "r-1"),))
    assert current_caller() == Caller("local")
