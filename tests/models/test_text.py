"""The text adapter on the wire: what it sends, what it makes of the answer, and what every failure means."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from services.common.errors import Billed, FailedPrecondition, InvalidArgument
from services.models.money import UNPRICED
from services.models.text import REFUSED_FORMAT
from services.models.text_requests import Message, Picture, Rung, TextRequest, check_text_request
from services.models.usage import Usage
from tests.models.chats import KEY, SCHEMA, TODAY, Chats, chats, registry_at
from tests.support.media import png
from tests.support.openai_server import (
    CHAT_USAGE,
    Behaviour,
    OpenAIServer,
    cuts,
    fails,
    says,
    sends,
    waits,
    writes,
)
from tests.support.ports import free_port


@pytest_asyncio.fixture(loop_scope="session")
async def chat(provider: OpenAIServer) -> AsyncIterator[Chats]:
    provider.otherwise = writes("It is.")
    async with chats(registry_at(provider.url)) as made:
        yield made


async def test_the_answer_comes_with_what_it_used_and_cost(provider: OpenAIServer, chat: Chats) -> None:
    answer = await chat.complete()
    assert (answer.content, answer.finish_reason) == ("It is.", "stop")
    assert answer.usage == Usage(100, 0, 20, 0)
    assert answer.cost.micro_usd == 20, "100 at $0.10 and 20 at $0.50 a million"
    assert answer.raw_usage == {"usage": CHAT_USAGE}
    assert answer.provider_request_id == "req_hand_written"
    assert (answer.image_tokens, answer.cached_tokens, answer.reasoning_tokens) == (None, None, None)


async def test_tokens_are_told_apart_where_the_provider_does(provider: OpenAIServer, chat: Chats) -> None:
    usage = CHAT_USAGE | {
        "prompt_tokens_details": {"cached_tokens": 64, "image_tokens": 70, "text_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    provider.then(writes("x", usage=usage))
    answer = await chat.complete()
    assert answer.usage == Usage(30, 70, 20, 0)
    assert (answer.image_tokens, answer.cached_tokens, answer.reasoning_tokens) == (70, 64, 0)
    assert answer.cost.micro_usd == 20, "cached input is priced as fresh: an upper bound"


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -5, "completion_tokens": 1},
        {"prompt_tokens": 10**30, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"input_tokens": 5, "output_tokens": 5},
    ],
)
async def test_a_usage_that_cannot_be_is_none_and_has_no_price(
    usage: dict[str, Any] | None, provider: OpenAIServer, chat: Chats
) -> None:
    provider.then(writes("x", usage=usage))
    answer = await chat.complete()
    assert answer.usage is None
    assert answer.cost == UNPRICED


async def test_exactly_the_request_is_on_the_wire(provider: OpenAIServer, chat: Chats) -> None:
    await chat.complete("Grüße, 東京 🌊", "and more", key="the-key")
    [received] = provider.received
    assert received.path == "/v1/chat/completions"
    assert received.body == {
        "model": "wire-model",
        "messages": [{"role": "user", "content": "Grüße, 東京 🌊\n\nand more"}],
        "max_completion_tokens": 500,
    }
    headers = {name.lower(): value for name, value in received.headers.items()}
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["idempotency-key"] == "the-key"
    assert headers["accept-encoding"] == "identity"


async def test_pictures_are_data_urls_in_their_place(provider: OpenAIServer, chat: Chats) -> None:
    first, second = png(8, 8), png(9, 9)
    await chat.complete("one", Picture(first, "image/png"), "two", Picture(second, "image/jpeg", "low"))
    [message] = provider.received[0].body["messages"]
    assert message["content"] == [
        {"type": "text", "text": "one"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(first).decode()}"}},
        {"type": "text", "text": "two"},
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(second).decode()}", "detail": "low"},
        },
    ]


@pytest.mark.parametrize(
    ("rung", "response_format"),
    [
        (None, None),
        ("prompt", None),
        ("json_object", {"type": "json_object"}),
        (
            "json_schema",
            {"type": "json_schema", "json_schema": {"name": "Answer", "strict": True, "schema": SCHEMA.schema}},
        ),
    ],
)
async def test_each_rung_asks_for_json_in_its_way(
    rung: Rung | None, response_format: dict[str, Any] | None, provider: OpenAIServer, chat: Chats
) -> None:
    await chat.complete(rung=rung)
    assert provider.received[0].body.get("response_format") == response_format


async def test_the_bound_goes_by_the_name_and_to_the_limit_of_the_models_row(provider: OpenAIServer) -> None:
    provider.otherwise = writes("x")
    async with chats(registry_at(provider.url, max_tokens_parameter="max_tokens", max_output_tokens=300)) as chat:
        await chat.complete(max_tokens=200)
        await chat.complete(max_tokens=400)
    assert [received.body["max_tokens"] for received in provider.received] == [200, 300]
    assert all("max_completion_tokens" not in received.body for received in provider.received)


async def test_an_answer_in_parts_is_one_text(provider: OpenAIServer, chat: Chats) -> None:
    provider.then(writes([{"type": "text", "text": "a"}, {"type": "reasoning"}, {"type": "text", "text": "b"}]))
    assert (await chat.complete()).content == "ab"


async def test_half_a_character_is_replaced_and_whole_ones_stay(provider: OpenAIServer, chat: Chats) -> None:
    provider.then(sends(rb'{"choices": [{"message": {"content": "\ud83c\udf0a \ud83c!"}, "finish_reason": "stop"}]}'))
    assert (await chat.complete()).content == "🌊 \ufffd!"


FILTERED = {
    "choices": [
        {
            "message": {"content": None},
            "finish_reason": "content_filter",
            "content_filter_results": {"hate": {"filtered": False}, "violence": {"filtered": True}},
        }
    ]
}
FAILURES = [
    # behaviour, dialect, reason, billed, retry_safe
    pytest.param(fails(400, "content_filter"), "azure-v1", "CONTENT_REJECTED", "no", False, id="prompt filtered"),
    pytest.param(fails(400, "invalid_value"), "openai", "PROVIDER_REJECTED", "no", False, id="400"),
    pytest.param(fails(413), "openai", "PROVIDER_REJECTED", "no", False, id="413"),
    pytest.param(says(422, {"detail": "x"}), "generic", "PROVIDER_REJECTED", "no", False, id="422 of FastAPI"),
    pytest.param(says(400, {"error": "x"}), "generic", "PROVIDER_REJECTED", "no", False, id="400 with a text"),
    pytest.param(fails(401), "openai", "PROVIDER_MISCONFIGURED", "no", False, id="401"),
    pytest.param(fails(404, "model_not_found"), "openai", "PROVIDER_MISCONFIGURED", "no", False, id="404"),
    pytest.param(says(307, None, location="/"), "openai", "PROVIDER_MISCONFIGURED", "no", False, id="a redirect"),
    pytest.param(fails(429), "openai", "PROVIDER_RATE_LIMITED", "no", True, id="429"),
    pytest.param(fails(429, "insufficient_quota"), "openai", "PROVIDER_RATE_LIMITED", "no", True, id="quota"),
    pytest.param(fails(503, "overloaded"), "openai", "PROVIDER_UNAVAILABLE", "no", True, id="503, overloaded"),
    pytest.param(fails(503), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="503 that says nothing"),
    pytest.param(fails(500), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="500"),
    pytest.param(fails(500), "sglang", "PROVIDER_UNAVAILABLE", "no", True, id="500 of one's own server"),
    pytest.param(fails(408), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="408"),
    pytest.param(cuts(), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="reset before the answer"),
    pytest.param(cuts(after_bytes=10), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="reset in the answer"),
    pytest.param(waits(30), "openai", "OUTCOME_UNKNOWN", "unknown", False, id="too slow"),
    pytest.param(sends(b"<html>"), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="html"),
    pytest.param(sends(b'{"choices": [{"mes'), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="half of it"),
    pytest.param(sends(b"[]"), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="a list"),
    pytest.param(sends(b"{}"), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="an empty object"),
    pytest.param(sends(b'{"choices": []}'), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="no choice"),
    pytest.param(sends(b'{"choices": [5]}'), "openai", "PROVIDER_BAD_RESPONSE", "unknown", False, id="an odd choice"),
    pytest.param(
        says(200, {"choices": [], "usage": CHAT_USAGE}), "openai", "PROVIDER_BAD_RESPONSE", "yes", False,
        id="no choice that was charged",
    ),
    pytest.param(
        says(200, {"error": {"code": "server_error"}}), "litellm", "PROVIDER_BAD_RESPONSE", "unknown", False,
        id="an error in a 200",
    ),
    pytest.param(
        says(200, {"error": {"code": "content_filter"}}), "azure-v1", "CONTENT_REJECTED", "unknown", False,
        id="a filter in a 200",
    ),
    pytest.param(writes(None, refusal="I won't."), "openai", "CONTENT_REJECTED", "yes", False, id="a refusal"),
    pytest.param(
        writes(None, refusal="I won't.", usage=None), "openai", "CONTENT_REJECTED", "yes", False,
        id="a refusal without usage",
    ),
    pytest.param(says(200, FILTERED), "azure-v1", "CONTENT_REJECTED", "yes", False, id="an answer filtered"),
    pytest.param(writes('{"a', finish="length"), "openai", "PROVIDER_BAD_RESPONSE", "yes", False, id="cut off"),
    pytest.param(writes(""), "openai", "PROVIDER_BAD_RESPONSE", "yes", False, id="no text"),
    pytest.param(writes(" \n"), "openai", "PROVIDER_BAD_RESPONSE", "yes", False, id="white space"),
    pytest.param(writes({"a": 1}), "openai", "PROVIDER_BAD_RESPONSE", "yes", False, id="content that is no text"),
]  # fmt: skip


@pytest.mark.parametrize(("behaviour", "dialect", "reason", "billed", "retry_safe"), FAILURES)
async def test_every_failure_says_what_it_cost_and_is_sent_once(
    behaviour: Behaviour, dialect: str, reason: str, billed: str, retry_safe: bool, provider: OpenAIServer
) -> None:
    provider.otherwise = behaviour
    async with chats(registry_at(provider.url, dialect=dialect), seconds=0.5) as chat:
        failed = await chat.failure(rung="json_schema")
    assert (failed.error.reason, failed.error.billed.value, failed.error.retry_safe) == (reason, billed, retry_safe)
    assert REFUSED_FORMAT not in failed.error.metadata
    assert len(provider.received) == 1, "the SDK must repeat nothing"


async def test_a_provider_that_is_not_there_has_not_been_paid() -> None:
    async with chats(registry_at(f"http://127.0.0.1:{free_port()}/v1")) as chat:
        failed = await chat.failure()
    assert (failed.error.reason, failed.error.billed, failed.not_accepted) == ("PROVIDER_UNAVAILABLE", Billed.NO, True)


async def test_an_answer_that_is_too_large_is_given_up(provider: OpenAIServer) -> None:
    provider.otherwise = writes("x" * 200_000)
    async with chats(registry_at(provider.url), max_answer_bytes=100_000) as chat:
        failed = await chat.failure()
    assert (failed.error.reason, failed.error.billed) == ("PROVIDER_BAD_RESPONSE", Billed.UNKNOWN)


async def test_what_a_refusal_used_is_kept(provider: OpenAIServer, chat: Chats) -> None:
    provider.then(writes(None, refusal="I won't."))
    failed = await chat.failure()
    assert failed.usage == Usage(100, 0, 20, 0)
    assert failed.cost is not None
    assert failed.cost.micro_usd == 20
    assert failed.provider_request_id == "req_hand_written"


async def test_a_filtered_answer_tells_the_category(provider: OpenAIServer, chat: Chats) -> None:
    provider.then(says(200, FILTERED))
    assert (await chat.failure()).error.metadata == {"stage": "output", "categories": "violence"}


REFUSALS = [
    pytest.param(fails(400, param="response_format"), id="param"),
    pytest.param(fails(400, "invalid_json_schema", param="response_format.json_schema"), id="param within"),
    pytest.param(fails(400, None, "json_schema is not supported by this server"), id="in words"),
    pytest.param(says(400, {"error": "'response_format.type' must be 'text'"}), id="LM Studio"),
    pytest.param(
        says(422, {"detail": [{"loc": ["body", "response_format", "type"], "msg": "bad literal", "type": "x"}]}),
        id="FastAPI",
    ),
]


@pytest.mark.parametrize("behaviour", REFUSALS)
@pytest.mark.parametrize("rung", ["json_schema", "json_object"])
async def test_a_server_that_does_not_know_the_format_says_so_for_free(
    behaviour: Behaviour, rung: Rung, provider: OpenAIServer, chat: Chats
) -> None:
    provider.otherwise = behaviour
    failed = await chat.failure(rung=rung)
    assert failed.error.metadata[REFUSED_FORMAT] == rung
    assert failed.error.billed is Billed.NO


@pytest.mark.parametrize(
    ("behaviour", "rung"),
    [
        pytest.param(fails(400, param="response_format"), "prompt", id="none was asked for"),
        pytest.param(fails(400, param="response_format"), None, id="no JSON was asked for"),
        pytest.param(
            fails(400, None, "say json to use response_format", param="messages"), "json_object", id="the messages"
        ),
        pytest.param(fails(400, "context_length_exceeded", "too long"), "json_schema", id="another reason"),
        pytest.param(fails(413, None, "the json_schema is too large"), "json_schema", id="another status"),
        pytest.param(fails(500, None, "response_format"), "json_schema", id="a failure that may have been billed"),
        pytest.param(fails(400, "content_filter", "response_format"), "json_schema", id="content"),
    ],
)
async def test_other_refusals_are_none_of_the_format(
    behaviour: Behaviour, rung: Rung | None, provider: OpenAIServer, chat: Chats
) -> None:
    provider.otherwise = behaviour
    assert REFUSED_FORMAT not in (await chat.failure(rung=rung)).error.metadata


def request(*parts: Any, **fields: Any) -> TextRequest:
    return TextRequest((Message("user", parts or ("x",)),), **({"max_tokens": 10} | fields))


URL = "http://127.0.0.1:1/v1"
SEEN = Picture(b"x", "image/png")


@pytest.mark.parametrize(
    ("row", "wanted", "field"),
    [
        pytest.param({"vision": False}, request(SEEN, picture_field="video"), "video", id="a blind model"),
        pytest.param({"max_pictures": 2}, request(SEEN, SEEN, SEEN), "image", id="too many pictures"),
        pytest.param({"max_prompt_chars": 5}, request("123", "456"), "prompt", id="too long"),
    ],
)
def test_what_the_model_does_not_take_is_refused_by_field(row: dict[str, Any], wanted: TextRequest, field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        check_text_request(wanted, registry_at(URL, **row), today=TODAY)
    assert refusal.value.reason == "UNSUPPORTED_PARAMETER"
    assert [violation.field for violation in refusal.value.violations] == [field]
    assert refusal.value.metadata["model"] == "m"


def test_a_model_that_is_unknown_or_makes_images_is_refused() -> None:
    for name in ("nobody", "gpt-image-2"):
        with pytest.raises(InvalidArgument, match="no language model") as refusal:
            check_text_request(request(model=name), registry_at(URL), today=TODAY)
        assert refusal.value.reason == "MODEL_UNKNOWN"
        assert [violation.field for violation in refusal.value.violations] == ["model"]


def test_a_model_past_its_date_is_refused_with_its_replacement() -> None:
    registry = registry_at(URL, shutdown_date=TODAY.replace(day=1), replacement="another")
    with pytest.raises(FailedPrecondition) as refusal:
        check_text_request(request(), registry, today=TODAY)
    assert refusal.value.reason == "MODEL_RETIRED"
    assert refusal.value.metadata["replacement"] == "another"


def test_a_found_model_keeps_its_own_limits() -> None:
    checked = check_text_request(request(max_tokens=10**6), registry_at(URL, max_output_tokens=77), today=TODAY)
    assert (checked.model_id, checked.max_tokens) == ("m", 77)
