"""Answering requests of the helpers: what a language model gives now, or gave when the same request came first."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from services.common.caller import current_caller
from services.common.names import derived_id
from services.image.adapters.answers import Answers
from services.image.asking import Asking, Scope
from services.image.domain.helping import Helped, dump, helped, load, no_database, still_asking
from services.image.running import Running
from services.models.paid_calls import PaidCalls, may_pass
from services.models.structured import Task
from services.models.text_requests import CheckedTextRequest

ShapeT = TypeVar("ShapeT", bound=BaseModel)
ValueT = TypeVar("ValueT")
Answer = Helped[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Job(Generic[ShapeT, ValueT]):
    """One request of a helper.

    `begin` makes the task before anything is paid, `finish` turns its value into what is kept and answered, and
    `after` is done each time the request is answered, with what was kept.
    """

    method: str
    operation: str
    request_id: str
    fingerprint: bytes
    begin: Callable[[], Awaitable[Task[ShapeT, ValueT]]]
    finish: Callable[[ValueT], Awaitable[Mapping[str, Any]]]
    after: Callable[[Answer, Scope], Awaitable[None]] | None = None


class Helping:
    """Answers jobs for the present caller. The work is the service's own: a client that goes away loses nothing."""

    def __init__(self, asking: Asking, answers: Answers, paid_calls: PaidCalls, running: Running[Answer]) -> None:
        self._asking = asking
        self._answers = answers
        self._paid_calls = paid_calls
        self._running = running

    async def help(self, job: Job[ShapeT, ValueT], *, patience: float) -> Answer:
        """The answer of the job, after at most `patience` seconds.

        Raises:
            ServiceError: a refusal, how the paid call failed, REQUEST_ID_REUSED, or STILL_RUNNING.
        """
        until = time.monotonic() + patience
        attachable = bool(job.request_id)
        request_id = job.request_id or str(uuid.uuid4())
        scope = Scope(current_caller().principal, job.method, request_id, job.fingerprint, job.operation)
        try:
            known = await self._known(scope) if attachable else None
            task = await self._under_way(job, scope, known)
            await asyncio.wait({task}, timeout=max(until - time.monotonic(), 0.0))
            if not task.done() or task.cancelled():
                raise still_asking(attachable=attachable)
            return task.result()
        except Exception as error:
            if not may_pass(error):
                raise
            raise no_database(attachable=attachable) from error

    async def _known(self, scope: Scope) -> Answer | None:
        """What the request was answered before."""
        call = await self._paid_calls.find(scope.principal, scope.method, scope.request_id, scope.fingerprint)
        result = None if call is None else await self._answers.result(call.id)
        return None if result is None else load(result)

    async def _under_way(self, job: Job[ShapeT, ValueT], scope: Scope, known: Answer | None) -> asyncio.Task[Answer]:
        """The one task of this process that is at work on the intent."""
        intent = scope.principal, scope.method, scope.request_id, scope.fingerprint.hex()
        key = derived_id("contentlab.image.helper", *intent)
        if (present := self._running.find(key)) is not None:
            return present
        if known is not None:
            begun = None
        else:
            task = await job.begin()
            begun = task, self._asking.check(task.request)

        async def start() -> asyncio.Task[Answer]:
            # Somebody else may have been faster while the task was made.
            return self._running.find(key) or self._running.start(key, self._answer(job, scope, known, begun))

        return await self._running.admit(start)

    async def _answer(
        self,
        job: Job[ShapeT, ValueT],
        scope: Scope,
        known: Answer | None,
        begun: tuple[Task[ShapeT, ValueT], CheckedTextRequest] | None,
    ) -> Answer:
        answer = known
        if begun is not None:
            asked = await self._asking.obtain(*begun, scope)
            first = helped(await job.finish(asked.value), asked.calls)
            # Of two processes that come here at once the first one's answer counts.
            answer = load(await self._answers.put_result(asked.first, dump(first)))
        if answer is None:
            raise RuntimeError("neither an answer nor work to do")
        if job.after is not None:
            await job.after(answer, scope)
        return answer
