"""Binding the shipped models to one endpoint."""

from collections.abc import Mapping

from services.models.registry import Catalogue, Registry, RegistryError, Table, build
from services.models.rows import Endpoint


def bind_all(catalogue: Catalogue, name: str, endpoint: Endpoint, image_model: str, llm_model: str) -> Registry:
    """Every model of the catalogue at one endpoint; the two ids, where given, are the defaults of their kinds.

    Raises:
        RegistryError: IMAGE_MODEL or LLM_MODEL names no model of its kind.
    """
    return build(catalogue, {name: endpoint}, rows_at(catalogue, name, image_model, llm_model))


def rows_at(catalogue: Catalogue, endpoint: str, image_model: str, llm_model: str) -> dict[str, Table]:
    """The rows that `bind_all` builds of, for callers that change them first."""
    rows: dict[str, Table] = {model_id: {**row, "endpoint": endpoint} for model_id, row in catalogue.models.items()}
    for variable, chosen, kind in (("IMAGE_MODEL", image_model, "image"), ("LLM_MODEL", llm_model, "text")):
        if chosen:
            rows = _with_default(catalogue, rows, variable, chosen, kind)
    return rows


def _with_default(
    catalogue: Catalogue, rows: Mapping[str, Table], variable: str, chosen: str, kind: str
) -> dict[str, Table]:
    of_kind = [name for name, row in rows.items() if catalogue.profiles[row["profile"]]["kind"] == kind]
    if chosen not in of_kind:
        raise RegistryError(f"{variable} is {chosen!r}; there are {', '.join(of_kind)}")
    return {name: {**row, "default": name == chosen} if name in of_kind else row for name, row in rows.items()}
