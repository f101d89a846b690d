"""The image adapter on the wire: what it sends, what it makes of the answer, and what every failure means."""

import asyncio
import base64
import json
import time
from typing import Any

import httpx2
import pytest
from aiohttp import web

from services.common.errors import Billed
from services.models import endpoints, image_bytes
from services.models.endpoints import EndpointClients
from services.models.failures import CallFailed, scrub
from services.models.money import UNPRICED
from services.models.registry import build, shipped
from services.models.rows import Endpoint
from services.models.transport import CallTransport
from services.models.usage import Usage
from tests.models.conftest import KEY, Calls
from tests.support.media import png
from tests.support.openai_server import (
    USAGE,
    Behaviour,
    Exchange,
    OpenAIServer,
    cuts,
    draws,
    fails,
    says,
    sends,
    waits,
)
from tests.support.ports import free_port

USAGE_COST = 40 * 5 + 10 * 8 + 1001 * 30


async def test_the_answers_bytes_come_out_as_they_were_sent(provider: OpenAIServer, calls: Calls) -> None:
    result = await calls.generate(n=3)
    assert [image.content for image in result.images] == provider.sent
    assert len(provider.sent) == 3
    assert result.usage == Usage(40, 10, 0, 1001)
    assert result.cost.micro_usd == 40 * 5 + 10 * 8 + 1001 * 30
    assert result.raw_usage == {"usage": USAGE}
    assert result.provider_request_id == "req_hand_written"


async def test_a_large_answer_is_read_too(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(draws(width=700, height=500))
    result = await calls.generate()
    assert result.images[0].content == provider.sent[0]
    assert len(provider.sent[0]) > 1_000_000


async def test_exactly_the_request_is_on_the_wire(provider: OpenAIServer, calls: Calls) -> None:
    await calls.generate(n=2, size="1024x1024", quality="high", seed=7, output_format="jpeg", output_compression=0)
    [received] = provider.received
    assert received.path == "/v1/images/generations"
    assert received.body == {
        "prompt": "a harbour",
        "model": "wire-model",
        "n": 2,
        "size": "1024x1024",
        "quality": "high",
        "seed": 7,
        "output_format": "jpeg",
        "output_compression": 0,
    }
    headers = {name.lower(): value for name, value in received.headers.items()}
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["idempotency-key"] == "the-key-of-this-call"
    assert "openai-organization" not in headers
    assert "openai-project" not in headers


async def test_an_endpoint_without_auth_gets_no_key_even_if_the_environment_has_one(
    provider: OpenAIServer, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "from-the-environment")
    await calls.generate(auth="none")
    headers = {name.lower(): value for name, value in provider.received[0].headers.items()}
    assert "authorization" not in headers
    assert "from-the-environment" not in str(headers)


@pytest.mark.parametrize("auth", ["none", "key"])
async def test_no_header_of_the_environment_reaches_an_endpoint(
    auth: str, provider: OpenAIServer, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer anothers-key\nX-Gateway: a-secret")
    await calls.generate(auth=auth)
    headers = {name.lower(): value for name, value in provider.received[0].headers.items()}
    assert headers.get("authorization") == (f"Bearer {KEY}" if auth == "key" else None)
    assert "x-gateway" not in headers


async def test_an_organisation_is_sent_where_there_is_one(provider: OpenAIServer, calls: Calls) -> None:
    await calls.generate(organization="org-1")
    assert {name.lower(): value for name, value in provider.received[0].headers.items()}[
        "openai-organization"
    ] == "org-1"


@pytest.mark.parametrize(
    ("dialect", "present", "absent"),
    [
        ("openai", {"model"}, {"response_format"}),
        ("azure-v1", {"model"}, {"response_format"}),
        ("vllm-omni", set(), {"model", "response_format"}),
        ("sglang", {"model", "response_format"}, set()),
        ("generic", {"model", "response_format"}, set()),
        ("litellm", {"model"}, {"response_format"}),
        ("emulator", {"model"}, {"response_format"}),
    ],
)
async def test_each_dialect_gets_its_form(
    dialect: str, present: set[str], absent: set[str], provider: OpenAIServer, calls: Calls
) -> None:
    await calls.generate(dialect=dialect)
    body = provider.received[0].body
    assert present <= body.keys()
    assert not absent & body.keys()


async def test_a_dialect_that_counts_in_chat_names_is_understood(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(draws(usage={"prompt_tokens": 5, "completion_tokens": 7}))
    assert (await calls.generate(dialect="sglang")).usage == Usage(5, 0, 0, 7)


async def test_no_usage_means_no_price(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(draws(usage=None))
    result = await calls.generate()
    assert result.usage is None
    assert result.cost == UNPRICED


async def test_the_writer_of_an_svg_is_paid_for_too(provider: OpenAIServer, calls: Calls) -> None:
    body = {
        "data": [{"b64_json": base64.b64encode(b"<svg/>").decode()}],
        "usage": USAGE,
        "svg_usage": {"model": "nobody-knows", "input_tokens": 5, "output_tokens": 5},
    }
    provider.then(sends(json.dumps(body).encode()))
    result = await calls.generate(output_format="svg")
    assert result.cost == UNPRICED
    assert result.raw_usage == {"usage": USAGE, "svg_usage": body["svg_usage"]}


@pytest.mark.parametrize(
    ("counts", "cost"),
    [
        pytest.param((5, 7), USAGE_COST + 4, id="sane, rounded up"),
        pytest.param((10**30, 0), None, id="more than any call can use"),
        pytest.param((-(10**9), 0), None, id="negative"),
        pytest.param((True, 0), None, id="a truth"),
        pytest.param((1.5, 0), None, id="a fraction"),
        pytest.param(("5", 0), None, id="a text"),
        pytest.param((None, 0), None, id="nothing"),
    ],
)
async def test_odd_counts_of_an_svgs_writer_cost_no_picture(
    counts: tuple[Any, Any], cost: int | None, provider: OpenAIServer, calls: Calls
) -> None:
    body = {
        "data": [{"b64_json": base64.b64encode(b"<svg/>").decode()}],
        "usage": USAGE,
        "svg_usage": {"model": "writer", "input_tokens": counts[0], "output_tokens": counts[1]},
    }
    provider.then(sends(json.dumps(body).encode()))
    result = await calls.generate(output_format="svg")
    assert result.images[0].content == b"<svg/>"
    assert result.cost.micro_usd == cost


PICTURE = png(8, 8)
ENCODED = base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize(
    "item",
    [
        pytest.param({"b64_json": ENCODED[:20] + "\n" + ENCODED[20:] + "\r\n"}, id="line breaks"),
        pytest.param({"b64_json": "data:image/png;base64," + ENCODED}, id="a data URL"),
        pytest.param({"b64_json": ENCODED.rstrip("=")}, id="no padding"),
        pytest.param({"b64_json": base64.urlsafe_b64encode(PICTURE).decode()}, id="the alphabet of URLs"),
        pytest.param({"url": "data:image/png;base64," + ENCODED}, id="a data URL as address"),
        pytest.param({"b64_json": None, "url": "data:image/png;base64," + ENCODED}, id="b64_json that is null"),
    ],
)
async def test_a_picture_is_kept_however_its_base64_is_written(
    item: dict[str, Any], provider: OpenAIServer, calls: Calls
) -> None:
    assert {"+", "/"} & set(ENCODED), "the picture shows the difference"
    assert ENCODED.endswith("="), "the picture shows the difference"
    provider.then(sends(json.dumps({"data": [item], "usage": USAGE}).encode()))
    assert (await calls.generate()).images[0].content == PICTURE


async def test_an_address_instead_of_a_picture_is_told_and_not_followed(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(says(200, {"data": [{"url": f"{provider.url}/a.png?sig=b"}]}))
    failed = await calls.failure()
    assert (failed.error.reason, failed.error.billed) == ("PROVIDER_BAD_RESPONSE", Billed.UNKNOWN)
    assert failed.error.metadata == {"imageUrl": f"{provider.url}/a.png?sig=b"}
    assert len(provider.received) == 1


@pytest.mark.parametrize("url", ["javascript:x", "http://x/" + "a" * 1000, "http://x/\n", 5, "ftp://x"])
async def test_an_address_that_is_none_is_not_told(url: object, provider: OpenAIServer, calls: Calls) -> None:
    provider.then(says(200, {"data": [{"url": url}]}))
    assert not (await calls.failure()).error.metadata


async def test_one_broken_image_leaves_the_others(provider: OpenAIServer, calls: Calls) -> None:
    good = base64.b64encode(png(8, 8)).decode()
    body = {"data": [{"b64_json": good}, {"b64_json": "not*base64"}, {"url": "http://x"}], "usage": USAGE}
    provider.then(sends(json.dumps(body).encode()))
    result = await calls.generate(n=3)
    assert [image.content is None for image in result.images] == [False, True, True]
    assert [image.problem for image in result.images] == ["", "an image is not base64", "an image has no b64_json"]


async def test_the_images_beside_a_note_of_the_content_filter_are_kept(provider: OpenAIServer, calls: Calls) -> None:
    contents = [png(8, 8, seed=seed) for seed in (1, 2)]
    body = {
        "data": [{"b64_json": base64.b64encode(content).decode()} for content in contents],
        "error": {"code": "content_filter", "message": "one of three was filtered"},
        "usage": USAGE,
    }
    provider.then(sends(json.dumps(body).encode()))
    result = await calls.generate(n=3)
    assert [image.content for image in result.images] == contents
    assert result.usage is not None


BLOCKED: dict[str, Any] = {"moderation_details": {"moderation_stage": "output", "categories": ["violence", "gore"]}}
ODD = {"error": {"code": ["a"], "type": {"b": 1}, "innererror": {"code": {}}, "message": 5}}
FAILURES = [
    # behaviour, dialect, reason, billed, retry_safe
    pytest.param(fails(400, "moderation_blocked"), "openai", "CONTENT_REJECTED", "no", False, id="moderation"),
    pytest.param(fails(400, "content_filter"), "azure-v1", "CONTENT_REJECTED", "no", False, id="azure filter"),
    pytest.param(fails(400, "contentFilter"), "azure-v1", "CONTENT_REJECTED", "no", False, id="azure filter, camel"),
    pytest.param(
        fails(400, "x", innererror={"code": "ResponsibleAIPolicyViolation"}),
        "azure-v1",
        "CONTENT_REJECTED",
        "no",
        False,
        id="azure inner error",
    ),
    pytest.param(fails(400, "invalid_value"), "openai", "PROVIDER_REJECTED", "no", False, id="400"),
    pytest.param(fails(409), "openai", "PROVIDER_REJECTED", "no", False, id="409"),
    pytest.param(fails(413), "openai", "PROVIDER_REJECTED", "no", False, id="413"),
    pytest.param(fails(422), "openai", "PROVIDER_REJECTED", "no", False, id="422"),
    pytest.param(says(400, "no object"), "openai", "PROVIDER_REJECTED", "no", False, id="400 without an error object"),
    pytest.param(fails(401), "openai", "PROVIDER_MISCONFIGURED", "no", False, id="401"),
    pytest.param(fails(402), "openai", "PROVIDER_MISCONFIGURED", "no", False, id="402"),
    pytest.param(fails(403), "openai", "PROVIDER_MISCONFIGURED", "no", False, id="403"),
    pytest.param(fails(404, "model_not_found"), "openai", "PROVIDER_MISCONFIGURED", "no", False, id="404"),
    pytest.param(fails(405), "openai", "PROVIDER_MISCONFIGURED", "no", False, id="405"),
    pytest.param(
        says(307, None, location="http://127.0.0.1:1/v1/images/generations"),
        "openai",
        "PROVIDER_MISCONFIGURED",
        "no",
        False,
        id="a redirect",
    ),
    pytest.param(fails(429), "openai", "PROVIDER_RATE_LIMITED", "no", True, id="429"),
    pytest.param(says(429, ODD), "openai", "PROVIDER_RATE_LIMITED", "no", True, id="429 with an odd code"),
    pytest.param(says(400, ODD), "openai", "PROVIDER_REJECTED", "no", False, id="400 with an odd code"),
    pytest.param(says(500, ODD), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="500 with an odd code"),
    pytest.param(says(503, ODD), "emulator", "PROVIDER_UNAVAILABLE", "no", True, id="503 with an odd code"),
    pytest.param(fails(429, "insufficient_quota"), "openai", "PROVIDER_RATE_LIMITED", "no", True, id="quota"),
    pytest.param(fails(408), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="408"),
    pytest.param(fails(500), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="500"),
    pytest.param(fails(502), "litellm", "OUTCOME_UNKNOWN", "unknown", False, id="502"),
    pytest.param(fails(504), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="504"),
    pytest.param(fails(503), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="503 that says nothing"),
    pytest.param(fails(503, "overloaded"), "openai", "PROVIDER_UNAVAILABLE", "no", True, id="503 that says overloaded"),
    pytest.param(fails(503), "emulator", "PROVIDER_UNAVAILABLE", "no", True, id="503 of the emulator"),
    pytest.param(fails(500), "emulator", "OUTCOME_UNKNOWN", "unknown", False, id="500 of the emulator"),
    pytest.param(fails(500), "vllm-omni", "PROVIDER_UNAVAILABLE", "no", True, id="500 of one's own server"),
    pytest.param(fails(503), "sglang", "PROVIDER_UNAVAILABLE", "no", True, id="503 of one's own server"),
    pytest.param(cuts(), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="reset before the answer"),
    pytest.param(cuts(after_bytes=10), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="reset in the answer"),
    pytest.param(sends(b"<html>", "text/html"), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="html"),
    pytest.param(sends(b'{"data": [{"b64'), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="half of it"),
    pytest.param(sends(b"[]"), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="a list"),
    pytest.param(sends(b"{}"), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="an empty object"),
    pytest.param(sends(b'{"data": []}'), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="no images"),
    pytest.param(sends(b'{"data": 5}'), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="data that is none"),
    pytest.param(
        sends(json.dumps({"data": [{"b64_json": "AAAAA"}], "usage": USAGE}).encode()),
        "openai",
        "PROVIDER_BAD_RESPONSE",
        "yes",
        False,
        id="truncated base64 that was charged",
    ),
    pytest.param(
        sends(b'{"error": {"code": "server_error"}}'),
        "openai",
        "PROVIDER_BAD_RESPONSE",
        "unknown",
        False,
        id="an error in a 200",
    ),
    pytest.param(
        sends(b'{"error": {"code": "moderation_blocked"}}'),
        "openai",
        "CONTENT_REJECTED",
        "unknown",
        False,
        id="a refusal in a 200",
    ),
    pytest.param(
        sends(json.dumps({"data": [], "error": {"code": "content_filter"}, "usage": USAGE}).encode()),
        "azure-v1",
        "CONTENT_REJECTED",
        "yes",
        False,
        id="a refusal in a 200 that was charged",
    ),
    pytest.param(
        sends(json.dumps({"error": {"code": "server_error"}, "usage": USAGE}).encode()),
        "openai",
        "PROVIDER_BAD_RESPONSE",
        "yes",
        False,
        id="an error in a 200 that was charged",
    ),
    pytest.param(sends(b"[" * 100_000), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="deep nesting"),
]


@pytest.mark.parametrize(("behaviour", "dialect", "reason", "billed", "retry_safe"), FAILURES)
async def test_every_failure_says_what_it_cost_and_is_sent_once(
    behaviour: Behaviour,
    dialect: str,
    reason: str,
    billed: str,
    retry_safe: bool,
    provider: OpenAIServer,
    calls: Calls,
) -> None:
    provider.otherwise = behaviour
    failed = await calls.failure(dialect=dialect)
    assert (failed.error.reason, failed.error.billed.value, failed.error.retry_safe) == (reason, billed, retry_safe)
    assert len(provider.received) == 1, "the SDK must repeat nothing"


async def test_a_refusal_of_content_tells_stage_and_categories(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(fails(400, "moderation_blocked", **BLOCKED))
    failed = await calls.failure()
    assert failed.error.metadata == {"stage": "output", "categories": "violence,gore"}
    assert failed.provider_request_id == "req_hand_written"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after": "nonsense"}, 1.0),
        ({"retry_after": "Mon, 01 Jan 2001 00:00:00 GMT"}, 1.0),
        ({"retry_after": "Mon, 01 Jan 2001 00:00:00 -0000"}, 1.0),
        ({"retry_after": "Mon, 01 Jan 2001 00:00:00"}, 1.0),
        ({"retry_after": "Fri, 01 Jan 2100 00:00:00"}, 86_400.0),
        ({"retry_after": "Fri, 01 Jan 9999 00:00:00 +9999"}, 1.0),
        ({"retry_after": "1e400"}, 86_400.0),
        ({}, 1.0),
    ],
)
async def test_how_long_to_wait_is_told(
    headers: dict[str, str], seconds: float, provider: OpenAIServer, calls: Calls
) -> None:
    provider.then(says(429, {"error": {"message": "slow down"}}, charged=False, **headers))
    assert (await calls.failure()).error.retry_after == seconds


async def test_who_has_no_quota_is_told_to_wait_as_well(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(fails(429, "insufficient_quota"))
    failed = await calls.failure()
    assert failed.error.retry_after == 60.0
    assert not failed.not_accepted, "waiting a moment does not help"


async def test_a_provider_that_is_not_there_has_not_been_paid() -> None:
    calls = Calls(f"http://127.0.0.1:{free_port()}/v1")
    failed = await calls.failure()
    assert (failed.error.reason, failed.error.billed, failed.not_accepted) == ("PROVIDER_UNAVAILABLE", Billed.NO, True)
    assert failed.error.retry_safe


async def test_what_breaks_before_the_first_byte_is_a_failure_to_connect() -> None:
    """The network library lets an exception through that is none of HTTP's."""
    transport = CallTransport(httpx2.AsyncHTTPTransport())
    async with httpx2.AsyncClient(transport=transport, trust_env=False) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.post("http://127.0.0.1:99999999/")


async def test_without_a_token_of_entra_id_nothing_is_sent_and_nothing_paid(
    provider: OpenAIServer, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    failed = await calls.failure(auth="entra")
    assert (failed.error.reason, failed.error.billed) == ("PROVIDER_MISCONFIGURED", Billed.NO)
    assert not provider.received


async def test_without_a_token_there_is_no_place_at_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the call is never marked as being made."""
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    endpoint = Endpoint(base_url="http://127.0.0.1:1/v1", auth="entra")
    clients = EndpointClients(build(shipped(), {"here": endpoint}, {}), seconds=1.0, places=1)
    with pytest.raises(CallFailed):
        async with clients.place("here"):
            raise AssertionError("there was a place")
    await clients.aclose()


async def test_a_token_that_takes_too_long_has_cost_nothing_and_may_come_later(
    provider: OpenAIServer, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(endpoints, "TOKEN_SECONDS", 0.05)
    monkeypatch.setattr(EndpointClients, "_token_provider", lambda *_: never)
    failed = await calls.failure(auth="entra")
    assert (failed.error.reason, failed.error.billed) == ("PROVIDER_UNAVAILABLE", Billed.NO)
    assert failed.error.retry_safe
    assert not provider.received


async def test_a_token_is_sent_and_appears_in_no_message(
    provider: OpenAIServer, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def token() -> str:
        return "a-made-up-token"

    monkeypatch.setattr(EndpointClients, "_token_provider", lambda *_: token)
    provider.then(fails(400, "x", "the token a-made-up-token is odd"))
    failed = await calls.failure(auth="entra")
    assert provider.received[0].headers["Authorization"] == "Bearer a-made-up-token"
    assert "a-made-up-token" not in failed.error.message


async def test_a_header_that_http_does_not_allow_has_cost_nothing(
    provider: OpenAIServer, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def token() -> str:
        return "two\nlines"

    monkeypatch.setattr(EndpointClients, "_token_provider", lambda *_: token)
    failed = await calls.failure(auth="entra")
    assert (failed.error.reason, failed.error.billed) == ("PROVIDER_MISCONFIGURED", Billed.NO)
    assert not provider.received


async def test_a_name_that_does_not_resolve_has_not_been_paid() -> None:
    failed = await Calls("http://provider.invalid/v1").failure()
    assert (failed.error.reason, failed.error.billed) == ("PROVIDER_UNAVAILABLE", Billed.NO)


async def test_a_provider_that_takes_too_long_leaves_the_outcome_unknown(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(waits(30))
    started = time.monotonic()
    failed = await calls.failure(seconds=0.3)
    assert (failed.error.reason, failed.error.billed) == ("OUTCOME_UNKNOWN", Billed.UNKNOWN)
    assert time.monotonic() - started < 10


async def test_a_provider_that_drips_is_given_up_in_time(provider: OpenAIServer, calls: Calls) -> None:
    async def drips(exchange: Exchange) -> Any:
        response = web.StreamResponse()
        await response.prepare(exchange.request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    provider.then(drips)
    failed = await calls.failure(seconds=0.5)
    assert (failed.error.reason, failed.error.billed) == ("OUTCOME_UNKNOWN", Billed.UNKNOWN)


async def test_an_answer_that_is_too_large_is_given_up(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(draws(width=300, height=300))
    failed = await calls.failure(max_answer_bytes=100_000)
    assert (failed.error.reason, failed.error.billed) == ("PROVIDER_BAD_RESPONSE", Billed.UNKNOWN)


@pytest.mark.parametrize(
    ("status", "reason"), [(400, "PROVIDER_REJECTED"), (500, "OUTCOME_UNKNOWN"), (302, "PROVIDER_MISCONFIGURED")]
)
async def test_of_an_endless_error_only_the_beginning_is_read(
    status: int, reason: str, provider: OpenAIServer, calls: Calls
) -> None:
    written = 0

    async def endless(exchange: Exchange) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(status=status)
        await response.prepare(exchange.request)
        while written < 100_000_000:
            await response.write(b"x" * 2**18)
            written += 2**18
        return response

    provider.then(endless)
    assert (await calls.failure(max_answer_bytes=10_000)).error.reason == reason
    assert written < 50_000_000, "more than the sockets' buffers hold was taken"


async def test_a_picture_of_many_chunks_comes_out_as_it_was_sent(
    provider: OpenAIServer, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_bytes, "DECODE_CHUNK", 64)
    contents = [bytes(range(length)) for length in (1, 47, 48, 49, 96, 200)]
    provider.then(draws(contents=contents))
    assert [image.content for image in (await calls.generate(n=6)).images] == contents


async def test_no_answer_is_compressed(provider: OpenAIServer, calls: Calls) -> None:
    """A small one could fill the memory."""
    await calls.generate()
    assert provider.received[0].headers["Accept-Encoding"] == "identity"


async def test_no_message_repeats_a_key(provider: OpenAIServer, calls: Calls) -> None:
    provider.then(fails(400, "x", f"Incorrect key {KEY}, also sk-proj-abcdefgh and Bearer abcdef"))
    failed = await calls.failure()
    assert "sk-" not in failed.error.message
    assert "abcdef" not in failed.error.message
    assert "[redacted]" in failed.error.message


def test_a_key_of_any_form_is_scrubbed() -> None:
    assert scrub("the key 0f1e2d3c4b5a is not valid", "0f1e2d3c4b5a") == "the key [redacted] is not valid"


def test_a_providers_message_is_one_short_line() -> None:
    assert scrub("a\n\n b\tc", "") == "a b c"
    assert len(scrub("x" * 5000, "")) == 300
