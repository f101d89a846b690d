"""What a call that makes images gets: a new generation, the one its request id stands for, or a refusal."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.caller import current_caller
from services.common.errors import Billed, DeadlineExceeded, Unavailable
from services.common.names import new_id
from services.image.adapters import generations as rows
from services.image.adapters.gallery import Gallery
from services.image.adapters.generations import Generations
from services.image.analysing import Analysing
from services.image.domain.generations import GENERATIONS, Generation, GenerationState, NewGeneration
from services.image.domain.requests import GenerateRequest
from services.image.making import Maker
from services.image.pipeline import Pipeline
from services.image.previews import Previews
from services.image.references import CheckedInputs, References
from services.image.running import Running
from services.models.image_requests import CheckedImageRequest, check_image_request
from services.models.paid_calls import Intent, Opened, PaidCall, PaidCalls, may_pass
from services.models.registry import Registry

# How long one who attached to another process's generation waits for its first delivery to end.
STORING_SECONDS = 10.0
# And for analyses, which may be those of a process that died.
ANALYSING_SECONDS = 60.0
_POLL_PAUSES = (0.05, 0.1, 0.2, 0.5)
_LONGEST_POLL_PAUSE = 1.0
_UNDER_WAY = (GenerationState.PENDING, GenerationState.RUNNING)
_WITHOUT_RESULT = (GenerationState.FAILED, GenerationState.OUTCOME_UNKNOWN)


def today_utc() -> date:
    """The day by which models are retired and prices hold."""
    return datetime.now(UTC).date()


class Generating:
    """The use case of `GenerateImages` and `EditImages`, for the present caller."""

    def __init__(
        self,
        registry: Registry,
        paid_calls: PaidCalls,
        maker: Maker,
        gallery: Gallery,
        generations: Generations,
        running: Running[Generation],
        references: References,
        previews: Previews,
        pipeline: Pipeline,
        analysing: Analysing,
        *,
        today: Callable[[], date] = today_utc,
    ) -> None:
        self._registry = registry
        self._paid_calls = paid_calls
        self._maker = maker
        self._gallery = gallery
        self._generations = generations
        self._running = running
        self._references = references
        self._previews = previews
        self._pipeline = pipeline
        self._analysing = analysing
        self._today = today

    async def check(self, request: GenerateRequest) -> CheckedImageRequest:
        """What would be asked of which model; nothing is paid or written down.

        Raises:
            ServiceError: as `generate`, before it pays.
        """
        return (await self._checked(request))[0]

    async def _checked(self, request: GenerateRequest) -> tuple[CheckedImageRequest, CheckedInputs | None]:
        owner, inputs = current_caller().principal, request.inputs
        self._pipeline.check(request.steps, request.image.prompt)
        checked = check_image_request(
            request.image,
            self._registry,
            today=self._today(),
            references=inputs.asked() if inputs else None,
            partial_images=request.partial_images,
        )
        if request.placement.folder:
            await self._gallery.check_folder(owner, request.placement.folder)
        return checked, await self._references.check(owner, inputs) if inputs else None

    async def generate(self, request: GenerateRequest, *, patience: float) -> Generation:
        """The generation of the request, after at most `patience` seconds.

        Raises:
            ServiceError: a refusal, how the paid call failed, or STILL_RUNNING.
        """
        call = await self.begin(request)
        return await self.outcome(call, patience, attachable=bool(request.request_id))

    async def begin(self, request: GenerateRequest) -> PaidCall:
        """The paid call that the request id stands for, or a new one, under way.

        Raises:
            ServiceError: a refusal.
        """
        return await self._known(request) or await self._begin(request)

    async def outcome(self, call: PaidCall, patience: float, *, attachable: bool) -> Generation:
        """The generation of a call that was begun, after at most `patience` seconds.

        Raises:
            ServiceError: how the paid call failed, or STILL_RUNNING.
        """
        try:
            return await self._outcome(call, patience, attachable=attachable)
        except Exception as error:
            if not may_pass(error):
                raise
            raise _still_running(call, attachable=attachable) from error

    async def _known(self, request: GenerateRequest) -> PaidCall | None:
        if not request.request_id:
            return None
        principal = current_caller().principal
        try:
            return await self._paid_calls.find(principal, request.method, request.request_id, request.fingerprint())
        except Exception as error:
            if not may_pass(error):
                raise
            # What was paid for under this id before, only the database knows.
            raise _no_database(Billed.UNKNOWN) from error

    async def _begin(self, request: GenerateRequest) -> PaidCall:
        """Writes the intent down and starts the work, unless somebody else just did."""
        checked, inputs = await self._checked(request)
        new = _new_generation(request, request.request_id or str(uuid.uuid4()), checked)

        async def open_and_start() -> PaidCall:
            with ExitStack() as room:
                if request.inputs is not None:
                    room.enter_context(self._references.inline(request.inputs))
                opened = await self._open(request, new, checked)
                if opened.is_ours:
                    # One that is tried again keeps its name.
                    task = self._start(opened, checked, replace(new, id=_id_of(opened.call)), inputs)
                    held = room.pop_all()
                    task.add_done_callback(lambda _: held.close())
                return opened.call

        try:
            return await self._running.admit(open_and_start)
        except Exception as error:
            if not may_pass(error):
                raise
            raise _no_database(Billed.NO) from error

    def _start(
        self, opened: Opened, checked: CheckedImageRequest, new: NewGeneration, inputs: CheckedInputs | None
    ) -> asyncio.Task[Generation]:
        call_id = opened.call.id
        on_preview = partial(self._previews.put, call_id)
        work = self._maker.make(opened, checked, new, self._today(), inputs=inputs, on_preview=on_preview)
        task = self._running.start(call_id, self._analysing.finish(new, work))
        if checked.partial_images:
            self._previews.open(call_id, task)
        return task

    async def _open(self, request: GenerateRequest, new: NewGeneration, checked: CheckedImageRequest) -> Opened:
        intent = Intent(
            principal=new.owner,
            method=request.method,
            request_id=new.request_id,
            fingerprint=request.fingerprint(),
            operation=new.operation,
            model=checked.model_id,
            endpoint=checked.model.endpoint,
            subject=GENERATIONS.format(new.id),
        )

        async def create(connection: AsyncConnection, call: PaidCall) -> None:
            await rows.create(connection, replace(new, id=_id_of(call)))

        return await self._paid_calls.open(intent, create)

    async def _outcome(self, call: PaidCall, patience: float, *, attachable: bool) -> Generation:
        until = time.monotonic() + patience
        task = self._running.find(call.id)
        if task is not None:
            await asyncio.wait({task}, timeout=patience)
            if not task.done():
                raise _still_running(call, attachable=attachable)
            if not task.cancelled():
                return _result(task.result())
        found = None if await self._outlasts(call, until) else await self._generations.get(_id_of(call))
        if found is None:
            raise _still_running(call, attachable=attachable)
        return _result(found)

    async def _outlasts(self, call: PaidCall, until: float) -> bool:
        """Watches a generation that another process is at work on: whether it is still at it when time is over."""
        storing_until = time.monotonic() + STORING_SECONDS
        analysing_until = time.monotonic() + ANALYSING_SECONDS
        for pause in itertools.chain(_POLL_PAUSES, itertools.repeat(_LONGEST_POLL_PAUSE)):
            state = await self._generations.state(_id_of(call))
            storing = state is GenerationState.STORING and time.monotonic() < storing_until
            analysing = state not in _UNDER_WAY and time.monotonic() < analysing_until
            if state not in _UNDER_WAY and not storing and not (analysing and await self._analysing.due(_id_of(call))):
                return False
            left = until - time.monotonic()
            if left <= 0:
                return state in _UNDER_WAY
            await asyncio.sleep(min(pause, left))
        return True


def _id_of(call: PaidCall) -> str:
    return GENERATIONS.parse(call.subject)


def _new_generation(request: GenerateRequest, request_id: str, checked: CheckedImageRequest) -> NewGeneration:
    return NewGeneration(
        id=new_id(),
        owner=current_caller().principal,
        request_id=request_id,
        operation=request.operation,
        prompt=request.image.prompt,
        model=checked.model_id,
        parameters={name: str(value) for name, value in checked.parameters.items()},
        placement=request.placement,
        inputs=request.inputs.used() if request.inputs else (),
        steps=request.steps,
    )


def _result(generation: Generation) -> Generation:
    """The generation, if there is anything to show for it; else its error, whoever asks and whenever."""
    if generation.state in _WITHOUT_RESULT and generation.error is not None:
        raise generation.error
    return generation


def _no_database(billed: Billed) -> Unavailable:
    paid = "nothing was paid" if billed is Billed.NO else "what is known of this request id cannot be looked up"
    message = f"The database is not reachable for the moment; {paid}."
    return Unavailable("UNAVAILABLE", message, billed=billed, retry_safe=True, retry_after=1.0)


def _still_running(call: PaidCall, *, attachable: bool) -> DeadlineExceeded:
    return DeadlineExceeded(
        "STILL_RUNNING",
        "The generation is still running; it goes on, and its result is kept.",
        billed=Billed.UNKNOWN,
        # Without a request id of the caller's the same call would be a second intent.
        retry_safe=attachable,
        metadata={"imageGeneration": call.subject},
    )
