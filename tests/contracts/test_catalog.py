"""What everything relies on in the index, against a real Postgres: one way in, one owner, all or nothing."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import pytest_asyncio
import sqlalchemy as sa
from pydantic import SecretStr

from services.common.database import create_engine
from services.common.errors import FailedPrecondition, NotFound, Unavailable
from services.gallery.__main__ import apply_migrations
from services.gallery.adapters.attempts import AttemptGivenUp, Attempts
from services.gallery.adapters.catalog import Catalog, Circumstances
from services.gallery.adapters.inventory import Inventory
from services.gallery.adapters.journal import lock_owner
from services.gallery.adapters.mirror import Mirror
from services.gallery.adapters.purges import Purges
from services.gallery.adapters.restoring import Restoring
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain import lifecycle
from services.gallery.domain.assets import Asset, Media, MediaType, Provenance
from services.gallery.domain.folders import FolderId, FolderPath, FolderRecord
from services.gallery.domain.uploads import NewAsset
from services.gallery.settings import GallerySettings
from tests.conftest import NewDatabase

MEDIA = Media(MediaType.IMAGE, "image/png", 10, "0" * 64, 1, 1)


class Index:
    """The catalogue and what goes with it, without storage."""

    def __init__(self, url: str) -> None:
        self.url = url
        given: dict[str, Any] = {"database_url": SecretStr(url), "azure_storage_account_name": "none"}
        self.settings = GallerySettings(**given)
        self.engine = create_engine(self.settings, application_name="contract")
        transactions = Transactions(self.engine)
        self.catalog = Catalog(self.engine, transactions)
        self.attempts = Attempts(self.engine)
        self.purges = Purges(self.engine, transactions)
        self.inventory = Inventory(self.engine)

    def new(self, owner: str, **fields: Any) -> NewAsset:
        made = NewAsset(str(uuid.uuid4()), owner, "n", None, MEDIA, Provenance(), ("t",), {})
        return replace(made, **fields)

    async def insert(self, new: NewAsset) -> Asset | None:
        attempt = await self.attempts.begin(new.owner, new.id)
        return await self.catalog.insert(new, _nothing, attempt)

    async def stored(self, owner: str, **fields: Any) -> Asset:
        asset = await self.insert(self.new(owner, **fields))
        assert asset is not None
        return asset

    async def count(self, query: str, *values: object) -> int:
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            row = await (await connection.execute(query.encode(), values)).fetchone()
        assert row is not None
        return int(row[0])


async def _nothing(asset: Asset) -> None:
    """A document that is written at once."""


def soft_delete(asset: Asset, at: Circumstances) -> Asset:
    return lifecycle.soft_delete(asset, at.now, retention=timedelta(days=1))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def index(new_database: NewDatabase) -> AsyncIterator[Index]:
    made = Index(await new_database())
    await apply_migrations(made.settings)
    yield made
    await made.engine.dispose()


@pytest.fixture
def owner() -> str:
    return f"owner-{uuid.uuid4()}"


async def test_an_inserted_asset_is_read_back_as_it_was_stored(index: Index, owner: str) -> None:
    stored = await index.stored(owner, folder=FolderPath("a/b"), labels={"k": "v"})
    assert await index.catalog.get(owner, stored.id) == stored
    assert await index.catalog.get("somebody else", stored.id) is None
    assert stored.folder is not None
    assert stored.folder.path == "a/b"
    assert await index.count("SELECT count(*) FROM gallery.pending WHERE owner = %s", owner) == 0


async def test_an_id_is_inserted_once_however_many_try(index: Index, owner: str) -> None:
    new = index.new(owner)
    outcomes = await asyncio.gather(*(index.insert(new) for _ in range(6)))
    assert sum(outcome is not None for outcome in outcomes) == 1
    assert await index.count("SELECT image_count FROM gallery.total WHERE owner = %s", owner) == 1


async def test_nothing_is_inserted_when_the_document_cannot_be_written(index: Index, owner: str) -> None:
    new = index.new(owner, folder=FolderPath("never"))
    attempt = await index.attempts.begin(owner, new.id)

    async def fail(asset: Asset) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await index.catalog.insert(new, fail, attempt)
    assert await index.catalog.find(new.id) is None
    assert await index.count("SELECT count(*) FROM gallery.folder WHERE owner = %s", owner) == 0
    assert await index.count("SELECT count(*) FROM gallery.pending WHERE owner = %s", owner) == 1


async def test_an_attempt_that_was_given_up_inserts_nothing(index: Index, owner: str) -> None:
    new = index.new(owner)
    attempt = await index.attempts.begin(owner, new.id)
    assert await index.attempts.abandon(new.id, timedelta(0))
    with pytest.raises(AttemptGivenUp):
        await index.catalog.insert(new, _nothing, attempt)
    assert await index.catalog.find(new.id) is None
    with pytest.raises(Unavailable):
        await index.attempts.begin(owner, new.id)


async def test_a_change_is_of_all_or_none_and_counts_once(index: Index, owner: str) -> None:
    first, second = await index.stored(owner), await index.stored(owner)
    with pytest.raises(NotFound):
        await index.catalog.change(owner, [first.id, "nothing"], soft_delete)
    assert await index.catalog.get(owner, first.id) == first
    deleted = await index.catalog.change(owner, [second.id, first.id], soft_delete)
    assert [asset.id for asset in deleted] == [second.id, first.id]
    assert {asset.revision for asset in deleted} == {2}
    assert await index.catalog.change(owner, [first.id], soft_delete) == [deleted[1]]
    assert await index.count("SELECT deleted_count FROM gallery.total WHERE owner = %s", owner) == 2
    assert await index.count("SELECT count(*) FROM gallery.asset_change WHERE owner = %s", owner) == 4


async def test_another_owners_folder_is_not_there(index: Index, owner: str) -> None:
    theirs = await index.stored("folder owner", folder=FolderPath("f"))
    assert theirs.folder is not None
    with pytest.raises(NotFound):
        await index.insert(index.new(owner, folder=FolderId(theirs.folder.id)))


async def test_an_owners_assets_never_get_the_same_time(index: Index, owner: str) -> None:
    times = [asset.create_time for asset in await asyncio.gather(*(index.stored(owner) for _ in range(8)))]
    assert len(set(times)) == 8


async def test_a_purge_is_final_and_of_deleted_assets_alone(index: Index, owner: str) -> None:
    asset = await index.stored(owner)
    with pytest.raises(FailedPrecondition):
        await index.purges.purge(owner, asset.id)
    await index.catalog.change(owner, [asset.id], soft_delete)
    with pytest.raises(NotFound):
        await index.purges.purge("somebody else", asset.id)
    await index.purges.purge(owner, asset.id)
    assert await index.catalog.find(asset.id) is None
    with pytest.raises(FailedPrecondition):
        await index.attempts.begin(owner, asset.id)


async def test_what_is_undeleted_while_the_purge_of_the_overdue_waits_is_kept(index: Index, owner: str) -> None:
    asset = await index.stored(owner, tags=())
    await index.catalog.change(owner, [asset.id], soft_delete)
    async with index.engine.begin() as connection:
        this = {"id": asset.id}
        await lock_owner(connection, owner)
        overdue = "UPDATE gallery.asset SET purge_time = now() - interval '1 s' WHERE id = :id"
        async with index.engine.begin() as other:
            await other.execute(sa.text(overdue), this)
        purging = asyncio.ensure_future(index.purges.purge_overdue(10))
        await asyncio.sleep(0.3)
        undelete = "UPDATE gallery.asset SET delete_time = NULL, purge_time = NULL WHERE id = :id"
        await connection.execute(sa.text(undelete), this)
        await connection.execute(
            sa.text("UPDATE gallery.total SET image_count = 1, deleted_count = 0 WHERE owner = :owner"),
            {"owner": owner},
        )
    assert await purging == 0
    assert await index.catalog.get(owner, asset.id) is not None


async def test_counts_are_what_the_rows_say(index: Index, owner: str) -> None:
    assets = [await index.stored(owner, folder=FolderPath("c/d"), tags=("x", "y")) for _ in range(3)]
    await index.catalog.change(owner, [assets[0].id], soft_delete)
    await index.purges.purge(owner, assets[0].id)
    assert await index.inventory.wrong_counts() == []


async def test_of_two_mirrors_each_gets_other_documents(index: Index, owner: str) -> None:
    for _ in range(4):
        asset = await index.stored(owner)
        await index.catalog.change(owner, [asset.id], soft_delete)
    mirror = Mirror(Transactions(index.engine))
    async with mirror.assets(2) as first, mirror.assets(1000) as second:
        assert len(first.items) == 2
        assert {each.id for each in first.items}.isdisjoint({each.id for each in second.items})
        first.written += first.items
    async with mirror.assets(1000) as rest:
        assert {each.id for each in first.items}.isdisjoint({each.id for each in rest.items})


async def test_a_restored_folder_is_written_when_it_is_missing_or_older_and_told_when_its_path_is_taken(
    index: Index, owner: str
) -> None:
    restoring, now = Restoring(index.engine, Transactions(index.engine)), datetime.now(UTC)
    first = FolderRecord(f"f-{owner}", owner, "a", 0, 1, now, now)
    renamed = replace(first, path="b", revision=2)
    for record in (first, renamed, first):
        assert await restoring.folders([record]) == []
    assert await index.count("SELECT revision FROM gallery.folder WHERE id = %s AND path = 'b'", first.id) == 2
    rival = replace(renamed, id=f"g-{owner}")
    assert await restoring.folders([rival]) == [rival]
