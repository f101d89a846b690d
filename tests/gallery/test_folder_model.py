"""Any order of changes to folders and assets, against a model that fits on a page; and many at the same time."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from tests.gallery.counts import drift
from tests.gallery.harness import Client, Gallery, refusal
from tests.gallery.test_folders import listed
from tests.support.campaign import scaled
from tests.support.media import png

PICTURE = png(8, 8)
CONTENTS = (
    pb.DeleteFolderRequest.REFUSE,
    pb.DeleteFolderRequest.MOVE_TO_PARENT,
    pb.DeleteFolderRequest.DELETE,
)
PATHS = ("a", "b", "a/a", "a/b", "b/a", "a/a/a", "a/a/b", "a/b/b", "b/a/a/b")
ASSETS = 6


@dataclass
class Kept:
    """What the model knows of an asset; `folder` is an id."""

    folder: str | None = None
    deleted: bool = False
    tags: list[str] = field(default_factory=list)


@dataclass
class Model:
    """What the gallery should be: `folders` are names by path. Each method gives the reason of the refusal, if any."""

    folders: dict[str, str] = field(default_factory=dict)
    assets: dict[str, Kept] = field(default_factory=dict)

    def inside(self, path: str) -> list[str]:
        return [other for other in self.folders if other == path or other.startswith(path + "/")]

    def rename(self, old: str, new: str) -> str | None:
        if new.startswith(old + "/"):
            return "INVALID_FOLDER_PATH"
        if new in self.folders and new != old:
            return "FOLDER_EXISTS"
        self.folders = {new + p[len(old) :] if p in self.inside(old) else p: name for p, name in self.folders.items()}
        return None

    def remove(self, path: str, contents: Any) -> str | None:
        below = [other for other in self.inside(path) if other != path]
        if contents == pb.DeleteFolderRequest.MOVE_TO_PARENT:
            return self._move_up(path, below)
        gone = {self.folders[other] for other in self.inside(path)}
        has_assets = any(asset.folder in gone and not asset.deleted for asset in self.assets.values())
        if contents == pb.DeleteFolderRequest.REFUSE and (below or has_assets):
            return "FOLDER_NOT_EMPTY"
        for asset in self.assets.values():
            if asset.folder in gone:
                asset.folder, asset.deleted = None, True
        self.folders = {p: name for p, name in self.folders.items() if name not in gone}
        return None

    def _move_up(self, path: str, below: list[str]) -> str | None:
        parent = path.rpartition("/")[0]
        moved = {other: other[len(path) + 1 :] if not parent else parent + other[len(path) :] for other in below}
        stay = set(self.folders) - set(below) - {path}
        if stay & set(moved.values()):
            return "FOLDER_EXISTS"
        gone = self.folders.pop(path)
        for asset in self.assets.values():
            if asset.folder == gone:
                asset.folder = self.folders.get(parent)
        self.folders = {moved.get(p, p): name for p, name in self.folders.items()}
        return None


class Player:
    """Does the same to the gallery and to the model, and compares the outcomes."""

    def __init__(self, user: Client) -> None:
        self.user, self.model = user, Model()

    async def set_up(self) -> None:
        assets = await asyncio.gather(*(self.user.upload(PICTURE, tags=[str(n)]) for n in range(ASSETS)))
        self.model.assets = {asset.name: Kept(tags=list(asset.tags)) for asset in assets}

    async def play(self, kind: str, first: int, second: int) -> None:
        await getattr(self, f"_{kind}")(first, second)

    async def _create(self, first: int, _: int) -> None:
        path = PATHS[first % len(PATHS)]
        taken = "FOLDER_EXISTS" if path in self.model.folders else None
        if await self._expect(taken, pb.CreateFolderRequest(folder=pb.Folder(path=path))) is not None:
            await self._learn()

    async def _rename(self, first: int, second: int) -> None:
        if old := self._folder(first):
            new = PATHS[second % len(PATHS)]
            name = self.model.folders[old]
            await self._expect(self.model.rename(old, new), pb.RenameFolderRequest(name=name, new_path=new))
            await self._learn()

    async def _remove(self, first: int, second: int) -> None:
        if path := self._folder(first):
            name, contents = self.model.folders[path], CONTENTS[second % 3]
            await self._expect(self.model.remove(path, contents), pb.DeleteFolderRequest(name=name, contents=contents))

    async def _move(self, first: int, second: int) -> None:
        names = [name for n, name in enumerate(self.model.assets) if first & 1 << n]
        path = (*PATHS, "")[second % (len(PATHS) + 1)]
        if names:
            await self._expect(None, pb.BatchMoveAssetsRequest(names=names, folder=path))
            await self._learn()
            for name in names:
                self.model.assets[name].folder = self.model.folders.get(path)

    async def _update(self, first: int, second: int) -> None:
        name, path = self._asset(first), self._folder(second)
        folder = self.model.folders[path] if path else ""
        request = pb.UpdateAssetRequest(asset=pb.Asset(name=name, folder=folder, tags=[str(second % 3)]))
        request.update_mask.paths.extend(["folder", "tags"])
        await self._expect(None, request)
        self.model.assets[name].folder, self.model.assets[name].tags = folder or None, [str(second % 3)]

    async def _tag(self, first: int, second: int) -> None:
        add, name = str(second % 3), self._asset(first)
        await self._expect(
            None, pb.BatchTagAssetsRequest(names=[name], add_tags=[add], remove_tags=[f"{second % 3 + 1}"])
        )
        tags = self.model.assets[name].tags
        self.model.assets[name].tags = list(dict.fromkeys([t for t in tags if t != f"{second % 3 + 1}"] + [add]))

    async def _delete(self, first: int, _: int) -> None:
        name = self._asset(first)
        await self._expect(None, pb.DeleteAssetRequest(name=name))
        self.model.assets[name].deleted = True

    async def _undelete(self, first: int, _: int) -> None:
        asset = self.model.assets[self._asset(first)]
        await self._expect(
            None if asset.deleted else "ASSET_NOT_DELETED", pb.UndeleteAssetRequest(name=self._asset(first))
        )
        asset.deleted = False

    def _folder(self, number: int) -> str | None:
        paths = sorted(self.model.folders)
        return paths[number % len(paths)] if paths else None

    def _asset(self, number: int) -> str:
        return list(self.model.assets)[number % len(self.model.assets)]

    async def _expect(self, reason: str | None, request: Any) -> Any:
        if reason is None:
            return await self.user.call(request)
        error = await refusal(self.user.call(request))
        assert error.reason == reason, (request, error)
        return None

    async def _learn(self) -> None:
        """Names that the gallery has given; the paths must be those that the model has, and new parents."""
        found = {folder.path: folder.name for folder in await listed(self.user)}
        assert found.items() >= self.model.folders.items()
        new = found.keys() - self.model.folders.keys()
        assert all(any(p == q or p.startswith(q + "/") for p in PATHS) for q in new)
        self.model.folders = found

    async def compare(self) -> None:
        shown = {name: asset for name, asset in self.model.assets.items() if not asset.deleted}
        paths = {name: path for path, name in self.model.folders.items()}
        folders = {folder.path: (folder.name, folder.asset_count) for folder in await listed(self.user)}
        assert folders == {
            path: (name, sum(asset.folder == name for asset in shown.values()))
            for path, name in self.model.folders.items()
        }
        assert sorted(await self.user.names(page_size=2)) == sorted(shown)
        for name, kept in self.model.assets.items():
            asset = await self.user.get(name)
            assert (asset.folder or None, asset.folder_path or None) == (kept.folder, paths.get(kept.folder or ""))
            assert (asset.HasField("delete_time"), list(asset.tags)) == (kept.deleted, kept.tags)
        for path in self.model.folders:
            inside = {self.model.folders[other] for other in self.model.inside(path)}
            found = await self.user.names(folder=path, include_subfolders=True)
            assert sorted(found) == sorted(name for name, asset in shown.items() if asset.folder in inside)
        assert await drift(self.user) == {}


KINDS = ("create", "rename", "rename", "remove", "remove", "move", "move", "update", "tag", "delete", "undelete")
steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 63), st.integers(0, 63)), min_size=5, max_size=30)


@settings(max_examples=scaled(12, 300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
async def test_any_order_of_changes_gives_what_the_model_says(
    gallery: Gallery, played: list[tuple[str, int, int]]
) -> None:
    player = Player(gallery.user())
    await player.set_up()
    for step in played:
        await player.play(*step)
    await player.compare()


EXPECTED = {
    "FOLDER_EXISTS", "FOLDER_NOT_FOUND", "FOLDER_NOT_EMPTY", "INVALID_FOLDER_PATH", "ASSET_NOT_DELETED"
}  # fmt: skip


async def test_many_changes_at_once_neither_lock_up_nor_lose_nor_double_anything(gallery: Gallery) -> None:
    users = [gallery.user(), gallery.user()]
    uploaded: dict[str, set[str]] = {user.principal: set() for user in users}
    seed = random.randrange(2**32)
    reasons: set[str] = set()

    async def worker(user: Client, chance: random.Random) -> None:
        async for request in requests(user, chance, uploaded[user.principal]):
            try:
                await user.call(request, timeout=60)
            except grpc.aio.AioRpcError as error:
                reasons.add((await refusal(failed(error))).reason)

    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(worker(users[number % 2], random.Random(seed + number)))
    assert reasons <= EXPECTED, seed
    for user in users:
        names = await user.names(page_size=7, show_deleted=True)
        assert sorted(names) == sorted(uploaded[user.principal]), seed
        assert len({folder.path for folder in await listed(user)}) == len(await listed(user)), seed
        assert await drift(user) == {}, seed


async def failed(error: grpc.aio.AioRpcError) -> None:
    raise error


async def requests(user: Client, chance: random.Random, names: set[str]) -> AsyncIterator[Any]:
    """What one of several hasty clients of one owner does."""
    for _ in range(scaled(25, 600)):
        folders = [folder.name for folder in await listed(user)] or ["folders/none"]
        path, folder = chance.choice(PATHS), chance.choice(folders)
        some = chance.sample(sorted(names), min(len(names), 4))
        match chance.choice(("upload", "create", "rename", "remove", "move", "into", "tag", "delete", "undelete")):
            case "upload":
                names.add((await user.upload(PICTURE, folder=path, tags=[chance.choice("xyz")])).name)
            case "create":
                yield pb.CreateFolderRequest(folder=pb.Folder(path=path))
            case "rename":
                yield pb.RenameFolderRequest(name=folder, new_path=path)
            case "remove":
                yield pb.DeleteFolderRequest(name=folder, contents=chance.choice(CONTENTS))
            case "undelete" if some:
                yield pb.UndeleteAssetRequest(name=some[0])
            case "move" if some:
                yield pb.BatchMoveAssetsRequest(names=some, folder=path)
            case "into" if some:
                yield pb.BatchMoveAssetsRequest(names=some, folder=folder)
            case "tag" if some:
                yield pb.BatchTagAssetsRequest(names=some, add_tags=["x"], remove_tags=["y"])
            case "delete" if some:
                yield pb.BatchDeleteAssetsRequest(names=some[:2])
