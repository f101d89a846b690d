"""Watchers while servers stop, are killed or many, and while the database is away."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.adapters.changes import Batch, ChangeLog, News
from services.gallery.settings import GallerySettings
from tests.conftest import ROOT, NewDatabase
from tests.gallery.harness import Client, Gallery, refusal, running_gallery
from tests.gallery.watchers import Watcher, watching
from tests.support.gallery_process import running_gallery_process
from tests.support.media import png
from tests.support.ports import free_port

PICTURE = png(8, 8)
MANY = 200


@pytest.fixture
def quiet() -> Iterator[None]:
    """While the database is away every background task tells of it, with a traceback that takes long to draw."""
    with capture_logs():
        yield


@asynccontextmanager
async def replica(gallery: Gallery, azurite: str, directory: Path, **overrides: Any) -> AsyncIterator[Gallery]:
    """Another process's part on the same database and storage."""
    settings = gallery.settings
    containers = {"image_container": settings.image_container, "video_container": settings.video_container}
    url = settings.database_url.get_secret_value()
    async with running_gallery(url, azurite, directory, **containers, **overrides) as running:
        yield running


@asynccontextmanager
async def line_of_its_own(client: Client) -> AsyncIterator[Client]:
    """The same caller on a channel that outlives the gallery's."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{client.gallery.port}") as channel:
        yield replace(client, gallery=replace(client.gallery, channel=channel))


async def end_of(watcher: Watcher) -> None:
    async with asyncio.timeout(60):
        while True:
            await watcher.read()


async def test_a_watcher_of_one_replica_hears_what_happens_at_another(
    gallery: Gallery, azurite: str, tmp_path: Path
) -> None:
    async with replica(gallery, azurite, tmp_path) as other:
        async with watching(gallery.user("ann")) as watcher:
            asset = await other.user("ann").upload(PICTURE)
            assert (await watcher.event()).asset == (await gallery.user("ann").page()).assets[0]
        async with watching(other.user("ann"), watcher.token) as again:
            await gallery.user("ann").delete(asset.name)
            assert (await again.event()).asset.HasField("delete_time")


async def test_a_server_that_stops_ends_its_streams_at_once_and_another_goes_on(
    gallery: Gallery, azurite: str, tmp_path: Path
) -> None:
    """At once: the grace that running calls have is not used up."""
    async with AsyncExitStack() as stopping:
        stopped = await stopping.enter_async_context(replica(gallery, azurite, tmp_path, drain_seconds=60))
        async with line_of_its_own(stopped.user("bob")) as bob, watching(bob) as watcher:
            ended = asyncio.ensure_future(refusal(end_of(watcher)))
            async with asyncio.timeout(20):
                await stopping.aclose()
                error = await ended
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert error.metadata["retrySafe"] == "true"
    asset = await gallery.user("bob").upload(PICTURE)
    async with watching(gallery.user("bob"), watcher.token) as again:
        assert (await again.event()).asset.name == asset.name


async def test_a_stream_ends_after_its_time_and_its_token_goes_on(
    gallery: Gallery, azurite: str, tmp_path: Path
) -> None:
    """Or whoever may no longer call at all would be told for as long as it listens."""
    limits = {"watch_lifetime_seconds": 2.0, "watch_checkpoint_seconds": 0.2}
    async with replica(gallery, azurite, tmp_path, **limits) as brief:
        async with watching(brief.user("eve")) as watcher:
            first = await brief.user("eve").upload(PICTURE)
            error = await refusal(end_of(watcher))
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
            assert error.metadata["retrySafe"] == "true"
            assert [event.asset.name for event in watcher.events] == [first.name]
        second = await gallery.user("eve").upload(PICTURE)
        async with watching(brief.user("eve"), watcher.token) as again:
            assert await again.until(second.name) == [second.name]
    assert GallerySettings.model_fields["watch_lifetime_seconds"].default < 3600, "the gateway's own limit"


async def test_a_watcher_of_a_killed_process_goes_on_at_another(gallery: Gallery, azurite: str) -> None:
    local, settings = gallery.user("local"), gallery.settings
    variables = {
        "AZURE_STORAGE_CONNECTION_STRING": azurite,
        "AZURE_BLOB_IMAGE_CONTAINER": settings.image_container,
        "AZURE_BLOB_VIDEO_CONTAINER": settings.video_container,
    }
    names: list[str] = []
    with contextlib.suppress(ProcessLookupError):  # it is gone before it is told to stop
        async with running_gallery_process(settings.database_url.get_secret_value(), variables) as process:
            call = process.stub.WatchAssets(pb.WatchAssetsRequest())
            watcher = Watcher(call)
            await watcher.checkpoint()
            names.append((await local.upload(PICTURE)).name)
            assert await watcher.until(names[0]) == names
            names += [(await local.upload(PICTURE)).name for _ in range(2)]
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(grpc.aio.AioRpcError):
                await end_of(watcher)
    names.append((await local.upload(PICTURE)).name)
    async with watching(local, watcher.token) as again:
        assert [event.asset.name for event in watcher.events] + await again.until(names[-1]) == names


@pytest.mark.usefixtures("quiet")
async def test_a_watcher_outlives_a_restart_of_postgres_and_misses_nothing(azurite: str, tmp_path: Path) -> None:
    home, port = tmp_path / "postgres", free_port()
    url = await postgres("ensure", home, port)
    try:
        async with running_gallery(url, azurite, tmp_path, watch_checkpoint_seconds=0.5) as gallery:
            user = gallery.user()
            async with watching(user) as watcher:
                names = [(await user.upload(PICTURE)).name]
                await watcher.until(names[0])
                await postgres("stop", home)
                for _ in range(3):
                    await watcher.checkpoint()
                await postgres("ensure", home, port)
                names += [await eventually_uploaded(user) for _ in range(2)]
                assert await watcher.until(names[-1]) == names
    finally:
        await postgres("remove", home)


async def postgres(what: str, *arguments: Path | int) -> str:
    """`ensure_postgres` and its like, in a process of their own: beside gRPC's threads a fork can crash."""
    code = f"import asyncio; from pathlib import Path; from deploy.local.postgres import {what}_postgres as do; "
    home, *port = arguments
    code += f"print(asyncio.run(do(Path({str(home)!r}), {', '.join(map(str, port))})))"
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode().strip()


async def eventually_uploaded(user: Client) -> str:
    async with asyncio.timeout(30):
        while True:
            try:
                return (await user.upload(PICTURE)).name
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)


@pytest.mark.usefixtures("quiet")
async def test_a_watcher_is_sent_away_when_the_database_stays_away(
    new_database: NewDatabase, postgres_url: str, azurite: str, tmp_path: Path
) -> None:
    url = await new_database()
    limits = {"watch_checkpoint_seconds": 0.2, "watch_outage_seconds": 1.0}
    async with running_gallery(url, azurite, tmp_path, **limits) as gallery, watching(gallery.user("ann")) as watcher:
        async with away(postgres_url, url):
            error = await refusal(end_of(watcher))
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
            assert error.metadata["retrySafe"] == "true"
            fresh = await refusal(refused_watch(gallery.user("bob")))
            assert fresh.code is grpc.StatusCode.UNAVAILABLE
        async with watching(gallery.user("ann"), watcher.token) as again:
            assert await again.checkpoint()


async def refused_watch(client: Client) -> None:
    async with watching(client, begun=False) as watcher:
        await end_of(watcher)


@asynccontextmanager
async def away(postgres_url: str, url: str) -> AsyncIterator[None]:
    """The database ends every session and takes no new one."""
    name = url.rpartition("/")[2]
    allow = "ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}"
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
        await admin.execute(sql.SQL(allow).format(sql.Identifier(name), sql.SQL("false")))
        try:
            await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            yield
        finally:
            await admin.execute(sql.SQL(allow).format(sql.Identifier(name), sql.SQL("true")))


async def test_a_log_that_is_restored_under_a_watcher_ends_its_stream(gallery: Gallery) -> None:
    user = gallery.user()
    async with watching(user) as watcher:
        asset = await user.upload(PICTURE)
        await watcher.until(asset.name)
        await gallery.execute("UPDATE gallery.incarnation SET id = gen_random_uuid()")
        error = await refusal(end_of(watcher))
    assert (error.code, error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")


async def test_a_reader_that_stops_reading_is_given_up(new_database: NewDatabase, azurite: str, tmp_path: Path) -> None:
    async with running_gallery(await new_database(), azurite, tmp_path, watch_stall_seconds=1.0) as gallery:
        user = gallery.user()
        async with watching(user) as watcher:
            asset = await user.upload(PICTURE)
            await gallery.execute(
                "INSERT INTO gallery.asset (id, owner, display_name, media_type, mime_type, size_bytes, sha256) "
                "SELECT 'big-' || n, owner, 'x', media_type, mime_type, size_bytes, sha256 "
                "FROM gallery.asset a, generate_series(1, 400) n WHERE a.id = %s",
                asset.name[7:],
            )
            await gallery.execute(
                "UPDATE gallery.asset SET labels = "
                "(SELECT jsonb_object_agg('k' || n, repeat('灯', 250)) FROM generate_series(1, 60) n)"
            )
            await gallery.execute(
                "INSERT INTO gallery.asset_change (owner, asset_id, change) "
                "SELECT %s, 'big-' || n, 'created' FROM generate_series(1, 400) n",
                user.principal,
            )
            await gallery.wait_for_metric("contentlab_gallery_watchers", 0)
            error = await refusal(end_of(watcher))
    assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the log was asked, by kind."""
    counts = {"newest": 0, "read": 0}
    newest, read = ChangeLog.newest, ChangeLog.read

    async def counted_newest(self: ChangeLog, owners: Sequence[str]) -> News:
        counts["newest"] += 1
        return await newest(self, owners)

    async def counted_read(self: ChangeLog, owner: str, sequence: int) -> Batch:
        counts["read"] += 1
        return await read(self, owner, sequence)

    monkeypatch.setattr(ChangeLog, "newest", counted_newest)
    monkeypatch.setattr(ChangeLog, "read", counted_read)
    return counts


async def test_many_watchers_cost_one_poll_and_one_reading_of_what_is_new(
    gallery: Gallery, queries: dict[str, int]
) -> None:
    user = gallery.user()
    await gallery.wait_for_metric("contentlab_gallery_watchers", 0)
    await asyncio.sleep(1)
    assert queries["newest"] <= 1, "nobody watches"
    async with AsyncExitStack() as stack:
        watchers = await asyncio.gather(
            *(stack.enter_async_context(watching(user if n % 2 else gallery.user())) for n in range(MANY))
        )
        queries.update(newest=0, read=0)
        asset = await user.upload(PICTURE)
        for watcher in watchers[1::2]:
            assert (await watcher.event()).asset.name == asset.name
        assert queries["read"] < MANY / 10, "readings are shared; a poll that crosses one may cause another"
        before = queries["newest"]
        await asyncio.sleep(1.5)
        assert queries["newest"] - before <= 6
    await gallery.wait_for_metric("contentlab_gallery_watchers", 0)
