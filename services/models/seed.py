"""The variables of the system that this suite replaces: each takes effect or is named in a warning."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from services.models.binding import rows_at
from services.models.registry import Catalogue, Registry, RegistryError, Table, build, endpoint_of
from services.models.rows import Endpoint

# Kind of model: the prefix of its variables, the variable that says which model a deployment is of, and the profile
# assumed where neither that nor the deployment's name says it.
_KINDS: Mapping[str, tuple[str, str, str]] = {
    "image": ("IMAGEGEN", "IMAGE_MODEL", "gpt-image-2"),
    "text": ("LLM", "LLM_MODEL", "text"),
}

API_VERSION = "AOAI_API_VERSION"
"""A date means Azure's older surface, with the deployment in the path; unset it is the v1 API, which has no dates."""
UNDATED = ("", "v1", "preview", "latest")
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")

# Of each kind, after its prefix.
AZURE_VARIABLES = ("AOAI_RESOURCE", "DEPLOYMENT", "AOAI_API_KEY")

WITHOUT_MEANING: Mapping[str, str] = {
    "SORA_API_VERSION": "the v1 API of Azure OpenAI has no dated versions",
    "GPT_IMAGE_MAX_TOKENS": "image models have no such limit",
    "GPT_IMAGE_MAX_FILE_SIZE_MB": "the contract sets the limit of inline images",
    "OPENAI_ORG_VERIFIED": "the provider says itself what an account may do",
    "AI_FOUNDRY_ENDPOINT": "name the endpoint in a registry file",
    "IMAGEGEN_2_DEPLOYMENT": "name the deployment in a registry file",
    "FLUX_KONTEXT_DEPLOYMENT": "name the deployment in a registry file",
    "DEFAULT_IMAGE_MODEL": "set IMAGE_MODEL",
    "OPENAI_CUSTOM_HEADERS": "it would send the same headers to every endpoint",
    "AZURE_COSMOS_DB_ENDPOINT": "the only database is PostgreSQL",
    "AZURE_COSMOS_DB_KEY": "the only database is PostgreSQL",
    "AZURE_COSMOS_DB_ID": "the only database is PostgreSQL",
    "AZURE_COSMOS_CONTAINER_ID": "the only database is PostgreSQL",
}
# Too common a name to mean the seed unless its other variables are in use.
WITHOUT_MEANING_IF_USED: Mapping[str, str] = {
    "UPLOAD_DIR": "nothing is kept on a local disk",
    "IMAGE_DIR": "nothing is kept on a local disk",
    "VIDEO_DIR": "nothing is kept on a local disk",
    "API_V1_STR": "the path is part of the contract",
    "PROJECT_NAME": "the name is part of the contract",
}
DEFAULTS: Mapping[str, str] = {
    "GPT_IMAGE_DEFAULT_SIZE": "size",
    "GPT_IMAGE_DEFAULT_QUALITY": "quality",
    "GPT_IMAGE_DEFAULT_FORMAT": "output_format",
}
_FALSE = ("false", "0", "no", "off")


def seed_registry(catalogue: Catalogue, provider: Literal["azure", "openai"], environ: Mapping[str, str]) -> Registry:
    """The models that the seed's variables describe.

    Raises:
        RegistryError: a variable that the provider needs is missing or wrong.
    """
    endpoints, rows = _azure(catalogue, environ) if provider == "azure" else _openai(catalogue, environ)
    return build(catalogue, endpoints, {name: _with_settings(catalogue, row, environ) for name, row in rows.items()})


def _openai(catalogue: Catalogue, environ: Mapping[str, str]) -> tuple[dict[str, Endpoint], dict[str, Table]]:
    key = environ.get("OPENAI_API_KEY", "").strip()
    if not key:
        raise RegistryError("MODEL_PROVIDER is openai, and OPENAI_API_KEY is not set")
    fields = {"base_url": "https://api.openai.com/v1", "auth": "key", "key": key}
    organization = environ.get("OPENAI_ORG_ID", "")
    endpoint = endpoint_of("OPENAI_API_KEY or OPENAI_ORG_ID", {**fields, "organization": organization})
    rows = rows_at(catalogue, "openai", environ.get("IMAGE_MODEL", ""), environ.get("LLM_MODEL", ""))
    return {"openai": endpoint}, rows


def _azure(catalogue: Catalogue, environ: Mapping[str, str]) -> tuple[dict[str, Endpoint], dict[str, Table]]:
    endpoints: dict[str, Endpoint] = {}
    rows: dict[str, Table] = {}
    for kind, (prefix, base_variable, profile) in _KINDS.items():
        resource, deployment = environ.get(f"{prefix}_AOAI_RESOURCE"), environ.get(f"{prefix}_DEPLOYMENT")
        if not resource:
            continue
        if not deployment:
            raise RegistryError(f"{prefix}_AOAI_RESOURCE is set, and {prefix}_DEPLOYMENT is not")
        if deployment in rows:
            raise RegistryError(f"{prefix}_DEPLOYMENT is {deployment!r} like another kind's: give it a registry file")
        key = environ.get(f"{prefix}_AOAI_API_KEY", "").strip()
        fields = {**_surface(resource, environ.get(API_VERSION, "")), "auth": "key" if key else "entra"}
        place = f"{prefix}_AOAI_RESOURCE or {prefix}_AOAI_API_KEY"
        endpoints[f"azure-{kind}"] = endpoint_of(place, {**fields, "key": key or None})
        base = environ.get(base_variable) or deployment
        rows[deployment] = {**_row_of(catalogue, base, profile), "endpoint": f"azure-{kind}", "wire_id": deployment}
    if "azure-image" not in endpoints:
        raise RegistryError("MODEL_PROVIDER is azure, and IMAGEGEN_AOAI_RESOURCE is not set")
    return endpoints, rows


def _row_of(catalogue: Catalogue, base: str, profile: str) -> dict[str, Any]:
    """The catalogue's row of the model that is deployed, where its name is known; else a profile without a price."""
    row = dict(catalogue.models.get(base, {"profile": profile, "display_name": base}))
    return {**row, "default": True}


def _surface(resource: str, version: str) -> dict[str, str]:
    """The resource's v1 API, or with a dated version the surface that has such.

    The seed took the resource's name; its whole address is understood too.
    """
    resource, version = resource.strip(), version.strip()
    host = resource if resource.startswith(("http://", "https://")) else f"https://{resource}.openai.azure.com"
    if version in UNDATED:
        return {"base_url": f"{host.rstrip('/')}/openai/v1", "dialect": "azure-v1"}
    if not _DATED.fullmatch(version):
        raise RegistryError(f"{API_VERSION} is {version!r}: neither a date like 2025-04-01-preview nor v1")
    return {"base_url": host, "dialect": "azure-legacy", "api_version": version}


def _with_settings(catalogue: Catalogue, row: Table, environ: Mapping[str, str]) -> Table:
    """GPT_IMAGE_DEFAULT_* are defaults of the default image model; ALLOW_TRANSPARENT=false takes transparency away."""
    if not row.get("default") or catalogue.profiles[row["profile"]]["kind"] != "image":
        return row
    defaults = {field: environ[name].lower() for name, field in DEFAULTS.items() if name in environ}
    own = {**row, "defaults": defaults} if defaults else dict(row)
    if environ.get("GPT_IMAGE_ALLOW_TRANSPARENT", "").lower() in _FALSE:
        own["backgrounds"] = ["auto", "opaque"]
    return own


def seed_warnings(environ: Mapping[str, str], *, used: bool) -> Iterator[str]:
    """One line for each variable of the seed that is set and does nothing here."""
    without = {**WITHOUT_MEANING, **(WITHOUT_MEANING_IF_USED if used else {})}
    for name, why in without.items():
        if name in environ:
            yield f"{name} has no meaning here: {why}"
    if not used:
        for name in (*DEFAULTS, "GPT_IMAGE_ALLOW_TRANSPARENT"):
            if name in environ:
                yield f"{name} has no effect: it applies with MODEL_PROVIDER only"
