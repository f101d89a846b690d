"""Asking language models: every turn is a paid call of its own, and its answer is kept with its settlement.

The intent of a turn follows from the request and the number of the turn alone. Whoever takes a request up again, here
or in another process, finds the answers that were paid for, and pays only for what was not asked yet.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.errors import Billed, Internal, ServiceError, Unavailable
from services.image.adapters import answers
from services.image.adapters.answers import Answers
from services.image.domain.generations import PAID_CALLS
from services.models.endpoints import EndpointClients
from services.models.failures import CallFailed
from services.models.money import UNPRICED
from services.models.paid_calls import Intent, Lease, Opened, PaidCall, PaidCalls, Performed, State
from services.models.patience import patiently
from services.models.registry import Registry
from services.models.structured import Formats, Task, obtain
from services.models.text import TextAdapter, TextAnswer
from services.models.text_requests import CheckedTextRequest, TextCall, TextRequest, check_text_request

ShapeT = TypeVar("ShapeT", bound=BaseModel)
ValueT = TypeVar("ValueT")

_POLL_PAUSES = (0.05, 0.1, 0.2, 0.5)
_LONGEST_POLL_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose intent it is: its principal and method scope the request id, `subject` names what it is a step of."""

    principal: str
    method: str
    request_id: str
    fingerprint: bytes
    operation: str
    subject: str = ""

    def intent(self, call: TextCall) -> Intent:
        """The intent of one turn."""
        return Intent(
            principal=self.principal,
            method=f"{self.method}/{call.turn}" if call.turn else self.method,
            request_id=self.request_id,
            fingerprint=self.fingerprint,
            operation=self.operation,
            model=call.checked.model_id,
            endpoint=call.checked.model.endpoint,
            subject=self.subject,
        )


@dataclass(frozen=True, slots=True)
class Asked(Generic[ValueT]):
    """The value; `calls` are the turns that were billed, in their order, and `first` is the id of turn 0."""

    value: ValueT
    calls: tuple[PaidCall, ...]
    first: str


class Asking:
    """Runs tasks for language models through the paid-call protocol."""

    def __init__(
        self,
        registry: Registry,
        paid_calls: PaidCalls,
        adapter: TextAdapter,
        clients: EndpointClients,
        kept: Answers,
        *,
        today: Callable[[], date],
    ) -> None:
        self._registry = registry
        self._paid_calls = paid_calls
        self._adapter = adapter
        self._clients = clients
        self._answers = kept
        self._today = today
        self._formats = Formats()

    def check(self, request: TextRequest) -> CheckedTextRequest:
        """The request with its model; nothing is paid.

        Raises:
            ServiceError: as `check_text_request`.
        """
        return check_text_request(request, self._registry, today=self._today())

    async def obtain(
        self,
        task: Task[ShapeT, ValueT],
        checked: CheckedTextRequest,
        scope: Scope,
        turns: list[PaidCall] | None = None,
    ) -> Asked[ValueT]:
        """The task's value: what was paid for before is not paid for again. `turns` gets every call, however it ends.

        Raises:
            ServiceError: how it failed, as `structured.obtain` says; REQUEST_ID_REUSED.
        """
        turns = [] if turns is None else turns

        async def ask(call: TextCall) -> TextAnswer:
            opened = await self._paid_calls.open(scope.intent(call), _nothing_else)
            turns.append(opened.call)
            turns[-1], answer = await (self._made(opened, call) if opened.is_ours else self._found(opened.call))
            return answer

        try:
            obtained = await obtain(task, checked, ask, self._formats)
        except (CallFailed, ServiceError) as failed:
            error = failed.error if isinstance(failed, CallFailed) else failed
            if turns:
                error.metadata.setdefault("paidCall", PAID_CALLS.format(turns[-1].id))
            raise error from None
        billed = tuple(call for call in turns if call.state is State.SUCCEEDED)
        return Asked(obtained.value, billed, turns[0].id)

    async def ended(self, turns: Sequence[PaidCall]) -> list[PaidCall]:
        """These calls as they ended."""
        found = [await self._paid_calls.get(call.id, principal=call.principal) for call in turns]
        return [call for call in found if call is not None]

    async def _made(self, opened: Opened, call: TextCall) -> tuple[PaidCall, TextAnswer]:
        answer: TextAnswer | None = None

        async def perform(lease: Lease) -> Performed[TextAnswer]:
            nonlocal answer

            async def once() -> TextAnswer:
                lease.check()
                return await self._adapter.complete(call, idempotency_key=opened.call.id, today=self._today())

            sent = await patiently(once)
            answer = replace(sent, content=answers.storable(sent.content))
            return _performed(answer)

        async def keep(connection: AsyncConnection, settled: PaidCall, performed: Performed[TextAnswer]) -> None:
            await answers.keep(connection, settled.id, performed.value.content)

        endpoint = call.checked.model.endpoint
        settled = await self._paid_calls.run(opened, perform, keep, place=lambda: self._clients.place(endpoint))
        if answer is None:
            raise _answer_gone(settled)
        return settled, answer

    async def _found(self, call: PaidCall) -> tuple[PaidCall, TextAnswer]:
        """What another attempt at the same turn came to, which may still be under way somewhere."""
        ended = await self._ended(call)
        if ended.state is not State.SUCCEEDED:
            raise ended.error or _answer_gone(ended)
        content = await self._answers.content(ended.id)
        if content is None:
            raise _answer_gone(ended)
        usage, cost = ended.usage, ended.cost or UNPRICED
        return ended, TextAnswer(content, "", usage, None, cost, None, ended.provider_request_id)

    async def _ended(self, call: PaidCall) -> PaidCall:
        """The call when it has ended. That of a dead process does, too, as soon as its lease is over."""
        for pause in itertools.chain(_POLL_PAUSES, itertools.repeat(_LONGEST_POLL_PAUSE)):
            if not call.running:
                break
            await asyncio.sleep(pause)
            found = await self._paid_calls.get(call.id, principal=call.principal)
            if found is None:
                raise Unavailable("UNAVAILABLE", "The call was removed while it was looked up.", retry_safe=True)
            call = found
        return call


async def _nothing_else(connection: AsyncConnection, call: PaidCall) -> None:
    """There is nothing to write down with the intent."""


def _performed(answer: TextAnswer) -> Performed[TextAnswer]:
    price_date = date.fromisoformat(answer.price.effective_date) if answer.price else None
    return Performed(answer, answer.usage, answer.raw_usage, answer.cost, price_date, answer.provider_request_id)


def _answer_gone(call: PaidCall) -> ServiceError:
    return Internal("INTERNAL_ERROR", f"The answer of paid call {call.id} is not there.", billed=Billed(call.billed))
