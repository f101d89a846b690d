"""The model registry: endpoints, dialects, models and prices, read from TOML and cross-checked when it is built."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from services.models.money import TokenPrice
from services.models.rows import Dialect, Endpoint, ImageModel, Model, ModelId, ModelRow, PriceRow, TextModel

Table = Mapping[str, Any]
Lifecycle = Literal["active", "deprecated", "retired"]
ModelT = TypeVar("ModelT", bound=ModelRow)

_MODEL: TypeAdapter[ImageModel | TextModel] = TypeAdapter(Model)
_MODEL_ID: TypeAdapter[str] = TypeAdapter(ModelId)


class RegistryError(ValueError):
    """The registry is wrong; the message says where, for the operator."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What the shipped file knows of dialects, models and prices, not yet bound to any endpoint."""

    dialects: Table
    profiles: Table
    prices: Table
    models: Table

    @classmethod
    def from_toml(cls, data: Table) -> Self:
        """Reads the four tables.

        Raises:
            RegistryError: there is another table, or one of them is none.
        """
        names = ("dialects", "profiles", "prices", "models")
        _refuse_unknown(data, (*names, "endpoints"))
        prices = table_of(data, "prices", rows=list)
        for name, rows in prices.items():
            if not rows:
                raise RegistryError(f"prices.{name}: has no row")
        return cls(table_of(data, "dialects"), table_of(data, "profiles"), prices, table_of(data, "models"))

    def under(self, other: "Catalogue") -> "Catalogue":
        """This catalogue with another one's dialects, profiles and prices laid over it, and only the other's models."""
        return Catalogue(
            {**self.dialects, **other.dialects},
            {**self.profiles, **other.profiles},
            {**self.prices, **other.prices},
            other.models,
        )


def table_of(data: Table, name: str, *, rows: type = dict) -> Table:
    """The table of that name, whose values are rows (or lists of them); empty if there is none.

    Raises:
        RegistryError: it is something else.
    """
    table = data.get(name, {})
    if not isinstance(table, dict):
        raise RegistryError(f"{name}: is no table; write [{name}.<name>]")
    for key, row in table.items():
        if not isinstance(row, rows):
            brackets = f"[[{name}.{key}]]" if rows is list else f"[{name}.{key}]"
            raise RegistryError(f"{name}.{key}: is no table; write {brackets}")
    return table


@cache
def shipped() -> Catalogue:
    """The catalogue that comes with the suite."""
    return Catalogue.from_toml(tomllib.loads(resources.files(__package__).joinpath("registry.toml").read_text("utf-8")))


def read_toml(path: Path) -> Table:
    """An operator's registry file.

    Raises:
        RegistryError: it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RegistryError(f"{path}: {error}") from None


@dataclass(frozen=True, slots=True)
class Registry:
    """The models in use, bound to their endpoints. Ids are keys; the order is that of the file."""

    dialects: Mapping[str, Dialect]
    endpoints: Mapping[str, Endpoint]
    prices: Mapping[str, Sequence[PriceRow]]
    models: Mapping[str, ImageModel | TextModel]

    def of_kind(self, kind: type[ModelT]) -> Iterator[tuple[str, ModelT]]:
        """The models of one kind, with their ids."""
        return ((model_id, model) for model_id, model in self.models.items() if isinstance(model, kind))

    def find(self, kind: type[ModelT], name: str) -> tuple[str, ModelT] | None:
        """The model of that kind with this id, or else with this wire id, which people know from their server."""
        named = [(model_id, model) for model_id, model in self.of_kind(kind) if name in (model_id, model.wire_id)]
        return next((pair for pair in named if pair[0] == name), named[0] if named else None)

    def default(self, kind: type[ModelT]) -> str:
        """Id of the model used when none is named: the one marked so, else the first; empty: there is none."""
        ids = [model_id for model_id, model in self.of_kind(kind) if model.default]
        return next(iter(ids), "") or next((model_id for model_id, _ in self.of_kind(kind)), "")

    def price(self, model: ModelRow, day: date) -> TokenPrice | None:
        """What the model costs on a day; None: unpriced."""
        rows = [row for row in self.prices.get(model.price, ()) if row.effective_date <= day]
        return max(rows, key=lambda row: row.effective_date).price() if rows else None

    def dialect(self, model: ModelRow) -> Dialect:
        """The dialect of the model's endpoint."""
        return self.dialects[self.endpoints[model.endpoint].dialect]


def lifecycle(model: ModelRow, today: date) -> Lifecycle:
    """Where the model is in its life; its shutdown date is its last day."""
    if model.shutdown_date is None:
        return "active"
    return "retired" if today > model.shutdown_date else "deprecated"


def build(catalogue: Catalogue, endpoints: Mapping[str, Endpoint], bindings: Mapping[str, Table]) -> Registry:
    """The registry of these endpoints and models.

    `bindings` has a row for each model: keys of its own, over those of its `profile`.

    Raises:
        RegistryError: a row is wrong, or names an endpoint, dialect, profile or price that there is not.
    """
    dialects = {name: _validated(Dialect, f"dialects.{name}", row) for name, row in catalogue.dialects.items()}
    for name, endpoint in endpoints.items():
        _known(endpoint.dialect, dialects, f"endpoints.{name}.dialect")
        if dialects[endpoint.dialect].deployment_in_path != bool(endpoint.api_version):
            needs = "goes with" if endpoint.api_version else "is needed for"
            raise RegistryError(f"endpoints.{name}.api_version: {needs} a dialect like azure-legacy")
    prices = {
        name: [_validated(PriceRow, f"prices.{name}", row) for row in rows] for name, rows in catalogue.prices.items()
    }
    models = {model_id: _model(catalogue, model_id, row) for model_id, row in bindings.items()}
    for model_id, model in models.items():
        _known(model.endpoint, endpoints, f"models.{model_id}.endpoint")
        if model.price:
            _known(model.price, prices, f"models.{model_id}.price")
    _one_default_a_kind(models)
    return Registry(
        dialects,
        endpoints,
        prices,
        {model_id: _restrict(model, dialects[endpoints[model.endpoint].dialect]) for model_id, model in models.items()},
    )


def _model(catalogue: Catalogue, model_id: str, row: Table) -> ImageModel | TextModel:
    try:
        _MODEL_ID.validate_python(model_id)
    except ValidationError:
        raise RegistryError(f"models.{model_id}: an id has letters, digits, '.', '_' and '-'; use wire_id") from None
    own = dict(row)
    profile = own.pop("profile", "")
    if not isinstance(profile, str):
        raise RegistryError(f"models.{model_id}.profile: is no string")
    if profile:
        _known(profile, catalogue.profiles, f"models.{model_id}.profile")
    merged = {"kind": "image", "wire_id": model_id, **catalogue.profiles.get(profile, {}), **own}
    try:
        return _MODEL.validate_python(merged)
    except ValidationError as error:
        raise RegistryError(f"models.{model_id}: {_describe(error)}") from None


def _restrict(model: ImageModel | TextModel, dialect: Dialect) -> ImageModel | TextModel:
    """The model without what its endpoint's dialect does not take."""
    if isinstance(model, TextModel):
        return model
    gone = dialect.unsupported_parameters
    words = dialect.qualities if dialect.qualities and model.qualities else model.qualities
    qualities = tuple(word for word in words if word not in dialect.unsupported_qualities)
    operations = tuple(one for one in model.operations if one != "edit" or dialect.edits)
    formats = tuple(name for name in model.formats if name not in dialect.unsupported_formats)
    sizes = tuple(size for size in model.size_rule.fixed if size not in dialect.unsupported_sizes)
    return model.model_copy(
        update={
            "size_rule": model.size_rule.model_copy(update={"fixed": sizes}),
            "operations": operations,
            "max_references": model.max_references if "edit" in operations else 0,
            "max_partial_images": model.max_partial_images if dialect.streams else 0,
            "qualities": () if "quality" in gone else qualities,
            "backgrounds": () if "background" in gone else model.backgrounds,
            "formats": formats,
            "parameters": {name: values for name, values in model.parameters.items() if name not in gone},
        }
    )


def _one_default_a_kind(models: Mapping[str, ModelRow]) -> None:
    for kind in (ImageModel, TextModel):
        marked = [model_id for model_id, model in models.items() if isinstance(model, kind) and model.default]
        if len(marked) > 1:
            raise RegistryError(f"more than one default model of a kind: {', '.join(marked)}")


RowT = TypeVar("RowT", Dialect, PriceRow, Endpoint)


def _validated(kind: type[RowT], place: str, row: object) -> RowT:
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        raise RegistryError(f"{place}: {_describe(error)}") from None


def endpoint_of(place: str, fields: Table) -> Endpoint:
    """The endpoint of fields that an operator wrote; `place` is what an error names.

    Raises:
        RegistryError: they are not those of an endpoint.
    """
    return _validated(Endpoint, place, fields)


def _describe(error: ValidationError) -> str:
    # Inputs are left out: an endpoint's row may hold a key.
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)


def _known(name: str, table: Mapping[str, object], place: str) -> None:
    if name not in table:
        raise RegistryError(f"{place}: there is no {name!r}")


def _refuse_unknown(data: Table, known: Sequence[str]) -> None:
    for name in data:
        if name not in known:
            raise RegistryError(f"unknown table [{name}]; there are {', '.join(known)}")
