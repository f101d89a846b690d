"""Direct uploads: a client puts bytes into storage itself, and they become an asset only as they were announced."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from azure.storage.blob.aio import BlobClient

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.database import create_engine
from services.gallery.adapters import azure_blobs
from services.gallery.adapters.staging import SWEEP_AGAIN, Staging
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain.assets import MediaType
from services.gallery.staging_sweep import StagingSweep
from tests.conftest import NewDatabase
from tests.gallery.harness import Client, Gallery, refusal, running_gallery
from tests.gallery.media import video
from tests.support.campaign import scaled
from tests.support.links import cannot_do_anything_but_write
from tests.support.media import png

SMALL = png(40, 30)
LARGE = 9 * 1024 * 1024 + 77


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=30) as client:
        yield client


async def opened(user: Client, data: bytes, **fields: Any) -> pb.Upload:
    announced = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **fields}
    request = pb.CreateUploadRequest(**announced)
    upload: pb.Upload = await user.stub.CreateUpload(request, metadata=user.metadata, timeout=30)
    return upload


async def put(http: httpx2.AsyncClient, upload: pb.Upload, data: bytes) -> int:
    answer = await http.put(upload.upload_uri, content=data, headers=dict(upload.required_headers))
    return answer.status_code


async def complete(user: Client, upload: pb.Upload) -> pb.Asset:
    request = pb.CompleteUploadRequest(name=upload.name)
    asset: pb.Asset = await user.stub.CompleteUpload(request, metadata=user.metadata, timeout=60)
    return asset


def staged_blob(user: Client, upload: pb.Upload) -> BlobClient:
    name = f"_staging/{upload.name.removeprefix('uploads/')}"
    return user.gallery.storage.get_blob_client(user.gallery.settings.image_container, name)


async def past(user: Client, upload: pb.Upload, age: timedelta) -> None:
    """Lets the upload have been opened that much earlier."""
    statement = (
        "UPDATE gallery.upload SET expire_time = expire_time - %s, sweep_time = sweep_time - %s, "
        "complete_time = complete_time - %s, create_time = create_time - %s WHERE id = %s"
    )
    await user.gallery.execute(statement, *([age] * 4), upload.name.removeprefix("uploads/"))


async def eventually(look: Callable[[], Awaitable[object]], seconds: float = 30) -> None:
    """Waits until there is something to see."""
    end = time.monotonic() + seconds
    while not await look():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def sweep(gallery: Gallery, processes: int = 3) -> None:
    """Sweeps until nothing is due, from several sides at once."""
    engine = create_engine(gallery.settings, application_name="sweep")
    containers = {MediaType.IMAGE: gallery.settings.image_container, MediaType.VIDEO: gallery.settings.video_container}
    staging = Staging(engine, Transactions(engine))
    sweeper = StagingSweep(staging, azure_blobs.AzureBlobStore(gallery.storage, containers))
    async with asyncio.timeout(30):
        while any(await asyncio.gather(*(sweeper.sweep() for _ in range(processes)))):
            pass
    await engine.dispose()


async def test_what_was_put_becomes_the_announced_asset(user: Client, http: httpx2.AsyncClient) -> None:
    data = video(LARGE)
    upload = await opened(user, data, display_name="旅.mp4", folder="travel/2026", tags=["sea"])
    left = upload.expire_time.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(hours=5, minutes=59) < left <= timedelta(hours=6)
    assert await put(http, upload, data) == 201
    asset = await complete(user, upload)
    assert asset.name == upload.name.replace("uploads/", "assets/")
    assert (asset.display_name, asset.folder_path, list(asset.tags)) == ("旅.mp4", "travel/2026", ["sea"])
    assert (asset.mime_type, asset.size_bytes) == ("video/mp4", len(data))
    assert (await user.download(asset.name)).data == data
    assert not await staged_blob(user, upload).exists()


async def test_a_file_may_be_put_in_blocks(user: Client) -> None:
    data = video(LARGE)
    upload = await opened(user, data)
    async with BlobClient.from_blob_url(upload.upload_uri, max_single_put_size=1024**2, max_block_size=1024**2) as blob:
        await blob.upload_blob(data, overwrite=True)
    assert (await complete(user, upload)).sha256 == hashlib.sha256(data).hexdigest()


async def test_the_link_can_only_write_and_only_its_own_blob(user: Client, http: httpx2.AsyncClient) -> None:
    other = await user.upload(SMALL)
    upload = await opened(user, SMALL)
    assert await put(http, upload, SMALL) == 201
    await cannot_do_anything_but_write(http, upload.upload_uri, other.name.removeprefix("assets/"))
    assert (await user.download(other.name)).data == SMALL


async def test_a_link_that_still_lives_cannot_change_the_asset(user: Client, http: httpx2.AsyncClient) -> None:
    upload = await opened(user, SMALL)
    await put(http, upload, SMALL)
    asset = await complete(user, upload)
    assert await put(http, upload, png(40, 30, seed=9)) == 201, "the link lives"
    assert (await complete(user, upload)).etag == asset.etag
    assert (await user.download(asset.name)).data == SMALL


@pytest.mark.parametrize("pieces", [0, 1])
async def test_bytes_that_change_while_they_are_read_are_refused(
    user: Client, http: httpx2.AsyncClient, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version that was looked at is the one that is read, or none is: a mixture of two never comes together."""
    data, other = video(LARGE), video(LARGE - 1) + b"x"
    upload = await opened(user, data)
    await put(http, upload, data)
    reading, changed = asyncio.Event(), asyncio.Event()
    whole = azure_blobs.AzureBlobStore.read

    async def slow(self: azure_blobs.AzureBlobStore, *arguments: Any, **options: Any) -> AsyncIterator[bytes]:
        read = 0
        found = whole(self, *arguments, **options)
        while True:
            if read == pieces:
                reading.set()
                await changed.wait()
            piece = await anext(found, None)
            if piece is None:
                return
            yield piece
            read += 1

    with monkeypatch.context() as patch:
        patch.setattr(azure_blobs.AzureBlobStore, "read", slow)
        completing = asyncio.create_task(refusal(complete(user, upload)))
        await reading.wait()
        await put(http, upload, other)
        changed.set()
        error = await completing
    assert (error.reason, error.metadata["retrySafe"]) == ("UPLOAD_INCOMPLETE", "true")
    assert (await refusal(complete(user, upload))).reason == "CHECKSUM_MISMATCH"


async def test_completing_again_and_at_the_same_time_gives_one_asset(user: Client, http: httpx2.AsyncClient) -> None:
    upload = await opened(user, SMALL)
    await put(http, upload, SMALL)
    answers = await asyncio.gather(*(complete(user, upload) for _ in range(8)))
    answers.append(await complete(user, upload))
    assert {answer.SerializeToString(deterministic=True) for answer in answers} == {
        answers[0].SerializeToString(deterministic=True)
    }
    assert await user.names() == [answers[0].name]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def two(new_database: NewDatabase, azurite: str, tmp_path_factory: Any) -> AsyncIterator[tuple[Gallery, Gallery]]:
    """Two galleries over one database and one storage."""
    database, directory = await new_database(), tmp_path_factory.mktemp("two")
    containers = {"image_container": "two-images", "video_container": "two-videos"}
    async with (
        running_gallery(database, azurite, directory, **containers) as one,
        running_gallery(database, azurite, directory, **containers) as other,
    ):
        yield one, other


@pytest.mark.parametrize("size", [0, LARGE])
async def test_two_galleries_complete_one_upload_once(
    two: tuple[Gallery, Gallery], http: httpx2.AsyncClient, size: int
) -> None:
    """Whatever the second finds of what the first has done by then."""
    user = two[0].user()
    same, rounds = two[1].user(user.principal), scaled(6, 40)

    async def late(upload: pb.Upload, seconds: float) -> pb.Asset:
        await asyncio.sleep(seconds)
        return await complete(same, upload)

    duration = 0.0
    for number in range(rounds):
        data = video(size) if size else png(40, 30, seed=number)
        upload = await opened(user, data)
        await put(http, upload, data)
        begun = time.monotonic()
        offset = number / rounds * duration
        first, second = await asyncio.gather(complete(user, upload), late(upload, offset))
        assert first == second
        duration = time.monotonic() - begun - offset
    assert len(await user.names()) == rounds


@pytest.mark.parametrize("held", ["facts", "first piece", "second piece"])
async def test_an_upload_that_another_gallery_completes_meanwhile_is_answered_with_its_asset(
    two: tuple[Gallery, Gallery], http: httpx2.AsyncClient, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one removes what is staged while this one is about to look at it, or reads it."""
    user, data = two[0].user(), video(LARGE)
    upload = await opened(user, data)
    await put(http, upload, data)
    at_it, done = asyncio.Event(), asyncio.Event()
    facts, read = azure_blobs.AzureBlobStore.facts, azure_blobs.AzureBlobStore.read

    async def hold(step: str) -> None:
        if step == held and not at_it.is_set():
            at_it.set()
            await done.wait()

    async def held_facts(self: azure_blobs.AzureBlobStore, *arguments: Any) -> Any:
        await hold("facts")
        return await facts(self, *arguments)

    async def held_read(self: azure_blobs.AzureBlobStore, *arguments: Any, **options: Any) -> AsyncIterator[bytes]:
        pieces = read(self, *arguments, **options)
        for step in ("first piece", "second piece"):
            await hold(step)
            yield await anext(pieces)
        async for piece in pieces:
            yield piece

    monkeypatch.setattr(azure_blobs.AzureBlobStore, "facts", held_facts)
    monkeypatch.setattr(azure_blobs.AzureBlobStore, "read", held_read)
    behind = asyncio.create_task(complete(user, upload))
    await at_it.wait()
    asset = await complete(two[1].user(user.principal), upload)
    done.set()
    assert await behind == asset
    assert await user.names() == [asset.name]


async def test_a_client_that_leaves_while_completing_finds_the_asset_later(
    user: Client, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = video(LARGE)
    upload = await opened(user, data)
    await put(http, upload, data)
    begun, facts = asyncio.Event(), azure_blobs.AzureBlobStore.facts

    async def noted_facts(self: azure_blobs.AzureBlobStore, *arguments: Any) -> Any:
        begun.set()
        return await facts(self, *arguments)

    monkeypatch.setattr(azure_blobs.AzureBlobStore, "facts", noted_facts)
    call = user.stub.CompleteUpload(pb.CompleteUploadRequest(name=upload.name), metadata=user.metadata)
    await begun.wait()
    call.cancel()
    await eventually(user.names)
    assert (await complete(user, upload)).size_bytes == len(data)
    assert len(await user.names()) == 1


async def test_nothing_put_or_too_little_is_incomplete_and_may_be_put_again(
    user: Client, http: httpx2.AsyncClient
) -> None:
    upload = await opened(user, SMALL)
    error = await refusal(complete(user, upload))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UPLOAD_INCOMPLETE")
    assert (error.metadata["declaredBytes"], error.metadata["receivedBytes"]) == (str(len(SMALL)), "0")
    await put(http, upload, SMALL[:-1])
    error = await refusal(complete(user, upload))
    assert (error.reason, error.metadata["receivedBytes"]) == ("UPLOAD_INCOMPLETE", str(len(SMALL) - 1))
    await put(http, upload, SMALL)
    await complete(user, upload)


async def test_other_bytes_than_announced_are_refused_and_may_be_put_again(
    user: Client, http: httpx2.AsyncClient
) -> None:
    upload = await opened(user, SMALL)
    await put(http, upload, SMALL[:-1] + b"x")
    error = await refusal(complete(user, upload))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CHECKSUM_MISMATCH")
    assert await user.names() == []
    await put(http, upload, SMALL)
    await complete(user, upload)


async def test_bytes_that_are_no_media_are_refused(user: Client, http: httpx2.AsyncClient) -> None:
    upload = await opened(user, b"MZ a program")
    await put(http, upload, b"MZ a program")
    assert (await refusal(complete(user, upload))).reason == "UNSUPPORTED_MEDIA"
    assert await user.names() == []


@pytest.mark.parametrize(
    ("data", "wrong", "reason"),
    [(SMALL, SMALL[:-1] + b"x", "CHECKSUM_MISMATCH"), (b"MZ a program", b"MZ a program", "UNSUPPORTED_MEDIA")],
)
async def test_bytes_that_were_refused_are_not_read_again_until_others_are_put(
    user: Client, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, data: bytes, wrong: bytes, reason: str
) -> None:
    reads, read = [], azure_blobs.AzureBlobStore.read

    def counted(self: azure_blobs.AzureBlobStore, *arguments: Any, **options: Any) -> Any:
        reads.append(arguments)
        return read(self, *arguments, **options)

    monkeypatch.setattr(azure_blobs.AzureBlobStore, "read", counted)
    upload = await opened(user, data)
    await put(http, upload, wrong)
    first = await refusal(complete(user, upload))
    for _ in range(2):
        again = await refusal(complete(user, upload))
        assert (again.code, again.reason, again.message) == (first.code, reason, first.message)
        assert again.metadata.items() - first.metadata.items() <= {("requestId", again.metadata.get("requestId"))}
    assert len(reads) == 1
    await put(http, upload, data)
    if data == wrong:
        assert (await refusal(complete(user, upload))).reason == reason
    else:
        await complete(user, upload)
    assert len(reads) == 2, "it may be other bytes"


async def test_an_upload_is_its_owners_alone(user: Client, http: httpx2.AsyncClient) -> None:
    upload = await opened(user, SMALL)
    await put(http, upload, SMALL)
    error = await refusal(complete(user.gallery.user(), upload))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND")
    await complete(user, upload)
    assert (await refusal(complete(user.gallery.user(), upload))).reason == "UPLOAD_NOT_FOUND"


async def test_what_an_upload_would_refuse_is_refused_before_a_byte_is_sent(user: Client) -> None:
    for fields, reason in (
        ({"folder": "folders/none"}, "FOLDER_NOT_FOUND"),
        ({"folder": "a//b"}, "INVALID_FOLDER_PATH"),
        ({"display_name": "a\0b"}, "INVALID_FIELD"),
        ({"tags": ["a", "a"]}, "INVALID_FIELD"),
        ({"size_bytes": 0}, "INVALID_FIELD"),
        ({"sha256": "F" * 64}, "INVALID_FIELD"),
    ):
        assert (await refusal(opened(user, SMALL, **fields))).reason == reason, fields


async def test_time_over_is_said_and_a_stored_asset_is_still_given(user: Client, http: httpx2.AsyncClient) -> None:
    late, done = await opened(user, SMALL), await opened(user, SMALL)
    for upload in (late, done):
        await put(http, upload, SMALL)
    asset = await complete(user, done)
    for upload in (late, done):
        await past(user, upload, timedelta(hours=6, minutes=1))
    error = await refusal(complete(user, late))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_EXPIRED")
    assert (await complete(user, done)).name == asset.name


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict(new_database: NewDatabase, azurite: str, tmp_path_factory: Any) -> AsyncIterator[Gallery]:
    limits = {"max_open_direct_uploads": 3, "max_direct_upload_bytes": 1000}
    async with running_gallery(await new_database(), azurite, tmp_path_factory.mktemp("strict"), **limits) as gallery:
        yield gallery


async def test_an_owner_has_a_bounded_number_of_links_also_when_uploads_are_completed(
    strict: Gallery, http: httpx2.AsyncClient
) -> None:
    user, data = strict.user(), png(4, 4)
    tried = await asyncio.gather(*(opened(user, data) for _ in range(8)), return_exceptions=True)
    got = [upload for upload in tried if isinstance(upload, pb.Upload)]
    assert len(got) == 3, "also of those opened at the same time"
    error = await refusal(opened(user, data))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_UPLOADS")
    assert (error.metadata["maxOpenUploads"], error.metadata["retrySafe"]) == ("3", "true")
    await opened(strict.user(), data)
    await put(http, got[0], data)
    await complete(user, got[0])
    assert (await refusal(opened(user, data))).reason == "TOO_MANY_UPLOADS", "its link can still write"
    for upload in got[:2]:
        await past(user, upload, timedelta(hours=7))
        await opened(user, data)
        assert (await refusal(opened(user, data))).reason == "TOO_MANY_UPLOADS"


async def test_more_bytes_than_the_limit_are_refused_at_once(strict: Gallery) -> None:
    error = await refusal(opened(strict.user(), bytes(1001)))
    assert (error.reason, error.metadata["maxBytes"]) == ("UPLOAD_TOO_LARGE", "1000")
    assert error.trailing["x-http-code"] == "413"


async def test_the_disk_that_is_full_is_said_and_the_upload_can_be_completed_later(
    new_database: NewDatabase, azurite: str, tmp_path_factory: Any, http: httpx2.AsyncClient
) -> None:
    data, directory = video(LARGE), tmp_path_factory.mktemp("full")
    spool = directory / "spool"
    storage = {"image_container": "full-images", "video_container": "full-videos", "spool_directory": str(spool)}
    async with running_gallery(await new_database(), azurite, directory, **storage) as gallery:
        user = gallery.user()
        upload = await opened(user, data)
        await put(http, upload, data)
        error = await refusal(complete(user, upload))  # there is no such directory
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        assert error.metadata["retrySafe"] == "true"
        spool.mkdir()
        assert (await complete(user, upload)).size_bytes == len(data)


async def test_what_was_abandoned_is_swept_whatever_its_writer_made_of_it(
    new_database: NewDatabase, azurite: str, tmp_path_factory: Any, http: httpx2.AsyncClient
) -> None:
    async with running_gallery(await new_database(), azurite, tmp_path_factory.mktemp("sweep")) as gallery:
        user = gallery.user()
        plain, leased, snapped, blocks, young = [await opened(user, SMALL) for _ in range(5)]
        for upload in (plain, leased, snapped, young):
            await put(http, upload, SMALL)
        for upload, query, headers in (
            (leased, "&comp=lease", {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "-1"}),
            (snapped, "&comp=snapshot", {}),
            (blocks, "&comp=block&blockid=MDAwMA==", {}),
        ):
            body = SMALL if upload is blocks else b""
            answer = await http.put(upload.upload_uri + query, headers=headers, content=body)
            assert answer.status_code == 201, (query, answer.text)
        for upload in (plain, leased, snapped, blocks):
            await past(user, upload, timedelta(hours=6, minutes=31))
        await sweep(gallery)
        assert [name for name in await gallery.blobs() if "_staging" in name] == [
            f"{gallery.settings.image_container}/_staging/{young.name.removeprefix('uploads/')}"
        ]
        commit = b"<BlockList><Latest>MDAwMA==</Latest></BlockList>"
        answer = await http.put(f"{blocks.upload_uri}&comp=blocklist", content=commit)
        assert answer.status_code == 400, "the blocks are gone too"
        for upload in (plain, leased, snapped, blocks):
            assert (await refusal(complete(user, upload))).reason == "UPLOAD_EXPIRED", "known for a day"


async def test_what_is_put_after_completion_is_swept_again_and_again_while_the_link_lives(
    user: Client, http: httpx2.AsyncClient
) -> None:
    upload = await opened(user, SMALL)
    await put(http, upload, SMALL)
    asset = await complete(user, upload)
    for _ in range(2):
        assert await put(http, upload, bytes(1000)) == 201
        await past(user, upload, SWEEP_AGAIN)
        await sweep(user.gallery)
        assert not await staged_blob(user, upload).exists()
    assert await put(http, upload, bytes(1000)) == 201
    await past(user, upload, timedelta(hours=6, minutes=15))
    await sweep(user.gallery)
    assert not await staged_blob(user, upload).exists(), "what was on its way when the link expired"
    assert (await complete(user, upload)).name == asset.name
    assert (await user.download(asset.name)).data == SMALL


async def test_a_day_after_its_end_an_upload_is_forgotten_with_what_was_put_late(
    user: Client, http: httpx2.AsyncClient
) -> None:
    completed, abandoned = await opened(user, SMALL), await opened(user, SMALL)
    for upload in (completed, abandoned):
        await put(http, upload, SMALL)
    asset = await complete(user, completed)
    await put(http, completed, SMALL)
    for upload in (completed, abandoned):
        await past(user, upload, timedelta(hours=31))
    await sweep(user.gallery)
    for upload in (completed, abandoned):
        assert (await refusal(complete(user, upload))).reason == "UPLOAD_NOT_FOUND"
        assert not await staged_blob(user, upload).exists()
    assert (await user.download(asset.name)).data == SMALL
