"""Validated answers in turns: the ladder of formats, the one repair, and what of it was paid for."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pydantic import BaseModel, Field

from services.common.errors import Billed, InvalidArgument, ServiceError, Unavailable
from services.models.failures import CallFailed
from services.models.registry import Registry
from services.models.structured import Formats, Obtained, Task, Unfit, obtain
from services.models.text import REFUSED_FORMAT, TextAnswer
from services.models.text_requests import Message, Rung, TextCall, TextRequest, check_text_request
from tests.models.chats import TODAY, Chats, chats, registry_at
from tests.support.openai_server import Exchange, OpenAIServer, fails, writes


class Shape(BaseModel):
    word: str = Field(max_length=5)
    number: int


REQUEST = TextRequest((Message("system", ("Be brief.",)), Message("user", ("Wörter 水",))), max_tokens=100)
TASK: Task[Shape, Shape] = Task(REQUEST, Shape, lambda shape: shape)
GOOD = '{"word": "水", "number": 7}'
LONG = '{"word": "far too long", "number": 7}'


@pytest_asyncio.fixture(loop_scope="session")
async def chat(provider: OpenAIServer) -> AsyncIterator[Chats]:
    async with chats(registry_at(provider.url)) as made:
        yield made


def row_of(registry: Registry) -> Any:
    return check_text_request(REQUEST, registry, today=TODAY).model


def refuses(*rungs: Rung) -> Any:
    """Refuses these formats for free, and answers well in the others."""

    async def behave(exchange: Exchange) -> Any:
        wanted = exchange.received.body.get("response_format", {"type": "prompt"})["type"]
        if wanted in rungs:
            return await fails(400, None, f"{wanted} is not supported", param="response_format")(exchange)
        return await writes(GOOD)(exchange)

    return behave


async def test_a_good_answer_takes_one_turn(provider: OpenAIServer, chat: Chats) -> None:
    provider.then(writes(GOOD))
    obtained = await chat.obtain(TASK)
    assert obtained.value == Shape(word="水", number=7)
    assert [answer.content for answer in obtained.answers] == [GOOD]
    assert chat.rungs == [(0, "json_schema")]
    body = provider.received[0].body
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Wörter 水"},
    ]
    assert body["response_format"]["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"word": {"type": "string"}, "number": {"type": "integer"}},
        "required": ["word", "number"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("refused", "used"),
    [
        ((), [(0, "json_schema")]),
        (("json_schema",), [(0, "json_schema"), (1, "json_object")]),
        (("json_schema", "json_object"), [(0, "json_schema"), (1, "json_object"), (2, "prompt")]),
    ],
)
async def test_a_format_that_is_refused_gives_way_to_the_next_and_is_not_tried_again(
    refused: tuple[Rung, ...], used: list[tuple[int, Rung]], provider: OpenAIServer, chat: Chats
) -> None:
    provider.otherwise = refuses(*refused)
    first = await chat.obtain(TASK)
    assert chat.rungs == used
    assert len(first.answers) == 1, "refusals are no answers"
    chat.calls.clear()
    second = await chat.obtain(TASK)
    assert chat.rungs == [(0, used[-1][1])]
    assert second.value == first.value
    assert len(provider.charges) == 2


async def test_a_model_whose_row_says_less_is_asked_for_no_more(provider: OpenAIServer) -> None:
    provider.otherwise = refuses("json_object")
    async with chats(registry_at(provider.url, structured="json_object")) as chat:
        await chat.obtain(TASK)
    assert chat.rungs == [(0, "json_object"), (1, "prompt")]


async def test_without_a_schema_of_its_own_the_form_stands_in_the_instructions(provider: OpenAIServer) -> None:
    provider.otherwise = writes(f"Sure! Here it is:\n```json\n{GOOD}\n```\nAnything else?")
    async with chats(registry_at(provider.url, structured="prompt")) as chat:
        assert (await chat.obtain(TASK)).value.word == "水"
    system, user = provider.received[0].body["messages"]
    assert system["content"].startswith("Be brief.")
    assert "JSON" in system["content"]
    assert '"number": {"type": "integer"}' in system["content"]
    assert user["content"] == "Wörter 水", "what the user wrote stands alone"
    assert "response_format" not in provider.received[0].body


async def test_what_one_server_refuses_another_is_still_asked_for(provider: OpenAIServer, chat: Chats) -> None:
    provider.otherwise = refuses("json_schema")
    await chat.obtain(TASK)
    other = row_of(registry_at(provider.url, wire_id="another"))
    assert chat.formats.best(row_of(chat.registry)) == "json_object"
    assert chat.formats.best(other) == "json_schema"


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        pytest.param(LONG, "word: String should have at most 5 characters", id="too long"),
        pytest.param('{"word": "a"}', "number: Field required", id="a field is missing"),
        pytest.param("I cannot do that.", "there is no JSON object in it", id="prose"),
        pytest.param('["a", 1]', "there is no JSON object in it", id="a list"),
    ],
)
async def test_an_answer_of_another_form_is_repaired_once(
    bad: str, told: str, provider: OpenAIServer, chat: Chats
) -> None:
    provider.then(writes(bad), writes(GOOD))
    obtained = await chat.obtain(TASK)
    assert obtained.value.number == 7
    assert [answer.content for answer in obtained.answers] == [bad, GOOD]
    assert [turn for turn, _ in chat.rungs] == [0, 1]
    system, user = provider.received[1].body["messages"]
    assert told in system["content"]
    assert '"number": {"type": "integer"}' in system["content"]
    assert bad not in system["content"], "what a model wrote may be what a user told it to write"
    assert user == {"role": "user", "content": "Wörter 水"}


@pytest.mark.parametrize(("bad", "next_time"), [("Prose.", "json_object"), (LONG, "json_schema")])
async def test_a_server_that_lets_prose_through_has_ignored_the_format_and_is_asked_in_words(
    bad: str, next_time: Rung, provider: OpenAIServer, chat: Chats
) -> None:
    provider.then(writes(bad), writes(GOOD))
    await chat.obtain(TASK)
    assert chat.rungs == [(0, "json_schema"), (1, next_time)]
    assert chat.formats.best(row_of(chat.registry)) == next_time


async def test_two_answers_of_another_form_are_the_end_and_paid_for(provider: OpenAIServer, chat: Chats) -> None:
    provider.otherwise = writes(LONG)
    with pytest.raises(ServiceError) as failure:
        await chat.obtain(TASK)
    assert (failure.value.reason, failure.value.billed) == ("MODEL_ANSWER_INVALID", Billed.YES)
    assert failure.value.metadata == {"problem": "word: String should have at most 5 characters"}
    assert not failure.value.retry_safe
    assert len(provider.charges) == 2


async def test_what_the_reader_refuses_is_repaired_and_then_its_own_error(provider: OpenAIServer, chat: Chats) -> None:
    def read(shape: Shape) -> int:
        if shape.number != 9:
            raise Unfit(["number: must be nine"], InvalidArgument("NOT_NINE", "It is not nine.", billed=Billed.YES))
        return shape.number

    task: Task[Shape, int] = Task(REQUEST, Shape, read)
    provider.then(writes(GOOD), writes('{"word": "", "number": 9}'))
    assert (await chat.obtain(task)).value == 9
    assert "number: must be nine" in provider.received[1].body["messages"][0]["content"]
    provider.then(writes(GOOD), writes(GOOD))
    with pytest.raises(InvalidArgument, match="not nine"):
        await chat.obtain(task)


async def test_a_long_answer_is_read_too(provider: OpenAIServer, chat: Chats) -> None:
    provider.then(writes("{ broken " * 5 + "x" * 9000 + GOOD))
    assert (await chat.obtain(TASK)).value.number == 7


async def test_a_failure_goes_through_and_has_cost_nothing_by_itself(provider: OpenAIServer, chat: Chats) -> None:
    provider.then(fails(429))
    with pytest.raises(CallFailed) as failed:
        await chat.obtain(TASK)
    assert failed.value.error.billed is Billed.NO
    assert len(provider.received) == 1


async def test_a_failure_after_a_turn_that_was_paid_for_says_that_money_was_spent(
    provider: OpenAIServer, chat: Chats
) -> None:
    provider.then(writes(LONG), fails(429))
    with pytest.raises(CallFailed) as failed:
        await chat.obtain(TASK)
    assert (failed.value.error.reason, failed.value.error.billed) == ("PROVIDER_RATE_LIMITED", Billed.YES)


class Ledger:
    """A paid-call protocol in short: the outcome of a turn is kept, and found again."""

    def __init__(self) -> None:
        self.kept: dict[int, TextAnswer | ServiceError] = {}
        self.paid: list[tuple[int, Rung | None]] = []

    async def run(self, chat: Chats, call: TextCall) -> TextAnswer:
        if call.turn not in self.kept:
            self.paid.append((call.turn, call.rung))
            try:
                self.kept[call.turn] = await chat.adapter.complete(call, idempotency_key=str(call.turn), today=TODAY)
            except CallFailed as failed:
                self.kept[call.turn] = failed.error
        kept = self.kept[call.turn]
        if isinstance(kept, ServiceError):
            raise kept
        return kept

    async def obtain(self, chat: Chats, formats: Formats) -> Obtained[Shape]:
        checked = check_text_request(REQUEST, chat.registry, today=TODAY)
        return await obtain(TASK, checked, lambda call: self.run(chat, call), formats)


@pytest.mark.parametrize("fresh", [True, False], ids=["in another process", "in the same process"])
async def test_the_same_request_again_finds_every_turn_and_pays_for_none(
    fresh: bool, provider: OpenAIServer, chat: Chats
) -> None:
    provider.then(refuses("json_schema"), writes(LONG), writes(GOOD))
    ledger, formats = Ledger(), Formats()
    first = await ledger.obtain(chat, formats)
    assert ledger.paid == [(0, "json_schema"), (1, "json_object"), (2, "json_object")]
    ledger.paid.clear()
    again = await ledger.obtain(chat, Formats() if fresh else formats)
    assert again.value == first.value
    assert ledger.paid == []
    assert len(provider.received) == 3
    assert formats.best(row_of(chat.registry)) == "json_object", "a refusal found again is not blamed on another format"


async def test_a_process_that_knows_less_takes_over_without_paying_again(provider: OpenAIServer, chat: Chats) -> None:
    """The turn was asked for as an object; the process that replays it would have asked for a schema."""
    provider.then(writes(GOOD))
    knows = Formats()
    assert knows.learn(
        row_of(chat.registry), InvalidArgument("PROVIDER_REJECTED", "x", metadata={REFUSED_FORMAT: "json_schema"})
    )
    ledger = Ledger()
    first = await ledger.obtain(chat, knows)
    assert (await ledger.obtain(chat, Formats())).value == first.value
    assert ledger.paid == [(0, "json_object")]


@pytest.mark.parametrize("named", [{}, {REFUSED_FORMAT: "prompt-like"}])
def test_an_error_that_names_no_format_teaches_nothing(named: dict[str, str], chat: Chats) -> None:
    formats = Formats()
    assert not formats.learn(row_of(chat.registry), Unavailable("X", "x", metadata=named))


async def test_a_server_that_refuses_again_and_again_is_not_asked_for_ever(chat: Chats) -> None:
    calls = 0

    async def ask(call: TextCall) -> TextAnswer:
        nonlocal calls
        calls += 1
        raise InvalidArgument("PROVIDER_REJECTED", "no", metadata={REFUSED_FORMAT: "json_schema"})

    checked = check_text_request(REQUEST, chat.registry, today=TODAY)
    with pytest.raises(InvalidArgument):
        await obtain(TASK, checked, ask, Formats())
    assert calls == 3
