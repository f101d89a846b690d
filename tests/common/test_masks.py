"""Update masks after AIP-134."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.errors import InvalidArgument
from services.common.masks import paths_to_update

ASSET = pb.Asset(name="assets/a", display_name="A", favorite=True, size_bytes=7, tags=["x"])
SERVER_OWNED = {"name", "size_bytes", "sha256", "create_time", "etag"}


def test_without_a_mask_the_populated_fields_are_meant() -> None:
    assert set(paths_to_update(ASSET, None)) == {"display_name", "favorite", "tags"}
    assert set(paths_to_update(ASSET, FieldMask())) == {"display_name", "favorite", "tags"}


def test_a_star_means_every_field_that_clients_may_set() -> None:
    paths = set(paths_to_update(ASSET, FieldMask(paths=["*"])))
    assert {"display_name", "favorite", "tags", "labels"} <= paths
    assert not paths & SERVER_OWNED


def test_a_star_stands_alone() -> None:
    with pytest.raises(InvalidArgument):
        paths_to_update(ASSET, FieldMask(paths=["*", "tags"]))


def test_a_field_in_the_mask_is_meant_also_when_it_is_empty() -> None:
    assert paths_to_update(pb.Asset(), FieldMask(paths=["tags", "display_name"])) == ("tags", "display_name")


def test_a_field_named_twice_is_meant_once() -> None:
    assert paths_to_update(ASSET, FieldMask(paths=["tags", "tags"])) == ("tags",)


@pytest.mark.parametrize("owned", ["name", "size_bytes", "create_time", "create_time.seconds"])
def test_fields_that_the_server_owns_are_ignored_even_when_named(owned: str) -> None:
    assert paths_to_update(ASSET, FieldMask(paths=[owned, "tags"])) == ("tags",)


@pytest.mark.parametrize(
    "path", ["nope", "tags.x", "labels.a", "display_name.x", "create_time.nope", "", "displayName", "tags.", ".tags"]
)
def test_a_path_that_is_no_field_is_refused_with_its_name(path: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        paths_to_update(ASSET, FieldMask(paths=["tags", path]))
    (violation,) = refused.value.violations
    assert (refused.value.reason, violation.field) == ("INVALID_FIELD", "update_mask")
    assert repr(path) in violation.description
