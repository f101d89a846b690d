"""Folders: made, listed, renamed with all below them, and deleted by a rule for their contents."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.adapters import folder_moves, folder_tree
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.adapters.journal import Change, record
from services.gallery.ports import BlobKey
from tests.gallery.counts import drift, multiply
from tests.gallery.harness import Client, refusal
from tests.support.media import png

PICTURE = png(8, 8)
MOVE, DELETE = pb.DeleteFolderRequest.MOVE_TO_PARENT, pb.DeleteFolderRequest.DELETE


async def create(user: Client, path: str) -> pb.Folder:
    folder: pb.Folder = await user.call(pb.CreateFolderRequest(folder=pb.Folder(path=path)))
    return folder


async def rename(user: Client, folder: pb.Folder | str, new_path: str, etag: str = "") -> pb.Folder:
    name = folder if isinstance(folder, str) else folder.name
    renamed: pb.Folder = await user.call(pb.RenameFolderRequest(name=name, new_path=new_path, etag=etag))
    return renamed


async def remove(user: Client, folder: pb.Folder | str, contents: Any = pb.DeleteFolderRequest.REFUSE) -> None:
    name = folder if isinstance(folder, str) else folder.name
    await user.call(pb.DeleteFolderRequest(name=name, contents=contents))


async def listed(user: Client, **fields: Any) -> list[pb.Folder]:
    """All folders, page by page."""
    found: list[pb.Folder] = []
    token = ""
    while True:
        page = await user.call(pb.ListFoldersRequest(page_token=token, **fields))
        found += page.folders
        token = page.next_page_token
        if not token:
            return found


async def paths(user: Client, **fields: Any) -> list[str]:
    return [folder.path for folder in await listed(user, **fields)]


async def test_a_folder_is_made_with_its_missing_parents_and_only_once(user: Client) -> None:
    folder = await create(user, "旅/2026/May")
    assert folder == await user.call(pb.GetFolderRequest(name=folder.name))
    assert (folder.path, folder.owner, folder.asset_count) == ("旅/2026/May", user.principal, 0)
    assert folder.create_time == folder.update_time
    assert await paths(user) == ["旅", "旅/2026", "旅/2026/May"]
    for path in ("旅/2026/May", "旅"):
        error = await refusal(create(user, path))
        assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "FOLDER_EXISTS")
        assert error.metadata["path"] == path


async def test_of_creations_at_once_one_makes_the_folder(user: Client) -> None:
    outcomes = await asyncio.gather(*(create(user, f"a/b/{n % 2}") for n in range(12)), return_exceptions=True)
    assert sum(isinstance(outcome, pb.Folder) for outcome in outcomes) == 2
    assert await paths(user) == ["a", "a/b", "a/b/0", "a/b/1"]


async def test_folders_are_listed_by_path_in_pages_that_follow_on(user: Client) -> None:
    wanted = sorted(f"{letter}/{number}" for letter in "aé夜Z😀" for number in range(4))
    for path in reversed(wanted):
        await create(user, path)
    wanted = sorted({*wanted, *"aé夜Z😀"})
    assert await paths(user) == wanted, "by code points, whatever the server's locale"
    assert await paths(user, page_size=3) == wanted
    assert await paths(user, page_size=1) == wanted


async def test_only_the_folders_below_one_can_be_listed(user: Client) -> None:
    for path in ("a/b/c", "a/b%", "ab/c", "a_", "A/b"):
        await create(user, path)
    a = next(folder for folder in await listed(user) if folder.path == "a")
    for above in ("a", a.name):
        assert await paths(user, parent_folder=above) == ["a/b", "a/b%", "a/b/c"]
        assert await paths(user, parent_folder=above, page_size=1) == ["a/b", "a/b%", "a/b/c"]
    assert await paths(user, parent_folder="a/b") == ["a/b/c"]
    for nowhere in ("nowhere", "folders/nowhere"):
        error = await refusal(listed(user, parent_folder=nowhere))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FOLDER_NOT_FOUND")


async def test_a_folder_that_is_renamed_between_two_pages_below_it_skips_none(user: Client) -> None:
    top = await create(user, "z")
    for number in range(6):
        await create(user, f"z/{number}")
    page = await user.call(pb.ListFoldersRequest(parent_folder=top.name, page_size=3))
    for new_path in ("a", "zz/deeper"):
        await rename(user, top, new_path)
        rest = await user.call(pb.ListFoldersRequest(parent_folder=top.name, page_token=page.next_page_token))
        assert [folder.path for folder in rest.folders] == [f"{new_path}/{number}" for number in (3, 4, 5)]


async def test_a_page_token_belongs_to_its_list(user: Client) -> None:
    for path in "abc":
        await create(user, path)
    token = (await user.call(pb.ListFoldersRequest(page_size=1))).next_page_token
    for caller, parent in ((user, "a"), (user.gallery.user(), "")):
        error = await refusal(caller.call(pb.ListFoldersRequest(page_token=token, parent_folder=parent)))
        assert error.reason == "INVALID_PAGE_TOKEN"


async def test_the_longest_paths_can_be_paged(user: Client) -> None:
    wanted = [letter * 1024 for letter in ("a", "夜", "😀")]
    for path in wanted:
        await create(user, path)
    assert await paths(user, page_size=1) == wanted


async def test_a_folder_counts_the_assets_directly_in_it_up_to_a_thousand(user: Client) -> None:
    asset = await user.upload(PICTURE, folder="a")
    await user.upload(PICTURE, folder="a/b")
    await user.delete((await user.upload(PICTURE, folder="a")).name)
    assert [(folder.path, folder.asset_count) for folder in await listed(user)] == [("a", 1), ("a/b", 1)]
    await multiply(user, asset.name[7:], 1200)
    assert (await user.call(pb.GetFolderRequest(name=asset.folder))).asset_count == 1000


async def test_renaming_takes_all_below_along_and_copies_nothing(user: Client) -> None:
    asset = await user.upload(PICTURE, folder="a/b/c")
    top = await create(user, "a!")
    before = {folder.path: folder for folder in await listed(user)}
    renamed = await rename(user, before["a"], "x/y", etag=before["a"].etag)
    after = {folder.path: folder for folder in await listed(user)}
    assert list(after) == ["a!", "x", "x/y", "x/y/b", "x/y/b/c"]
    assert [after[path].name for path in ("x/y", "x/y/b", "x/y/b/c")] == [
        before[path].name for path in ("a", "a/b", "a/b/c")
    ]
    assert after["a!"] == top
    assert renamed == after["x/y"]
    for old, new in (("a", "x/y"), ("a/b", "x/y/b"), ("a/b/c", "x/y/b/c")):
        assert before[old].etag != after[new].etag, "its document has to follow"
        assert after[new].update_time.ToNanoseconds() > before[old].update_time.ToNanoseconds()
    now = await user.get(asset.name)
    assert (now.folder, now.folder_path, now.etag) == (asset.folder, "x/y/b/c", asset.etag)
    assert await user.names(folder="x", include_subfolders=True) == [asset.name]
    assert await drift(user) == {}


async def test_a_path_that_was_left_can_be_used_again(user: Client) -> None:
    a, b = await create(user, "a"), await create(user, "b")
    await rename(user, a, "c")
    await rename(user, b, "a")
    await rename(user, a, "b")
    assert [(folder.path, folder.name) for folder in await listed(user)] == [("a", b.name), ("b", a.name)]


async def test_renaming_to_the_same_path_changes_nothing(user: Client) -> None:
    folder = await create(user, "a/b")
    assert await rename(user, folder, "a/b") == folder


async def test_a_folder_moves_up_beside_its_parent(user: Client) -> None:
    folder = await create(user, "a/b/c")
    await rename(user, folder, "c")
    await rename(user, next(f for f in await listed(user) if f.path == "a/b"), "c/a")
    assert await paths(user) == ["a", "c", "c/a"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a", "FOLDER_EXISTS"),
        ("other", "FOLDER_EXISTS"),
        ("a/b/c", "INVALID_FOLDER_PATH"),
        ("a/b/new", "INVALID_FOLDER_PATH"),
        ("a/b/new/deeper", "INVALID_FOLDER_PATH"),
        ("/a", "INVALID_FOLDER_PATH"),
        ("a//b", "INVALID_FOLDER_PATH"),
        ("a/..", "INVALID_FOLDER_PATH"),
        ("a\0", "INVALID_FIELD"),
        ("a\x80", "INVALID_FOLDER_PATH"),
        ("a\x9f/b", "INVALID_FOLDER_PATH"),
        ("", "INVALID_FIELD"),
        ("x" * 1025, "INVALID_FIELD"),
        ("x" * 1023, "INVALID_FOLDER_PATH"),
        ("/".join("x" * 16), "INVALID_FOLDER_PATH"),
        ("folders/abc", "INVALID_FOLDER_PATH"),
        ("folders", "INVALID_FOLDER_PATH"),
    ],
)
async def test_a_path_that_the_folder_or_one_below_it_cannot_have_is_refused(
    user: Client, path: str, reason: str
) -> None:
    await create(user, "a/b/c")
    await create(user, "other")
    before = await listed(user)
    error = await refusal(rename(user, before[1], path))
    assert error.reason == reason
    if error.code is grpc.StatusCode.INVALID_ARGUMENT:
        assert error.fields == ("new_path",)
    assert await listed(user) == before
    assert await drift(user) == {}


async def test_a_folder_that_has_changed_is_not_renamed(user: Client) -> None:
    folder = await create(user, "a")
    await rename(user, folder, "b")
    error = await refusal(rename(user, folder, "c", etag=folder.etag))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert await paths(user) == ["b"]


@pytest.mark.parametrize("with_asset", [True, False])
async def test_a_folder_with_contents_is_not_deleted_without_a_rule(user: Client, with_asset: bool) -> None:
    if with_asset:
        await user.upload(PICTURE, folder="a")
    else:
        await create(user, "a/b")
    before = await listed(user)
    error = await refusal(remove(user, before[0]))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FOLDER_NOT_EMPTY")
    assert await listed(user) == before


async def test_an_empty_folder_goes_for_good(user: Client) -> None:
    folder = await create(user, "a/b")
    await remove(user, folder)
    assert await paths(user) == ["a"]
    error = await refusal(remove(user, folder))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FOLDER_NOT_FOUND")
    again = await create(user, "a/b")
    assert again.name != folder.name


@pytest.mark.parametrize("contents", [MOVE, DELETE])
async def test_the_documents_of_folders_go_with_them(user: Client, contents: Any) -> None:
    """Otherwise the index, when it is made from storage again, would bring them back."""
    top = (await user.upload(PICTURE, folder="f/x")).folder_path.partition("/")[0]
    folders = {folder.path: folder for folder in await listed(user)}
    await documented(user, *folders.values())
    await remove(user, folders[top], contents)
    gone = folders.values() if contents == DELETE else [folders[top]]
    async with asyncio.timeout(15):
        while {document_name(user, folder) for folder in gone} & set(await user.gallery.blobs()):  # noqa: ASYNC110 - a blob
            await asyncio.sleep(0.1)


async def test_a_folder_that_an_upload_makes_again_keeps_its_document(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document of the one that was deleted meanwhile may still be on its way out."""
    folder = await create(user, "trip")
    await documented(user, folder)
    reached, go_on, replace = asyncio.Event(), asyncio.Event(), AzureBlobStore.replace

    async def held(self: AzureBlobStore, key: BlobKey, data: bytes, **named: Any) -> None:
        if key.name.endswith("/asset.json") and not reached.is_set():
            reached.set()
            await go_on.wait()
        await replace(self, key, data, **named)

    monkeypatch.setattr(AzureBlobStore, "replace", held)
    upload = asyncio.ensure_future(user.upload(PICTURE, folder="trip"))
    await reached.wait()
    await remove(user, folder)
    go_on.set()
    asset = await upload
    assert asset.folder != folder.name
    assert asset.folder_path == "trip"
    await documented(user, await user.call(pb.GetFolderRequest(name=asset.folder)))


async def test_the_document_of_a_folder_that_is_there_again_is_not_removed(user: Client) -> None:
    """As `rebuild-index` may bring it back."""
    folder = await create(user, "trip")
    await documented(user, folder)
    folder_id = folder.name.removeprefix("folders/")
    await user.gallery.execute("INSERT INTO gallery.folder_removal (folder_id) VALUES (%s)", folder_id)
    ordered = "SELECT count(*) FROM gallery.folder_removal WHERE folder_id = %s"
    async with asyncio.timeout(15):
        while await user.gallery.rows(ordered, folder_id) != [(0,)]:  # noqa: ASYNC110 - a database
            await asyncio.sleep(0.1)
    assert document_name(user, folder) in await user.gallery.blobs()


async def documented(user: Client, *folders: pb.Folder) -> None:
    async with asyncio.timeout(15):
        while not {document_name(user, folder) for folder in folders} <= set(await user.gallery.blobs()):  # noqa: ASYNC110 - a blob
            await asyncio.sleep(0.1)


def document_name(user: Client, folder: pb.Folder) -> str:
    return f"{user.gallery.settings.image_container}/_folders/{folder.name.removeprefix('folders/')}.json"


async def test_contents_move_to_the_parent(user: Client) -> None:
    shown, deleted = await user.upload(PICTURE, folder="p/f"), await user.upload(PICTURE, folder="p/f")
    deep = await user.upload(PICTURE, folder="p/f/x/y")
    await user.delete(deleted.name)
    await remove(user, shown.folder, MOVE)
    assert await paths(user) == ["p", "p/x", "p/x/y"]
    assert (await user.get(shown.name)).folder_path == "p"
    assert (await user.get(deleted.name)).folder_path == "p", "it comes back to where the others are"
    now = await user.get(deep.name)
    assert (now.folder, now.folder_path) == (deep.folder, "p/x/y")
    assert (await listed(user))[0].asset_count == 1
    assert await drift(user) == {}


async def test_contents_of_a_folder_at_the_top_move_out(user: Client) -> None:
    asset, deep = await user.upload(PICTURE, folder="f"), await user.upload(PICTURE, folder="f/x")
    await remove(user, asset.folder, MOVE)
    assert await paths(user) == ["x"]
    assert (await user.get(asset.name)).folder == ""
    assert (await user.get(deep.name)).folder_path == "x"
    assert await drift(user) == {}


async def test_a_folder_may_take_the_path_of_its_parent_that_goes(user: Client) -> None:
    """From the bottom up, each of these would take a path that another still has."""
    deepest = await create(user, "f/f/f/f")
    for folder in reversed(await listed(user)):  # rows that were touched stand behind the others
        touch = "UPDATE gallery.folder SET revision = revision + 1 WHERE id = %s"
        await user.gallery.execute(touch, folder.name.removeprefix("folders/"))
    top = next(folder for folder in await listed(user) if folder.path == "f")
    await remove(user, top, MOVE)
    assert await paths(user) == ["f", "f/f", "f/f/f"]
    assert (await user.call(pb.GetFolderRequest(name=deepest.name))).path == "f/f/f"
    assert await drift(user) == {}


async def test_a_folder_may_take_the_path_of_a_sibling_of_its_parent_that_moves_up_as_well(user: Client) -> None:
    """By code points the deeper of the two comes first, and would take a path that the other still has."""
    made = {path: await create(user, path) for path in ("x", "x/x", "x/x/y", "x/y", "x/y!")}
    await remove(user, made["x"], MOVE)
    assert {folder.path: folder.name for folder in await listed(user)} == {
        "x": made["x/x"].name,
        "x/y": made["x/x/y"].name,
        "y": made["x/y"].name,
        "y!": made["x/y!"].name,
    }
    assert await drift(user) == {}


async def test_folders_of_the_same_name_are_not_merged(user: Client) -> None:
    mine, other = await user.upload(PICTURE, folder="p/f/x/y"), await user.upload(PICTURE, folder="p/x")
    asset = await user.upload(PICTURE, folder="p/f")
    before = await listed(user)
    error = await refusal(remove(user, asset.folder, MOVE))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "FOLDER_EXISTS")
    assert error.metadata["path"] == "p/x"
    assert await listed(user) == before
    assert [(await user.get(a.name)).etag for a in (mine, other, asset)] == [mine.etag, other.etag, asset.etag]


async def test_what_would_look_like_a_name_does_not_move_up(user: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_tree, "EMPTIED_ASSETS", 10)
    folder = await create(user, "x/folders/abc")
    asset = await user.upload(PICTURE, folder="x")
    await multiply(user, asset.name[7:], 29)
    error = await refusal(remove(user, asset.folder, MOVE))
    assert (error.reason, error.fields) == ("INVALID_FOLDER_PATH", ("contents",))
    assert (await user.call(pb.GetFolderRequest(name=folder.name))).path == "x/folders/abc"
    assert len(await user.names(folder="x")) == 30, "a refusal moves nothing"
    assert (await user.get(asset.name)).etag == asset.etag


async def test_contents_are_deleted_with_all_below(user: Client) -> None:
    inside = [await user.upload(PICTURE, folder=path) for path in ("f", "f/x", "f/x/y")]
    outside = await user.upload(PICTURE, folder="fx")
    before = await user.delete(inside[1].name)
    await remove(user, inside[0].folder, DELETE)
    assert await paths(user) == ["fx"]
    assert await user.names() == [outside.name]
    for asset in inside:
        now = await user.get(asset.name)
        assert (now.HasField("delete_time"), now.folder) == (True, "")
    assert (await user.get(inside[1].name)).purge_time == before.purge_time
    back = await user.call(pb.UndeleteAssetRequest(name=inside[2].name))
    assert back.folder == ""
    assert await drift(user) == {}


@pytest.mark.parametrize("contents", [MOVE, DELETE])
async def test_a_large_folder_is_emptied_in_steps(user: Client, contents: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_tree, "EMPTIED_ASSETS", 100)
    asset = await user.upload(PICTURE, folder="f/large", tags=["t"])
    await multiply(user, asset.name[7:], 249)
    await remove(user, asset.folder, contents)
    assert await changes_by_transaction(user) == [100, 100, 50]
    assert await paths(user) == ["f"]
    assert len(await user.names(folder="f")) == (250 if contents == MOVE else 0)
    assert await drift(user) == {}


async def changes_by_transaction(user: Client) -> list[int]:
    """How many changes each transaction has logged, creations left out, in order."""
    rows = await user.gallery.rows(
        "SELECT count(*) FROM gallery.asset_change WHERE owner = %s AND change <> 'created' "
        "GROUP BY xmin::text ORDER BY min(sequence)",
        user.principal,
    )
    return [count for (count,) in rows]


async def test_a_deletion_that_was_cut_short_goes_on_when_it_is_repeated(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_tree, "EMPTIED_ASSETS", 10)
    asset = await user.upload(PICTURE, folder="f")
    await multiply(user, asset.name[7:], 29)
    steps = 0

    async def cut(connection: AsyncConnection, changes: Sequence[Change]) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            await connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
        await record(connection, changes)

    monkeypatch.setattr(folder_tree, "record", cut)
    error = await refusal(remove(user, asset.folder, DELETE))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert len(await user.names()) == 20
    assert await drift(user) == {}
    await remove(user, asset.folder, DELETE)
    assert await user.names() == []
    assert await paths(user) == []
    assert await drift(user) == {}


@pytest.mark.parametrize("moving", ["rename", "move to the parent"])
async def test_more_folders_than_move_at_once_are_refused(
    user: Client, moving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their documents would be behind for minutes."""
    monkeypatch.setattr(folder_moves, "MOVED_FOLDERS", 3)
    asset = await user.upload(PICTURE, folder="f")
    for path in ("f/a", "f/b"):
        await create(user, path)
    await rename(user, asset.folder, "g")
    for path in ("g/c", "g/d"):
        await create(user, path)
    before = await listed(user)
    call = rename(user, asset.folder, "h") if moving == "rename" else remove(user, asset.folder, MOVE)
    error = await refusal(call)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TOO_MANY_FOLDERS")
    assert (error.metadata["maxFolders"], error.resource) == ("3", asset.folder)
    assert await listed(user) == before
    await remove(user, asset.folder, DELETE)
    assert await listed(user) == []


async def test_names_and_paths_of_no_folder(user: Client) -> None:
    for call in (
        user.call(pb.GetFolderRequest(name="folders/nothing")),
        rename(user, "folders/nothing", "a"),
        remove(user, "folders/nothing"),
    ):
        error = await refusal(call)
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FOLDER_NOT_FOUND")
        assert (error.resource, error.metadata["folder"]) == ("folders/nothing", "folders/nothing")
