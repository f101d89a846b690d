"""One id a request, the same in the answer, in the service and in the log, and never a way into an answer's text."""

import uuid
from typing import Any

import grpc.aio
import httpx2
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as gallery_rpc
from gateway.listener import REQUEST_ID_CHARACTERS, REQUEST_ID_LENGTH
from services.common import trace
from tests.gateway.harness import Gateway
from tests.support.errors import rest_error

FORGED = '1"}}],"billed":"yes","message":"You have won'
BAD = [FORGED, 'a"b', "a\\", "a\\u0022b", "a b", "x" * 129, "{id}", "é", "<script>", "a,b"]


async def stopping(request: Any, context: Any) -> Any:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "")


async def refused(client: httpx2.AsyncClient, path: str, request_id: str, **fields: Any) -> None:
    """The answer is an error in the one shape with a new id, the same in header and body."""
    method = "POST" if fields else "GET"
    answer = await client.request(method, path, headers=[(b"x-request-id", request_id.encode("latin-1"))], **fields)
    error = rest_error(answer)
    assert error.metadata["billed"] == "no"
    assert error.metadata["requestId"] == answer.headers["x-request-id"]
    assert uuid.UUID(answer.headers["x-request-id"]).version == 4


@pytest.mark.parametrize("request_id", BAD)
@pytest.mark.parametrize("http2", [False, True])
async def test_an_id_that_could_be_misread_is_replaced_everywhere(
    gateway: Gateway, request_id: str, http2: bool
) -> None:
    gateway.gallery.on("GetAsset", stopping)
    async with gateway.client(http2=http2) as client:
        await refused(client, "/api/v1/images:generate", request_id, content=b'{"prompt": 5}')
        await refused(client, "/api/v1/images:generate", request_id, content=b"{")
        await refused(client, "/api/v1/nothing", request_id)
        await refused(client, "/api/v1/assets/a", request_id)
        await refused(client, "/api/v1/videoJobs", request_id)
    assert uuid.UUID(gateway.gallery.metadata()["x-request-id"]).version == 4


@pytest.mark.parametrize("request_id", ["a", "x" * 128, "0b7e:span.1_2-3", str(uuid.UUID(int=7))])
async def test_a_plain_id_of_the_caller_is_kept_everywhere(gateway: Gateway, request_id: str) -> None:
    gateway.gallery.on("GetAsset", stopping)
    async with gateway.client() as client:
        answer = await client.get("/api/v1/assets/a", headers={"x-request-id": request_id})
    assert rest_error(answer).metadata["requestId"] == request_id == answer.headers["x-request-id"]
    assert gateway.gallery.metadata()["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", [FORGED, "mine"])
async def test_what_is_refused_unread_is_told_in_the_one_shape_whatever_its_id(
    gateway: Gateway, request_id: str
) -> None:
    """Its id has not been looked at yet: it comes back as it is, as a text."""
    async with gateway.client() as client:
        error = rest_error(await client.get("/api/v1/assets/a%2Fb", headers={"x-request-id": request_id}))
    assert (error.status, error.reason, error.billed) == (400, "MALFORMED_REQUEST", "no")
    assert error.metadata["requestId"] == request_id
    assert "HTTP" in error.message


async def test_grpc_has_the_same_rule(gateway: Gateway) -> None:
    async def asset(request: Any, context: Any) -> gallery_pb.Asset:
        return gallery_pb.Asset(name=request.name)

    gateway.gallery.on("GetAsset", asset)
    async with gateway.channel() as channel:
        for sent in (FORGED, "mine"):
            await gallery_rpc.GalleryServiceStub(channel).GetAsset(
                gallery_pb.GetAssetRequest(name="assets/a"), metadata=(("x-request-id", sent),)
            )
    forged, kept = [metadata["x-request-id"] for _, _, metadata in gateway.gallery.calls]
    assert uuid.UUID(forged).version == 4
    assert kept == "mine"


async def test_the_marks_of_the_rule_cannot_be_set_from_outside(gateway: Gateway) -> None:
    async with gateway.client() as client:
        answer = await client.get("/api/v1/assets/a", headers={"x-contentlab-sane-request-id": FORGED})
    assert uuid.UUID(answer.headers["x-request-id"]).version == 4


def test_gateway_and_services_have_one_rule() -> None:
    assert trace.SANE_REQUEST_ID.pattern == f"{REQUEST_ID_CHARACTERS}{{1,{REQUEST_ID_LENGTH}}}"
