"""Whatever goes wrong, a client sees a typed status and no more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import psycopg
import pytest
import sqlalchemy.exc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue
from google.rpc import error_details_pb2
from structlog.testing import capture_logs

from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from services.common.errors import Billed, Internal, InvalidArgument, NotFound, Resource, Unavailable
from services.common.interceptors.errors import ErrorInterceptor
from services.common.server import Application
from tests.common.harness import ALL_KINDS, KINDS, KindsStub, Refusal, kinds, raw_call, refusal_of, started

GET_ASSET = "/contentlab.gallery.v1.GalleryService/GetAsset"
DELETE_ASSET = "/contentlab.gallery.v1.GalleryService/DeleteAsset"


def raising(error: BaseException, *, first: bool = False) -> dict[str, Callable[..., Any]]:
    """Behaviours of all kinds that raise; streams after a first answer if wanted."""

    async def single(request: Any, context: Any) -> StringValue:
        raise error

    async def stream(request: Any, context: Any) -> AsyncIterator[StringValue]:
        if first:
            yield StringValue(value="first")
        raise error
        yield

    return {"unary": single, "client_stream": single, "server_stream": stream, "bidi": stream}


async def refused(kind: str, *values: str | bytes, **behaviours: Callable[..., Any]) -> Refusal:
    async with started(Application([kinds(**behaviours)])) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await KindsStub(channel).call(kind, *(values or ("x",)))
        return refusal_of(error.value)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_a_domain_error_arrives_with_all_it_says(kind: str, first: bool) -> None:
    error = NotFound(
        "ASSET_NOT_FOUND",
        "There is no such asset.",
        resource=Resource("contentlab.gallery.v1.Asset", "assets/x"),
        metadata={"name": "assets/x"},
    )
    refusal = await refused(kind, **raising(error, first=first))
    assert (refusal.code, refusal.message) == (grpc.StatusCode.NOT_FOUND, "There is no such asset.")
    assert refusal.reason == "ASSET_NOT_FOUND"
    assert refusal.metadata == {
        "name": "assets/x",
        "billed": "no",
        "retrySafe": "false",
        "requestId": refusal.trailing["x-request-id"],
    }
    assert refusal.detail(error_details_pb2.ResourceInfo()).resource_name == "assets/x"


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_a_bug_tells_the_client_its_request_id_and_the_log_everything(kind: str, first: bool) -> None:
    with capture_logs() as logs:
        refusal = await refused(kind, **raising(ZeroDivisionError("secret text"), first=first))
    request_id = str(refusal.trailing["x-request-id"])
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert refusal.message == f"internal error; quote request id {request_id}"
    assert refusal.reason == "INTERNAL_ERROR"
    assert "secret" not in str(refusal)
    (entry,) = [entry for entry in logs if entry["event"] == "unexpected_error"]
    assert (entry["log_level"], str(entry["exc_info"])) == ("error", "secret text")


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_bytes_that_are_no_message_are_a_malformed_request(kind: str) -> None:
    refusal = await refused(kind, b"\x0a\x02\xff\xfe")
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


@pytest.mark.parametrize("kind", ["client_stream", "bidi"])
async def test_a_stream_may_become_malformed_later(kind: str) -> None:
    refusal = await refused(kind, "good", b"\xff")
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_an_answer_of_the_wrong_type_is_a_bug_like_any_other(kind: str) -> None:
    async def single(request: Any, context: Any) -> Any:
        return None

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield Int32Value(value=1).value

    behaviour = single if kind in ("unary", "client_stream") else stream
    refusal = await refused(kind, **{kind: behaviour})
    assert refusal.reason == "INTERNAL_ERROR"
    assert refusal.message.startswith("internal error; quote request id ")


async def test_a_servicer_that_is_not_async_is_a_bug() -> None:
    def blocking(request: StringValue, context: Any) -> StringValue:
        return request

    assert (await refused("unary", unary=blocking)).reason == "INTERNAL_ERROR"


@pytest.mark.parametrize(
    "method", ["GetAsset", "UploadAsset", "DownloadAsset"], ids=["unary", "client_stream", "server_stream"]
)
async def test_a_method_that_is_not_built_yet_says_so(method: str) -> None:
    """Generated base servicers raise synchronously, for streams too."""
    base: Any = rpc.GalleryServiceServicer
    behaviour = getattr(base(), method)
    kind = {"GetAsset": "unary", "UploadAsset": "client_stream", "DownloadAsset": "server_stream"}[method]
    with capture_logs() as logs:
        refusal = await refused(kind, **{kind: behaviour})
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
    assert [entry["event"] for entry in logs if entry["log_level"] in ("error", "warning")] == []


async def test_a_method_that_the_contract_does_not_have_is_unimplemented_and_typed() -> None:
    async with started(Application([kinds()])) as (_, channel):
        for path in (f"/{KINDS}/Nope", "/no.such.Service/Nope"):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await raw_call(channel, path, b"anything")
            refusal = refusal_of(error.value)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")


async def test_an_abort_by_a_servicer_passes_unchanged() -> None:
    async def aborts(request: Any, context: Any) -> StringValue:
        await context.abort(grpc.StatusCode.DATA_LOSS, "as I say", (("own-key", "own value"),))
        raise AssertionError("abort raises")

    refusal = await refused("unary", unary=aborts)
    assert (refusal.code, refusal.message) == (grpc.StatusCode.DATA_LOSS, "as I say")
    assert refusal.trailing["own-key"] == "own value"


async def test_trailing_metadata_of_the_servicer_survives_an_error() -> None:
    async def fails(request: Any, context: Any) -> StringValue:
        context.set_trailing_metadata((*context.trailing_metadata(), ("own-key", "own value")))
        raise NotFound("R", "m")

    refusal = await refused("unary", unary=fails)
    assert refusal.trailing["own-key"] == "own value"
    assert refusal.reason == "R"


async def test_an_error_with_the_longest_texts_reaches_a_default_client_every_time() -> None:
    """From 8 KiB of trailing metadata on a client refuses at random, and the caller would see another error."""
    violations = [InvalidArgument.field(f"field[{n}]", "ä" * 1000).violations[0] for n in range(50)]
    metadata = {f"key{n}": "€" * 1000 for n in range(50)}
    error = InvalidArgument("INVALID_FIELD", "🦊" * 1000, violations=violations, metadata=metadata)
    async with started(Application([kinds(**raising(error))])) as (_, channel):
        for _ in range(100):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await KindsStub(channel).call("unary", "x")
            assert refusal_of(caught.value).reason == "INVALID_FIELD"


def sqlalchemy_error(error: Exception, kind: type[sqlalchemy.exc.DBAPIError]) -> Exception:
    return kind("SELECT 1", {}, error)


def rpc_error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="ipv4:10.0.0.7:1 refused")


UNAVAILABLE = [
    psycopg.OperationalError("server closed the connection unexpectedly"),
    psycopg.errors.AdminShutdown("terminating connection due to administrator command"),
    psycopg.errors.TooManyConnections("sorry, too many clients already"),
    sqlalchemy_error(psycopg.OperationalError("x"), sqlalchemy.exc.OperationalError),
    sqlalchemy_error(psycopg.InterfaceError("the connection is closed"), sqlalchemy.exc.InterfaceError),
    sqlalchemy.exc.TimeoutError("QueuePool limit"),
    rpc_error(grpc.StatusCode.UNAVAILABLE),
    rpc_error(grpc.StatusCode.CANCELLED),
]
DEADLINE = [
    TimeoutError(),
    sqlalchemy_error(psycopg.errors.QueryCanceled("statement timeout"), sqlalchemy.exc.OperationalError),
    rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED),
]
BUGS = [
    ValueError("x"),
    psycopg.errors.UndefinedTable("no such table"),
    sqlalchemy_error(psycopg.errors.UniqueViolation("x"), sqlalchemy.exc.IntegrityError),
    rpc_error(grpc.StatusCode.INVALID_ARGUMENT),
    RuntimeError("wrapped"),
]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        *((error, "UNAVAILABLE") for error in UNAVAILABLE),
        *((error, "DEADLINE_EXCEEDED") for error in DEADLINE),
        *((error, "INTERNAL_ERROR") for error in BUGS),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_foreign_exceptions_are_translated_by_one_table_and_never_quoted(error: Exception, reason: str) -> None:
    typed = ErrorInterceptor().translate(DELETE_ASSET, error, "r")
    assert (typed.reason, typed.billed, typed.retry_safe) == (reason, Billed.NO, False)
    assert str(error) not in typed.message or not str(error)


def test_a_cause_counts_as_well() -> None:
    error = RuntimeError("could not load")
    error.__cause__ = psycopg.OperationalError("gone")
    assert ErrorInterceptor().translate(GET_ASSET, error, "r").reason == "UNAVAILABLE"


@pytest.mark.parametrize("error", [UNAVAILABLE[0], DEADLINE[0]], ids=["unavailable", "deadline"])
def test_only_a_method_without_effects_is_safe_to_repeat_after_an_outage(error: Exception) -> None:
    assert ErrorInterceptor().translate(GET_ASSET, error, "r").retry_safe
    assert not ErrorInterceptor().translate(DELETE_ASSET, error, "r").retry_safe
    assert not ErrorInterceptor().translate("/no.such.Service/Get", error, "r").retry_safe


@pytest.mark.parametrize("error", [UNAVAILABLE[0], DEADLINE[0], BUGS[0]], ids=["unavailable", "deadline", "bug"])
def test_an_unforeseen_error_of_a_paying_method_never_claims_that_nothing_was_billed(error: Exception) -> None:
    chain = ErrorInterceptor(frozenset({"/a.B/Pay"}))
    assert chain.translate("/a.B/Pay", error, "r").billed is Billed.UNKNOWN
    assert chain.translate("/a.B/Look", error, "r").billed is Billed.NO


async def test_an_outage_tells_when_to_try_again() -> None:
    refusal = await refused("unary", **raising(UNAVAILABLE[0]))
    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    assert refusal.detail(error_details_pb2.RetryInfo()).retry_delay.seconds == 1


async def test_a_client_deadline_cancels_the_method_and_is_no_error_of_ours() -> None:
    cancelled = asyncio.Event()

    async def slow(request: Any, context: Any) -> StringValue:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return StringValue()

    with capture_logs() as logs:
        async with started(Application([kinds(unary=slow)])) as (_, channel):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await KindsStub(channel).call("unary", "x", timeout=0.2)
            async with asyncio.timeout(5):
                await cancelled.wait()
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert [entry["code"] for entry in logs if entry["event"] == "call"] == ["DEADLINE_EXCEEDED"]
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


async def test_an_internal_error_raised_on_purpose_is_logged_too() -> None:
    with capture_logs() as logs:
        refusal = await refused("unary", **raising(Internal("STORAGE_CORRUPT", "The stored bytes are damaged.")))
    assert refusal.reason == "STORAGE_CORRUPT"
    assert [entry["reason"] for entry in logs if entry["event"] == "internal_error"] == ["STORAGE_CORRUPT"]


async def test_a_typed_unavailable_keeps_its_own_reason() -> None:
    error = Unavailable("PROVIDER_DOWN", "The provider does not answer.", retry_safe=True, retry_after=0.25)
    refusal = await refused("unary", **raising(error))
    assert (refusal.reason, refusal.metadata["retrySafe"]) == ("PROVIDER_DOWN", "true")
    assert refusal.detail(error_details_pb2.RetryInfo()).retry_delay.nanos == 250_000_000
