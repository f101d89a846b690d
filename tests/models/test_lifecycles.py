"""What servers say of their models' ends is heard, told, and refuses nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from services.models import lifecycles
from services.models.binding import bind_all
from services.models.endpoints import EndpointClients
from services.models.exchange import Terms
from services.models.lifecycles import Lifecycles
from services.models.registry import Registry, build, shipped
from services.models.rows import Endpoint
from tests.emulator.harness import running

TODAY = date(2026, 11, 23)
ALIVE = {"id": "m", "object": "model"}


@asynccontextmanager
async def listing(answer: Callable[[], web.Response]) -> AsyncIterator[str]:
    """A server that answers `GET /v1/models` so."""

    async def handle(request: web.Request) -> web.Response:
        return answer()

    application = web.Application()
    application.router.add_get("/v1/models", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


def one_model(url: str, *, dialect: str = "openai", **row: Any) -> Registry:
    endpoint = Endpoint(base_url=url, dialect=dialect, auth="key", key=SecretStr("made-up"))
    return build(shipped(), {"here": endpoint}, {"m": {"endpoint": "here", "profile": "pass-through"} | row})


@asynccontextmanager
async def compared(registry: Registry, today: date = TODAY) -> AsyncIterator[tuple[Lifecycles, CollectorRegistry]]:
    """After one comparison."""
    metrics, clients = CollectorRegistry(), EndpointClients(registry, seconds=10.0, places=2)
    found = Lifecycles(registry, clients, today=lambda: today, metrics=metrics)
    try:
        await found.compare()
        yield found, metrics
    finally:
        await clients.aclose()


@pytest.mark.parametrize(
    "card",
    [
        {"shutdown_date": "2027-03-01"},
        {"deprecation": {"inference": int(datetime(2027, 3, 1, tzinfo=UTC).timestamp())}},
    ],
    ids=["as OpenAI says it", "as Azure says it"],
)
async def test_an_end_that_only_the_server_knows_is_told_and_measured(card: dict[str, Any]) -> None:
    async with (
        listing(lambda: web.json_response({"data": [ALIVE | card]})) as url,
        compared(one_model(url, replacement="better")) as (found, metrics),
    ):
        assert found.warnings == (
            "model m is shut down on 2027-03-01, says its server; the registry has no end; use better",
        )
        end = metrics.get_sample_value("contentlab_model_shutdown_timestamp_seconds", {"model": "m"})
        assert end is not None
        assert datetime.fromtimestamp(end, UTC).date() == date(2027, 3, 1)


async def test_an_end_that_the_registry_knows_is_no_news() -> None:
    async with (
        listing(lambda: web.json_response({"data": [ALIVE | {"shutdown_date": "2027-03-01"}]})) as url,
        compared(one_model(url, shutdown_date="2027-03-01")) as (found, _),
    ):
        assert found.warnings == ()


async def test_the_earlier_of_two_ends_counts() -> None:
    async with (
        listing(lambda: web.json_response({"data": [ALIVE | {"shutdown_date": "2027-03-01"}]})) as url,
        compared(one_model(url, shutdown_date="2027-01-01")) as (found, metrics),
    ):
        [warning] = found.warnings
        assert "the registry says 2027-01-01" in warning
        end = metrics.get_sample_value("contentlab_model_shutdown_timestamp_seconds", {"model": "m"})
        assert end == datetime(2027, 1, 1, 23, 59, 59, 999999, UTC).timestamp()


@pytest.mark.parametrize(("dialect", "missing"), [("openai", 1.0), ("generic", 0.0)])
async def test_a_model_that_is_not_listed_is_told_where_lists_are_complete(dialect: str, missing: float) -> None:
    async with (
        listing(lambda: web.json_response({"data": [{"id": "another"}]})) as url,
        compared(one_model(url, dialect=dialect)) as (found, metrics),
    ):
        assert len(found.warnings) == missing
        assert metrics.get_sample_value("contentlab_models_not_listed") == missing


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=404),
        lambda: web.Response(status=500, text="broken"),
        lambda: web.Response(text="<html>"),
        lambda: web.json_response([1]),
        lambda: web.json_response({"data": 7}),
        lambda: web.json_response({"data": [None, {"id": 5}, {"id": "m", "shutdown_date": "soon"}]}),
        lambda: web.json_response({"data": [ALIVE | {"shutdown_date": None, "deprecation": {"inference": 1e300}}]}),
    ],
)
async def test_a_list_that_is_none_says_nothing(answer: Callable[[], web.Response]) -> None:
    async with listing(answer) as url, compared(one_model(url, dialect="generic")) as (found, _):
        assert found.warnings == ()


async def test_a_server_that_is_silent_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycles, "_TERMS", Terms(0.2, 1024))

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with asyncio.timeout(5), compared(one_model(url)) as (found, _):
        assert found.warnings == ()
    server.close()


@pytest.mark.parametrize("today", [TODAY, date(2027, 11, 23)])
async def test_the_registry_and_the_emulator_agree_on_every_end(today: date) -> None:
    async with running(today=today) as emulator:
        endpoint = Endpoint(base_url=f"{emulator.url}/v1", auth="key", key=SecretStr("made-up"))
        async with compared(bind_all(shipped(), "here", endpoint, "", ""), today) as (found, _):
            assert found.warnings == ()
