"""The contract's rules hold for every request message."""

from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pool

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from services.common.errors import Violation
from services.common.interceptors.validation import ValidationInterceptor, invalid_fields
from services.common.server import Application, Service
from tests.common.harness import Refusal, refusal_of, started

GALLERY = pb.DESCRIPTOR.services_by_name["GalleryService"].full_name


def application(received: list[Any]) -> Application:
    """A gallery that accepts whatever passes validation, and notes what its uploads bring."""

    async def batch_get(self: Any, request: pb.BatchGetAssetsRequest, context: Any) -> pb.BatchGetAssetsResponse:
        return pb.BatchGetAssetsResponse()

    async def list_assets(self: Any, request: pb.ListAssetsRequest, context: Any) -> pb.ListAssetsResponse:
        return pb.ListAssetsResponse()

    async def upload_asset(self: Any, requests: Any, context: Any) -> pb.Asset:
        async for request in requests:
            received.append(request)
        return pb.Asset()

    methods = {"BatchGetAssets": batch_get, "ListAssets": list_assets, "UploadAsset": upload_asset}
    servicer: Any = type("Accepting", (rpc.GalleryServiceServicer,), methods)()
    return Application([Service(GALLERY, partial(rpc.add_GalleryServiceServicer_to_server, servicer))])


async def refused(method: str, request: Any, received: list[Any] | None = None) -> Refusal:
    async with started(application([] if received is None else received)) as (_, channel):
        stub: Any = rpc.GalleryServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await getattr(stub, method)(request)
        return refusal_of(error.value)


async def test_an_invalid_field_is_named_with_the_reason() -> None:
    refusal = await refused("ListAssets", pb.ListAssetsRequest(page_size=-1))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == {"page_size": "must be greater than or equal to 0"}
    assert refusal.message == "page_size: must be greater than or equal to 0"
    assert refusal.metadata["field"] == "page_size"


async def test_an_element_of_a_list_is_named_by_its_index() -> None:
    refusal = await refused("BatchGetAssets", pb.BatchGetAssetsRequest(names=["assets/a", "assets/b", "nonsense"]))
    assert list(refusal.fields) == ["names[2]"]


async def test_all_invalid_fields_are_listed_and_the_message_tells_of_the_first() -> None:
    refusal = await refused("BatchGetAssets", pb.BatchGetAssetsRequest(names=["nonsense", "assets/b", "worse"]))
    assert list(refusal.fields) == ["names[0]", "names[2]"]
    assert refusal.message.startswith("names[0]: ")
    assert refusal.message.endswith(" (and 1 more invalid field)")


def upload(**metadata: Any) -> pb.UploadAssetRequest:
    defaults: dict[str, Any] = {"size_bytes": 1, "sha256": "0" * 64}
    return pb.UploadAssetRequest(metadata=pb.UploadMetadata(**(defaults | metadata)))


async def test_a_nested_field_is_named_by_its_path() -> None:
    refusal = await refused("UploadAsset", iter([upload(tags=["fine", "x" * 200])]))
    assert list(refusal.fields) == ["metadata.tags[1]"]


async def test_a_key_of_a_map_is_named() -> None:
    refusal = await refused("UploadAsset", iter([upload(labels={"k": "x" * 5000})]))
    assert list(refusal.fields) == ['metadata.labels["k"]']


async def test_every_message_of_a_stream_is_checked() -> None:
    received: list[Any] = []
    good = pb.UploadAssetRequest(chunk=b"x")
    refusal = await refused("UploadAsset", iter([upload(), good, pb.UploadAssetRequest()]), received)
    assert refusal.reason == "INVALID_FIELD"
    assert len(received) == 2


async def test_valid_messages_pass() -> None:
    async with started(application([])) as (_, channel):
        stub: Any = rpc.GalleryServiceStub(channel)
        assert await stub.ListAssets(pb.ListAssetsRequest(page_size=10)) == pb.ListAssetsResponse()
        assert await stub.UploadAsset(iter([upload(tags=["a"])])) == pb.Asset()


@pytest.mark.parametrize("area", ["image", "video", "gallery", "usage"])
def test_the_rules_of_the_whole_contract_compile(area: str) -> None:
    __import__(f"contentlab.{area}.v1.{area}_service_pb2")
    file = descriptor_pool.Default().FindFileByName(f"contentlab/{area}/v1/{area}_service.proto")
    assert file.services_by_name
    ValidationInterceptor(service.full_name for service in file.services_by_name.values())


def test_many_violations_are_summed_up() -> None:
    error = invalid_fields([Violation("a", "is wrong"), Violation("b", "is wrong"), Violation("c", "is wrong")])
    assert error.message == "a: is wrong (and 2 more invalid fields)"


def test_a_rule_of_the_whole_message_has_no_field() -> None:
    assert invalid_fields([Violation("", "end before start")]).message == "end before start"
