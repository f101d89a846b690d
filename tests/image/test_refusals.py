"""A picture that was paid for is not lost to a gallery that refuses it: it is asked again, and its bytes stay."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import Interval, cast, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.database import sqlalchemy_url
from services.common.status import from_status
from services.image.__main__ import forget_refused, requeue
from services.image.adapters.tables import spool
from tests.image.galleries import StoredGallery
from tests.image.harness import Service, running_image, until
from tests.support.media import png
from tests.support.openai_server import OpenAIServer, draws
from tests.support.ports import free_port


@pytest.fixture
def port() -> int:
    """Where the gallery of `alone` will be."""
    return free_port()


@pytest_asyncio.fixture(loop_scope="session")
async def alone(service: Service, port: int, database_url: str) -> AsyncIterator[Service]:
    """A service with a database and a gallery of its own."""
    overrides = {"gallery_target": f"127.0.0.1:{port}", "database_url": SecretStr(database_url)}
    async with running_image(service.settings.model_copy(update=overrides), service.selection) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(sqlalchemy_url(database_url))
    yield made
    await made.dispose()


async def spooled(engine: AsyncEngine) -> list[dict[str, Any]]:
    """What the spool holds, with the seconds until the next attempt."""
    wait = func.extract("epoch", spool.c.next_attempt_time - func.now()).label("wait")
    async with engine.connect() as connection:
        rows = await connection.execute(select(spool.c.index, spool.c.attempts, spool.c.content, wait))
        return [dict(row) for row in rows.mappings()]


async def make_due(engine: AsyncEngine, *, days_later: int = 0) -> None:
    """Lets so much time pass, and a little more."""
    age = cast(literal(f"{days_later} days"), Interval)
    async with engine.begin() as connection:
        values = {"next_attempt_time": func.now(), "create_time": spool.c.create_time - age}
        await connection.execute(update(spool).where(spool.c.next_attempt_time.is_not(None)).values(values))


async def test_a_gallery_that_is_slow_for_a_moment_costs_no_picture(
    alone: Service, port: int, provider: OpenAIServer, stored_gallery: StoredGallery, engine: AsyncEngine
) -> None:
    provider.then(draws(width=3000, height=3000))
    async with stored_gallery.served(port, inspection_seconds=0.001):
        generation = await alone.generate()
        assert generation.state == pb.ImageGeneration.STORING
    [waiting] = await spooled(engine)
    assert waiting["wait"] > 15, "each attempt costs the gallery as much as the last"
    await make_due(engine)
    async with stored_gallery.served(port) as well:
        ended = await alone.ended(generation.name, "SUCCEEDED")
        assert await well.content(ended.assets[0]) == provider.sent[0]
    assert await spooled(engine) == []


@pytest.mark.parametrize("limit", [{"max_image_pixels": 100}, {"max_upload_bytes": 60}])
async def test_a_picture_above_the_gallerys_limits_waits_until_they_are_raised(
    limit: dict[str, int],
    alone: Service,
    port: int,
    provider: OpenAIServer,
    stored_gallery: StoredGallery,
    engine: AsyncEngine,
) -> None:
    async with stored_gallery.served(port, **limit):
        generation = await alone.generate()
        assert generation.state == pb.ImageGeneration.STORING
    [waiting] = await spooled(engine)
    assert waiting["wait"] > 300
    await make_due(engine)
    async with stored_gallery.served(port) as raised:
        ended = await alone.ended(generation.name, "SUCCEEDED")
        assert await raised.content(ended.assets[0]) == provider.sent[0]


async def test_a_picture_that_was_given_up_keeps_its_bytes_and_can_be_handed_over_again(
    alone: Service, port: int, provider: OpenAIServer, stored_gallery: StoredGallery, engine: AsyncEngine
) -> None:
    provider.then(draws(contents=[png(8, 8), png(90, 90)]))
    async with stored_gallery.served(port, max_image_pixels=100):
        generation = await alone.generate(n=2)
        await make_due(engine, days_later=8)
        ended = await alone.ended(generation.name, "PARTIALLY_SUCCEEDED")
    error = from_status(ended.results[1].error)
    assert (error.reason, error.billed.value) == ("STORAGE_FAILED", "yes")
    assert error.metadata == {"galleryReason": "IMAGE_TOO_LARGE"}
    [kept] = await spooled(engine)
    assert (kept["content"], kept["wait"]) == (provider.sent[1], None)

    async def counted() -> bool:
        return alone.metric("contentlab_refused_images") == 1

    assert await until(counted)
    async with stored_gallery.served(port) as raised:
        await requeue(alone.settings)
        again = await alone.ended(generation.name, "SUCCEEDED")
        assert not again.results[1].HasField("error")
        assert [await raised.content(name) for name in again.assets] == provider.sent
    assert await spooled(engine) == []
    assert len(provider.charges) == 1


async def test_a_generation_whose_only_picture_was_given_up_can_be_handed_over_again(
    alone: Service, port: int, provider: OpenAIServer, stored_gallery: StoredGallery, engine: AsyncEngine
) -> None:
    async with stored_gallery.served(port, max_image_pixels=100):
        generation = await alone.generate()
        await make_due(engine, days_later=8)
        failed = await alone.ended(generation.name, "FAILED")
        assert from_status(failed.error).reason == "STORAGE_FAILED"
    async with stored_gallery.served(port):
        await requeue(alone.settings)
        ended = await alone.ended(generation.name, "SUCCEEDED")
    assert not ended.HasField("error")


async def test_refused_bytes_are_forgotten_only_when_the_operator_says_so(
    alone: Service, port: int, provider: OpenAIServer, stored_gallery: StoredGallery, engine: AsyncEngine
) -> None:
    provider.then(draws(contents=[png(8, 8), b"this is no image at all"]))
    async with stored_gallery.served(port):
        await alone.generate(n=2)
    await forget_refused(alone.settings)
    assert len(await spooled(engine)) == 1, "it may still be wanted"
    async with engine.begin() as connection:
        await connection.execute(update(spool).values(create_time=func.now() - cast(literal("8 days"), Interval)))
    await forget_refused(alone.settings)
    assert await spooled(engine) == []
