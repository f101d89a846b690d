"""A finished picture reaches the gallery: at once, or from the spool, or its bytes wait for the operator."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import create_async_engine

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.database import sqlalchemy_url
from services.common.status import from_status
from services.image import making
from services.image.adapters import spool as spooling
from services.image.adapters.tables import generation, picture, spool
from services.image.settings import ImageSettings
from services.models.money import Cost, CostSource
from tests.image.galleries import ServedGallery, StoredGallery, silent_server
from tests.image.harness import Service, running_image, until
from tests.support.media import png
from tests.support.openai_server import OpenAIServer, draws
from tests.support.ports import free_port


async def spooled(service: Service, name: str) -> list[dict[str, Any]]:
    """What the spool holds of a generation."""
    engine = create_async_engine(sqlalchemy_url(service.settings.database_url.get_secret_value()))
    generation_id = name.removeprefix("imageGenerations/")
    columns = (spool.c.index, spool.c.attempts, spool.c.next_attempt_time, func.length(spool.c.content).label("size"))
    async with engine.connect() as connection:
        rows = await connection.execute(select(*columns).where(spool.c.generation == generation_id))
        found = [dict(row) for row in rows.mappings()]
    await engine.dispose()
    return found


def aimed_at(service: Service, address: str, **overrides: Any) -> ImageSettings:
    """The service's settings with another gallery: a replica that cannot deliver, beside one that can."""
    return service.settings.model_copy(update={"gallery_target": address, **overrides})


@pytest.fixture
def port() -> int:
    """Where the gallery of `alone` will be."""
    return free_port()


@pytest_asyncio.fixture(loop_scope="session")
async def alone(service: Service, port: int, database_url: str) -> AsyncIterator[Service]:
    """A service of its own whose gallery is away: nobody else delivers what it makes."""
    settings = aimed_at(service, f"127.0.0.1:{port}", database_url=SecretStr(database_url))
    async with running_image(settings, service.selection) as running:
        yield running


async def test_pictures_wait_for_a_gallery_that_is_away_and_then_arrive(
    alone: Service, port: int, provider: OpenAIServer, stored_gallery: StoredGallery
) -> None:
    generation = await alone.generate(n=2)
    assert generation.state == pb.ImageGeneration.STORING
    assert [pb.ImageResult.State.Name(one.state) for one in generation.results] == ["SPOOLED", "SPOOLED"]
    assert list(generation.assets) == []
    assert generation.cost.amount_micro_usd > 0
    promised = [one.asset for one in generation.results]
    async with stored_gallery.served(port) as late:
        ended = await alone.ended(generation.name, "SUCCEEDED")
        assert list(ended.assets) == promised
        assert [await late.content(name) for name in promised] == provider.sent
        assert ended.results[0].width_px == 32
    assert await spooled(alone, generation.name) == []
    assert len(provider.charges) == 1


async def test_a_gallery_that_says_nothing_is_given_up_in_time(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    async with silent_server() as address:
        settings = aimed_at(service, address, upload_seconds=0.5)
        async with running_image(settings, service.selection) as patient:
            generation = await patient.generate()
            assert generation.state == pb.ImageGeneration.STORING
    ended = await service.ended(generation.name, "SUCCEEDED")
    assert await gallery.content(ended.assets[0]) == provider.sent[0]


async def test_a_gallery_that_refuses_our_credentials_gets_the_pictures_when_they_are_right(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, tmp_path: Any
) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("wrong")
    settings = service.settings.model_copy(update={"service_token_file": str(wrong)})
    async with running_image(settings, service.selection) as stranger:
        generation = await stranger.generate()
        assert generation.state == pb.ImageGeneration.STORING
    ended = await service.ended(generation.name, "SUCCEEDED")
    assert await gallery.content(ended.assets[0]) == provider.sent[0]


async def test_a_picture_that_is_delivered_twice_is_one_asset(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    """The acknowledgement is lost: what the gallery has is still in the spool, and is delivered again."""
    first = await service.generate()
    generation_id = first.name.removeprefix("imageGenerations/")
    await forget_delivery(service, generation_id, provider.sent[0])
    again = await service.ended(first.name, "SUCCEEDED")
    assert list(again.assets) == list(first.assets)
    assert len(await gallery.assets_of(first.name)) == 1


async def forget_delivery(service: Service, generation_id: str, content: bytes) -> None:
    """Puts the database back to before the acknowledgement."""
    engine = create_async_engine(sqlalchemy_url(service.settings.database_url.get_secret_value()))
    async with engine.begin() as connection:
        await connection.execute(update(generation).where(generation.c.id == generation_id).values(state="STORING"))
        await connection.execute(update(picture).where(picture.c.generation == generation_id).values(state="SPOOLED"))
        row = {"generation": generation_id, "index": 0, "content": content, "next_attempt_time": func.now()}
        await connection.execute(spool.insert().values(row))
    await engine.dispose()


async def test_bytes_that_are_no_image_are_kept_for_the_operator_and_not_tried_again(
    service: Service, provider: OpenAIServer
) -> None:
    provider.then(draws(contents=[png(8, 8), b"this is no image at all"]))
    generation = await service.generate(n=2)
    assert generation.state == pb.ImageGeneration.PARTIALLY_SUCCEEDED
    error = from_status(generation.results[1].error)
    assert (error.reason, error.billed.value) == ("PROVIDER_BAD_RESPONSE", "yes")
    [kept] = await spooled(service, generation.name)
    assert (kept["index"], kept["size"], kept["next_attempt_time"]) == (1, 23, None)


async def test_a_cost_that_no_column_holds_costs_no_picture(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A price that an operator mistyped, say."""
    monkeypatch.setattr("services.models.images.cost_of", lambda usage, price: Cost(CostSource.COMPUTED, 10**30))
    name = (await service.generate(n=2)).name
    generation = await service.ended(name, "SUCCEEDED")
    assert [await gallery.content(asset) for asset in generation.assets] == provider.sent
    assert generation.cost.source == pb.Cost.UNPRICED


async def test_a_folder_that_is_gone_after_payment_does_not_lose_the_picture(
    alone: Service, port: int, provider: OpenAIServer, stored_gallery: StoredGallery
) -> None:
    # The gallery is away and cannot say that there is no such folder.
    generation = await alone.generate(folder="folders/no-such-folder", display_name="Mine", tags=["a"])
    assert generation.state == pb.ImageGeneration.STORING
    async with stored_gallery.served(port) as late:
        ended = await alone.ended(generation.name, "SUCCEEDED")
        asset = await late.asset(ended.assets[0])
    assert asset.folder == ""
    error = from_status(ended.error)
    assert (error.reason, error.metadata) == ("STORAGE_FAILED", {"galleryReason": "FOLDER_NOT_FOUND"})


async def test_many_pictures_wait_and_all_arrive(
    alone: Service, port: int, provider: OpenAIServer, stored_gallery: StoredGallery
) -> None:
    waiting = await asyncio.gather(*(alone.generate(n=3) for _ in range(6)))
    assert {one.state for one in waiting} == {pb.ImageGeneration.STORING}
    async with stored_gallery.served(port) as late:
        for one in waiting:
            ended = await alone.ended(one.name, "SUCCEEDED")
            assert len(await late.assets_of(one.name)) == len(ended.assets) == 3


async def test_replicas_share_the_work_of_one_spool(
    alone: Service, port: int, provider: OpenAIServer, stored_gallery: StoredGallery
) -> None:
    async with running_image(alone.settings, alone.selection) as other:
        waiting = [await each.generate() for each in (alone, other, alone, other)]
        async with stored_gallery.served(port) as late:
            for made in waiting:
                await other.ended(made.name, "SUCCEEDED")
                assert len(await late.assets_of(made.name)) == 1


async def test_more_pictures_than_go_up_at_a_time_are_their_makers_for_longer(
    service: Service, provider: OpenAIServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody uploads a picture a second time because the first ones took long."""
    monkeypatch.setattr(making, "STRAIGHT_SECONDS", 0.0)
    async with silent_server() as address:
        settings = aimed_at(
            service, address, lease_seconds=10.0, upload_seconds=5.0, database_url=SecretStr(database_url)
        )
        async with running_image(settings, service.selection) as slow:
            generating = asyncio.create_task(slow.generate(n=10))

            async def kept() -> list[dict[str, Any]]:
                listed = await slow.stub.ListImageGenerations(pb.ListImageGenerationsRequest())
                return [row for one in listed.image_generations for row in await spooled(slow, one.name)]

            rows = await until(kept)
            generating.cancel()
    assert len(rows) == 10
    assert all(row["next_attempt_time"] > datetime.now(UTC) + timedelta(seconds=20) for row in rows)


async def test_a_picture_that_goes_straight_to_the_gallery_is_never_in_the_spool(
    service: Service, provider: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes would be written, logged and deleted for nothing."""
    put: list[dict[int, bytes]] = []
    original = spooling.put

    async def noted(connection: Any, generation_id: str, contents: dict[int, bytes], **how: Any) -> None:
        put.append(contents)
        await original(connection, generation_id, contents, **how)

    monkeypatch.setattr(spooling, "put", noted)
    generation = await service.generate(n=2)
    assert generation.state == pb.ImageGeneration.SUCCEEDED
    assert put == [{}]


async def test_a_gallery_that_takes_its_time_gets_the_pictures_while_they_are_safe_in_the_spool(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "STRAIGHT_SECONDS", 0.0)
    generation = await service.generate(n=2)
    assert generation.state == pb.ImageGeneration.SUCCEEDED
    assert await spooled(service, generation.name) == []
    assert [await gallery.content(name) for name in generation.assets] == provider.sent


async def test_the_number_of_waiting_pictures_is_measured(alone: Service, provider: OpenAIServer) -> None:
    await alone.generate(n=2)

    async def gauge() -> bool:
        return alone.metric("contentlab_spooled_images") == 2

    assert await until(gauge)
