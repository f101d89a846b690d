"""What was kept for long enough goes, with all that belongs to it; nothing goes that anybody still needs."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.database import sqlalchemy_url
from services.image import housekeeping
from services.image.adapters.retention import Retention
from services.image.domain.generations import GENERATIONS
from services.image.housekeeping import Housekeeping
from services.image.settings import ImageSettings
from tests.image.abandoned import abandon, transaction
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, refusal
from tests.support.openai_server import OpenAIServer, cuts, fails

AT_ONCE, HOUR = timedelta(milliseconds=1), timedelta(hours=1)


@pytest_asyncio.fixture(loop_scope="session")
async def engine(service: Service) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(sqlalchemy_url(service.settings.database_url.get_secret_value()))
    yield engine
    await engine.dispose()


@pytest_asyncio.fixture(loop_scope="session")
async def retention(engine: AsyncEngine) -> Retention:
    """With nothing left to delete of what earlier tests made."""
    retention = Retention(engine)
    await retention.purge_generations(AT_ONCE, limit=1000)
    await retention.purge_calls(AT_ONCE, limit=1000)
    return retention


async def is_there(service: Service, made: pb.ImageGeneration) -> bool:
    """Whether the generation and its call are, which go together."""
    calls = [pb.GetPaidCallRequest(name=step.paid_call) for step in made.steps]
    errors = [await _reason(service.stub.GetPaidCall(call)) for call in calls]
    errors.append(await _reason(service.stub.GetImageGeneration(pb.GetImageGenerationRequest(name=made.name))))
    assert len(set(map(bool, errors))) == 1, errors
    return not any(errors)


async def _reason(call: Any) -> str:
    try:
        await call
    except Exception:
        return "gone"
    return ""


async def failed(service: Service, provider: OpenAIServer, behaviour: Any) -> pb.ImageGeneration:
    provider.then(behaviour)
    error = await refusal(service.generate())
    return await service.get(error.metadata["imageGeneration"])


async def count(engine: AsyncEngine, statement: str, **values: str) -> int:
    async with engine.connect() as connection:
        found: int = (await connection.execute(text(statement), values)).scalar_one()
    return found


async def test_what_is_old_enough_goes_and_its_pictures_stay_in_the_gallery(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, retention: Retention, engine: AsyncEngine
) -> None:
    made = await service.generate(n=2)
    refused = await failed(service, provider, fails(400, "moderation_blocked"))
    assert await retention.purge_generations(HOUR, limit=100) == 0
    assert await is_there(service, made)
    assert await retention.purge_generations(AT_ONCE, limit=100) == 2
    assert not await is_there(service, made)
    assert not await is_there(service, refused)
    pictures = "SELECT count(*) FROM image.picture WHERE generation = :id"
    assert await count(engine, pictures, id=GENERATIONS.parse(made.name)) == 0
    assert [await gallery.content(name) for name in made.assets] == provider.sent
    # What was spent is still to be added up.
    assert await count(engine, "SELECT count(*) FROM image.usage_outbox WHERE subject = :name", name=made.name) == 1


async def test_what_is_unknown_running_or_has_bytes_in_the_spool_stays_however_old(
    service: Service, provider: OpenAIServer, retention: Retention, engine: AsyncEngine
) -> None:
    unknown = await failed(service, provider, cuts())
    running, spooled = await service.generate(), await service.generate()
    async with transaction(service) as connection:
        row = {"id": GENERATIONS.parse(spooled.name)}
        await connection.execute(text("INSERT INTO image.spool (generation, index, content) VALUES (:id, 0, 'x')"), row)
    await abandon(service, running.name)
    async with transaction(service) as connection:
        # As a step of a generation that has ended otherwise.
        ended = "UPDATE image.generation SET state = 'FAILED', end_time = now() WHERE id = :id"
        await connection.execute(text(ended), {"id": GENERATIONS.parse(running.name)})
        alive = "UPDATE image.paid_call SET lease_expires_at = now() + interval '1 hour' WHERE subject = :name"
        await connection.execute(text(alive), {"name": running.name})
    await asyncio.sleep(0.05)
    assert await retention.purge_generations(AT_ONCE, limit=100) == 0
    assert [await is_there(service, one) for one in (unknown, running, spooled)] == [True] * 3
    async with transaction(service) as connection:
        await connection.execute(text("DELETE FROM image.spool"))


async def test_a_generation_that_is_tried_again_at_this_moment_stays(
    service: Service, retention: Retention, engine: AsyncEngine
) -> None:
    made = await service.generate()
    async with engine.begin() as other:
        await other.execute(text("SELECT id FROM image.paid_call WHERE subject = :n FOR UPDATE"), {"n": made.name})
        assert await retention.purge_generations(AT_ONCE, limit=100) == 0
    assert await is_there(service, made)
    assert await retention.purge_generations(AT_ONCE, limit=100) == 1


async def test_calls_of_helpers_go_with_what_they_were_answered(
    service: Service, retention: Retention, engine: AsyncEngine
) -> None:
    made = await service.generate()
    async with transaction(service) as connection:
        await connection.execute(text("DELETE FROM image.generation WHERE id = :id"), {"id": made.name.split("/")[1]})
        helper = "UPDATE image.paid_call SET subject = '' WHERE subject = :name RETURNING id"
        call_id = (await connection.execute(text(helper), {"name": made.name})).scalar_one()
        answer = "INSERT INTO image.answer (paid_call, content) VALUES (:id, 'an answer')"
        await connection.execute(text(answer), {"id": call_id})
    assert await retention.purge_calls(HOUR, limit=100) == 0
    assert await retention.purge_calls(AT_ONCE, limit=100) == 1
    assert await count(engine, "SELECT count(*) FROM image.answer WHERE paid_call = :id", id=call_id) == 0


async def test_all_goes_in_small_batches_and_is_counted(
    service: Service, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 2)
    monkeypatch.setattr(housekeeping, "BREATH_SECONDS", 0.01)
    await asyncio.gather(*(service.generate() for _ in range(3)))
    metrics = CollectorRegistry()
    assert await Housekeeping(retention, keep=AT_ONCE, registry=metrics).purge() == 3
    assert metrics.get_sample_value("contentlab_purged_total", {"kind": "generation"}) == 3


def test_request_ids_are_kept_for_a_day_at_least() -> None:
    field = ImageSettings.model_fields["retention_days"]
    assert field.default == 90
    assert any(getattr(rule, "ge", 0) >= 1 for rule in field.metadata)
