"""A library that somebody holds is its owner's trouble: the others read, change and upload as if nothing was."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.database import create_engine, is_unavailable
from services.common.errors import Unavailable
from services.gallery.adapters import catalog, transactions
from services.gallery.adapters import restoring as restoring_module
from services.gallery.adapters.folders import create_folder
from services.gallery.adapters.journal import Change, lock_owner, record
from services.gallery.adapters.restoring import Restoring
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain.assets import Folder
from services.gallery.domain.folders import FolderRef
from tests.conftest import NewDatabase
from tests.gallery.counts import drift
from tests.gallery.harness import Client, Gallery, refusal, running_gallery
from tests.support.media import png

PICTURE = png(8, 8)
WRITERS = 40
"""More than the pool has connections."""

PENDING = "SELECT count(*) FROM gallery.pending WHERE owner = %s"


@pytest_asyncio.fixture(loop_scope="session")
async def engine(gallery: Gallery) -> AsyncIterator[AsyncEngine]:
    """Another process at the same database."""
    settings = gallery.settings.model_copy(update={"database_pool_size": 6, "database_pool_overflow": 0})
    made = create_engine(settings, application_name="another gallery")
    yield made
    await made.dispose()


@asynccontextmanager
async def held(engine: AsyncEngine, user: Client) -> AsyncIterator[AsyncConnection]:
    """Another process is changing this user's library, and takes its time."""
    async with engine.begin() as connection:
        await lock_owner(connection, user.principal)
        yield connection


async def under_way(user: Client, number: int) -> None:
    """Until so many of the user's uploads are being stored."""
    async with asyncio.timeout(15):
        while True:
            if (await user.gallery.rows(PENDING, user.principal))[0][0] >= number:
                return
            await asyncio.sleep(0.02)


async def code_of(call: Awaitable[Any]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def changes(name: str) -> list[Any]:
    """A call for each way to change a library."""
    return [
        pb.UpdateAssetRequest(asset=pb.Asset(name=name, tags=["t"])),
        pb.DeleteAssetRequest(name=name),
        pb.BatchTagAssetsRequest(names=[name], add_tags=["x"]),
        pb.BatchMoveAssetsRequest(names=[name], folder="f"),
        pb.CreateFolderRequest(folder=pb.Folder(path="new")),
        pb.PurgeAssetRequest(name=name),
    ]


async def test_those_who_wait_for_one_owner_leave_the_others_and_the_health_check_alone(
    user: Client, engine: AsyncEngine
) -> None:
    other = user.gallery.user()
    mine, theirs = (await user.upload(PICTURE)).name, (await other.upload(PICTURE)).name
    async with held(engine, user):
        waiting = [
            asyncio.ensure_future(code_of(user.call(changes(mine)[n % 4 or 2], timeout=60))) for n in range(WRITERS)
        ]
        await asyncio.sleep(0.5)
        async with asyncio.timeout(4):
            await asyncio.gather(*(other.get(theirs) for _ in range(8)), other.page(), user.get(mine), user.page())
            assert await user.gallery.is_serving()
            await other.call(pb.BatchTagAssetsRequest(names=[theirs], add_tags=["free"]))
            assert (await other.upload(PICTURE)).name
    assert set(await asyncio.gather(*waiting)) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert await drift(user) == {}


async def test_uploads_to_a_library_that_is_held_do_not_hold_up_those_to_others(
    user: Client, engine: AsyncEngine
) -> None:
    other = user.gallery.user()
    async with held(engine, user):
        waiting = [asyncio.ensure_future(user.upload(PICTURE)) for _ in range(6)]
        # As many as one user may have under way.
        await under_way(user, user.gallery.settings.max_concurrent_uploads // 4)
        await asyncio.sleep(0.5)
        async with asyncio.timeout(4):
            await asyncio.gather(*(other.upload(PICTURE) for _ in range(4)))
    assert len({asset.name for asset in await asyncio.gather(*waiting)}) == 6
    assert await drift(user) == {}


async def test_waiting_for_a_library_ends_in_time_and_can_be_repeated_because_nothing_was_changed(
    user: Client, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = await user.upload(PICTURE)
    monkeypatch.setattr(transactions, "TURN_SECONDS", 1.0)
    async with held(engine, user):
        calls = [user.call(request, timeout=25) for request in changes(asset.name)]
        refused = await asyncio.gather(*map(refusal, [*calls, user.upload(png(9, 9))]))
    for error in refused:
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        assert (error.metadata["billed"], error.metadata["retrySafe"]) == ("no", "true")
    assert (await user.page(show_deleted=True)).assets == [asset]
    assert await user.gallery.rows(PENDING, user.principal) == [(0,)], "the refused upload has taken its bytes back"
    assert await drift(user) == {}


async def test_who_comes_first_waits_for_the_lock_no_longer_than_a_few_seconds(
    user: Client, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = await user.upload(PICTURE)
    monkeypatch.setattr(transactions, "TURN_SECONDS", 60.0)
    async with held(engine, user):
        error = await refusal(user.call(changes(asset.name)[0], timeout=25))
    assert (error.code, error.metadata["retrySafe"]) == (grpc.StatusCode.UNAVAILABLE, "true")


async def test_a_process_that_is_frozen_in_a_change_frees_the_owner(
    user: Client, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = await user.upload(PICTURE)
    monkeypatch.setattr(transactions, "IDLE_SECONDS", 0.3)

    async def freeze() -> None:
        async with Transactions(engine).of_owner(user.principal) as frozen:
            await user.call(changes(asset.name)[0])
            await frozen.execute(sa.text("SELECT 1"))

    with pytest.raises(DBAPIError) as ended:
        await freeze()
    assert is_unavailable(ended.value)


async def test_changes_and_those_who_wait_for_storage_together_leave_connections_for_reading(
    engine: AsyncEngine,
) -> None:
    shared, go_on, inside = Transactions(engine), asyncio.Event(), 0

    async def hold(transaction: Any) -> None:
        nonlocal inside
        async with transaction:
            inside += 1
            await go_on.wait()

    async with asyncio.TaskGroup() as group:
        for n in range(10):
            group.create_task(hold(shared.of_owner(f"owner-{n}")))
            group.create_task(hold(shared.beside_storage()))
        await asyncio.sleep(1)
        assert inside == 5
        async with asyncio.timeout(2), engine.connect() as reading:
            assert await reading.scalar(sa.text("SELECT 1")) == 1
        go_on.set()
    assert inside == 20


async def test_a_lost_race_between_transactions_can_be_repeated(user: Client, engine: AsyncEngine) -> None:
    """Two transactions that lock rows crosswise: Postgres ends one of them."""
    shared, first_locks, second_locks = Transactions(engine), asyncio.Event(), asyncio.Event()

    async def lock(owner: str, keys: tuple[int, int], mine: asyncio.Event, other: asyncio.Event) -> None:
        async with shared.of_owner(owner) as connection:
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(keys[0])))
            mine.set()
            await other.wait()
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(keys[1])))

    outcomes = await asyncio.gather(
        lock("a", (1, 2), first_locks, second_locks),
        lock("b", (2, 1), second_locks, first_locks),
        return_exceptions=True,
    )
    [lost] = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(lost, Unavailable)
    assert lost.retry_safe


async def test_counting_anew_beside_edits_and_uploads_meets_no_deadlock(
    user: Client, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit into a new folder locks folders before assets, one into a present folder the other way round."""

    async def slow_record(connection: AsyncConnection, recorded: list[Change]) -> None:
        await asyncio.sleep(0.1)
        await record(connection, recorded)

    async def slow_folder(connection: AsyncConnection, owner: str, ref: FolderRef) -> Folder:
        made = await create_folder(connection, owner, ref)
        await asyncio.sleep(0.1)
        return made

    monkeypatch.setattr(catalog, "record", slow_record)
    monkeypatch.setattr(catalog, "create_folder", slow_folder)
    monkeypatch.setattr(restoring_module, "FINISH_TRIES", 1)
    asset, stop, restoring = await user.upload(PICTURE), False, Restoring(engine, Transactions(engine))

    async def edit(kind: str) -> None:
        number = 0
        while not stop:
            number += 1
            folder = "present" if kind == "present" else f"{kind}/{number}"
            await user.call(pb.BatchMoveAssetsRequest(names=[asset.name], folder=folder))
            await user.call(pb.BatchMoveAssetsRequest(names=[asset.name]))

    edits = [asyncio.ensure_future(edit(kind)) for kind in ("present", "new", "newer")]
    for _ in range(6):
        await restoring.finish(changed=False)
        await asyncio.sleep(0.05)
    stop = True
    await asyncio.gather(*edits)
    assert await drift(user) == {}


async def test_counting_anew_is_tried_again_when_a_library_is_held_for_long(
    user: Client, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "LOCK_SECONDS", 0.2)
    shared = Transactions(engine)
    async with shared.of_owner(user.principal):
        finishing = asyncio.ensure_future(Restoring(engine, Transactions(engine)).finish(changed=False))
        await asyncio.sleep(0.5)
        assert not finishing.done()
    await finishing


@pytest.mark.parametrize("named", [False, True], ids=["a new asset each time", "the same asset each time"])
async def test_an_upload_that_timed_out_at_its_commit_may_be_repeated_only_under_its_own_id(
    new_database: NewDatabase, azurite: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    async def hang(connection: AsyncConnection, recorded: list[Change]) -> None:
        await asyncio.sleep(60)

    async with running_gallery(await new_database(), azurite, tmp_path, store_seconds=2) as running:
        user = running.user()
        monkeypatch.setattr(catalog, "record", hang)
        upload = user.as_service().upload(PICTURE, asset_id="one") if named else user.upload(PICTURE)
        error = await refusal(upload)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert error.metadata["retrySafe"] == str(named).lower()
    assert "nothing was changed" not in error.message
