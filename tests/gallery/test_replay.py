"""Uploads with an id of the paying service: however often and at once, one asset, and never another's."""

import asyncio
import hashlib
import uuid

import grpc
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from tests.gallery.harness import Client, refusal, upload_messages
from tests.gallery.media import video
from tests.support.media import png

PICTURE = png(32, 24)
OTHER = png(32, 24, seed=1)


def new_asset_id() -> str:
    return str(uuid.uuid4())


async def test_the_same_bytes_again_give_the_stored_asset(user: Client) -> None:
    service, asset_id = user.as_service(), new_asset_id()
    first = await service.upload(PICTURE, asset_id=asset_id, display_name="first")
    again = await service.upload(PICTURE, asset_id=asset_id, display_name="second")
    assert first.name == f"assets/{asset_id}"
    assert again == first
    assert await user.names() == [first.name]


async def test_other_bytes_under_the_same_id_are_refused(user: Client) -> None:
    service, asset_id = user.as_service(), new_asset_id()
    first = await service.upload(PICTURE, asset_id=asset_id)
    error = await refusal(service.upload(OTHER, asset_id=asset_id))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ASSET_EXISTS")
    assert error.resource == first.name
    assert (await user.download(first.name)).data == PICTURE


async def test_a_replay_is_answered_before_its_bytes_are_sent(user: Client) -> None:
    service, asset_id = user.as_service(), new_asset_id()
    first = await service.upload(PICTURE, asset_id=asset_id)
    assert await service.send(upload_messages(PICTURE, asset_id=asset_id)[:1]) == first


async def test_a_deleted_asset_is_still_the_answer_to_its_replay(user: Client) -> None:
    service, asset_id = user.as_service(), new_asset_id()
    first = await service.upload(PICTURE, asset_id=asset_id)
    deleted = await user.delete(first.name)
    assert await service.upload(PICTURE, asset_id=asset_id) == deleted


@pytest.mark.parametrize("data", [PICTURE, video(9_000_000)], ids=["one piece", "blocks"])
async def test_many_at_once_make_one_asset_and_all_get_it(user: Client, data: bytes) -> None:
    service, asset_id = user.as_service(), new_asset_id()
    stored = await asyncio.gather(
        *(service.upload(data, asset_id=asset_id, folder="a/b", display_name=f"number {n}") for n in range(8))
    )
    assert all(asset == stored[0] for asset in stored)
    assert await user.names() == [f"assets/{asset_id}"]
    assert (await user.download(stored[0].name)).data == data


@pytest.mark.parametrize("size", [10_000, 9_000_000])
async def test_of_different_bytes_at_once_one_is_stored_and_the_others_are_refused(user: Client, size: int) -> None:
    service, asset_id = user.as_service(), new_asset_id()
    files = [video(size - 1) + bytes([number]) for number in range(4)]
    outcomes = await asyncio.gather(
        *(service.upload(data, asset_id=asset_id) for data in files), return_exceptions=True
    )
    stored = [outcome for outcome in outcomes if isinstance(outcome, pb.Asset)]
    assert len(stored) == 1
    for outcome in outcomes:
        if isinstance(outcome, grpc.aio.AioRpcError):
            assert outcome.code() == grpc.StatusCode.ALREADY_EXISTS
    data = (await user.download(stored[0].name)).data
    assert hashlib.sha256(data).hexdigest() == stored[0].sha256


@pytest.mark.parametrize("data", [PICTURE, OTHER], ids=["same bytes", "other bytes"])
async def test_an_id_of_another_owner_is_taken_and_nothing_of_it_is_shown(user: Client, data: bytes) -> None:
    asset_id, stranger = new_asset_id(), user.gallery.user()
    mine = await user.as_service().upload(PICTURE, asset_id=asset_id, display_name="a secret name")
    error = await refusal(stranger.as_service().upload(data, asset_id=asset_id))
    assert error.reason == "ASSET_EXISTS"
    assert error.metadata.keys() == {"name", "billed", "retrySafe", "requestId"}
    assert "secret" not in str(error)
    assert mine.sha256 not in str(error)
    assert await stranger.names(show_deleted=True) == []
    assert (await refusal(stranger.get(mine.name))).reason == "ASSET_NOT_FOUND"
    assert await user.get(mine.name) == mine


async def test_two_owners_at_once_with_one_id_make_one_asset(user: Client) -> None:
    asset_id, stranger = new_asset_id(), user.gallery.user()
    outcomes = await asyncio.gather(
        *(caller.as_service().upload(PICTURE, asset_id=asset_id) for caller in (user, stranger) * 3),
        return_exceptions=True,
    )
    owners = {outcome.owner for outcome in outcomes if isinstance(outcome, pb.Asset)}
    assert len(owners) == 1
    assert sum(isinstance(outcome, pb.Asset) for outcome in outcomes) == 3
    assert [await user.names(), await stranger.names()].count([f"assets/{asset_id}"]) == 1
