"""What a broken upload leaves is swept, whatever step it broke at, and nothing else ever is."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio

from services.gallery.adapters.attempts import Attempts
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.adapters.catalog import Catalog
from services.gallery.domain.assets import MediaType
from services.gallery.domain.document import from_document
from tests.gallery.harness import Client, Gallery, refusal
from tests.gallery.test_purge import blobs_of, purge
from tests.gallery.upkeep import Upkeep, upkeep_of
from tests.support.media import png

PICTURE = png(8, 8)
HOUR = timedelta(hours=1)


@pytest_asyncio.fixture(loop_scope="session")
async def upkeep(gallery: Gallery) -> AsyncIterator[Upkeep]:
    async with upkeep_of(gallery) as running:
        yield running


class Crash(Exception):
    """The process ends here; under the id of a service no upload cleans up after itself."""


STEPS = [(Attempts, "begin"), (AzureBlobStore, "put"), (AzureBlobStore, "replace"), (Catalog, "insert")]


def crash_at(patch: pytest.MonkeyPatch, owner: type, step: str, *, after: bool) -> None:
    original = getattr(owner, step)

    async def crashing(self: Any, *arguments: Any, **named: Any) -> Any:
        if after:
            await original(self, *arguments, **named)
        raise Crash

    patch.setattr(owner, step, crashing)


async def pending(user: Client) -> int:
    [(count,)] = await user.gallery.rows("SELECT count(*) FROM gallery.pending WHERE owner = %s", user.principal)
    return int(count)


async def grow_old(user: Client) -> None:
    old = "UPDATE gallery.pending SET create_time = create_time - interval '2 h' WHERE owner = %s"
    await user.gallery.execute(old, user.principal)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
async def test_a_crash_at_any_step_of_an_upload_leaves_nothing_after_the_sweep(
    user: Client, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch, owner: type, step: str, after: bool
) -> None:
    service, asset_id = user.as_service(), str(uuid.uuid4())
    with monkeypatch.context() as patch:
        crash_at(patch, owner, step, after=after)
        await refusal(service.upload(PICTURE, asset_id=asset_id))
    stored = (owner, step, after) == (Catalog, "insert", True)
    assert await pending(user) == (0 if stored or (owner is Attempts and not after) else 1)
    await upkeep.sweep(HOUR)
    assert await pending(user) == (0 if stored or (owner is Attempts and not after) else 1), "it is not old enough"
    await grow_old(user)
    await upkeep.sweep(HOUR)
    assert await pending(user) == 0
    assert bool(await blobs_of(user, asset_id)) is stored
    assert [each for each in await upkeep.findings() if asset_id in each.what] == []
    again = await service.upload(PICTURE, asset_id=asset_id)
    assert (await user.download(again.name)).data == PICTURE


async def test_an_upload_that_succeeds_or_takes_its_bytes_back_leaves_no_trace(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await user.upload(PICTURE)
    assert await pending(user) == 0

    async def failing(*_: Any, **__: Any) -> None:
        raise OSError("the network")

    with monkeypatch.context() as patch:
        patch.setattr(AzureBlobStore, "put", failing)
        await refusal(user.upload(PICTURE))
    assert await pending(user) == 0


async def test_a_younger_attempt_protects_what_an_older_one_has_stored(user: Client, upkeep: Upkeep) -> None:
    attempts, asset_id = Attempts(upkeep.engine), str(uuid.uuid4())
    await attempts.begin(user.principal, asset_id)
    await grow_old(user)
    await attempts.begin(user.principal, asset_id)
    assert not await attempts.abandon(asset_id, HOUR), "it came after the sweep had looked"
    await upkeep.sweep(HOUR)
    assert await pending(user) == 2


async def test_an_asset_whose_attempt_stayed_behind_is_left_alone(user: Client, upkeep: Upkeep) -> None:
    """A repetition that crashed after the first upload had succeeded."""
    asset = await user.as_service().upload(PICTURE, asset_id=str(uuid.uuid4()))
    await Attempts(upkeep.engine).begin(user.principal, asset.name[7:])
    await grow_old(user)
    await upkeep.sweep(HOUR)
    assert await pending(user) == 0
    assert (await user.download(asset.name)).data == PICTURE


async def test_bytes_that_no_attempt_names_are_never_removed(user: Client, upkeep: Upkeep) -> None:
    """The index was restored from an old backup: they are somebody's only copy."""
    asset = await user.upload(PICTURE)
    await user.gallery.execute("DELETE FROM gallery.asset WHERE id = %s", asset.name[7:])
    await upkeep.sweep()
    assert len(await blobs_of(user, asset.name[7:])) >= 2


async def test_a_repetition_waits_while_leftovers_are_removed(
    user: Client, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, asset_id = user.as_service(), str(uuid.uuid4())
    reached, go_on, delete = asyncio.Event(), asyncio.Event(), AzureBlobStore.delete
    with monkeypatch.context() as patch:
        crash_at(patch, AzureBlobStore, "replace", after=False)
        await refusal(service.upload(PICTURE, asset_id=asset_id))

    async def slow(self: AzureBlobStore, *arguments: Any, **named: Any) -> None:
        reached.set()
        await go_on.wait()
        await delete(self, *arguments, **named)

    monkeypatch.setattr(AzureBlobStore, "delete", slow)
    await grow_old(user)
    sweeping = asyncio.ensure_future(upkeep.sweep(HOUR))
    await reached.wait()
    error = await refusal(service.upload(PICTURE, asset_id=asset_id))
    assert (error.code, error.metadata["retrySafe"]) == (grpc.StatusCode.UNAVAILABLE, "true")
    go_on.set()
    await sweeping
    async with asyncio.timeout(20):
        while await user.gallery.rows("SELECT FROM gallery.asset_removal WHERE asset_id = %s", asset_id):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.05)
    stored = await service.upload(PICTURE, asset_id=asset_id)
    assert (await user.download(stored.name)).data == PICTURE


async def test_a_removal_that_is_late_does_not_take_what_a_repetition_has_stored(user: Client, upkeep: Upkeep) -> None:
    """A worker was frozen after it had looked; another one finished, and a repetition came."""
    service, asset_id = user.as_service(), str(uuid.uuid4())
    asset = await service.upload(PICTURE, asset_id=asset_id)
    [seen] = [facts async for facts in upkeep.blobs.walk(MediaType.IMAGE, f"{asset_id}/original")]
    await upkeep.blobs.delete(seen.key)
    await user.gallery.execute("DELETE FROM gallery.asset WHERE id = %s", asset_id)
    await service.upload(PICTURE, asset_id=asset_id)
    await upkeep.blobs.delete(seen.key, etag=seen.etag)
    assert (await user.download(asset.name)).data == PICTURE


async def test_an_upload_that_was_frozen_for_longer_than_the_limit_cannot_commit(
    user: Client, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes have been swept: it would be a row without bytes."""
    service, asset_id = user.as_service(), str(uuid.uuid4())
    reached, go_on, insert = asyncio.Event(), asyncio.Event(), Catalog.insert

    async def frozen(self: Catalog, *arguments: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await insert(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "insert", frozen)
        upload = asyncio.ensure_future(refusal(service.upload(PICTURE, asset_id=asset_id)))
        await reached.wait()
        await grow_old(user)
        await upkeep.sweep(HOUR)
        assert await blobs_of(user, asset_id) == []
        go_on.set()
        assert (await upload).code is grpc.StatusCode.UNAVAILABLE
    assert (await refusal(user.get(f"assets/{asset_id}"))).reason == "ASSET_NOT_FOUND"
    await grow_old(user)
    await upkeep.sweep(HOUR)
    assert await blobs_of(user, asset_id) == [], "what it wrote while it was given up is swept too"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("part", ["asset.json", "original"])
async def test_a_purge_that_breaks_between_two_blobs_goes_on_and_brings_nothing_back(
    user: Client, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch, part: str, after: bool
) -> None:
    asset = await user.upload(PICTURE)
    deleted, delete = asyncio.Event(), AzureBlobStore.delete

    async def crashing(self: AzureBlobStore, key: Any, **named: Any) -> None:
        if not key.name.endswith(part):
            return await delete(self, key, **named)
        if after:
            await delete(self, key, **named)
        deleted.set()
        raise OSError("the process ends here")

    await user.delete(asset.name)
    with monkeypatch.context() as patch:
        patch.setattr(AzureBlobStore, "delete", crashing)
        await purge(user, asset.name)
        await deleted.wait()
        if part == "original":
            documents = [name for name in await blobs_of(user, asset.name[7:]) if name.endswith("asset.json")]
            assert documents == [], "were the index lost now, the document would bring it back"
        await upkeep.rebuild()
        assert await user.names(show_deleted=True) == [], "it does not come back although its bytes are there"
    await upkeep.sweep()
    assert await blobs_of(user, asset.name[7:]) == []


async def test_a_hundred_changes_at_once_are_in_storage_within_five_seconds(user: Client) -> None:
    asset = await user.upload(PICTURE)
    copied = "owner, display_name, media_type, mime_type, size_bytes, sha256"
    await user.gallery.execute(
        f"INSERT INTO gallery.asset (id, document_revision, derive_time, {copied}) "  # noqa: S608 - our own names
        f"SELECT 'hundred-' || n || '-' || id, 0, NULL, {copied} FROM gallery.asset, generate_series(1, 100) n "
        "WHERE id = %s",
        asset.name[7:],
    )
    behind = "SELECT count(*) FROM gallery.asset WHERE owner = %s AND document_revision < revision"
    async with asyncio.timeout(5):
        while (await user.gallery.rows(behind, user.principal)) != [(0,)]:  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.1)
    document = from_document(await user.gallery.blob(f"hundred-100-{asset.name[7:]}/asset.json"))
    assert document.owner == user.principal
