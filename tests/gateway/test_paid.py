"""Never pay twice, seen from the gateway: a paid call is sent once, and a cut one is not said to be free."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.image.v1 import image_service_pb2 as image_pb
from contentlab.image.v1 import image_service_pb2_grpc as image_rpc
from services.common.errors import Unavailable
from services.common.status import from_rpc_error
from tests.gateway.harness import Gateway, gateway_settings, running_envoy
from tests.gateway.resetting import ResettingServer, resetting_server
from tests.support.errors import rest_error

GENERATE = "/api/v1/images:generate"
PROMPT = {"prompt": "a lighthouse"}
# What a client could ask Envoy for, were it not stripped.
ORDERS = {
    "x-envoy-retry-on": "5xx,reset,retriable-status-codes",
    "x-envoy-max-retries": "3",
    "x-envoy-retry-grpc-on": "unavailable",
}


async def unavailable(request: Any, context: Any) -> Any:
    raise Unavailable("PROVIDER_UNAVAILABLE", "The provider does not answer.")


async def never(request: Any, context: Any) -> Any:
    await asyncio.sleep(60)


@pytest.fixture
async def resetting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, ResettingServer]]:
    """A gateway whose services all take a call and then drop the connection without an answer."""
    async with resetting_server() as server:
        settings = gateway_settings(dict.fromkeys(("image", "video", "gallery", "usage"), server.port))
        async with running_envoy(settings, tmp_path_factory.mktemp("resetting")) as log:
            yield Gateway(settings, log), server


@asynccontextmanager
async def image_stub(gateway: Gateway) -> "AsyncIterator[image_rpc.ImageServiceAsyncStub]":
    async with gateway.channel() as channel:
        yield image_rpc.ImageServiceStub(channel)


@pytest.mark.parametrize("headers", [{}, ORDERS], ids=["", "with orders to retry"])
async def test_a_paid_call_that_is_answered_unavailable_is_sent_once(gateway: Gateway, headers: dict[str, str]) -> None:
    gateway.image.on("GenerateImages", unavailable)
    async with gateway.client() as client:
        error = rest_error(await client.post(GENERATE, json=PROMPT, headers=headers))
    assert (error.status, error.reason, error.billed) == (503, "PROVIDER_UNAVAILABLE", "no")
    async with image_stub(gateway) as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GenerateImages(image_pb.GenerateImagesRequest(prompt="a"), metadata=tuple(headers.items()))
    assert gateway.image.count("GenerateImages") == 2


async def test_a_read_that_is_answered_unavailable_is_tried_again(gateway: Gateway) -> None:
    answers = iter([unavailable, unavailable])

    async def third_time(request: Any, context: Any) -> Any:
        behaviour = next(answers, None)
        return await behaviour(request, context) if behaviour else gallery_pb.Asset(name=request.name)

    gateway.gallery.on("GetAsset", third_time)
    async with gateway.client() as client:
        answer = await client.get("/api/v1/assets/a")
    assert (answer.status_code, gateway.gallery.count("GetAsset")) == (200, 3)


async def test_a_write_that_is_answered_unavailable_is_sent_once(gateway: Gateway) -> None:
    gateway.gallery.on("DeleteAsset", unavailable)
    async with gateway.client() as client:
        assert (await client.delete("/api/v1/assets/a")).status_code == 503
    assert gateway.gallery.count("DeleteAsset") == 1


async def test_a_paid_call_whose_connection_breaks_is_sent_once_and_its_outcome_is_unknown(
    resetting: tuple[Gateway, ResettingServer],
) -> None:
    gateway, server = resetting
    async with gateway.client() as client:
        error = rest_error(await client.post(GENERATE, json=PROMPT, headers=ORDERS))
    assert (error.status, error.code, error.reason, error.billed) == (504, 4, "OUTCOME_UNKNOWN", "unknown")
    assert error.metadata["retrySafe"] == "false"
    async with image_stub(gateway) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await stub.GenerateImages(image_pb.GenerateImagesRequest(prompt="a"))
    assert cut.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.count("/contentlab.image.v1.ImageService/GenerateImages") == 2


async def test_a_write_whose_connection_breaks_is_sent_once_and_a_read_again(
    resetting: tuple[Gateway, ResettingServer],
) -> None:
    gateway, server = resetting
    async with gateway.client() as client:
        write = rest_error(await client.delete("/api/v1/assets/a"))
        read = rest_error(await client.get("/api/v1/assets/a"))
    assert (write.status, write.reason, write.billed, write.metadata["retrySafe"]) == (
        503,
        "UNAVAILABLE",
        "no",
        "false",
    )
    assert (read.status, read.reason, read.billed, read.metadata["retrySafe"]) == (503, "UNAVAILABLE", "no", "true")
    assert server.count("/contentlab.gallery.v1.GalleryService/DeleteAsset") == 1
    assert server.count("/contentlab.gallery.v1.GalleryService/GetAsset") == 3


async def test_a_paid_call_that_takes_too_long_is_cut_and_may_have_been_billed(impatient: Gateway) -> None:
    impatient.image.on("GenerateImages", never)
    async with impatient.client() as client:
        error = rest_error(await client.post(GENERATE, json=PROMPT))
    assert (error.status, error.code, error.reason, error.billed) == (504, 4, "OUTCOME_UNKNOWN", "unknown")
    assert impatient.image.count("GenerateImages") == 1


async def test_a_read_that_takes_too_long_cost_nothing(impatient: Gateway) -> None:
    impatient.gallery.on("GetAsset", never)
    impatient.gallery.on("DeleteAsset", never)
    async with impatient.client() as client:
        read = rest_error(await client.get("/api/v1/assets/a"))
        write = rest_error(await client.delete("/api/v1/assets/a"))
    assert (read.status, read.reason, read.billed, read.metadata["retrySafe"]) == (
        504,
        "DEADLINE_EXCEEDED",
        "no",
        "true",
    )
    assert (write.status, write.billed, write.metadata["retrySafe"]) == (504, "no", "false")


@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
async def test_a_status_that_only_a_services_transport_made_does_not_pass_for_free(
    gateway: Gateway, code: grpc.StatusCode
) -> None:
    async def stopping(request: Any, context: Any) -> Any:
        await context.abort(code, "")

    gateway.image.on("GenerateImages", stopping)
    gateway.gallery.on("DeleteAsset", stopping)
    async with gateway.client() as client:
        paid = rest_error(await client.post(GENERATE, json=PROMPT))
        free = rest_error(await client.delete("/api/v1/assets/a"))
    assert (paid.status, paid.code, paid.reason, paid.billed) == (504, 4, "OUTCOME_UNKNOWN", "unknown")
    assert (free.code, free.billed) == (code.value[0], "no")
    async with image_stub(gateway) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.GenerateImages(image_pb.GenerateImagesRequest(prompt="a"))
    typed = from_rpc_error(error.value)
    assert (typed.code, typed.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN")


async def test_a_paid_call_may_be_silent_for_longer_than_a_request_may_stall(impatient: Gateway) -> None:
    async def slow(request: Any, context: Any) -> image_pb.ImageGeneration:
        await asyncio.sleep(2 * impatient.settings.times.request_idle)
        return image_pb.ImageGeneration(name="imageGenerations/1")

    impatient.image.on("GenerateImages", slow)
    async with impatient.client() as client:
        assert (await client.post(GENERATE, json=PROMPT)).status_code == 200


async def test_a_service_knows_its_deadline_and_a_clients_shorter_one_wins(gateway: Gateway) -> None:
    remaining: list[float] = []

    async def note(request: Any, context: Any) -> image_pb.ImageGeneration:
        remaining.append(context.time_remaining())
        return image_pb.ImageGeneration(name="imageGenerations/1")

    gateway.image.on("GenerateImages", note)
    async with gateway.client() as client:
        await client.post(GENERATE, json=PROMPT)
        await client.post(GENERATE, json=PROMPT, headers={"grpc-timeout": "20S"})
        await client.post(GENERATE, json=PROMPT, headers={"grpc-timeout": "2H"})
    async with image_stub(gateway) as stub:
        await stub.GenerateImages(image_pb.GenerateImagesRequest(prompt="a"), timeout=20)
    by_default, over_rest, too_long, over_grpc = remaining
    assert 800 < by_default < 1000
    assert 10 < over_rest < 30
    assert 800 < too_long < 1000
    assert 10 < over_grpc < 30


async def test_a_request_id_of_the_caller_is_kept_and_one_is_made_where_there_is_none(gateway: Gateway) -> None:
    mine = str(uuid.uuid4())
    async with gateway.client() as client:
        given = await client.get("/api/v1/assets/a", headers={"x-request-id": mine})
        assert given.headers["x-request-id"] == mine == gateway.gallery.metadata()["x-request-id"]
        assert rest_error(given).metadata["requestId"] == mine
        made = await client.get("/api/v1/assets/a")
        assert made.headers["x-request-id"] == gateway.gallery.metadata()["x-request-id"]
        assert uuid.UUID(made.headers["x-request-id"]) != uuid.UUID(mine)
