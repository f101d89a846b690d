"""`kill -9` of a real process of the service, at the points where money and pictures could be lost."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from contentlab.image.v1 import image_service_pb2 as pb
from contentlab.image.v1 import image_service_pb2_grpc as rpc
from services.image.settings import ImageSettings
from tests.image.galleries import ServedGallery, silent_server
from tests.image.harness import Service, refusal, running_image, until
from tests.support.openai_server import OpenAIServer, draws, waits_for
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0


@dataclass(frozen=True)
class Process:
    """A service in a process of its own."""

    stub: Any
    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def process_of(service: Service, *, gallery: str, provider: str, models_file: str = "") -> AsyncIterator[Process]:
    """The service as it is started in earnest, over the database of `service`; `models_file` decides, if given."""
    port = free_port()
    settings = service.settings
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "CONTENTLAB_LISTEN": f"127.0.0.1:{port}",
        "CONTENTLAB_GALLERY_TARGET": gallery,
        "CONTENTLAB_SERVICE_TOKEN_FILE": settings.service_token_file or "",
        "CONTENTLAB_LEASE_SECONDS": str(settings.lease_seconds),
        **(
            {"CONTENTLAB_MODELS_FILE": models_file}
            if models_file
            else {"OPENAI_BASE_URL": provider, "LLM_MODEL": "gpt-6-luna"}
        ),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.image", cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            async with asyncio.timeout(START_SECONDS):
                await channel.channel_ready()
            yield Process(rpc.ImageServiceStub(channel), process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def request(request_id: str) -> pb.GenerateImagesRequest:
    return pb.GenerateImagesRequest(prompt="a harbour", request_id=request_id)


@pytest.fixture
def request_id() -> str:
    return str(uuid.uuid4())


async def test_a_process_killed_while_the_provider_works_leaves_the_outcome_unknown_and_nobody_calls_again(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str
) -> None:
    go = asyncio.Event()
    provider.then(waits_for(go))
    async with process_of(service, gallery=gallery.address, provider=provider.url) as doomed:
        call = asyncio.ensure_future(doomed.stub.GenerateImages(request(request_id), timeout=60))

        async def called() -> bool:
            return len(provider.received) == 1

        await until(called)
        await doomed.kill()
        await asyncio.gather(call, return_exceptions=True)
    go.set()

    # Before the lease is over the call may still be alive elsewhere; whoever asks again waits, and is then told.
    error = await refusal(service.stub.GenerateImages(request(request_id), timeout=30))
    assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN")
    assert error.billed.value == "unknown"
    generation = await service.get(error.metadata["imageGeneration"])
    assert generation.state == pb.ImageGeneration.OUTCOME_UNKNOWN
    call_now = await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=error.metadata["paidCall"]))
    assert (call_now.state, call_now.billed) == (pb.PaidCall.OUTCOME_UNKNOWN, pb.PaidCall.UNKNOWN)
    again = await refusal(service.stub.GenerateImages(request(request_id), timeout=30))
    assert again.metadata == error.metadata
    assert len(provider.received) == 1


async def test_a_process_killed_after_the_answer_was_committed_loses_no_picture(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str, database_url: str
) -> None:
    provider.then(draws(width=400, height=300))
    own = service.settings.model_copy(update={"database_url": type(service.settings.database_url)(database_url)})
    async with running_image(own, service.selection):
        pass  # its schema
    alone = Service(service.stub, service.channel, own, service.selection, service.metrics)
    async with silent_server() as nowhere, process_of(alone, gallery=nowhere, provider=provider.url) as doomed:
        call = asyncio.ensure_future(doomed.stub.GenerateImages(request(request_id), timeout=60))

        async def kept() -> bool:
            listed = await doomed.stub.ListImageGenerations(pb.ListImageGenerationsRequest(), timeout=10)
            return [one.state for one in listed.image_generations] == [pb.ImageGeneration.STORING]

        await until(kept)
        await doomed.kill()
        await asyncio.gather(call, return_exceptions=True)

    async with running_image(own, service.selection) as restarted:
        [generation] = (await restarted.stub.ListImageGenerations(pb.ListImageGenerationsRequest())).image_generations
        ended = await restarted.ended(generation.name, "SUCCEEDED")
        assert await gallery.content(ended.assets[0]) == provider.sent[0]
        assert (await restarted.generate("a harbour", request_id=request_id)).assets == ended.assets
    assert len(provider.charges) == 1


async def test_a_process_that_is_told_to_stop_finishes_what_it_was_asked(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str
) -> None:
    go = asyncio.Event()
    provider.then(waits_for(go))
    async with process_of(service, gallery=gallery.address, provider=provider.url) as ending:
        call = asyncio.ensure_future(ending.stub.GenerateImages(request(request_id), timeout=60))

        async def called() -> bool:
            return len(provider.received) == 1

        await until(called)
        ending.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        go.set()
        assert (await call).state == pb.ImageGeneration.SUCCEEDED
        async with asyncio.timeout(20):
            assert await ending.process.wait() == 0


def test_by_default_a_call_may_end_before_its_process_does() -> None:
    fields = ImageSettings.model_fields
    assert fields["drain_seconds"].default > fields["provider_seconds"].default + fields["upload_seconds"].default
