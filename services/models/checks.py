"""What is checked of every request before money is spent, whatever the kind of its model."""

from collections.abc import Sequence
from datetime import date
from typing import TypeVar

from services.common.errors import FailedPrecondition, InvalidArgument, Violation
from services.models.registry import Registry, lifecycle
from services.models.rows import ImageModel, ModelRow, TextModel

ModelT = TypeVar("ModelT", ImageModel, TextModel)

# What people call the kinds, and where they find those there are.
_WORDS: dict[type[ModelRow], tuple[str, str]] = {
    ImageModel: ("image model", "; ListImageModels names those there are"),
    TextModel: ("language model", ""),
}


def usable_model(registry: Registry, kind: type[ModelT], name: str, today: date) -> tuple[str, ModelT]:
    """The model of that name with its id, or the default one; it is alive and can be called.

    Raises:
        InvalidArgument: MODEL_UNKNOWN.
        FailedPrecondition: MODEL_RETIRED, naming the replacement; MODEL_NOT_CONFIGURED.
    """
    word, where = _WORDS[kind]
    name = name or registry.default(kind)
    if not name:
        raise FailedPrecondition("MODEL_NOT_CONFIGURED", f"No {word} is configured.")
    found = registry.find(kind, name)
    if found is None:
        raise InvalidArgument(
            "MODEL_UNKNOWN",
            f"There is no {word} {name!r} here{where}.",
            metadata={"model": name},
            violations=[Violation("model", f"is no {word} of this service", "MODEL_UNKNOWN")],
        )
    model_id, model = found
    if lifecycle(model, today) == "retired":
        raise _retired(model_id, model)
    if not registry.endpoints[model.endpoint].configured:
        raise FailedPrecondition(
            "MODEL_NOT_CONFIGURED",
            f"The endpoint of {model_id} has no credentials; its operator must set them.",
            metadata={"model": model_id},
        )
    return found


def unsupported(model_id: str, violations: Sequence[Violation]) -> InvalidArgument:
    """The model does not take what these violations name."""
    first = violations[0]
    return InvalidArgument(
        "UNSUPPORTED_PARAMETER",
        f"{first.field}: {first.description}",
        metadata={"model": model_id, "field": first.field},
        violations=violations,
    )


def _retired(model_id: str, model: ModelRow) -> FailedPrecondition:
    hint = f" Use {model.replacement} instead." if model.replacement else ""
    return FailedPrecondition(
        "MODEL_RETIRED",
        f"{model_id} was shut down on {model.shutdown_date}.{hint}",
        metadata={"model": model_id, "shutdownDate": str(model.shutdown_date), "replacement": model.replacement},
    )
