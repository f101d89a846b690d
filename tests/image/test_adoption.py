"""Pictures that reached the gallery although nobody lived to settle their call: they are found, and nothing is lost."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.status import from_status
from services.image import making
from services.image.adapters.gallery import Gallery, Upload
from services.image.domain.generations import Facts
from services.models.paid_calls import sweeper
from services.models.paid_calls.leases import Leases
from tests.image.abandoned import abandon, first_of, renews_nothing, transaction
from tests.image.galleries import ServedGallery, StoredGallery
from tests.image.harness import Service, running_image, until
from tests.image.test_crash import process_of
from tests.support.openai_server import OpenAIServer, waits_for
from tests.support.ports import free_port

# What the provider's usage costs at the registry's price of gpt-image-2: 40 x 5 + 10 x 8 + 1001 x 30 micro-USD.
COST = 30_310

MODELS = """
[endpoints.here]
base_url = "{url}"
[models.gpt-image-2]
endpoint = "here"
profile = "gpt-image-2"
price = "gpt-image-2"
"""


@asynccontextmanager
async def alone(service: Service, gallery_port: int, database_url: str) -> AsyncIterator[Service]:
    """A service with a database of its own, whose gallery may come and go."""
    address = f"127.0.0.1:{gallery_port}"
    update = {"gallery_target": address, "database_url": SecretStr(database_url)}
    async with running_image(service.settings.model_copy(update=update), service.selection) as running:
        yield running


async def paid_call(service: Service, generation: pb.ImageGeneration) -> pb.PaidCall:
    call: pb.PaidCall = await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=generation.steps[0].paid_call))
    return call


async def test_a_process_killed_between_the_gallerys_word_and_the_commit_loses_no_picture_and_no_cost(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, tmp_path: Path
) -> None:
    models, go = tmp_path / "models.toml", asyncio.Event()
    models.write_text(MODELS.format(url=provider.url))
    provider.then(waits_for(go))
    request = pb.GenerateImagesRequest(prompt="a harbour at night", n=2, request_id=str(uuid.uuid4()))
    async with process_of(service, gallery=gallery.address, provider="", models_file=str(models)) as doomed:
        call = asyncio.ensure_future(doomed.stub.GenerateImages(request, timeout=60))

        async def called() -> bool:
            return len(provider.received) == 1

        await until(called)
        async with transaction(service) as connection:
            # The settlement waits for this row: the gallery has both pictures, and nothing here says so.
            lock = text("SELECT subject FROM image.paid_call WHERE request_id = :id FOR UPDATE")
            subject = (await connection.execute(lock, {"id": request.request_id})).scalar_one()
            go.set()

            async def stored() -> bool:
                return len(await gallery.assets_of(subject)) == 2

            await until(stored)
            await doomed.kill()
        await asyncio.gather(call, return_exceptions=True)

    generation = await service.generate(request.prompt, n=2, request_id=request.request_id)
    assert generation.state == pb.ImageGeneration.SUCCEEDED
    assert [await gallery.content(name) for name in generation.assets] == provider.sent
    assert (generation.cost.source, generation.cost.amount_micro_usd) == (pb.Cost.COMPUTED, COST)
    assert (generation.usage.input_tokens, generation.usage.output_tokens) == (50, 1001)
    assert all(result.width_px and result.sha256 and result.size_bytes for result in generation.results)
    settled = await paid_call(service, generation)
    assert (settled.state, settled.billed) == (pb.PaidCall.SUCCEEDED, pb.PaidCall.YES)
    assert settled.cost == generation.cost
    assert len(provider.charges) == 1


async def test_pictures_that_the_gallery_does_not_have_are_told_as_lost_and_the_cost_as_an_upper_bound(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    made = await service.generate(n=3)
    await gallery.purge(made.assets[0])
    await abandon(service, made.name)

    found = await service.ended(made.name, "PARTIALLY_SUCCEEDED")
    assert list(found.assets) == list(made.assets[1:])
    assert [result.state for result in found.results] == [pb.ImageResult.FAILED, *[pb.ImageResult.STORED] * 2]
    lost = from_status(found.results[0].error)
    assert (lost.reason, lost.billed.value) == ("STORAGE_FAILED", "yes")
    # The shares are 10,104, 10,103 and 10,103: whoever knows the last two knows the first within a micro-USD.
    assert (found.cost.source, found.cost.amount_micro_usd) == (pb.Cost.ESTIMATED, COST)
    call = await paid_call(service, found)
    assert (call.state, from_status(call.error).reason) == (pb.PaidCall.SUCCEEDED, "STORAGE_FAILED")
    assert len(provider.charges) == 1


async def test_a_call_without_a_picture_in_the_gallery_has_an_unknown_outcome(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    made = await service.generate()
    await gallery.purge(made.assets[0])
    await abandon(service, made.name)
    assert not (await service.ended(made.name, "OUTCOME_UNKNOWN")).assets
    assert len(provider.charges) == 1


async def test_a_gallery_that_is_away_is_asked_again_before_anything_is_given_up(
    service: Service, stored_gallery: StoredGallery, database_url: str
) -> None:
    async with alone(service, port := free_port(), database_url) as own:
        async with stored_gallery.served(port):
            made = await own.generate()
        await abandon(own, made.name)
        await asyncio.sleep(service.settings.lease_seconds * 1.5)
        assert (await own.get(made.name)).state == pb.ImageGeneration.RUNNING
        async with stored_gallery.served(port):
            assert (await own.ended(made.name, "SUCCEEDED")).assets == made.assets


async def test_a_gallery_that_stays_away_leaves_the_outcome_unknown_in_the_end(
    service: Service, stored_gallery: StoredGallery, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "PATIENCE_SECONDS", 1.0)
    async with alone(service, port := free_port(), database_url) as own:
        async with stored_gallery.served(port):
            made = await own.generate()
        await abandon(own, made.name)
        await own.ended(made.name, "OUTCOME_UNKNOWN")


async def test_what_a_frozen_process_comes_with_replaces_a_result_that_was_found_with_a_loss(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for dead while one of its pictures was still on its way."""
    thawed, uploads = asyncio.Event(), Gallery.store

    async def slow_second(self: Gallery, upload: Upload) -> Facts:
        if upload.placement.display_name.endswith("(2)"):
            await thawed.wait()
        return await uploads(self, upload)

    monkeypatch.setattr(Gallery, "store", slow_second)
    monkeypatch.setattr(making, "STRAIGHT_SECONDS", 60.0)
    monkeypatch.setattr(Leases, "renew", renews_nothing)
    call = asyncio.ensure_future(service.generate("a slow harbour", n=2))
    name = await until(partial(first_of, service, pb.ImageGeneration.RUNNING))
    async with running_image(service.settings, service.selection) as second:
        adopted = await second.ended(name, "PARTIALLY_SUCCEEDED")
        assert len(adopted.assets) == 1
    thawed.set()
    generation = await call
    assert generation.state == pb.ImageGeneration.SUCCEEDED
    assert len(generation.assets) == 2
    assert generation.cost.amount_micro_usd == COST
    assert not (await paid_call(service, generation)).HasField("error")
