"""A dialect at work: its models by the names it has for them, and how it lists them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from emulator.dialects import Dialect, dialect_of
from emulator.errors import ApiError, missing, model_not_found, wrong_type
from emulator.models import Catalogue, ImageTraits, Model
from emulator.settings import Settings

# LiteLLM gives every model the same time of creation.
_LITELLM_CREATED = 1677610602
_MAX_KEPT = 200


class Surface:
    """One dialect over the models it has."""

    def __init__(self, dialect: Dialect, today: date | None, deployments: Mapping[str, str]) -> None:
        self.dialect = dialect
        self._catalogue = Catalogue(today, dialect.rows)
        self._deployments = deployments if dialect.root != "v1" else {}

    def image_model(self, given: object) -> tuple[Model, ImageTraits]:
        """The image model that a request means, which may name none. Raises ApiError."""
        name = self._name(given)
        if self.dialect.model != "required":
            return self._own(name, image=True)
        try:
            return self._catalogue.image_model(self._row_id(name))
        except ApiError as error:
            raise self._unknown(name, error) from error

    def chat_model(self, given: object) -> Model:
        """As `image_model`, for chats."""
        name = self._name(given)
        if self.dialect.model != "required":
            return self._own(name, image=False)[0]
        try:
            return self._catalogue.chat_model(self._row_id(name))
        except ApiError as error:
            raise self._unknown(name, error) from error

    def author_model(self, given: object) -> Model:
        """The model that writes an SVG. A gateway hands its name on as it is, without the provider's."""
        rows = self._catalogue.alive()
        names = [row.id for row in rows if row.image is None and row.id.rpartition("/")[2] == given]
        return self.chat_model(names[0] if names else given)

    def cards(self) -> list[dict[str, Any]]:
        """The objects of `GET /models`."""
        return [_card(model, self.dialect) for model in self._catalogue.alive()]

    def card(self, model_id: str) -> dict[str, Any]:
        """One of them. Raises a 404."""
        return _card(self._catalogue.get(model_id), self.dialect)

    def _name(self, given: object) -> str | None:
        if given is None:
            if self.dialect.model == "required":
                raise missing("model")
            return None
        if not isinstance(given, str):
            raise wrong_type("model", "a string", given)
        return given

    def _row_id(self, name: str | None) -> str:
        given = name or ""
        if self._deployments and given not in self._deployments:
            raise model_not_found(given)
        return self._deployments.get(given, given)

    def _own(self, name: str | None, *, image: bool) -> tuple[Model, ImageTraits]:
        """The one model of a server that has one of the kind."""
        [model] = [row for row in self._catalogue.alive() if (row.image is not None) is image]
        if self.dialect.model == "optional" and name is not None and name != model.id:
            if not image or self.dialect.errors != "vllm":
                raise model_not_found(name, "does not exist")
            message = f"Model mismatch: request specifies '{name[:100]}' but server is running '{model.id}'."
            raise ApiError(400, message)
        return model, model.image or ImageTraits()

    def _unknown(self, name: str | None, error: ApiError) -> ApiError:
        shown = (name or "")[:100]
        match self.dialect.errors:
            case "azure":
                message = (
                    "The API deployment for this resource does not exist. If you created the deployment within the "
                    "last 5 minutes, please wait a moment and try again."
                )
                return ApiError(404, message, code="DeploymentNotFound")
            case "litellm":
                message = f"Invalid model name passed in model={shown}. Call `/v1/models` to view available models."
                return ApiError(400, message, param="model")
            case _:
                return error


class Surfaces:
    """Every dialect that a request can ask for by its path, and the one for those that do not."""

    def __init__(self, settings: Settings) -> None:
        self._today, self._deployments = settings.today, settings.deployments
        self._kept: dict[str, Surface] = {}
        self.default_name = settings.dialect
        self.default = self.named(settings.dialect)

    def named(self, text: str) -> Surface:
        """The surface of `NAME+OPTION...`. Raises ValueError."""
        if text not in self._kept:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[text] = Surface(dialect_of(text), self._today, self._deployments)
        return self._kept[text]


def _card(model: Model, dialect: Dialect) -> dict[str, Any]:
    """Only OpenAI's own API tells when a model ends as `shutdown_date`; Azure does in a shape of its own."""
    card: dict[str, Any] = {"id": model.id, "object": "model"}
    created = _seconds(model.created)
    match dialect.errors:
        case "openai":
            end = model.shutdown.isoformat() if model.shutdown else None
            return card | {"created": created, "owned_by": "emulator", "shutdown_date": end}
        case "azure":
            end_seconds = _seconds(model.shutdown) if model.shutdown else None
            state = {"status": "succeeded", "lifecycle_status": "generally-available"}
            return card | {"created_at": created, **state, "deprecation": {"inference": end_seconds}}
        case "vllm":
            return card | {"created": created, "owned_by": "vllm", "root": model.id, "parent": None}
        case "sglang":
            extra = {"num_gpus": 1, "task_type": "T2I"} if model.image else {"max_model_len": 32768}
            return card | {"created": created, "owned_by": "sglang", "root": model.id} | extra
        case "litellm":
            return card | {"created": _LITELLM_CREATED, "owned_by": "openai"}
        case "localai":
            return card


def _seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def deployments(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=MODEL` pairs as a mapping. Raises ValueError."""
    split = [pair.partition("=") for pair in pairs]
    for name, equals, model in split:
        if not (name and equals and model):
            raise ValueError(f"{name!r} must be NAME=MODEL")
    return {name: model for name, _, model in split}
