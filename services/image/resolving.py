"""Settling generations and paid calls whose outcome is unknown, by the word of their owner."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date

from services.common.errors import Billed, Unavailable
from services.image.adapters import generations as rows
from services.image.analysing import Analysing
from services.image.domain.again import edit_inputs_of, image_request_of, new_generation_of
from services.image.domain.generations import MAIN_OPERATIONS, Generation
from services.image.making import Maker
from services.image.reading import Reading
from services.image.references import CheckedInputs, References
from services.image.running import Running
from services.models.image_requests import CheckedImageRequest, check_image_request
from services.models.paid_calls import (
    Intent,
    Opened,
    PaidCall,
    PaidCalls,
    Resolution,
    Resolved,
    State,
    fingerprint,
    may_pass,
    not_resolvable,
)

RESOLVE_GENERATION, RESOLVE_CALL = "ResolveImageGeneration", "ResolvePaidCall"


@dataclass(frozen=True, slots=True)
class Word:
    """What the owner says. `request_id` is empty where none was given."""

    is_billed: bool
    note: str = ""
    run_again: bool = False
    request_id: str = ""

    def said_of(self, call: PaidCall, method: str, name: str) -> Resolution:
        """For the protocol, which takes the same word about the same name once."""
        body = {"name": name, "billed": self.is_billed, "note": self.note, "run_again": self.run_again}
        return Resolution(
            principal=call.principal,
            method=method,
            request_id=self.request_id or str(uuid.uuid4()),
            fingerprint=fingerprint(method, body),
            is_billed=self.is_billed,
            note=self.note,
        )


class Resolving:
    """The use cases of ResolveImageGeneration and ResolvePaidCall, for the present caller."""

    def __init__(
        self,
        reading: Reading,
        paid_calls: PaidCalls,
        maker: Maker,
        running: Running[Generation],
        references: References,
        analysing: Analysing,
        *,
        today: Callable[[], date],
    ) -> None:
        self._reading = reading
        self._paid_calls = paid_calls
        self._maker = maker
        self._running = running
        self._references = references
        self._analysing = analysing
        self._today = today

    async def paid_call(self, call_id: str, word: Word) -> PaidCall:
        """The call as it is after the word was given.

        Raises:
            ServiceError: PAID_CALL_NOT_FOUND, NOT_RESOLVABLE, REQUEST_ID_REUSED, UNAVAILABLE.
        """
        call = await self._reading.paid_call(call_id)
        resolution = word.said_of(call, RESOLVE_CALL, call_id)
        resolved = await _reached(self._paid_calls.resolve(call, resolution))
        return resolved.call

    async def generation(self, generation_id: str, word: Word, *, patience: float) -> Generation:
        """The generation as it is after the word was given.

        One that runs again is waited for, for at most `patience` seconds; how that ended is in it.

        Raises:
            ServiceError: GENERATION_NOT_FOUND, NOT_RESOLVABLE, REQUEST_ID_REUSED, UNAVAILABLE; of one that is to run
                again also why it cannot, as `GenerateImages` says before it pays.
        """
        generation = await self._reading.generation(generation_id)
        call = _unsettled(generation)
        if not word.run_again:
            await _reached(self._paid_calls.resolve(call, word.said_of(call, RESOLVE_GENERATION, generation_id)))
        else:
            await self._run_again(generation, call, word, patience)
        return await self._reading.generation(generation_id)

    async def _run_again(self, generation: Generation, call: PaidCall, word: Word, patience: float) -> None:
        resolution = word.said_of(call, RESOLVE_GENERATION, generation.id)
        # What was resolved before is found so, whatever has become of its model since.
        ready = await self._ready(generation) if call.state is State.OUTCOME_UNKNOWN else None

        async def resolve_and_start() -> Resolved:
            again = _intent(generation, ready.checked, resolution) if ready else None
            resolved = await _reached(self._paid_calls.resolve(call, resolution, again=again, create=rows.run_again))
            if resolved.again is not None and ready is not None:
                self._start(resolved.again, ready, generation)
            return resolved

        resolved = await self._running.admit(resolve_and_start)
        task = self._running.find(resolved.again.call.id if resolved.again else call.id)
        if task is not None:
            await asyncio.wait({task}, timeout=patience)

    def _start(self, opened: Opened, ready: "_Ready", generation: Generation) -> None:
        new = new_generation_of(generation)
        work = self._maker.make(opened, ready.checked, new, self._today(), inputs=ready.inputs)
        self._running.start(opened.call.id, self._analysing.finish(new, work))

    async def _ready(self, generation: Generation) -> "_Ready":
        """What is to be run again, checked as if it were new."""
        inputs = edit_inputs_of(generation)
        if inputs is None and generation.inputs:
            raise not_resolvable(
                "An edit of inline images cannot be run again, because they are not kept: resolve it without "
                "run_again, and send it anew."
            )
        checked = check_image_request(
            image_request_of(generation),
            self._reading.registry,
            today=self._today(),
            references=inputs.asked() if inputs else None,
        )
        return _Ready(checked, await self._references.check(generation.owner, inputs) if inputs else None)


@dataclass(frozen=True, slots=True)
class _Ready:
    checked: CheckedImageRequest
    inputs: CheckedInputs | None


def _unsettled(generation: Generation) -> PaidCall:
    """The call that the generation's outcome hangs on: the last one of unknown outcome, its main one first.

    Of a generation that has been settled it is the last one that was; whether it may be settled the protocol decides.
    """
    calls = sorted(generation.calls, key=lambda call: (call.state is State.OUTCOME_UNKNOWN, _is_main(call), call.id))
    if not calls:
        raise not_resolvable()
    return calls[-1]


def _is_main(call: PaidCall) -> bool:
    return call.operation in MAIN_OPERATIONS


def _intent(generation: Generation, checked: CheckedImageRequest, resolution: Resolution) -> Intent:
    return Intent(
        principal=generation.owner,
        method=RESOLVE_GENERATION,
        request_id=resolution.request_id,
        fingerprint=resolution.fingerprint,
        operation=generation.operation,
        model=checked.model_id,
        endpoint=checked.model.endpoint,
        subject=generation.name,
    )


async def _reached(resolving: Awaitable[Resolved]) -> Resolved:
    """What came of it, also where the database has to say so.

    Raises:
        Unavailable: it does not for the moment; the same word with the same request id may be given again.
    """
    try:
        return await resolving
    except Exception as error:
        if not may_pass(error):
            raise
        message = "The database is not reachable for the moment; give the same word again."
        raise Unavailable("UNAVAILABLE", message, billed=Billed.NO, retry_safe=True, retry_after=1.0) from error
