"""Batches: all or none, in the order asked, and never an answer that is too large."""

import asyncio
import threading
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy.ext.asyncio import AsyncConnection

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.adapters import catalog, transactions, wording
from services.gallery.adapters.journal import lock_owner
from services.gallery.adapters.wording import words_of
from services.gallery.domain.search import document_of
from tests.gallery.counts import drift, multiply
from tests.gallery.harness import Client, refusal
from tests.support.media import png

PICTURE = png(8, 8)
LARGE = {f"{n:02}" + "<" * 61: "<" * 255 for n in range(64)}


async def some(user: Client, count: int, **fields: Any) -> list[str]:
    return [asset.name for asset in await asyncio.gather(*(user.upload(PICTURE, **fields) for _ in range(count)))]


async def test_assets_come_in_the_order_asked_and_twice_if_asked_twice(user: Client) -> None:
    a, b, c = await some(user, 3)
    found = await user.call(pb.BatchGetAssetsRequest(names=[c, a, c, b]))
    assert [asset.name for asset in found.assets] == [c, a, c, b]


async def test_a_batch_shows_what_lists_show(user: Client) -> None:
    provenance = pb.Provenance(owner=user.principal, prompt="p" * 500, parameters={"size": "8x8"})
    asset = await user.as_service().upload(PICTURE, provenance=provenance, tags=["t"])
    [shown] = (await user.call(pb.BatchGetAssetsRequest(names=[asset.name]))).assets
    assert [shown] == list((await user.page()).assets)
    assert (len(shown.prompt), len(shown.parameters)) == (200, 0)


async def test_assets_move_together_into_a_folder_that_is_made_and_out_of_it(user: Client) -> None:
    names = await some(user, 3, folder="old")
    moved = (await user.call(pb.BatchMoveAssetsRequest(names=names[::-1], folder="new/here"))).assets
    assert [asset.name for asset in moved] == names[::-1]
    assert {asset.folder_path for asset in moved} == {"new/here"}
    assert sorted(await user.names(folder="new/here")) == sorted(names)
    assert await user.names(folder="old") == []
    assert await drift(user) == {}
    out = (await user.call(pb.BatchMoveAssetsRequest(names=names))).assets
    assert {asset.folder for asset in out} == {""}
    assert await drift(user) == {}


async def test_assets_are_deleted_together_and_those_deleted_before_stay_as_they_are(user: Client) -> None:
    names = await some(user, 3)
    before = await user.delete(names[1])
    deleted = (await user.call(pb.BatchDeleteAssetsRequest(names=names))).assets
    assert [asset.name for asset in deleted] == names
    assert deleted[1].delete_time == before.delete_time
    assert deleted[0].delete_time == deleted[2].delete_time
    assert await user.names() == []
    assert await drift(user) == {}


async def test_tags_are_added_and_removed_and_keep_their_order(user: Client) -> None:
    first = await user.upload(PICTURE, tags=["c", "a", "b"])
    second = await user.upload(PICTURE)
    tagged = await user.call(
        pb.BatchTagAssetsRequest(
            names=[first.name, second.name], add_tags=["夜", "b", "夜", " x "], remove_tags=["a", "z"]
        )
    )
    assert [list(asset.tags) for asset in tagged.assets] == [["c", "b", "夜", " x "], ["夜", "b", " x "]]
    assert await drift(user) == {}
    again = await user.call(pb.BatchTagAssetsRequest(names=[first.name], add_tags=["b"], remove_tags=["a"]))
    assert again.assets[0].etag == tagged.assets[0].etag, "nothing to do is no change"


async def test_a_tag_to_add_and_to_remove_at_once_is_refused(user: Client) -> None:
    names = await some(user, 1)
    error = await refusal(user.call(pb.BatchTagAssetsRequest(names=names, add_tags=["a"], remove_tags=["a"])))
    assert (error.reason, error.fields) == ("INVALID_FIELD", ("remove_tags",))


async def test_one_asset_with_too_many_tags_fails_all_and_is_named(user: Client) -> None:
    [plain] = await some(user, 1)
    full = await user.upload(PICTURE, tags=[f"t{n}" for n in range(49)])
    request = pb.BatchTagAssetsRequest(names=[plain, full.name], add_tags=["x", "y"])
    error = await refusal(user.call(request))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert (error.fields, error.metadata["name"]) == (("add_tags",), full.name)
    assert not (await user.get(plain)).tags
    assert await drift(user) == {}
    request.remove_tags.append("t0")
    assert len((await user.call(request)).assets[1].tags) == 50


BATCHES = [
    lambda names: pb.BatchGetAssetsRequest(names=names),
    lambda names: pb.BatchMoveAssetsRequest(names=names, folder="never/made"),
    lambda names: pb.BatchDeleteAssetsRequest(names=names),
    lambda names: pb.BatchTagAssetsRequest(names=names, add_tags=["never"]),
]


@pytest.mark.parametrize("batch", BATCHES)
async def test_one_missing_or_foreign_name_fails_all(user: Client, batch: Any) -> None:
    names = await some(user, 3)
    before = await user.page()
    foreign = await user.gallery.user().upload(PICTURE)
    for wrong in ("assets/nothing", foreign.name):
        error = await refusal(user.call(batch([names[0], wrong, *names[1:]])))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "ASSET_NOT_FOUND")
        assert (error.metadata["name"], error.resource) == (wrong, wrong)
    assert await user.page() == before
    assert not (await user.call(pb.ListFoldersRequest())).folders
    assert await drift(user) == {}


@pytest.mark.parametrize("batch", BATCHES)
async def test_a_batch_has_one_to_a_hundred_names(user: Client, batch: Any) -> None:
    for names in ([], [f"assets/a{n}" for n in range(101)]):
        assert (await refusal(user.call(batch(names)))).fields == ("names",)


@pytest.mark.parametrize("batch", BATCHES[1:])
async def test_a_change_names_each_asset_once(user: Client, batch: Any) -> None:
    [name] = await some(user, 1)
    assert (await refusal(user.call(batch([name, name])))).fields == ("names",)


@pytest.mark.parametrize("batch", BATCHES)
async def test_a_batch_whose_answer_would_be_too_large_is_refused_and_changes_nothing(user: Client, batch: Any) -> None:
    """These labels are 120 KiB an asset in the gateway's JSON, where `<` is `\\u003c`."""
    names = await some(user, 30, labels=LARGE)
    error = await refusal(user.call(batch(names)))
    assert (error.code, error.reason, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", ("names",))
    assert sorted(await user.names()) == sorted(names)
    assert await drift(user) == {}
    assert len((await user.call(batch(names[:10]))).assets) == 10


async def test_a_hundred_ordinary_assets_are_one_batch(user: Client) -> None:
    asset = await user.upload(PICTURE, tags=["夜" * 20, "海" * 20], labels={"k": "v" * 100})
    await multiply(user, asset.name[7:], 99)
    names = await user.names(page_size=200)
    await user.call(pb.BatchTagAssetsRequest(names=names, add_tags=["x" * 64]))
    await user.call(pb.BatchMoveAssetsRequest(names=names, folder="旅" * 300))
    assert len((await user.call(pb.BatchGetAssetsRequest(names=names))).assets) == 100
    await user.call(pb.BatchDeleteAssetsRequest(names=names))
    assert await drift(user) == {}


@pytest.fixture
def words_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads in which search words are made."""
    made = list[str]()

    def spy(*texts: Any) -> str:
        made.append(threading.current_thread().name)
        return document_of(*texts)

    monkeypatch.setattr(wording, "document_of", spy)
    return made


async def prompted(user: Client, count: int) -> list[str]:
    service, provenance = user.as_service(), pb.Provenance(owner=user.principal, prompt="the sea at night " * 200)
    uploads = (service.upload(PICTURE, asset_id=f"n{uuid.uuid4().hex}", provenance=provenance) for _ in range(count))
    return [asset.name for asset in await asyncio.gather(*uploads)]


async def test_a_batch_that_changes_no_text_makes_no_search_words(user: Client, words_made: list[str]) -> None:
    names = await prompted(user, 3)
    for batch in (
        pb.BatchMoveAssetsRequest(names=names, folder="f"),
        pb.BatchDeleteAssetsRequest(names=names[:1]),
        pb.BatchTagAssetsRequest(names=names, remove_tags=["none has it"]),
    ):
        await user.call(batch)
    await user.call(
        pb.UpdateAssetRequest(asset=pb.Asset(name=names[1], favorite=True), update_mask=FieldMask(paths=["favorite"]))
    )
    assert words_made == []
    assert sorted(await user.names(query="night")) == sorted(names[1:])


async def test_words_of_a_batch_are_made_beside_the_event_loop_and_before_the_lock(
    user: Client, words_made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names, locked = await prompted(user, 3), list[int]()

    async def spy(connection: AsyncConnection, owner: str) -> None:
        await lock_owner(connection, owner)
        locked.append(len(words_made))

    monkeypatch.setattr(transactions, "lock_owner", spy)
    await user.call(pb.BatchTagAssetsRequest(names=names, add_tags=["harbour"]))
    assert words_made, "the texts have changed"
    assert threading.main_thread().name not in words_made
    assert locked == [len(words_made)], "none are left to be made under the lock"
    for query in ("harbour", "night", "harbour night"):
        assert sorted(await user.names(query=query)) == sorted(names)


async def test_words_follow_a_tag_that_comes_between_their_making_and_the_lock(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, others = await prompted(user, 2), [True]

    async def overtaken(assets: Any, known: Any) -> Any:
        made = await words_of(assets, known)
        if others:
            others.clear()
            await user.call(pb.BatchTagAssetsRequest(names=names[:1], add_tags=["first"]))
        return made

    monkeypatch.setattr(catalog, "words_of", overtaken)
    await user.call(pb.BatchTagAssetsRequest(names=names, add_tags=["second"]))
    assert await user.names(query="first second") == names[:1]


async def test_batches_at_once_over_the_same_assets_neither_block_nor_lose(user: Client) -> None:
    names = await some(user, 10)
    calls = [
        user.call(pb.BatchTagAssetsRequest(names=names[::step], add_tags=[f"t{n}"]))
        for n in range(8)
        for step in (1, -1)
    ]
    moves = [
        user.call(pb.BatchMoveAssetsRequest(names=names[::step], folder=f"f{n}")) for n in range(4) for step in (1, -1)
    ]
    await asyncio.gather(*calls, *moves)
    found = (await user.call(pb.BatchGetAssetsRequest(names=names))).assets
    assert {tuple(sorted(asset.tags)) for asset in found} == {tuple(f"t{n}" for n in range(8))}
    assert len({asset.folder_path for asset in found}) == 1, "each move is whole"
    assert await drift(user) == {}
