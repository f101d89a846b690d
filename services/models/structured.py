"""A validated answer of a language model: asked for in the strictest way its server takes, repaired once.

Every provider call is a paid call by itself. This module makes none: it says what to ask, in turns that are numbered,
and the caller runs each through the paid-call protocol, under an intent derived from its own and the turn's number. The
same request then finds the answers of earlier turns again, whatever process it is taken up in.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from services.common.errors import Billed, ServiceError
from services.models.failures import CallFailed, answer_invalid
from services.models.json_answers import json_objects
from services.models.json_schemas import strict_schema
from services.models.rows import TextModel
from services.models.text import REFUSED_FORMAT, TextAnswer
from services.models.text_requests import RUNGS, CheckedTextRequest, Message, Rung, Schema, TextCall, TextRequest

ShapeT = TypeVar("ShapeT", bound=BaseModel)
ValueT = TypeVar("ValueT")
Ask = Callable[[TextCall], Awaitable[TextAnswer]]

# Of what is wrong with an answer.
_PROBLEMS = 8
_PROBLEM_CHARS = 200
# Reading less is faster than handing it to a thread.
_INLINE_CHARS = 2000


class Unfit(Exception):
    """An answer that is not what was asked for: what the model is told of it, and the error if it cannot do better.

    The problems are in our words alone. They are said where the program speaks: no word of a user's belongs there.
    """

    def __init__(self, problems: Sequence[str], error: ServiceError) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
        self.error = error


@dataclass(frozen=True, slots=True)
class Task(Generic[ShapeT, ValueT]):
    """What is asked, the shape of the answer, and its reader, which raises `Unfit` for what no schema can say."""

    request: TextRequest
    shape: type[ShapeT]
    read: Callable[[ShapeT], ValueT]


@dataclass(frozen=True, slots=True)
class Obtained(Generic[ValueT]):
    """The value, and the answers of all turns that were billed, in their order."""

    value: ValueT
    answers: tuple[TextAnswer, ...]


@dataclass(slots=True)
class Formats:
    """Which ways to ask for JSON the servers have refused or ignored, as long as this process lives."""

    _refused: dict[tuple[str, str], set[Rung]] = field(default_factory=dict)

    def best(self, model: TextModel) -> Rung:
        """The strictest way that the model's row allows and its server has not refused."""
        refused = self._refused.get((model.endpoint, model.wire_id), set())
        return next((rung for rung in RUNGS[RUNGS.index(model.structured) :] if rung not in refused), "prompt")

    def learn(self, model: TextModel, error: ServiceError) -> bool:
        """Whether the error says that the server does not take a way to ask; it is remembered."""
        named = error.metadata.get(REFUSED_FORMAT)
        rung = next((rung for rung in RUNGS if rung == named), None)
        if rung is not None:
            self.avoid(model, rung)
        return rung is not None

    def avoid(self, model: TextModel, rung: Rung) -> None:
        """This way is not tried again."""
        self._refused.setdefault((model.endpoint, model.wire_id), set()).add(rung)


async def obtain(
    task: Task[ShapeT, ValueT], checked: CheckedTextRequest, ask: Ask, formats: Formats
) -> Obtained[ValueT]:
    """The task's value. `checked` is its request, `ask` makes one paid call and returns or raises what came of it.

    Raises:
        CallFailed, ServiceError: what `ask` raised. `billed` is YES, and not NO, if a turn before was paid for.
        ServiceError: the answer was not what was asked for, twice: MODEL_ANSWER_INVALID, or what the reader says.
    """
    turns = _Turns(checked, ask, formats, Schema(task.shape.__name__, strict_schema(task.shape)))
    messages = task.request.messages
    answer = await turns.take(messages)
    try:
        return Obtained(await _off_the_loop(task, answer.content), turns.answers)
    except Unfit as unfit:
        turns.note(answer)
        messages = _told(messages, _complaint(unfit.problems))
    answer = await turns.take(messages, in_words=True)
    try:
        return Obtained(await _off_the_loop(task, answer.content), turns.answers)
    except Unfit as unfit:
        raise unfit.error from None


class _Turns:
    """The calls of one request, numbered."""

    def __init__(self, checked: CheckedTextRequest, ask: Ask, formats: Formats, schema: Schema) -> None:
        self._checked = checked
        self._ask = ask
        self._formats = formats
        self._schema = schema
        self._taken = 0
        self._rung: Rung = "prompt"
        self.answers: tuple[TextAnswer, ...] = ()

    async def take(
        self, messages: tuple[Message, ...], *, in_words: bool = False, falls: int = len(RUNGS) - 1
    ) -> TextAnswer:
        """The answer, asked for in the strictest way that is taken; each refusal of a way is a turn of its own.

        `in_words`: the schema is written out even if the server is given it.
        """
        try:
            return await self._turn(messages, in_words)
        except (CallFailed, ServiceError) as failed:
            error = failed.error if isinstance(failed, CallFailed) else failed
            if not (falls and self._formats.learn(self._checked.model, error)):
                if self.answers and error.billed is Billed.NO:
                    error.billed = Billed.YES
                raise
        return await self.take(messages, in_words=in_words, falls=falls - 1)

    def note(self, answer: TextAnswer) -> None:
        """A server that takes a schema and lets the model write prose ignores it: words do better."""
        if self._rung != "prompt" and not any(True for _ in json_objects(answer.content)):
            self._formats.avoid(self._checked.model, self._rung)

    async def _turn(self, messages: tuple[Message, ...], in_words: bool) -> TextAnswer:
        rung = self._rung = self._formats.best(self._checked.model)
        told = _told(messages, _form(self._schema)) if in_words or rung != "json_schema" else messages
        call = TextCall(self._checked, told, turn=self._taken, rung=rung, schema=self._schema)
        self._taken += 1
        answer = await self._ask(call)
        self.answers = (*self.answers, answer)
        return answer


async def _off_the_loop(task: Task[ShapeT, ValueT], content: str) -> ValueT:
    """Long texts are compared and checked letter by letter."""
    if len(content) <= _INLINE_CHARS:
        return _read(task, content)
    return await asyncio.to_thread(_read, task, content)


def _read(task: Task[ShapeT, ValueT], content: str) -> ValueT:
    """The value of the last object that fits, for drafts and examples come before it.

    Raises:
        Unfit: there is none, or the reader says so.
    """
    problems: Sequence[str] = ("there is no JSON object in it",)
    shape: ShapeT | None = None
    for data in json_objects(content):
        try:
            shape = task.shape.model_validate(data)
        except ValidationError as error:
            problems = _problems(error)
    if shape is None:
        raise Unfit(problems, answer_invalid(problems))
    return task.read(shape)


def _problems(error: ValidationError) -> list[str]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = (f"{'.'.join(map(str, each['loc'])) or 'the object'}: {each['msg']}" for each in found[:_PROBLEMS])
    return [text[:_PROBLEM_CHARS] for text in texts]


def _complaint(problems: Sequence[str]) -> str:
    listed = "\n".join(f"- {problem}" for problem in problems)
    return f"An earlier answer to this could not be used. See that yours does not have the same faults:\n{listed}"


def _form(schema: Schema) -> str:
    written = json.dumps(schema.schema, ensure_ascii=False)
    return f"Answer with one JSON object that fits this JSON schema, with nothing before or after it:\n{written}"


def _told(messages: tuple[Message, ...], more: str) -> tuple[Message, ...]:
    """The messages, with more said in the first one, that of the program: a user's message is only ever material."""
    first = messages[0]
    return (Message(first.role, (*first.parts, more)), *messages[1:])
