"""Calls to siblings: deadline, credentials, ids."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.common.caller import acting_for, current_caller
from services.common.channels import CHANNEL_OPTIONS, SiblingCredentials, open_channel
from services.common.server import Application
from services.common.trace import continue_trace
from tests.common.harness import ALL_KINDS, KINDS, KindsStub, kinds, started
from tests.support.ports import free_port


def described(context: Any) -> StringValue:
    caller = current_caller()
    known = {
        "caller": [caller.principal, caller.service, caller.request_id],
        "remaining": context.time_remaining(),
        "metadata": {key: str(value) for key, value in context.invocation_metadata()},
    }
    return StringValue(value=json.dumps(known))


async def tell(request: Any, context: Any) -> StringValue:
    return described(context)


async def tell_stream(request: Any, context: Any) -> Any:
    yield described(context)


TELLING = kinds(unary=tell, client_stream=tell, server_stream=tell_stream, bidi=tell_stream)


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text("suite-token\n")
    return str(file)


async def told(
    kind: str = "unary",
    credentials: SiblingCredentials | None = None,
    *,
    server: dict[str, Any] | None = None,
    deadline: float = 7.0,
    **call: Any,
) -> dict[str, Any]:
    async with (
        started(Application([TELLING]), **(server or {})) as (running, _),
        open_channel(f"127.0.0.1:{running.port}", credentials=credentials, deadline=deadline) as channel,
    ):
        (answer,) = await KindsStub(channel).call(kind, "x", **call)
        known: dict[str, Any] = json.loads(answer)
        return known


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_a_call_without_a_timeout_gets_the_channels_deadline(kind: str) -> None:
    assert 5 < (await told(kind))["remaining"] < 8  # the wire rounds it up to whole units


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_a_call_keeps_its_own_timeout_and_metadata(kind: str) -> None:
    known = await told(kind, timeout=100, metadata=(("own", "value"),))
    assert 90 < known["remaining"] < 102
    assert known["metadata"]["own"] == "value"


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_a_sibling_knows_who_is_calling_and_for_whom(kind: str, token_file: str) -> None:
    credentials = SiblingCredentials.from_file("image", token_file)
    with acting_for("anna", request_id="r-1"):
        known = await told(kind, credentials, server={"service_token_file": token_file})
    assert known["caller"] == ["anna", "image", "r-1"]


async def test_without_credentials_no_principal_is_claimed() -> None:
    with acting_for("anna", request_id="r-1"):
        known = await told()
    assert known["caller"] == ["local", None, "r-1"]
    assert "x-principal" not in known["metadata"]


async def test_the_trace_goes_on_to_the_sibling() -> None:
    async def within_a_call() -> tuple[str, dict[str, Any]]:
        return continue_trace({}), await told()

    trace_id, known = await asyncio.create_task(within_a_call())
    assert known["metadata"]["traceparent"].split("-")[1] == trace_id


async def test_two_services_share_one_request_id_and_trace(token_file: str) -> None:
    """A call that arrives at one service and goes on to another."""
    async with started(Application([TELLING]), service_token_file=token_file) as (behind, _):
        credentials = SiblingCredentials.from_file("image", token_file)
        async with open_channel(f"127.0.0.1:{behind.port}", credentials=credentials) as to_behind:

            async def forward(request: StringValue, context: Any) -> StringValue:
                (answer,) = await KindsStub(to_behind).call("unary", request.value)
                return StringValue(value=answer)

            async with started(Application([kinds(unary=forward)])) as (_, channel):
                sent = (("x-request-id", "r-9"), ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"))
                (answer,) = await KindsStub(channel).call("unary", "x", metadata=sent)
    known = json.loads(answer)
    assert known["caller"] == ["local", "image", "r-9"]
    assert known["metadata"]["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-01"


async def test_a_sibling_that_is_down_fails_at_once_and_one_that_comes_back_is_found() -> None:
    port = free_port()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await KindsStub(channel).call("unary", "x")
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        async with started(Application([kinds()]), listen=f"127.0.0.1:{port}"):
            assert await KindsStub(channel).call("unary", "x", wait_for_ready=True, timeout=20) == ["x"]


async def test_a_call_that_failed_is_not_sent_again_by_the_channel() -> None:
    """Not even when a service config, which resolvers and proxies can hand out, asks for retries."""
    calls = []

    async def unavailable(request: Any, context: Any) -> StringValue:
        calls.append(request)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "try again")
        raise AssertionError("abort raises")

    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{"service": KINDS}], "retryPolicy": policy}]})
    async with started(Application([kinds(unary=unavailable)])) as (server, _):
        target = f"127.0.0.1:{server.port}"
        async with open_channel(target, options=(("grpc.service_config", config),)) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await KindsStub(channel).call("unary", "x")
        assert len(calls) == 1
        async with grpc.aio.insecure_channel(target, (("grpc.service_config", config),)) as retrying:
            with pytest.raises(grpc.aio.AioRpcError):
                await KindsStub(retrying).call("unary", "x")
        assert len(calls) == 5, "the policy does retry where it is not switched off"


def test_retries_and_foreign_service_configs_are_off() -> None:
    options = dict(CHANNEL_OPTIONS)
    assert options["grpc.enable_retries"] == 0
    assert options["grpc.service_config_disable_resolution"] == 1


def test_credentials_need_a_token_and_hide_it(tmp_path: Path, token_file: str) -> None:
    credentials = SiblingCredentials.from_file("image", token_file)
    assert credentials == SiblingCredentials("image", "suite-token")
    assert "suite-token" not in repr(credentials)
    assert SiblingCredentials.from_file("image", None) is None
    with pytest.raises(ValueError, match="cannot be read"):
        SiblingCredentials.from_file("image", str(tmp_path / "missing"))
