"""Clients that go away, hold still, or come too many at a time."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.ports import BlobKey, Content
from tests.conftest import NewDatabase
from tests.gallery.harness import Client, Gallery, content_messages, refusal, running_gallery, upload_messages
from tests.gallery.media import video
from tests.gallery.test_upload import nothing_is_stored
from tests.support.media import png

SLOTS = 2
OF_ONE = 1
"""A quarter of them, and at least one."""

DATA = video(6_000_000)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gallery(
    new_database: NewDatabase, azurite: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gallery]:
    """A gallery with little patience."""
    async with running_gallery(
        await new_database(),
        azurite,
        tmp_path_factory.mktemp("gallery"),
        max_concurrent_uploads=SLOTS,
        upload_wait_seconds=1.0,
        upload_idle_seconds=3.0,
        download_idle_seconds=0.7,
    ) as running:
        yield running


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition is another process's
            await asyncio.sleep(0.02)


async def hold_turns(*users: Client) -> list[Any]:
    """Uploads that rest after their first messages."""
    held = [user.stub.UploadAsset(metadata=user.metadata) for user in users]
    for call in held:
        for message in upload_messages(DATA)[:3]:
            await call.write(message)
    await asyncio.sleep(0.1)
    return held


async def test_a_client_that_cancels_in_the_middle_leaves_nothing(user: Client) -> None:
    async with nothing_is_stored(user):
        for sent in (1, 2, 40, 90):
            call = user.stub.UploadAsset(metadata=user.metadata)
            for message in upload_messages(DATA)[:sent]:
                await call.write(message)
            call.cancel()
        await asyncio.sleep(0.3)
    # All slots are free again.
    await asyncio.gather(*(user.gallery.user().upload(png(8, 8)) for _ in range(SLOTS)))


async def test_a_client_whose_connection_breaks_in_the_middle_leaves_nothing(user: Client) -> None:
    async with nothing_is_stored(user):
        address = f"127.0.0.1:{user.gallery.port}"
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = rpc.GalleryServiceStub(channel).UploadAsset(metadata=user.metadata)
            for message in upload_messages(DATA)[:50]:
                await call.write(message)
        await asyncio.sleep(0.3)


async def test_an_end_of_stream_alone_commits_nothing(user: Client) -> None:
    """To the service a client that vanished and one that has finished look alike."""
    async with nothing_is_stored(user):
        cut = upload_messages(DATA)[:50]
        assert (await refusal(user.send(cut))).reason == "UPLOAD_INCOMPLETE"
        sent = user.sending(("x-upload-content-length", str(len(DATA))))
        body = content_messages(DATA)[:50]
        error = await refusal(user.stub.UploadAssetContent(iter(body), metadata=sent.metadata, timeout=30))
        assert error.reason == "UPLOAD_INCOMPLETE"


async def test_a_client_that_holds_still_is_given_up(user: Client) -> None:
    async with nothing_is_stored(user):
        call = user.stub.UploadAsset(metadata=user.metadata)
        for message in upload_messages(DATA)[:5]:
            await call.write(message)
        error = await refusal(call)
        assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert error.metadata["retrySafe"] == "true"


@pytest.mark.parametrize("portion", [1, 1000], ids=["bytes", "kilobytes"])
async def test_a_client_that_trickles_is_given_up_although_it_never_rests(user: Client, portion: int) -> None:
    async with nothing_is_stored(user), asyncio.timeout(10):
        call = user.stub.UploadAsset(trickle(portion, pause=0.2), metadata=user.metadata)
        error = await refusal(call)
        assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert error.metadata["retrySafe"] == "true"


async def test_a_slow_client_that_keeps_going_may_take_its_time(user: Client) -> None:
    call = user.stub.UploadAsset(trickle(64 * 1024, pause=0.3, data=video(1_000_000)), metadata=user.metadata)
    assert (await call).size_bytes == 1_000_000


async def test_users_who_hold_every_turn_do_not_hold_up_what_was_paid_for(user: Client) -> None:
    held = await hold_turns(*(user.gallery.user() for _ in range(SLOTS)))
    paid = await asyncio.gather(*(user.as_service().upload(png(8, 8, seed=number)) for number in range(SLOTS + 1)))
    assert len({asset.name for asset in paid}) == SLOTS + 1
    assert (await refusal(user.upload(png(8, 8)))).reason == "UNAVAILABLE"
    for call in held:
        call.cancel()


async def test_uploads_beyond_the_limit_wait_and_are_then_told_to_come_again(user: Client) -> None:
    held = await hold_turns(*(user.gallery.user() for _ in range(SLOTS)))
    error = await refusal(user.upload(png(8, 8)))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert error.metadata["retrySafe"] == "true"
    waiting = asyncio.ensure_future(user.upload(png(8, 8)))
    await asyncio.sleep(0.1)
    held.pop().cancel()
    assert (await waiting).width_px == 8
    held.pop().cancel()


async def test_slow_streams_of_one_user_leave_turns_for_the_others(user: Client) -> None:
    held = await hold_turns(*[user] * OF_ONE)
    own = asyncio.ensure_future(refusal(user.upload(png(8, 8))))
    others = await asyncio.gather(*(user.gallery.user().upload(png(8, 8)) for _ in range(3 * SLOTS)))
    assert len({asset.name for asset in others}) == 3 * SLOTS
    assert not own.done()
    error = await own
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert "of yours" in error.message
    assert error.metadata["retrySafe"] == "true"
    for call in held:
        call.cancel()


async def test_completing_a_direct_upload_takes_one_of_its_owners_turns(user: Client) -> None:
    data, gallery = png(8, 8), user.gallery
    opened = await user.call(
        gallery_pb.CreateUploadRequest(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    )
    staged = f"_staging/{opened.name.removeprefix('uploads/')}"
    await gallery.storage.get_blob_client(gallery.settings.image_container, staged).upload_blob(data)
    held = await hold_turns(*[user] * OF_ONE)
    request = gallery_pb.CompleteUploadRequest(name=opened.name)
    assert (await refusal(user.call(request))).reason == "UNAVAILABLE"
    held.pop().cancel()
    assert (await user.call(request)).width_px == 8


async def test_a_client_that_leaves_while_its_bytes_are_being_stored_has_stored_them(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-way is the one place where nobody may stop: bytes that no row names would be left."""
    reached, go_on, put = asyncio.Event(), asyncio.Event(), AzureBlobStore.put

    async def slow_put(self: AzureBlobStore, key: BlobKey, content: Content, *, mime_type: str, sha256: str) -> None:
        reached.set()
        await go_on.wait()
        await put(self, key, content, mime_type=mime_type, sha256=sha256)

    monkeypatch.setattr(AzureBlobStore, "put", slow_put)
    call = user.stub.UploadAsset(iter(upload_messages(png(9, 9))), metadata=user.metadata)
    await reached.wait()
    call.cancel()
    await asyncio.sleep(0.2)
    assert await user.names() == []
    go_on.set()

    async def stored() -> bool:
        return len(await user.names()) == 1

    await eventually(stored)


async def test_a_reader_that_stops_reading_is_given_up_and_holds_up_nobody(user: Client) -> None:
    asset = await user.upload(video(40_000_000), chunk=1024 * 1024)
    stalled = [user.start_download(asset.name) for _ in range(8)]
    for call in stalled:
        await call.read()
    async with asyncio.timeout(10):
        assert (await user.get(asset.name)).name == asset.name
        assert (await user.download(asset.name, ("range", "bytes=0-9"))).data == video(5000)[:10]
    await asyncio.sleep(2.5)
    for call in stalled:
        assert (await refusal(read_to_the_end(call))).code == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_nothing_of_an_upload_is_left_open_or_on_disk(user: Client, tmp_path: Path) -> None:
    def open_spools() -> int:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum("(deleted)" in _target(link) for link in links)

    before = open_spools()
    await user.upload(DATA)
    await refusal(user.upload(DATA, sha256="0" * 64))
    call = user.stub.UploadAsset(metadata=user.metadata)
    for message in upload_messages(DATA)[:90]:
        await call.write(message)
    call.cancel()

    async def closed() -> bool:
        return open_spools() == before

    await eventually(closed)


async def trickle(
    portion: int, *, pause: float, data: bytes = video(100_000)
) -> AsyncIterator[gallery_pb.UploadAssetRequest]:
    for message in upload_messages(data, chunk=portion):
        yield message
        await asyncio.sleep(pause)


async def read_to_the_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - Path.readlink would resolve nothing more
    except FileNotFoundError:
        return ""
