"""The four helpers as requests of a caller: enhance, protect, name, analyse."""

import uuid
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from services.common.caller import current_caller
from services.common.errors import FailedPrecondition, NotFound, ServiceError
from services.image.adapters.library import Library
from services.image.asking import Asking, Scope
from services.image.domain.helping import (
    Analysis,
    AnalyzeRequest,
    EnhanceRequest,
    NameRequest,
    ProtectRequest,
    names_unknown,
    not_saved,
)
from services.image.helping import Answer, Helping, Job
from services.models.helpers import analyze as looking
from services.models.helpers import enhance, filenames, protect
from services.models.helpers.flattener import Flattener
from services.models.helpers.names import unique_name
from services.models.structured import Task
from services.models.text_requests import Picture


class Helpers:
    """For the present caller; each method raises ServiceError as `Helping.help`."""

    def __init__(self, helping: Helping, asking: Asking, library: Library, flattener: Flattener) -> None:
        self._helping = helping
        self._asking = asking
        self._library = library
        self._flattener = flattener

    async def enhance(self, request: EnhanceRequest, *, patience: float) -> Answer:
        """A richer prompt, as `prompt`."""

        async def begin() -> Task[enhance.Enhanced, str]:
            return enhance.task(request.prompt, model=request.model)

        async def finish(prompt: str) -> Mapping[str, Any]:
            return {"prompt": prompt}

        job = Job("EnhanceImagePrompt", "enhance", request.request_id, request.fingerprint(), begin, finish)
        return await self._helping.help(job, patience=patience)

    async def protect(self, request: ProtectRequest, *, patience: float) -> Answer:
        """The prompt without brands, as `prompt`, and whether it is `changed`."""

        async def begin() -> Task[protect.Rewritten, protect.Protected]:
            return protect.task(request.prompt, mode=request.mode, brands=request.brands, model=request.model)

        async def finish(protected: protect.Protected) -> Mapping[str, Any]:
            return {"prompt": protected.prompt, "changed": protected.changed}

        job = Job("ProtectImagePrompt", "protect", request.request_id, request.fingerprint(), begin, finish)
        return await self._helping.help(job, patience=patience)

    async def name(self, request: NameRequest, *, patience: float) -> Answer:
        """A file name that no asset of the caller's has, as `filename`."""
        owner, attachable = current_caller().principal, bool(request.request_id)

        async def begin() -> Task[filenames.Named, str]:
            return filenames.task(request.prompt, extension=request.extension, model=request.model)

        async def finish(name: str) -> Mapping[str, Any]:
            try:
                return {"filename": await self._unique(owner, name)}
            except ServiceError as error:
                raise names_unknown(attachable=attachable) from error

        job = Job("SuggestImageFilename", "suggest_filename", request.request_id, request.fingerprint(), begin, finish)
        return await self._helping.help(job, patience=patience)

    async def _unique(self, owner: str, name: str) -> str:
        taken = await self._library.names_like(owner, PurePath(name).stem)
        if not taken.complete:
            # More names alike than are looked through: a number by chance is as good as theirs.
            stem, dot, extension = name.partition(".")
            name = f"{stem}-{uuid.uuid4().hex[:8]}{dot}{extension}"
        return unique_name(name, taken.names)

    async def analyze(self, request: AnalyzeRequest, *, patience: float) -> Answer:
        """What a model sees in the picture; kept on the asset, if that is asked for, each time it is answered."""
        owner = current_caller().principal

        async def begin() -> Task[looking.Seen, looking.Seen]:
            return await self._looking(request, owner)

        async def finish(seen: looking.Seen) -> Mapping[str, Any]:
            return seen.model_dump()

        async def save(answer: Answer, scope: Scope) -> None:
            await self._save(request, answer, scope)

        job = Job(
            "AnalyzeImage",
            "analyze",
            request.request_id,
            request.fingerprint(),
            begin,
            finish,
            after=save if request.save else None,
        )
        return await self._helping.help(job, patience=patience)

    async def _looking(self, request: AnalyzeRequest, owner: str) -> Task[looking.Seen, looking.Seen]:
        """The task, with the picture as the model is shown it. Nothing is fetched for a model that cannot see."""
        checked = self._asking.check(_looking_at(request, Picture(b"", "image/png")).request)
        content = request.content
        if request.asset_id:
            content = await self._library.picture(owner, request.asset_id, field="image.asset")
        field = "image.asset" if request.asset_id else "image.inline"
        [picture] = await self._flattener.prepare([content], edge_px=checked.model.picture_edge_px, field=field)
        return _looking_at(request, picture)

    async def _save(self, request: AnalyzeRequest, answer: Answer, scope: Scope) -> None:
        try:
            await self._library.annotate(
                scope.principal,
                request.asset_id,
                # The same at every attempt, so that it counts once.
                request_id=str(uuid.uuid5(uuid.UUID(scope.request_id), f"{scope.principal}/{scope.method}")),
                analysis=analysis_of(looking.Seen(**answer.value), answer.model, request.instructions),
                usage=answer.usage,
                cost=answer.cost,
            )
        except ServiceError as error:
            gone = isinstance(error, NotFound | FailedPrecondition)
            raise not_saved(scope.request_id, error.reason, gone=gone) from error


def analysis_of(seen: looking.Seen, model: str, instructions: str) -> Analysis:
    """What the gallery is told of it."""
    return Analysis(seen.description, seen.products, tuple(seen.tags), seen.feedback, model, instructions)


def _looking_at(request: AnalyzeRequest, picture: Picture) -> Task[looking.Seen, looking.Seen]:
    return looking.task([looking.Frame(picture)], instructions=request.instructions, model=request.model)
