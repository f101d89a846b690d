"""The bridge runs async servicers for real; without it grpcio-testing lies about them."""

import ast
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from prometheus_client import CollectorRegistry

from services.common.errors import NotFound
from services.common.interceptors import build_chain
from tests.common.harness import KINDS
from tests.support.grpc_testing_bridge import BridgedServer, Outcome, unbridged_server

ROOT = Path(__file__).resolve().parents[2]
SERVICE: Any = descriptor_pool.Default().FindServiceByName(KINDS)
pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger="grpc_testing")


class Kinds:
    """An async servicer of all four kinds."""

    def __init__(self) -> None:
        self.finished: list[str] = []

    async def Unary(self, request: StringValue, context: Any) -> StringValue:  # noqa: N802 - gRPC's name
        await asyncio.sleep(0)
        if request.value == "bug":
            raise ZeroDivisionError("secret")
        if request.value == "missing":
            raise NotFound("ASSET_NOT_FOUND", "There is no such asset.")
        if request.value == "abort":
            await context.abort(grpc.StatusCode.ABORTED, "as I say", (("own-key", "own value"),))
        self.finished.append("unary")
        return StringValue(value=request.value.upper())

    async def ServerStream(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:  # noqa: N802
        for number in range(40):  # more than the bridge buffers
            await asyncio.sleep(0)
            yield StringValue(value=f"{request.value}{number}")
            if request.value == "missing" and number == 1:
                raise NotFound("ASSET_NOT_FOUND", "There is no such asset.")
        self.finished.append("server_stream")

    async def ClientStream(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:  # noqa: N802
        values = [request.value async for request in requests]
        self.finished.append("client_stream")
        return StringValue(value="".join(values))

    async def Bidi(  # noqa: N802
        self, requests: AsyncIterator[StringValue], context: Any
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield StringValue(value=request.value.upper())


async def invoke(method: str, *values: str, chain: bool = False, servicer: Kinds | None = None) -> Outcome:
    interceptors = build_chain(registry=CollectorRegistry(), services=[KINDS]) if chain else ()
    server = BridgedServer(SERVICE, servicer or Kinds(), interceptors=interceptors)
    async with asyncio.timeout(20):
        return await server.invoke(method, *(StringValue(value=value) for value in values))


def values(outcome: Outcome) -> list[str]:
    return [response.value for response in outcome.responses]


@pytest.mark.parametrize("chain", [False, True], ids=["bare", "behind the chain"])
async def test_all_four_kinds_run_to_their_end(chain: bool) -> None:
    servicer = Kinds()
    assert values(await invoke("Unary", "a", chain=chain, servicer=servicer)) == ["A"]
    assert values(await invoke("ServerStream", "a", chain=chain, servicer=servicer)) == [f"a{n}" for n in range(40)]
    assert values(await invoke("ClientStream", "a", "b", chain=chain, servicer=servicer)) == ["ab"]
    assert values(await invoke("Bidi", "a", "b", chain=chain, servicer=servicer)) == ["A", "B"]
    assert servicer.finished == ["unary", "server_stream", "client_stream"]


async def test_a_bug_is_not_ok() -> None:
    outcome = await invoke("Unary", "bug")
    assert (outcome.responses, outcome.code) == ([], grpc.StatusCode.UNKNOWN)


async def test_an_abort_arrives_with_code_details_and_metadata() -> None:
    outcome = await invoke("Unary", "abort")
    assert (outcome.code, outcome.details) == (grpc.StatusCode.ABORTED, "as I say")
    assert outcome.trailing_metadata["own-key"] == "own value"


@pytest.mark.parametrize("method", ["Unary", "ServerStream"])
async def test_behind_the_chain_a_domain_error_is_the_typed_status_of_production(method: str) -> None:
    outcome = await invoke(method, "missing", chain=True)
    assert outcome.code is grpc.StatusCode.NOT_FOUND
    assert values(outcome) == ([] if method == "Unary" else ["missing0", "missing1"])
    status = status_pb2.Status()
    raw = outcome.trailing_metadata["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    status.MergeFromString(raw)
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert info.reason == "ASSET_NOT_FOUND"


async def test_a_bug_behind_the_chain_is_internal() -> None:
    outcome = await invoke("Unary", "bug", chain=True)
    assert outcome.code is grpc.StatusCode.INTERNAL
    assert "secret" not in outcome.details


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_without_the_bridge_a_method_that_raises_counts_as_ok() -> None:
    """Why the bridge exists. When this fails, grpcio-testing has learnt to await, and the bridge can go."""
    server = unbridged_server(SERVICE, Kinds())
    method = SERVICE.methods_by_name["Unary"]
    response, _, code, _ = server.invoke_unary_unary(method, (), StringValue(value="bug"), None).termination()
    assert code is grpc.StatusCode.OK
    assert asyncio.iscoroutine(response)
    response.close()


def importers_of(name: str, sources: dict[str, str]) -> set[str]:
    found = set()
    for path, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(module == name or module.startswith(f"{name}.") for module in modules):
                found.add(path)
    return found


def test_only_the_bridge_imports_grpcio_testing() -> None:
    folders = ("services", "emulator", "gateway", "deploy", "clients", "tests")
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    }
    assert importers_of("grpc_testing", sources) == {"tests/support/grpc_testing_bridge.py"}


@pytest.mark.parametrize(
    "line",
    ["import grpc_testing", "from grpc_testing import server_from_dictionary", "import grpc_testing._server as s"],
)
def test_a_planted_import_is_seen(line: str) -> None:
    assert importers_of("grpc_testing", {"planted.py": line}) == {"planted.py"}
