"""Watching a gallery over gRPC: everything of one's own, in order, once or again, never nothing."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.adapters.changes import BATCH_ENTRIES
from services.gallery.settings import GallerySettings
from tests.conftest import NewDatabase
from tests.gallery.harness import Client, Gallery, refusal, running_gallery
from tests.gallery.watchers import CREATED, DELETED, PATIENCE, UPDATED, Watcher, refused, watching
from tests.support.media import png

PICTURE = png(8, 8)
CHECKPOINT_SECONDS = 0.5


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gallery(
    new_database: NewDatabase, azurite: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gallery]:
    async with running_gallery(
        await new_database(),
        azurite,
        tmp_path_factory.mktemp("gallery"),
        watch_checkpoint_seconds=CHECKPOINT_SECONDS,
        max_watchers_per_principal=3,
    ) as running:
        yield running


async def log_of(user: Client, *changes: tuple[str, str]) -> None:
    """Entries as a writer leaves them; nobody else writes for this owner."""
    for asset, change in changes:
        await user.gallery.execute(
            "INSERT INTO gallery.asset_change (owner, asset_id, change) VALUES (%s, %s, %s)",
            user.principal,
            asset.removeprefix("assets/"),
            change,
        )


async def end_of(watcher: Watcher) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            await watcher.read()


async def test_a_watcher_hears_what_happens_after_its_first_checkpoint(user: Client) -> None:
    await user.upload(PICTURE, display_name="before")
    async with watching(user) as watcher:
        asset = await user.upload(PICTURE, display_name="after", tags=["灯台"])
        event = await watcher.event()
        assert (event.change_type, event.asset.name, event.asset.owner) == (CREATED, asset.name, user.principal)
        assert (event.asset.etag, list(event.asset.tags)) == (asset.etag, ["灯台"])
        deleted = await user.delete(asset.name)
        event = await watcher.event()
        assert (event.change_type, event.asset.etag) == (DELETED, deleted.etag)
        assert event.asset.HasField("purge_time")


async def test_events_show_no_more_of_an_asset_than_lists_do(user: Client) -> None:
    async with watching(user) as watcher:
        provenance = pb.Provenance(owner=user.principal, prompt="p" * 5_000, parameters={"size": "1"})
        await user.as_service().upload(PICTURE, provenance=provenance)
        asset = (await watcher.event()).asset
    [listed] = (await user.page()).assets
    assert asset == listed
    assert len(asset.prompt) == 200


async def test_checkpoints_come_while_nothing_happens_and_their_tokens_move_on(user: Client) -> None:
    async with watching(user) as watcher:
        tokens = [await watcher.checkpoint() for _ in range(3)]
    assert len(set(tokens)) == 3
    assert GallerySettings.model_fields["watch_checkpoint_seconds"].default <= 15


async def test_nobody_hears_of_anothers_assets(user: Client) -> None:
    stranger = user.gallery.user()
    async with watching(stranger) as watcher:
        await user.upload(PICTURE)
        own = await stranger.upload(PICTURE)
        assert await watcher.until(own.name) == [own.name]


async def test_a_token_tells_what_happened_while_nobody_watched(user: Client) -> None:
    async with watching(user) as watcher:
        first = await user.upload(PICTURE)
        await watcher.until(first.name)
    names = [(await user.upload(PICTURE)).name for _ in range(3)]
    async with watching(user, watcher.token) as again:
        assert await again.until(names[-1]) == names


async def test_a_token_goes_on_behind_any_event_also_within_a_batch(user: Client) -> None:
    async with watching(user) as watcher:
        pass
    names = [(await user.upload(PICTURE)).name for _ in range(4)]
    await log_of(user, (names[0], "updated"))
    async with watching(user, watcher.token) as whole:
        assert await whole.until(names[-1]) == names
    for number, event in enumerate(whole.events, 1):
        async with watching(user, event.resume_token) as rest:
            end = await user.upload(PICTURE)
            told = await rest.until(end.name)
        expected = [*names[number:], *([names[0]] if number < 4 else [])]
        assert told[: len(expected)] == expected
        names_so_far = set(names[:number]) | set(told)
        assert names_so_far >= set(names)


async def test_more_than_a_batch_arrives_whole_and_in_order(user: Client) -> None:
    asset = await user.upload(PICTURE)
    async with watching(user) as watcher:
        pass
    count = 3 * BATCH_ENTRIES + 7
    await user.gallery.execute(
        "INSERT INTO gallery.asset (id, owner, display_name, media_type, mime_type, size_bytes, sha256) "
        "SELECT a.id || '-' || n, owner, 'x', media_type, mime_type, size_bytes, sha256 "
        "FROM gallery.asset a, generate_series(1, %s) n WHERE a.id = %s",
        count,
        asset.name[7:],
    )
    await user.gallery.execute(
        "INSERT INTO gallery.asset_change (owner, asset_id, change) "
        "SELECT %s, %s || '-' || n, 'created' FROM generate_series(1, %s) n ORDER BY n",
        user.principal,
        asset.name[7:],
        count,
    )
    async with watching(user, watcher.token) as again:
        expected = [f"{asset.name}-{n}" for n in range(1, count + 1)]
        assert await again.until(expected[-1]) == expected


async def test_several_changes_of_an_asset_come_as_one(user: Client) -> None:
    async with watching(user) as watcher:
        pass
    asset = await user.upload(PICTURE)
    await log_of(user, (asset.name, "updated"), (asset.name, "updated"))
    async with watching(user, watcher.token) as again:
        last = await user.upload(PICTURE)
        await again.until(last.name)
    assert [event.change_type for event in again.events] == [CREATED, CREATED]
    async with watching(user, again.token) as later:
        await log_of(user, (asset.name, "updated"))
        assert (await later.event()).change_type == UPDATED


async def test_a_deletion_is_told_also_when_the_asset_was_changed_after_it(user: Client) -> None:
    asset = await user.upload(PICTURE)
    async with watching(user) as watcher:
        pass
    await user.delete(asset.name)
    mark = pb.UpdateAssetRequest(asset=pb.Asset(name=asset.name, favorite=True))
    mark.update_mask.paths.append("favorite")
    await user.call(mark)
    async with watching(user, watcher.token) as again:
        event = await again.event()
        assert (event.change_type, event.asset.favorite) == (DELETED, True)
        await user.call(mark)
        await log_of(user, (asset.name, "updated"))
        assert (await again.event()).change_type == DELETED


@pytest.mark.parametrize("token", ["x", "AAAA", "%00", "é", "a" * 2_048])
async def test_garbage_is_refused_as_no_token(user: Client, token: str) -> None:
    refused_as = await refusal(refused(user, token))
    assert (refused_as.code, refused_as.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_RESUME_TOKEN")
    assert refused_as.fields == ("resume_token",)


async def test_anothers_token_is_refused_as_no_token(user: Client) -> None:
    async with watching(user) as watcher:
        pass
    refused_as = await refusal(refused(user.gallery.user(), watcher.token))
    assert refused_as.reason == "INVALID_RESUME_TOKEN"


async def test_a_token_of_a_log_that_was_restored_is_expired(user: Client) -> None:
    """Its entry is not there any more, or is another one: what came in between is not known."""
    async with watching(user) as watcher:
        asset = await user.upload(PICTURE)
        await watcher.until(asset.name)
    await user.gallery.execute("DELETE FROM gallery.asset_change WHERE owner = %s", user.principal)
    for _ in range(2):
        refused_as = await refusal(refused(user, watcher.token))
        assert (refused_as.code, refused_as.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")
        await log_of(user, (asset.name, "updated"))


@pytest.mark.parametrize("watched", [True, False])
async def test_whoever_stands_behind_a_log_that_was_restored_and_trimmed_is_told(user: Client, watched: bool) -> None:
    """The position's entry is too old to be missed; that what came since is lost shows in what was given out since."""
    gallery, asset = user.gallery, await user.upload(PICTURE)
    old = "UPDATE gallery.asset_change SET time = time - interval '49 hours' WHERE owner = %s"
    await gallery.execute(old, user.principal)
    async with watching(user) as watcher:
        await gallery.execute("DELETE FROM gallery.asset_change WHERE owner = %s", user.principal)
        async with watching(user, watcher.token):
            pass  # trimmed, and nothing more
        [(last,)] = await gallery.rows("SELECT last_value FROM gallery.asset_change_sequence_seq")
        try:
            await gallery.execute("SELECT setval('gallery.asset_change_sequence_seq', %s)", last - 1)
            if watched:
                told = await refusal(end_of(watcher))
            else:
                async with asyncio.timeout(PATIENCE):
                    told = await refusal(refused(user, watcher.token))
            assert (told.code, told.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")
        finally:
            await gallery.execute("SELECT setval('gallery.asset_change_sequence_seq', %s)", last)
        await log_of(user, (asset.name, "updated"))
        async with watching(user, watcher.token) as again:
            assert (await again.event()).asset.name == asset.name


async def test_a_token_is_expired_after_a_day_of_the_database(user: Client) -> None:
    asset = await user.upload(PICTURE)
    await user.gallery.execute(
        "UPDATE gallery.asset_change SET time = time - interval '25 hours' WHERE owner = %s", user.principal
    )
    await log_of(user, (asset.name, "updated"))
    async with watching(user) as watcher:
        pass
    await user.gallery.execute(
        "UPDATE gallery.asset_change SET time = time - interval '1 hour' WHERE owner = %s", user.principal
    )
    refused_as = await refusal(refused(user, watcher.token))
    assert refused_as.reason == "RESUME_TOKEN_EXPIRED"


async def test_a_principal_has_so_many_streams_and_gets_one_when_another_ends(user: Client) -> None:
    async with watching(user) as first, watching(user), watching(user):
        refused_as = await refusal(refused(user, ""))
        assert (refused_as.code, refused_as.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")
        assert refused_as.metadata["limit"] == "3"
        async with watching(user.gallery.user()):
            pass
        first.call.cancel()
        await eventually_watching(user)


async def eventually_watching(user: Client) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                async with watching(user):
                    return
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.02)


async def test_streams_that_are_left_leave_nothing_behind(user: Client) -> None:
    await user.gallery.wait_for_metric("contentlab_gallery_watchers", 0)
    before = len(asyncio.all_tasks())
    for _ in range(3):
        async with watching(user) as watcher:
            asset = await user.upload(PICTURE)
            await watcher.until(asset.name)
    await user.gallery.wait_for_metric("contentlab_gallery_watchers", 0)
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - tasks end by themselves
            await asyncio.sleep(0.02)
