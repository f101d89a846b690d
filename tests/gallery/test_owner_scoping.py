"""What belongs to another principal is, in every method, as if it were not there: to read, to change or to count.

The methods come from the contract itself, so a new one cannot be forgotten.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from tests.gallery.counts import drift
from tests.gallery.harness import Client, Gallery, content_messages, refusal, upload_messages
from tests.gallery.test_folders import listed
from tests.support.media import png

PICTURE = png(8, 8)
SHA256 = hashlib.sha256(PICTURE).hexdigest()
METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["GalleryService"].methods}
REFERENCES = {"name", "names", "folder", "parent_folder"}

Named = Callable[["Things"], Message | list[Any]]


@dataclass(frozen=True)
class Things:
    """Names of things: another principal's, or nobody's; `own` is an asset of the caller."""

    asset: str
    folder: str
    upload: str
    own: str


def update(name: str, **fields: Any) -> pb.UpdateAssetRequest:
    return pb.UpdateAssetRequest(asset=pb.Asset(name=name, **fields))


CALLS: list[tuple[str, Named]] = [
    ("UploadAsset", lambda it: upload_messages(PICTURE, folder=it.folder)),
    ("UploadAssetContent", lambda it: content_messages(PICTURE, folder=it.folder, sha256=SHA256)),
    ("AnnotateAsset", lambda it: pb.AnnotateAssetRequest(name=it.asset, request_id=str(uuid.uuid4()))),
    ("CreateUpload", lambda it: pb.CreateUploadRequest(size_bytes=1, sha256=SHA256, folder=it.folder)),
    ("CompleteUpload", lambda it: pb.CompleteUploadRequest(name=it.upload)),
    ("GetAsset", lambda it: pb.GetAssetRequest(name=it.asset)),
    ("ListAssets", lambda it: pb.ListAssetsRequest(folder=it.folder)),
    ("ListAssets", lambda it: pb.ListAssetsRequest(folder=it.folder, include_subfolders=True, show_deleted=True)),
    ("UpdateAsset", lambda it: update(it.asset, display_name="mine")),
    ("UpdateAsset", lambda it: update(it.own, folder=it.folder)),
    ("DeleteAsset", lambda it: pb.DeleteAssetRequest(name=it.asset)),
    ("UndeleteAsset", lambda it: pb.UndeleteAssetRequest(name=it.asset)),
    ("PurgeAsset", lambda it: pb.PurgeAssetRequest(name=it.asset)),
    ("BatchGetAssets", lambda it: pb.BatchGetAssetsRequest(names=[it.own, it.asset])),
    ("BatchMoveAssets", lambda it: pb.BatchMoveAssetsRequest(names=[it.own, it.asset], folder="new")),
    ("BatchMoveAssets", lambda it: pb.BatchMoveAssetsRequest(names=[it.own], folder=it.folder)),
    ("BatchDeleteAssets", lambda it: pb.BatchDeleteAssetsRequest(names=[it.own, it.asset])),
    ("BatchTagAssets", lambda it: pb.BatchTagAssetsRequest(names=[it.own, it.asset], add_tags=["mine"])),
    ("DownloadAsset", lambda it: pb.DownloadAssetRequest(name=it.asset)),
    ("DownloadAsset", lambda it: pb.DownloadAssetRequest(name=it.asset, variant=pb.Asset.THUMBNAIL)),
    ("CreateAssetLink", lambda it: pb.CreateAssetLinkRequest(name=it.asset)),
    ("GetFolder", lambda it: pb.GetFolderRequest(name=it.folder)),
    ("ListFolders", lambda it: pb.ListFoldersRequest(parent_folder=it.folder)),
    ("RenameFolder", lambda it: pb.RenameFolderRequest(name=it.folder, new_path="mine")),
    ("DeleteFolder", lambda it: pb.DeleteFolderRequest(name=it.folder)),
    ("DeleteFolder", lambda it: pb.DeleteFolderRequest(name=it.folder, contents=pb.DeleteFolderRequest.DELETE)),
]


def paths_of(message: Any, seen: tuple[str, ...] = ()) -> Iterator[str]:
    """Names of all fields that a caller may set, however deep."""
    for field in message.fields:
        yield field.name
        if field.message_type is not None and field.message_type.full_name not in seen:
            yield from paths_of(field.message_type, (*seen, field.message_type.full_name))


def test_every_method_that_takes_a_name_or_a_folder_is_tried() -> None:
    naming = {name for name, method in METHODS.items() if REFERENCES & set(paths_of(method.input_type))}
    # Its folder is the one to be made: a path, which is the caller's own by definition.
    assert {method for method, _ in CALLS} == naming - {"CreateFolder"}
    assert set(METHODS) - naming == set(NAMELESS) | WATCHED


@dataclass(frozen=True)
class Scene:
    """Somebody's gallery with a shown and a deleted asset and an open upload, and a stranger with one asset."""

    victim: Client
    stranger: Client
    shown: pb.Asset
    deleted: pb.Asset
    upload: str
    own: str

    async def state(self) -> list[Any]:
        """All that a refused call might have changed."""
        mine = [await caller.page(show_deleted=True) for caller in (self.victim, self.stranger)]
        return [*mine, await listed(self.victim), await listed(self.stranger)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(gallery: Gallery) -> Scene:
    victim, stranger = gallery.user(), gallery.user()
    shown, deleted = [await victim.upload(PICTURE, folder="secret/place", tags=["hidden"]) for _ in range(2)]
    upload = (await victim.call(pb.CreateUploadRequest(size_bytes=1, sha256=SHA256))).name
    own = (await stranger.upload(PICTURE)).name
    return Scene(victim, stranger, shown, await victim.delete(deleted.name), upload, own)


@pytest.fixture
def victim(gallery: Gallery) -> Client:
    return gallery.user()


@pytest.mark.parametrize(("method", "named"), CALLS)
@pytest.mark.parametrize("deleted", [False, True])
async def test_what_is_anothers_is_refused_like_what_is_not_there(
    scene: Scene, method: str, named: Named, deleted: bool
) -> None:
    theirs = scene.deleted if deleted else scene.shown
    before = await scene.state()
    foreign = await refused(scene.stranger, method, named(Things(theirs.name, theirs.folder, scene.upload, scene.own)))
    nobodys = await refused(
        scene.stranger, method, named(Things("assets/none", "folders/none", "uploads/none", scene.own))
    )
    assert foreign.code is grpc.StatusCode.NOT_FOUND
    assert foreign.reason in {"ASSET_NOT_FOUND", "FOLDER_NOT_FOUND", "UPLOAD_NOT_FOUND"}
    told = foreign.message
    for name, none in ((theirs.name, "assets/none"), (theirs.folder, "folders/none"), (scene.upload, "uploads/none")):
        told = told.replace(name, none)
    assert (foreign.code, foreign.reason, told) == (nobodys.code, nobodys.reason, nobodys.message)
    assert await scene.state() == before
    assert await drift(scene.victim) == {}


async def refused(user: Client, method: str, request: Any) -> Any:
    """The error of a call of any shape. A service acts for its principal alone, too."""
    caller = user.as_service() if method == "AnnotateAsset" else user
    call = getattr(caller.stub, method)
    if METHODS[method].client_streaming:
        return await refusal(call(iter(request), metadata=caller.metadata, timeout=30))
    if METHODS[method].server_streaming:
        return await refusal(drained(call(request, metadata=caller.metadata, timeout=30)))
    return await refusal(caller.call(request))


async def drained(stream: Any) -> list[Any]:
    return [message async for message in stream]


async def test_anothers_path_is_the_callers_own_to_make(user: Client, victim: Client) -> None:
    theirs = await victim.upload(PICTURE, folder="same/path")
    mine = await user.upload(PICTURE, folder="same/path")
    assert mine.folder != theirs.folder
    assert await user.names(folder="same/path") == [mine.name]
    assert (await user.call(pb.CreateFolderRequest(folder=pb.Folder(path="same/other")))).path == "same/other"
    assert [folder.path for folder in await listed(victim)].count("same/other") == 0


NAMELESS: dict[str, list[Message]] = {
    "ListTags": [pb.ListTagsRequest(), pb.ListTagsRequest(prefix="hid")],
    "GetGalleryStats": [pb.GetGalleryStatsRequest()],
    "GetGalleryEnvironment": [pb.GetGalleryEnvironmentRequest()],
}
WATCHED = {"WatchAssets", "StreamAssetEvents"}


@pytest.mark.parametrize("method", NAMELESS)
async def test_what_needs_no_name_counts_only_what_is_the_callers(user: Client, victim: Client, method: str) -> None:
    empty = [await user.call(request) for request in NAMELESS[method]]
    theirs = await victim.upload(PICTURE, folder="secret", tags=["hidden"])
    await victim.upload(PICTURE, tags=["hidden"])
    await victim.delete(theirs.name)
    assert [await user.call(request) for request in NAMELESS[method]] == empty


async def test_lists_show_and_count_only_what_is_the_callers(user: Client, victim: Client) -> None:
    for number in range(3):
        await victim.upload(PICTURE, folder="shelf", tags=["hidden"], display_name=f"hidden {number}")
    mine = await user.upload(PICTURE, folder="shelf", tags=["hidden"], display_name="hidden mine")
    requests: tuple[dict[str, Any], ...] = (
        {},
        {"tags": ["hidden"]},
        {"folder": "shelf"},
        {"show_deleted": True},
        {"query": "hidden"},
    )
    for fields in (*requests, {"order_by": "display_name"}, {"order_by": "size_bytes desc"}):
        page = await user.page(**fields)
        assert ([asset.name for asset in page.assets], page.total_size) == ([mine.name], 1), fields
    assert [(folder.path, folder.asset_count) for folder in await listed(user)] == [("shelf", 1)]


async def test_a_service_annotates_on_behalf_of_one_owner_only(user: Client, victim: Client) -> None:
    asset = await user.upload(PICTURE)
    request = pb.AnnotateAssetRequest(name=asset.name, request_id=str(uuid.uuid4()), usage=pb.Usage(input_tokens=1))
    assert (await refusal(victim.as_service().call(request))).reason == "ASSET_NOT_FOUND"
    assert (await user.as_service().call(request)).usage.input_tokens == 1
