"""The same changes as server-sent events, through a real Envoy, as EventSource reads them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.settings import Times
from tests.conftest import NewDatabase
from tests.gallery.harness import Client, Gallery, running_gallery
from tests.gallery.watchers import watching
from tests.gateway.harness import Gateway, eventually, gateway_settings, running_envoy
from tests.support.errors import rest_error
from tests.support.media import png

PICTURE = png(8, 8)
EVENTS = "/api/v1/assets:events"
CHECKPOINT_SECONDS = 0.5


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gallery(
    new_database: NewDatabase, azurite: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gallery]:
    async with running_gallery(
        await new_database(),
        azurite,
        tmp_path_factory.mktemp("gallery"),
        watch_checkpoint_seconds=CHECKPOINT_SECONDS,
        drain_seconds=30,
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(gallery: Gallery, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Impatient with silence: two checkpoints that do not pass, and a watch is cut."""
    settings = gateway_settings({"gallery": gallery.port}, times=Times(watch_idle=2.5 * CHECKPOINT_SECONDS))
    async with running_envoy(settings, tmp_path_factory.mktemp("envoy")) as log:
        running = Gateway(settings, log)

        async def serves() -> bool:
            async with running.client() as client:
                return (await client.get("/api/v1/assets")).status_code == 200

        await eventually(serves)
        yield running


@pytest.fixture
def local(gallery: Gallery) -> Client:
    """Who comes through the gateway."""
    return gallery.user("local")


@dataclass
class Event:
    """One event as the standard has it read; `comments` come before it."""

    id: str = ""
    name: str = ""
    data: Any = None
    retry: str = ""
    comments: list[str] = field(default_factory=list)


@dataclass
class Events:
    """An open stream."""

    answer: httpx2.Response
    lines: AsyncIterator[str]

    async def read(self) -> Event:
        event = Event()
        async with asyncio.timeout(20):
            async for line in self.lines:
                if not line:
                    return event
                key, _, value = line.partition(": ")
                match key:
                    case "":
                        event.comments.append(value)
                    case "data":
                        event.data = json.loads(value)
                    case "event":
                        event.name = value
                    case _:
                        setattr(event, key, value)
        raise EOFError

    async def change(self) -> Event:
        async with asyncio.timeout(20):
            while (event := await self.read()).name == "checkpoint":
                pass
        return event


@asynccontextmanager
async def event_source(gateway: Gateway, token: str = "", **query: str) -> AsyncIterator[Events]:
    headers = {"accept": "text/event-stream", "accept-encoding": "gzip, br"}
    if token:
        headers["last-event-id"] = token
    async with gateway.client() as client, client.stream("GET", EVENTS, headers=headers, params=query) as answer:
        if answer.status_code != 200:
            await answer.aread()
        yield Events(answer, answer.aiter_lines())


async def test_events_carry_their_name_their_token_and_the_asset_as_json(gateway: Gateway, local: Client) -> None:
    async with event_source(gateway) as events:
        headers = events.answer.headers
        assert (headers["content-type"], headers["cache-control"]) == ("text/event-stream", "no-cache")
        assert headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in headers
        first = await events.read()
        assert (first.name, first.data["changeType"], first.retry) == ("checkpoint", "CHECKPOINT", "2000")
        asset = await local.upload(PICTURE, display_name="灯台 \u2028\x85")
        event = await events.change()
        assert (event.name, event.data["changeType"], event.id) == ("created", "CREATED", event.data["resumeToken"])
        async with gateway.client() as client:
            listed = (await client.get("/api/v1/assets", params={"pageSize": 1})).json()["assets"][0]
        told = event.data["asset"]
        assert told.pop("variants") is not None
        assert listed.pop("variants") is not None
        assert told == listed, "the same JSON as everywhere"
        await local.delete(asset.name)
        assert (await events.change()).name == "deleted"


async def test_signs_of_life_pass_for_longer_than_the_gateway_bears_silence(gateway: Gateway) -> None:
    async with event_source(gateway) as events:
        for _ in range(8):
            event = await events.read()
            assert (event.name, event.comments) == ("checkpoint", ["alive"])


async def test_who_connects_again_goes_on_behind_the_last_event(gateway: Gateway, local: Client) -> None:
    async with event_source(gateway) as events:
        stale = (await events.read()).id
        first = await local.upload(PICTURE)
        last = (await events.change()).id
    missed = [(await local.upload(PICTURE)).name for _ in range(2)]
    async with event_source(gateway, last, resumeToken=stale) as events:
        assert [(await events.change()).data["asset"]["name"] for _ in missed] == missed, "the header wins"
    async with event_source(gateway, resumeToken=stale) as events:
        assert (await events.change()).data["asset"]["name"] == first.name


async def test_the_json_twin_streams_through_the_gateway_too(gateway: Gateway, local: Client) -> None:
    async with gateway.client() as client, client.stream("GET", "/api/v1/assets:watch") as answer:
        lines = answer.aiter_lines()
        assert json.loads(await anext(lines))["changeType"] == "CHECKPOINT"
        asset = await local.upload(PICTURE)
        async for line in lines:
            message = json.loads(line)
            if message["changeType"] != "CHECKPOINT":
                break
    assert message["asset"]["name"] == asset.name


async def test_a_token_that_cannot_go_on_ends_an_event_source_for_good(gateway: Gateway, local: Client) -> None:
    """Any status but 200 does: one that connected again with the same token would do so for ever."""
    async with watching(local) as watcher:
        asset = await local.upload(PICTURE)
        await watcher.until(asset.name)
    async with event_source(gateway, "garbage") as events:
        error = rest_error(events.answer)
    assert (error.status, error.reason) == (400, "INVALID_RESUME_TOKEN")
    await local.gallery.execute("UPDATE gallery.asset_change SET time = time - interval '1 second'")
    async with event_source(gateway, watcher.token) as events:
        error = rest_error(events.answer)
    assert (error.status, error.code, error.reason) == (400, 11, "RESUME_TOKEN_EXPIRED")


async def test_an_error_in_the_middle_is_the_last_event_and_the_next_connection_ends_it(
    gateway: Gateway, local: Client
) -> None:
    async with event_source(gateway) as events:
        token = (await events.read()).id
        await local.gallery.execute("UPDATE gallery.incarnation SET id = gen_random_uuid()")
        last = await events.change()
        assert (last.name, last.id, last.data["code"]) == ("error", "", 11)
        [info] = last.data["details"]
        assert (info["reason"], info["metadata"]["retrySafe"]) == ("RESUME_TOKEN_EXPIRED", "false")
        with pytest.raises(EOFError):
            await events.read()
    async with event_source(gateway, token) as events:
        assert rest_error(events.answer).status == 400
