"""The steps of a generation before its picture is asked for: enhancement, brand protection, a name.

Each is a paid call of its own, whose intent follows from the generation and the prompt it works on. Until they are done
the generation's main call is PLANNED: should the process die, that one has cost nothing, the same request id begins
again, and finds what the steps were answered.
"""

from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.errors import InvalidArgument, ServiceError
from services.image.adapters import generations as rows
from services.image.asking import Asked, Asking, Scope
from services.image.domain.generations import GENERATIONS, MAIN_OPERATIONS, NewGeneration
from services.image.domain.steps import (
    Prepared,
    Protection,
    Revision,
    RevisionStep,
    Steps,
    intent_id,
    protection_failed,
    step_failed,
)
from services.models.helpers import analyze, enhance, filenames, protect
from services.models.image_requests import CheckedImageRequest
from services.models.paid_calls import fingerprint
from services.models.structured import Task
from services.models.text_requests import Picture

ShapeT = TypeVar("ShapeT", bound=BaseModel)
ValueT = TypeVar("ValueT")


class Pipeline:
    """Runs the steps before the main call."""

    def __init__(self, engine: AsyncEngine, asking: Asking, generations: rows.Generations) -> None:
        self._engine = engine
        self._asking = asking
        self._generations = generations

    def check(self, steps: Steps, prompt: str) -> None:
        """Whether a language model is there that takes what will be asked; nothing is paid.

        Raises:
            ServiceError: as `Asking.check`.
        """
        if steps.enhance_prompt:
            self._asking.check(enhance.task(prompt).request)
        if (protection := steps.brand_protection) is not None:
            self._asking.check(protect.task(prompt, mode=protection.mode, brands=protection.brands).request)
        if steps.suggest_display_name:
            self._asking.check(filenames.task(prompt).request)
        if steps.analyze:
            frame = analyze.Frame(Picture(b"", "image/png"))
            self._asking.check(analyze.task([frame], instructions=steps.analysis_instructions).request)

    async def prepare(
        self, checked: CheckedImageRequest, new: NewGeneration
    ) -> tuple[CheckedImageRequest, NewGeneration]:
        """What is to be asked of the image model, and the generation with what was made of its prompt.

        Raises:
            FailedPrecondition: BRAND_PROTECTION_FAILED, and the request does not allow that.
        """
        if not new.steps.before:
            return checked, new
        prepared = await self._prepared(new, checked.model.max_prompt_chars)
        async with self._engine.begin() as connection:
            await rows.prepare(connection, new.id, prepared)
        found = await self._generations.get(new.id)
        steps = [call for call in found.calls if call.operation not in MAIN_OPERATIONS] if found else []
        rewritten = replace(
            new,
            final_prompt=prepared.prompt if prepared.prompt != new.prompt else "",
            revisions=prepared.revisions,
            suggested_name=prepared.suggested_name,
            steps_before=tuple(steps),
        )
        return replace(checked, request=replace(checked.request, prompt=prepared.prompt)), rewritten

    async def _prepared(self, new: NewGeneration, max_chars: int) -> Prepared:
        prepared = Prepared(new.prompt)
        if new.steps.enhance_prompt:
            prepared = await self._enhanced(new, prepared, max_chars)
        if new.steps.brand_protection is not None:
            prepared = await self._protected(new, prepared, new.steps.brand_protection, max_chars)
        if new.steps.suggest_display_name and not new.placement.display_name:
            prepared = await self._named(new, prepared)
        return prepared

    async def _enhanced(self, new: NewGeneration, prepared: Prepared, max_chars: int) -> Prepared:
        try:
            asked = await self._ask(new, "enhance", prepared.prompt, enhance.task(prepared.prompt))
            return _revised(prepared, RevisionStep.ENHANCED, _fitting(asked.value, max_chars), asked)
        except ServiceError as error:
            return _noted(prepared, "enhance", error)

    async def _protected(self, new: NewGeneration, prepared: Prepared, wanted: Protection, max_chars: int) -> Prepared:
        task = protect.task(prepared.prompt, mode=wanted.mode, brands=wanted.brands)
        try:
            asked = await self._ask(new, "protect", prepared.prompt, task)
            return _revised(prepared, RevisionStep.BRAND_PROTECTED, _fitting(asked.value.prompt, max_chars), asked)
        except ServiceError as error:
            if wanted.allow_failure:
                return _noted(prepared, "protect", error)
            raise protection_failed(error) from error

    async def _named(self, new: NewGeneration, prepared: Prepared) -> Prepared:
        try:
            asked = await self._ask(new, "suggest_filename", prepared.prompt, filenames.task(prepared.prompt))
        except ServiceError as error:
            return _noted(prepared, "suggest_filename", error)
        return replace(prepared, suggested_name=asked.value)

    async def _ask(self, new: NewGeneration, operation: str, prompt: str, task: Task[ShapeT, ValueT]) -> Asked[ValueT]:
        method = f"ImageGeneration/{operation}"
        scope = Scope(
            new.owner,
            method,
            intent_id(new.id, operation, prompt),
            fingerprint(method, {"generation": new.id}),
            operation,
            GENERATIONS.format(new.id),
        )
        return await self._asking.obtain(task, self._asking.check(task.request), scope)


def _revised(prepared: Prepared, step: RevisionStep, prompt: str, asked: Asked[ValueT]) -> Prepared:
    """The prompt after a step; one that changed nothing is no revision."""
    if prompt == prepared.prompt:
        return prepared
    revision = Revision(step, prepared.prompt, asked.calls[-1].model)
    return replace(prepared, prompt=prompt, revisions=(*prepared.revisions, revision))


def _fitting(prompt: str, max_chars: int) -> str:
    if len(prompt) > max_chars:
        raise InvalidArgument.field("prompt", f"became longer than the {max_chars} characters that the model takes")
    return prompt


def _noted(prepared: Prepared, step: str, error: ServiceError) -> Prepared:
    """An optional step failed: the generation goes on without it, and tells of it."""
    return replace(prepared, notes=(*prepared.notes, step_failed(step, error)))
