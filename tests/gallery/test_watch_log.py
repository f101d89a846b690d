"""The log of changes as readers see it: in order, without gaps, whoever writes and however long that takes."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest
import pytest_asyncio
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.database import create_engine
from services.gallery.adapters import catalog, changes, journal
from services.gallery.adapters.catalog import Catalog
from services.gallery.adapters.changes import ChangeLog
from services.gallery.adapters.journal import Change, lock_owner
from services.gallery.adapters.tables import asset_change
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain.resume import LOG_KEPT
from tests.gallery.harness import Client, Gallery
from tests.gallery.watchers import DELETED, PURGED, Watcher, watching
from tests.support.campaign import scaled
from tests.support.media import png

PICTURE = png(8, 8)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(gallery: Gallery) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(gallery.settings, application_name="test")
    yield engine
    await engine.dispose()


async def test_a_reader_misses_nothing_while_many_write_at_once(
    user: Client, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers linger between their entry and their commit: without the owner's lock later entries overtake."""
    chance, record = random.Random(3), journal.record

    async def record_and_linger(connection: AsyncConnection, recorded: list[Change]) -> None:
        await record(connection, recorded)
        await asyncio.sleep(chance.choice((0, 0.005, 0.02)))

    monkeypatch.setattr(catalog, "record", record_and_linger)
    names = [(await user.upload(PICTURE)).name.removeprefix("assets/") for _ in range(6)]

    async def write(asset_id: str) -> None:
        for _ in range(8):
            await Catalog(engine, Transactions(engine)).change(
                user.principal, [asset_id], lambda asset, _: replace(asset, favorite=not asset.favorite)
            )

    log, seen = ChangeLog(engine), list[int]()
    writers = asyncio.gather(*(write(name) for name in names))
    while True:
        done = writers.done()
        batch = await log.read(user.principal, seen[-1] if seen else 0)
        seen += [entry.sequence for entry in batch.entries]
        if done and not batch.entries:
            break
    await writers
    query = "SELECT sequence FROM gallery.asset_change WHERE owner = %s ORDER BY sequence"
    assert seen == [row[0] for row in await user.gallery.rows(query, user.principal)]
    assert len(seen) == 6 + 6 * 8


async def test_a_slow_writer_of_another_owner_delays_nobody(user: Client, engine: AsyncEngine) -> None:
    async with engine.begin() as slow, watching(user) as watcher:
        await lock_owner(slow, "somebody else")
        await slow.execute(sa.insert(asset_change).values(owner="somebody else", asset_id="a", change="created"))
        asset = await user.upload(PICTURE)
        assert (await watcher.event()).asset.name == asset.name


async def test_entries_too_old_for_any_token_go_a_bounded_number_at_a_time(
    user: Client, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "TRIM_ENTRIES", 40)
    asset = await user.upload(PICTURE)
    await user.gallery.execute(
        "INSERT INTO gallery.asset_change (owner, asset_id, change, time) "
        "SELECT %s, 'x', 'updated', clock_timestamp() - %s - n * interval '1 minute' FROM generate_series(1, 100) n",
        user.principal,
        LOG_KEPT,
    )
    log = ChangeLog(engine)
    counts = await asyncio.gather(*(log.trim() for _ in range(4)))
    assert max(counts) <= 40, "several at once share the work"
    while await log.trim():
        pass
    query = "SELECT asset_id FROM gallery.asset_change WHERE owner = %s"
    assert await user.gallery.rows(query, user.principal) == [(asset.name[7:],)]


async def test_the_poll_and_the_readers_walk_an_index(user: Client) -> None:
    await user.gallery.execute(
        "INSERT INTO gallery.asset_change (owner, asset_id, change) "
        "SELECT 'plan-' || mod(n, 50), 'x', 'updated' FROM generate_series(1, 20000) n"
    )
    await user.gallery.execute("ANALYZE gallery.asset_change")
    newest = await user.gallery.plan(
        "SELECT w.owner, l.sequence FROM unnest(%s::text[]) w (owner), LATERAL (SELECT sequence "
        "FROM gallery.asset_change c WHERE c.owner = w.owner ORDER BY sequence DESC LIMIT 1) l",
        [f"plan-{n}" for n in range(50)],
    )
    following = await user.gallery.plan(
        "SELECT * FROM gallery.asset_change WHERE owner = %s AND sequence >= %s ORDER BY sequence LIMIT 101",
        "plan-1",
        1,
    )
    for plan in (newest, following):
        assert "ix_asset_change_owner_sequence" in plan, plan
        assert "Sort" not in plan, plan


REFUSALS = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION)
OPERATIONS = st.tuples(
    st.sampled_from(("add", "mark", "delete", "undelete", "purge", "drop")), st.integers(0, 3), st.integers(0, 3)
)


@settings(
    max_examples=scaled(15, 150),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(operations=st.lists(OPERATIONS, min_size=1, max_size=14))
async def test_whoever_applies_the_events_has_what_the_list_shows(
    gallery: Gallery, operations: list[tuple[str, int, int]]
) -> None:
    """Also when the stream is dropped after any number of events and resumed."""
    user = gallery.user()
    async with watching(user) as watcher:
        token = watcher.token
    shown: dict[str, str] = {}
    names: list[str] = []
    for what, which, count in [*operations, ("add", 0, 0)]:
        if what == "drop":
            token = await read_some(user, token, shown, count)
        elif what == "add":
            names.append((await user.upload(PICTURE)).name)
        elif names:
            await change(user, what, names[which % len(names)])
    async with watching(user, token) as last:
        while names[-1] not in shown:
            apply(await last.event(), shown)
    assert shown == {asset.name: asset.etag for asset in (await user.page(page_size=50)).assets}


async def read_some(user: Client, token: str, shown: dict[str, str], count: int) -> str:
    """Reads that many events if there are so many; the token of the last."""
    async with watching(user, token) as watcher:
        for _ in range(count):
            event = await soon(watcher)
            if event is None:
                break
            apply(event, shown)
        return watcher.token


async def soon(watcher: Watcher) -> pb.WatchAssetsResponse | None:
    try:
        async with asyncio.timeout(0.1):
            return await watcher.event()
    except TimeoutError:
        return None


async def change(user: Client, what: str, name: str) -> None:
    """One change by its RPC; what it refuses changes nothing."""
    mark = pb.UpdateAssetRequest(asset=pb.Asset(name=name, favorite=True), update_mask=FieldMask(paths=["favorite"]))
    requests: dict[str, Message] = {
        "mark": mark,
        "delete": pb.DeleteAssetRequest(name=name),
        "undelete": pb.UndeleteAssetRequest(name=name),
        "purge": pb.PurgeAssetRequest(name=name),
    }
    try:
        await user.call(requests[what])
    except grpc.aio.AioRpcError as error:
        if error.code() not in REFUSALS:
            raise


def apply(event: pb.WatchAssetsResponse, shown: dict[str, str]) -> None:
    """By the type alone, as the contract has it."""
    if event.change_type in (DELETED, PURGED):
        shown.pop(event.asset.name, None)
    else:
        shown[event.asset.name] = event.asset.etag
