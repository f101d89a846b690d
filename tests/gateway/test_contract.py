"""Every method is classified, and by what it does to a caller's money."""

import re
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

from gateway.contract import INTERNAL_SERVICES, ContractError, Kind, classify, load_methods
from tests.support.contract import DESCRIPTOR_SET, bindings, comments, methods, services

# Says of a method that it costs money, as the contract's comments say it.
PAID = re.compile(r"\bPaid\b|new paid call|and paid, afterwards")


def kinds() -> dict[str, Kind]:
    return {f"{method.service}.{method.name}": method.kind for method in load_methods(DESCRIPTOR_SET)}


def test_every_method_of_every_public_service_is_routed() -> None:
    public = {method.full_name for method in methods() if method.containing_service.name not in INTERNAL_SERVICES}
    assert set(kinds()) == public


def test_an_internal_service_has_no_http_binding() -> None:
    internal = [service for service in services() if service.name in INTERNAL_SERVICES]
    assert {service.name for service in internal} == INTERNAL_SERVICES
    assert not [method.full_name for service in internal for method in service.methods if bindings(method)]


def test_a_method_is_paid_exactly_if_its_comment_says_so() -> None:
    classified = kinds()
    said = {name for name, comment in comments().items() if name in classified and PAID.search(comment)}
    assert {name for name, kind in classified.items() if kind.is_paid} == said


def test_a_method_that_can_run_something_again_is_paid() -> None:
    classified = kinds()
    rerunning = [method.full_name for method in methods() if "run_again" in method.input_type.fields_by_name]
    assert rerunning
    assert all(classified[name].is_paid for name in rerunning)


def test_everything_that_streams_has_a_kind_that_streams() -> None:
    classified = kinds()
    streaming = (Kind.PAID_STREAM, Kind.WATCH, Kind.DOWNLOAD, Kind.UPLOAD)
    for method in methods():
        if method.full_name in classified:
            streams = method.client_streaming or method.server_streaming
            assert streams == (classified[method.full_name] in streaming), method.full_name


def new_method(verb: str | None, *, streams: bool = False) -> descriptor_pb2.MethodDescriptorProto:
    method = descriptor_pb2.MethodDescriptorProto(server_streaming=streams)
    if verb:
        extensions: Any = method.options.Extensions
        setattr(extensions[annotations_pb2.http], verb, "/api/v1/walls")
    return method


@pytest.mark.parametrize(("verb", "streams"), [("post", False), ("get", True), (None, False)])
def test_a_new_method_that_is_no_plain_get_stops_the_rendering(verb: str | None, streams: bool) -> None:
    with pytest.raises(ContractError, match=r"ImageService\.PaintWall is not classified"):
        classify("ImageService.PaintWall", new_method(verb, streams=streams))


def test_a_new_plain_get_is_a_read() -> None:
    assert classify("ImageService.GetWall", new_method("get")) is Kind.READ


def test_a_classified_method_that_left_the_contract_stops_the_rendering(tmp_path: Path) -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes())
    service = next(file for file in files.file if file.package == "contentlab.image.v1").service[0]
    del service.method[0]
    changed = tmp_path / "changed.binpb"
    changed.write_bytes(files.SerializeToString())
    with pytest.raises(ContractError, match=r"does not have.*ImageService\.GenerateImages"):
        load_methods(changed)


def test_media_inside_json_is_found_wherever_it_nests() -> None:
    inline = {method.name for method in load_methods(DESCRIPTOR_SET) if method.has_inline_bytes}
    assert {
        "EditImages",
        "StreamEditImages",
        "AnalyzeImage",
        "CreateVideoJob",
        "GenerateVideo",
        "AnalyzeVideo",
    } == inline
