"""Changes of one asset: exactly the fields that the mask names, and only of the state that the caller has seen."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.convert_edits import update_of
from services.gallery.domain import edits
from services.gallery.domain.assets import Asset, Folder, Media, MediaType
from services.gallery.domain.document import from_document
from tests.gallery.counts import drift
from tests.gallery.harness import Client, refusal
from tests.support.media import png

PICTURE = png(8, 8)
FIELDS = ("display_name", "folder", "tags", "labels", "favorite")


def update(name: str, *paths: str, **fields: Any) -> pb.UpdateAssetRequest:
    mask = FieldMask(paths=paths) if paths else None
    return pb.UpdateAssetRequest(asset=pb.Asset(name=name, **fields), update_mask=mask)


async def test_an_update_changes_what_it_names_and_returns_the_whole_asset(user: Client) -> None:
    asset = await user.upload(PICTURE, display_name="before", tags=["sea"], folder="a/b")
    updated = await user.call(update(asset.name, "display_name", "favorite", display_name="после", favorite=True))
    assert updated == await user.get(asset.name)
    assert (updated.display_name, updated.favorite, updated.tags, updated.folder_path) == (
        "после",
        True,
        ["sea"],
        "a/b",
    )
    assert updated.etag != asset.etag
    assert updated.update_time.ToNanoseconds() > asset.update_time.ToNanoseconds()
    assert updated.create_time == asset.create_time
    assert await drift(user) == {}


async def test_without_a_mask_the_fields_that_are_set_change(user: Client) -> None:
    asset = await user.upload(PICTURE, tags=["sea"], labels={"a": "1"})
    updated = await user.call(update(asset.name, display_name="new", labels={"b": "2"}))
    assert (updated.display_name, dict(updated.labels), updated.tags) == ("new", {"b": "2"}, ["sea"])


async def test_an_asterisk_changes_every_field_that_callers_own(user: Client) -> None:
    asset = await user.upload(PICTURE, display_name="x", tags=["sea"], labels={"a": "1"}, folder="a")
    updated = await user.call(update(asset.name, "*", mime_type="text/html", owner="somebody"))
    assert (list(updated.tags), dict(updated.labels), updated.folder, updated.favorite) == ([], {}, "", False)
    assert updated.display_name == f"{asset.name[7:]}.png", "an empty name gives the default back"
    assert (updated.mime_type, updated.owner, updated.sha256) == (asset.mime_type, asset.owner, asset.sha256)
    assert await drift(user) == {}


async def test_what_was_read_can_be_sent_back_whole(user: Client) -> None:
    asset = await user.upload(PICTURE, tags=["sea", "夜"], labels={"a": "1"}, folder="a/b")
    assert await user.call(pb.UpdateAssetRequest(asset=asset, update_mask=FieldMask(paths=["*"]))) == asset
    assert await user.call(pb.UpdateAssetRequest(asset=asset)) == asset, "nothing changed, so the etag stays"


@pytest.mark.parametrize("path", ["nothing", "labels.a", "tags.0", "", "asset.tags", "displayName", "*,tags"])
async def test_a_mask_with_a_path_that_is_none_is_refused(user: Client, path: str) -> None:
    asset = await user.upload(PICTURE)
    error = await refusal(user.call(pb.UpdateAssetRequest(asset=asset, update_mask=FieldMask(paths=["tags", path]))))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.fields == ("update_mask",)


async def test_a_path_makes_the_folder_and_a_name_must_be_one(user: Client) -> None:
    asset = await user.upload(PICTURE)
    moved = await user.call(update(asset.name, "folder", folder="new/with/parents"))
    assert moved.folder_path == "new/with/parents"
    other = await user.upload(PICTURE)
    assert (await user.call(update(other.name, "folder", folder=moved.folder))).folder == moved.folder
    error = await refusal(user.call(update(other.name, "folder", folder="folders/nothing")))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FOLDER_NOT_FOUND")
    out = await user.call(update(other.name, "folder"))
    assert (out.folder, out.folder_path) == ("", "")
    assert await drift(user) == {}


async def test_a_refused_update_makes_no_folder(user: Client) -> None:
    asset = await user.upload(PICTURE)
    error = await refusal(user.call(update(asset.name, "folder", folder="not/made", etag="0123456789abcdef")))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert not (await user.call(pb.ListFoldersRequest())).folders
    assert await user.get(asset.name) == asset


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"display_name": "a\0b"}, "asset.display_name"),
        ({"display_name": "x" * 256}, "asset.display_name"),
        ({"tags": ["a\0b"]}, "asset.tags"),
        ({"tags": ["a", "a"]}, "asset.tags"),
        ({"tags": [str(n) for n in range(51)]}, "asset.tags"),
        ({"tags": [""]}, "asset.tags[0]"),
        ({"labels": {"k\0": "v"}}, "asset.labels"),
        ({"labels": {"k": "v" * 256}}, 'asset.labels["k"]'),
        ({"folder": "a/../b"}, "asset.folder"),
        ({"folder": "a\0b"}, "asset.folder"),
    ],
)
async def test_values_obey_the_rules_of_uploads(user: Client, fields: dict[str, Any], field: str) -> None:
    asset = await user.upload(PICTURE)
    error = await refusal(user.call(update(asset.name, **fields)))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason in {"INVALID_FIELD", "INVALID_FOLDER_PATH"}
    assert error.fields == (field,)
    assert await user.get(asset.name) == asset


async def test_of_updates_at_once_with_one_etag_one_wins(user: Client) -> None:
    asset = await user.upload(PICTURE)
    for turn in range(5):  # the first rounds still open the connections that the race needs
        asset = await user.get(asset.name)
        calls = [user.call(update(asset.name, display_name=f"{turn} {n}", etag=asset.etag)) for n in range(8)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(outcome, pb.Asset) for outcome in outcomes) == 1


async def test_updates_of_different_fields_at_once_lose_nothing(user: Client) -> None:
    asset = await user.upload(PICTURE)
    await asyncio.gather(
        user.call(update(asset.name, "tags", tags=["t"])),
        user.call(update(asset.name, "labels", labels={"k": "v"})),
        user.call(update(asset.name, "favorite", favorite=True)),
        user.call(update(asset.name, "display_name", display_name="n")),
        user.call(update(asset.name, "folder", folder="f")),
    )
    now = await user.get(asset.name)
    assert (list(now.tags), dict(now.labels), now.favorite, now.display_name, now.folder_path) == (
        ["t"],
        {"k": "v"},
        True,
        "n",
        "f",
    )


async def test_the_document_follows_an_update(user: Client) -> None:
    asset = await user.upload(PICTURE)
    updated = await user.call(update(asset.name, tags=["夜"], folder="a/b", favorite=True))
    async with asyncio.timeout(10):
        while True:
            document = from_document(await user.gallery.blob(f"{asset.name[7:]}/asset.json"))
            if document.etag == updated.etag:
                break
            await asyncio.sleep(0.05)
    assert (document.tags, document.favorite) == (("夜",), True)
    assert document.folder is not None
    assert (f"folders/{document.folder.id}", document.folder.path) == (updated.folder, "a/b")


async def test_a_deleted_asset_can_be_changed_and_comes_back_as_it_was_left(user: Client) -> None:
    asset = await user.upload(PICTURE, tags=["sea"])
    await user.delete(asset.name)
    await user.call(update(asset.name, tags=["land"]))
    assert await drift(user) == {}
    back = await user.call(pb.UndeleteAssetRequest(name=asset.name))
    assert (list(back.tags), back.HasField("delete_time"), back.HasField("purge_time")) == (["land"], False, False)
    assert back == await user.get(asset.name)
    assert await user.names() == [asset.name]
    assert await drift(user) == {}


async def test_what_is_not_deleted_cannot_be_undeleted(user: Client) -> None:
    asset = await user.upload(PICTURE)
    error = await refusal(user.call(pb.UndeleteAssetRequest(name=asset.name)))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ASSET_NOT_DELETED")
    assert error.resource == asset.name


async def test_an_asset_whose_folder_went_while_it_was_deleted_comes_back_to_none(user: Client) -> None:
    asset = await user.upload(PICTURE, folder="a")
    await user.delete(asset.name)
    await user.call(pb.DeleteFolderRequest(name=asset.folder))
    back = await user.call(pb.UndeleteAssetRequest(name=asset.name))
    assert (back.folder, back.folder_path) == ("", "")
    assert await drift(user) == {}


NOW = datetime(2026, 5, 1, tzinfo=UTC)
ASSET = Asset(
    id="a",
    owner="o",
    display_name="n",
    media=Media(MediaType.IMAGE, "image/png", 9, "0" * 64),
    create_time=NOW,
    update_time=NOW,
    folder=Folder("f1", "here"),
    tags=("x", "y"),
    labels={"k": "v"},
)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    st.sets(st.sampled_from([*FIELDS, "etag", "name", "prompt", "folder_path", "size_bytes"])),
    texts,
    st.lists(texts, unique=True, max_size=5),
    st.dictionaries(texts, texts, max_size=3),
    st.booleans(),
)
def test_any_mask_changes_exactly_the_fields_it_names(
    mask: set[str], display_name: str, tags: list[str], labels: dict[str, str], favorite: bool
) -> None:
    message = pb.Asset(name="assets/a", display_name=display_name, tags=tags, labels=labels, favorite=favorite)
    message.folder, message.prompt, message.size_bytes = "there", "another", 77
    new = update_of(pb.UpdateAssetRequest(asset=message, update_mask=FieldMask(paths=sorted(mask))))
    there = Folder("f2", "there")
    changed = edits.update(ASSET, new, there)
    named = mask or set(FIELDS if favorite else FIELDS[:-1]) - {
        f for f, v in (("tags", tags), ("labels", labels)) if not v
    }
    wanted: dict[str, Any] = {
        "display_name": display_name,
        "folder": there,
        "tags": tuple(tags),
        "labels": labels,
        "favorite": favorite,
    }
    assert changed == replace(ASSET, **{field: value for field, value in wanted.items() if field in named})
