"""What holds for every element of the contract, read from the descriptor set that Envoy and the stubs are made from."""

import re
from collections import Counter

import pytest
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2

from tests.support import contract
from tests.support.contract import Binding

REQUEST_VERBS = {"GET", "POST", "PATCH", "DELETE"}
# The names of the shared reasons and their numbers: `services/common` raises them in every service.
SHARED_REASONS = {
    "MALFORMED_REQUEST": 1,
    "INVALID_FIELD": 2,
    "INVALID_PAGE_TOKEN": 3,
    "INVALID_RESOURCE_NAME": 4,
    "NOT_IMPLEMENTED": 5,
    "INTERNAL_ERROR": 6,
    "UNAVAILABLE": 7,
    "DEADLINE_EXCEEDED": 8,
    "SERVICE_PRINCIPAL_REQUIRED": 9,
    "UNAUTHENTICATED": 10,
    "METADATA_TOO_LARGE": 11,
}


def test_the_four_packages_and_their_services_are_there() -> None:
    assert [service.full_name for service in contract.services()] == [
        "contentlab.gallery.v1.GalleryService",
        "contentlab.image.v1.ImageService",
        "contentlab.usage.v1.UsageService",
        "contentlab.usage.v1.UsageLedger",
        "contentlab.video.v1.VideoService",
    ]


def test_every_element_is_commented() -> None:
    commented = contract.comments()
    assert len(commented) > 700
    assert [name for name, comment in commented.items() if not comment] == []


def test_every_rpc_is_bound_to_rest_or_says_that_it_is_grpc_only() -> None:
    commented = contract.comments()
    wrong = []
    for method in contract.methods():
        whole = f"{commented[method.containing_service.full_name]} {commented[method.full_name]}"
        if bool(contract.bindings(method)) == ("gRPC-only" in whole):
            wrong.append(method.full_name)
    assert wrong == []


def test_every_path_is_below_api_v1_and_bodies_bind_everything() -> None:
    wrong = []
    for method in contract.methods():
        for binding in contract.bindings(method):
            body_is_right = binding.body == ("*" if binding.verb in {"POST", "PATCH"} else "")
            raw_upload = method.name == "UploadAssetContent" and binding.body == "content"
            if not binding.path.startswith("/api/v1/") or not (body_is_right or raw_upload):
                wrong.append((method.full_name, binding))
    assert wrong == []


def shape(binding: Binding) -> tuple[str, str, tuple[str, ...]]:
    """A path with its variables made equal: what a router sees."""
    path = re.sub(r"\{[^=}]+=([^}]*)\}", r"\1", binding.path)
    path = re.sub(r"\{[^}]*\}", "*", path)
    head, _, custom_verb = path.partition(":")
    return binding.verb, custom_verb, tuple(head.split("/"))


def collide(one: tuple[str, str, tuple[str, ...]], other: tuple[str, str, tuple[str, ...]]) -> bool:
    """Whether some request path fits both, literal segments winning over `*` nowhere."""
    if one[:2] != other[:2] or len(one[2]) != len(other[2]):
        return False
    return all(a == b or "*" in {a, b} for a, b in zip(one[2], other[2], strict=True))


def test_no_two_bindings_collide() -> None:
    shapes = [
        (method.full_name, shape(binding)) for method in contract.methods() for binding in contract.bindings(method)
    ]
    assert {verb for _, (verb, _, _) in shapes} <= REQUEST_VERBS
    found = [
        (first, second)
        for place, (first, one) in enumerate(shapes)
        for second, other in shapes[place + 1 :]
        if collide(one, other)
    ]
    assert found == []


def test_list_requests_paginate() -> None:
    lists = [method for method in contract.methods() if method.name.startswith("List")]
    assert len(lists) >= 10
    for method in lists:
        asked, answered = method.input_type.fields_by_name, method.output_type.fields_by_name
        assert {"page_size", "page_token"} <= set(asked), method.full_name
        assert "next_page_token" in answered, method.full_name
        assert method.output_type.fields[0].is_repeated, f"{method.full_name}: the collection comes first (AIP-132)"


def test_enums_start_at_unspecified() -> None:
    wrong = [
        enum.full_name
        for enum in contract.enums()
        if enum.values[0].number != 0 or not enum.values[0].name.endswith("_UNSPECIFIED")
    ]
    assert wrong == []


def test_every_field_states_its_behaviour() -> None:
    wrong: list[str] = []
    for field in contract.fields():
        options = descriptor_pb2.FieldOptions.FromString(field.GetOptions().SerializeToString())
        if not contract.option(options, field_behavior_pb2.field_behavior):
            wrong.append(field.full_name)
    assert wrong == []


@pytest.mark.parametrize("package", ["gallery", "image", "usage", "video"])
def test_the_reasons_that_every_service_shares_are_the_same_everywhere(package: str) -> None:
    reasons = contract.pool().FindEnumTypeByName(f"contentlab.{package}.v1.ErrorReason")
    assert {name: reasons.values_by_name[name].number for name in SHARED_REASONS} == SHARED_REASONS


def test_no_service_imports_another() -> None:
    for file in contract.our_files():
        ours = [name for name in file.dependency if name.startswith("contentlab/")]
        assert ours == [], f"{file.name} imports {ours} (AIP-215)"


def test_error_details_are_in_the_descriptor_set() -> None:
    """Without their types Envoy answers an empty body instead of the error."""
    names = {file.name for file in contract.file_set().file}
    assert {"google/rpc/error_details.proto", "google/rpc/status.proto"} <= names


def test_json_names_are_lower_camel_case_and_unique_in_a_message() -> None:
    for message in contract.messages():
        names = Counter(field.json_name for field in message.fields)
        assert all(re.fullmatch(r"[a-z][A-Za-z0-9]*", name) for name in names), message.full_name
        assert max(names.values(), default=1) == 1, message.full_name
