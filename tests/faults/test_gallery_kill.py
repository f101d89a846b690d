"""`kill -9` of the gallery and of its Postgres in the middle of uploads and changes.

What was acknowledged is there, byte for byte; what was not is absent, or complete and given for its id; and once the
sweep has been, index and storage agree.
"""

import asyncio
import contextlib
import hashlib
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
import pytest_asyncio

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.status import STATUS_METADATA_KEY
from tests.faults.gallery import LEFTOVER_SECONDS, KillableGallery, killable_gallery, metadata, stub
from tests.gallery.harness import content_messages, upload_messages
from tests.gallery.media import video
from tests.support.campaign import SECONDS, scaled
from tests.support.media import png

KILLS = scaled(5, 50)
SERVICES, USERS = 3, 3
CALL_SECONDS = 15.0
READY_SECONDS = 60.0
# Everything else would be an answer that no careful client can act on.
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}

PICTURES = [png(8 + n, 8) for n in range(4)]
CONTENTS = [*PICTURES, *PICTURES, video(3_000_000), video(9_000_000)]


@dataclass
class Book:
    """What the callers were told."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    unanswered: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # asset id: principal and bytes
    owners: dict[str, str] = field(default_factory=dict)
    purging: set[str] = field(default_factory=set)
    purged: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)


class Caller:
    """One user and the service that acts for it."""

    def __init__(self, gallery: KillableGallery, channel: grpc.aio.Channel, book: Book, name: str) -> None:
        self._stub = stub(channel)
        self._book, self._name = book, name
        self._random = random.Random(name)
        self._gallery = gallery

    async def as_service(self, stop: asyncio.Event) -> None:
        """Uploads under ids of its own, again until it is told; sometimes it gives up after the first try."""
        while not stop.is_set():
            asset_id, data = str(uuid.uuid4()), self._random.choice(CONTENTS)
            self._book.unanswered[asset_id] = (self._name, data)
            patient = self._random.random() < 0.8
            stored = await self._upload(asset_id, data)
            while stored is None and patient and not stop.is_set():
                await asyncio.sleep(0.2)
                stored = await self._upload(asset_id, data)
            if stored is not None:
                del self._book.unanswered[asset_id]
                await self._change(stored)

    async def as_user(self, stop: asyncio.Event) -> None:
        """Sends raw bodies, as the gateway hands them on, and changes what came of them."""
        turn = 0
        while not stop.is_set():
            turn += 1
            data = self._random.choice(CONTENTS)
            messages = content_messages(data, folder=f"{self._name}/{turn % 3}", tags=["t", f"t{turn % 5}"])
            caller = (*metadata(self._name, "gateway"), ("x-upload-content-length", str(len(data))))
            call = self._stub.UploadAssetContent(iter(messages), metadata=caller, timeout=CALL_SECONDS)
            stored = await self._outcome("content", call)
            if stored is not None:
                self._note(stored, data)
                await self._change(stored)
            else:
                await asyncio.sleep(0.1)

    async def _upload(self, asset_id: str, data: bytes) -> pb.Asset | None:
        provenance = pb.Provenance(owner=self._name, prompt="a lighthouse")
        messages = upload_messages(data, asset_id=asset_id, folder=self._name, provenance=provenance)
        caller = metadata(self._name, "image")
        call = self._stub.UploadAsset(iter(messages), metadata=caller, timeout=CALL_SECONDS)
        stored: pb.Asset | None = await self._outcome("upload", call)
        if stored is not None:
            self._note(stored, data)
        return stored

    def _note(self, stored: pb.Asset, data: bytes) -> None:
        assert stored.sha256 == hashlib.sha256(data).hexdigest()
        self._book.acknowledged[stored.name] = data
        self._book.owners[stored.name] = self._name

    async def _change(self, asset: pb.Asset) -> None:
        match self._random.randrange(5):
            case 0:
                favorite = pb.UpdateAssetRequest(asset=pb.Asset(name=asset.name, favorite=True))
                favorite.update_mask.paths.append("favorite")
                await self._call(favorite)
            case 1:
                await self._call(pb.DeleteAssetRequest(name=asset.name))
            case 2 if await self._call(pb.DeleteAssetRequest(name=asset.name)) is not None:
                self._book.purging.add(asset.name)
                if await self._call(pb.PurgeAssetRequest(name=asset.name)) is not None:
                    self._book.purged.add(asset.name)
            case 3 if asset.folder:
                path = f"{self._name} renamed/{uuid.uuid4()}"
                await self._call(pb.RenameFolderRequest(name=asset.folder, new_path=path), gone={"NOT_FOUND"})

    async def _call(self, request: Any, *, gone: set[str] | None = None) -> Any:
        method = getattr(self._stub, type(request).__name__.removesuffix("Request"))
        call = method(request, metadata=metadata(self._name, "gateway"), timeout=CALL_SECONDS)
        return await self._outcome(type(request).__name__, call, gone=gone)

    async def _outcome(self, what: str, call: Awaitable[Any], *, gone: set[str] | None = None) -> Any:
        self._book.calls[what] += 1
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            self._book.calls[f"{what} {error.code().name}"] += 1
            if not _is_passing(error) and error.code().name not in (gone or set()):
                self._book.refused.append(f"{what}: {error.code().name} {error.details()}")
            return None


def _is_passing(error: grpc.aio.AioRpcError) -> bool:
    """What does not bear a status of the suite's is no answer of the gallery's, but a connection that broke."""
    answered = STATUS_METADATA_KEY in dict(error.trailing_metadata() or ())
    return error.code() in PASSING or not answered


@pytest_asyncio.fixture(loop_scope="session")
async def gallery(tmp_path: Path, azurite: str) -> AsyncIterator[KillableGallery]:
    async with killable_gallery(tmp_path, azurite) as running:
        yield running


async def ready(gallery: KillableGallery, channel: grpc.aio.Channel) -> None:
    """Until index and storage are read through the gallery again."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                request = pb.ListAssetsRequest(page_size=1)
                await stub(channel).ListAssets(request, metadata=metadata("nobody", "gateway"), timeout=5)
                return
            await asyncio.sleep(0.1)


async def kill_again_and_again(gallery: KillableGallery, channel: grpc.aio.Channel, book: Book) -> Counter[str]:
    """Each time the work is going on again, at a random moment of it."""
    chance, kills = random.Random(), Counter[str]()
    for number in range(KILLS):
        await ready(gallery, channel)
        before = len(book.acknowledged)
        async with asyncio.timeout(READY_SECONDS):
            while len(book.acknowledged) < before + 3:  # noqa: ASYNC110 - many callers bring it forward
                await asyncio.sleep(0.01)
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        victim = "gallery" if number % 5 < 3 else "postgres"
        await (gallery.kill_gallery() if victim == "gallery" else gallery.kill_postgres())
        kills[victim] += 1
    return kills


@pytest.mark.timeout(120 + 10 * KILLS + SECONDS)
async def test_killed_at_any_moment_the_gallery_loses_nothing_and_leaves_nothing(gallery: KillableGallery) -> None:
    book, stop = Book(), asyncio.Event()
    async with gallery.channel() as channel:
        await ready(gallery, channel)
        callers = [Caller(gallery, channel, book, f"caller-{n}") for n in range(SERVICES + USERS)]
        async with asyncio.TaskGroup() as group:
            for caller in callers[:SERVICES]:
                group.create_task(caller.as_service(stop))
            for caller in callers[SERVICES:]:
                group.create_task(caller.as_user(stop))
            try:
                kills = await kill_again_and_again(gallery, channel, book)
                await ready(gallery, channel)
            finally:
                stop.set()
        print(f"{dict(kills)}; {len(book.acknowledged)} acknowledged, {len(book.unanswered)} not; {dict(book.calls)}")
        assert book.refused == [], gallery.unexpected_errors()
        assert len(book.acknowledged) >= KILLS
        await every_acknowledged_asset_is_there(channel, book)
        complete = await what_was_not_acknowledged_is_absent_or_complete(channel, book)
        print(f"{complete} of {len(book.unanswered)} that were not acknowledged are complete")
    await housekeeping_is_done(gallery)
    code, output = await gallery.command("verify")
    assert code == 0, output


async def every_acknowledged_asset_is_there(channel: grpc.aio.Channel, book: Book) -> None:
    for name, data in book.acknowledged.items():
        caller = metadata(book.owners[name], "gateway")
        kept = await download(channel, name, caller)
        if kept is None:
            assert name in book.purging, f"{name} was acknowledged and is lost"
        else:
            assert kept == data, name
            assert name not in book.purged, f"{name} is back from the dead"


async def download(channel: grpc.aio.Channel, name: str, caller: Any) -> bytes | None:
    """The bytes; None: there is no such asset."""
    messages = stub(channel).DownloadAsset(pb.DownloadAssetRequest(name=name), metadata=caller, timeout=30)
    try:
        return b"".join([message.data async for message in messages])
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise


async def what_was_not_acknowledged_is_absent_or_complete(channel: grpc.aio.Channel, book: Book) -> int:
    complete = 0
    for asset_id, (principal, data) in book.unanswered.items():
        name, caller = f"assets/{asset_id}", metadata(principal, "gateway")
        kept = await download(channel, name, caller)
        if kept is None:
            continue
        complete += 1
        assert kept == data
        asset = await stub(channel).GetAsset(pb.GetAssetRequest(name=name), metadata=caller, timeout=30)
        again = upload_messages(data, asset_id=asset_id, provenance=pb.Provenance(owner=principal))
        service = metadata(principal, "image")
        assert await stub(channel).UploadAsset(iter(again), metadata=service, timeout=30) == asset
    return complete


async def housekeeping_is_done(gallery: KillableGallery) -> None:
    """Until nothing is under way, nothing waits to be removed, and no document is behind."""
    waiting = """
        SELECT (SELECT count(*) FROM gallery.pending)
             + (SELECT count(*) FROM gallery.asset_removal WHERE remove_time IS NULL)
             + (SELECT count(*) FROM gallery.folder_removal)
             + (SELECT count(*) FROM gallery.asset WHERE document_revision < revision)
             + (SELECT count(*) FROM gallery.folder WHERE document_revision < revision)
    """
    async with asyncio.timeout(60 + 4 * LEFTOVER_SECONDS):
        while True:
            url = gallery.environment["DATABASE_URL"]
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                row = await (await connection.execute(waiting)).fetchone()
            if row == (0,):
                return
            await asyncio.sleep(0.5)
