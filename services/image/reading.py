"""What the service shows of what there is: generations and paid calls of the caller, models, settings."""

from collections.abc import Callable, Sequence
from datetime import date

from services.common.caller import current_caller
from services.common.errors import NotFound, Resource
from services.common.pages import Page
from services.image.adapters.generations import Generations
from services.image.domain.generations import GENERATIONS, PAID_CALLS, Generation, GenerationState
from services.models.paid_calls import PaidCall, PaidCalls, State
from services.models.registry import Registry, lifecycle
from services.models.rows import ImageModel
from services.models.selection import Selection


class Reading:
    """Everything is scoped to the present caller's principal: what belongs to others is not there."""

    def __init__(
        self,
        generations: Generations,
        paid_calls: PaidCalls,
        selection: Selection,
        *,
        today: Callable[[], date],
        model_warnings: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._generations = generations
        self._paid_calls = paid_calls
        self.selection = selection
        self.today = today
        self.model_warnings = model_warnings

    @property
    def registry(self) -> Registry:
        """The models in use."""
        return self.selection.registry

    async def generation(self, generation_id: str) -> Generation:
        """One generation.

        Raises:
            NotFound: GENERATION_NOT_FOUND.
        """
        found = await self._generations.get(generation_id, owner=current_caller().principal)
        if found is None:
            name = GENERATIONS.format(generation_id)
            raise _not_found("GENERATION_NOT_FOUND", "generation", "contentlab.image.v1.ImageGeneration", name)
        return found

    async def generations(self, page: Page, state: GenerationState | None) -> tuple[list[Generation], bool]:
        """A page of generations, newest first, and whether there are more."""
        owner = current_caller().principal
        found = await self._generations.page(owner, state=state, before=_before(page), limit=page.size + 1)
        return found[: page.size], len(found) > page.size

    async def paid_call(self, call_id: str) -> PaidCall:
        """One paid call.

        Raises:
            NotFound: PAID_CALL_NOT_FOUND.
        """
        found = await self._paid_calls.get(call_id, principal=current_caller().principal)
        if found is None:
            name = PAID_CALLS.format(call_id)
            raise _not_found("PAID_CALL_NOT_FOUND", "paid call", "contentlab.image.v1.PaidCall", name)
        return found

    async def paid_calls(self, page: Page, state: State | None) -> tuple[list[PaidCall], bool]:
        """A page of paid calls, newest first, and whether there are more."""
        principal = current_caller().principal
        found = await self._paid_calls.page(principal, state=state, before=_before(page), limit=page.size + 1)
        return found[: page.size], len(found) > page.size

    def model(self, model_id: str) -> tuple[str, ImageModel]:
        """One image model, retired ones too.

        Raises:
            NotFound: MODEL_UNKNOWN.
        """
        found = self.registry.find(ImageModel, model_id)
        if found is None:
            name = f"imageModels/{model_id}"
            raise _not_found("MODEL_UNKNOWN", "image model", "contentlab.image.v1.ImageModel", name, model=model_id)
        return found

    def models(self, page: Page, *, show_retired: bool) -> tuple[list[tuple[str, ImageModel]], bool]:
        """A page of image models, the default one first, and whether there are more."""
        default, today = self.registry.default(ImageModel), self.today()
        shown = [
            (model_id, model)
            for model_id, model in sorted(self.registry.of_kind(ImageModel), key=lambda pair: pair[0] != default)
            if show_retired or lifecycle(model, today) != "retired"
        ]
        ids = [model_id for model_id, _ in shown]
        after = _before(page)
        start = ids.index(after) + 1 if after in ids else 0
        return shown[start : start + page.size], len(shown) > start + page.size


def _before(page: Page) -> str | None:
    return str(page.position[0]) if page.position else None


def _not_found(reason: str, what: str, kind: str, name: str, **metadata: str) -> NotFound:
    return NotFound(
        reason, f"There is no {what} {name!r}.", metadata={"name": name, **metadata}, resource=Resource(kind, name)
    )
