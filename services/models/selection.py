"""Which models this process uses, from its environment: the first of five sources that is set decides alone.

registry file, then the seed's variables, then OPENAI_BASE_URL, then OPENAI_API_KEY, then the emulator.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from services.common.settings import Settings
from services.models.binding import bind_all
from services.models.image_requests import refused_defaults
from services.models.registry import (
    Catalogue,
    Registry,
    RegistryError,
    build,
    endpoint_of,
    read_toml,
    shipped,
    table_of,
)
from services.models.rows import Endpoint, ImageModel, header_value, http_url, secret_header_value
from services.models.seed import API_VERSION, AZURE_VARIABLES, DEFAULTS, seed_registry, seed_warnings

Provider = Literal["registry", "seed", "openai_base_url", "openai", "emulator"]

OPENAI_URL = "https://api.openai.com/v1"
_ALL_BUT_FILE = frozenset({"seed-azure", "seed-openai", "openai_base_url", "openai", "emulator"})
_AZURE = frozenset({"seed-azure"})
_WITH_KEY = frozenset({"seed-openai", "openai_base_url", "openai"})
# The sources of models that read a variable.
_READ_BY: Mapping[str, frozenset[str]] = {
    "MODEL_PROVIDER": frozenset({"seed-azure", "seed-openai"}),
    **{f"{kind}_{name}": _AZURE for kind in ("IMAGEGEN", "LLM") for name in AZURE_VARIABLES},
    API_VERSION: _AZURE,
    "OPENAI_BASE_URL": frozenset({"openai_base_url"}),
    "CONTENTLAB_OPENAI_DIALECT": frozenset({"openai_base_url"}),
    "OPENAI_API_KEY": _WITH_KEY,
    "OPENAI_ORG_ID": _WITH_KEY,
    "IMAGE_MODEL": _ALL_BUT_FILE,
    "LLM_MODEL": _ALL_BUT_FILE,
}
# Whose hosts end so: they refuse what other servers have to be told.
_HOSTS = {
    ".api.openai.com": "openai",
    ".openai.azure.com": "azure-v1",
    ".services.ai.azure.com": "azure-v1",
    ".cognitiveservices.azure.com": "azure-v1",
}
EMULATOR_URL = "http://127.0.0.1:8190/v1"


HttpUrl = Annotated[str, AfterValidator(http_url)]


class ModelSettings(Settings):
    """The variables that choose a provider; the seed's own are read by `services.models.seed`."""

    models_file: Path | None = Field(None, description="path of a registry file (TOML) of the operator's")
    model_provider: Literal["azure", "openai"] | None = Field(
        None, validation_alias="MODEL_PROVIDER", description="azure or openai: use the seed's variables"
    )
    openai_api_key: Annotated[SecretStr, AfterValidator(secret_header_value)] | None = Field(
        None, validation_alias="OPENAI_API_KEY", description="OpenAI's API key: visible ASCII characters"
    )
    openai_org_id: Annotated[str, AfterValidator(header_value)] = Field(
        "", validation_alias="OPENAI_ORG_ID", description="OpenAI organisation id: visible ASCII characters"
    )
    openai_base_url: HttpUrl | None = Field(
        None, validation_alias="OPENAI_BASE_URL", description="http(s) address of an OpenAI-compatible server, with /v1"
    )
    openai_dialect: str = Field(
        "",
        description="dialect of OPENAI_BASE_URL: a [dialects] name of the registry; unset: by its host, else generic",
    )
    image_model: str = Field(
        "", validation_alias="IMAGE_MODEL", description="image model used when a request names none"
    )
    llm_model: str = Field("", validation_alias="LLM_MODEL", description="language model of the helpers")
    emulator_url: HttpUrl = Field(EMULATOR_URL, description="http(s) address of the emulator, with /v1")


@dataclass(frozen=True, slots=True)
class Selection:
    """The registry in use, where it came from, and what its operator should look at."""

    provider: Provider
    registry: Registry
    warnings: tuple[str, ...] = ()


def select(settings: ModelSettings, environ: Mapping[str, str] | None = None) -> Selection:
    """The models of this process.

    Raises:
        RegistryError: what is set cannot be used; the message names the variable or the row.
    """
    environment = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
    provider, registry = _choose(settings, environment)
    _refuse_wrong_defaults(provider, registry)
    warnings = [*seed_warnings(environment, used=provider == "seed"), *_overruled(settings, provider, environment)]
    warnings += [
        f"endpoint {name} needs a key and has none: its models are refused"
        for name, endpoint in registry.endpoints.items()
        if not endpoint.configured
    ]
    return Selection(provider, registry, tuple(warnings))


def _choose(settings: ModelSettings, environ: Mapping[str, str]) -> tuple[Provider, Registry]:
    if settings.models_file is not None:
        return "registry", registry_from_file(settings.models_file, environ)
    if settings.model_provider or "IMAGEGEN_AOAI_RESOURCE" in environ:
        # The seed itself took azure for granted.
        return "seed", seed_registry(shipped(), settings.model_provider or "azure", environ)
    if settings.openai_base_url is not None:
        return "openai_base_url", _pass_through(settings, settings.openai_base_url)
    if settings.openai_api_key is not None:
        endpoint = Endpoint(
            base_url=OPENAI_URL, auth="key", key=settings.openai_api_key, organization=settings.openai_org_id
        )
        return "openai", bind_all(shipped(), "openai", endpoint, settings.image_model, settings.llm_model)
    # Any key will do, but like the API it stands in for the emulator wants one.
    endpoint = Endpoint(base_url=settings.emulator_url, dialect="emulator", auth="key", key=SecretStr("emulator"))
    return "emulator", bind_all(shipped(), "emulator", endpoint, settings.image_model, settings.llm_model)


def _refuse_wrong_defaults(provider: Provider, registry: Registry) -> None:
    """A default that its model does not take would make every plain request fail: better not to start."""
    variables = {field: name for name, field in DEFAULTS.items()} if provider == "seed" else {}
    for model_id, model in registry.of_kind(ImageModel):
        for violation in refused_defaults(model_id, model):
            place = variables.get(violation.field, f"models.{model_id}.defaults.{violation.field}")
            raise RegistryError(f"{place}: {violation.description}")


def _pass_through(settings: ModelSettings, base_url: str) -> Registry:
    """One model of each kind, about which nothing is assumed, on the operator's own server."""
    endpoint = Endpoint(
        base_url=base_url,
        dialect=settings.openai_dialect or _dialect_of(base_url),
        auth="key" if settings.openai_api_key else "none",
        key=settings.openai_api_key,
        organization=settings.openai_org_id,
    )
    known = shipped().models
    image = settings.image_model or next(name for name, row in known.items() if row.get("default"))
    rows = {_model_id(image): {"profile": "pass-through", "wire_id": image, "display_name": image}}
    if settings.llm_model:
        text = settings.llm_model
        if _model_id(text) in rows:
            raise RegistryError(f"LLM_MODEL is {text!r}, and the image model of OPENAI_BASE_URL is {image!r}: one id")
        rows[_model_id(text)] = {"profile": "text-pass-through", "wire_id": text, "display_name": text}
    bound = {model_id: {**row, "endpoint": "openai-base-url"} for model_id, row in rows.items()}
    return build(shipped(), {"openai-base-url": endpoint}, bound)


def _dialect_of(base_url: str) -> str:
    host = f".{urlsplit(base_url).hostname}"
    known = (name for ending, name in _HOSTS.items() if host.endswith(ending))
    return next(known, "generic")


def _model_id(wire_id: str) -> str:
    """The wire id as a resource id: servers name models `org/model`, a resource name's segment has no slash."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in wire_id)[:200]


def registry_from_file(path: Path, environ: Mapping[str, str]) -> Registry:
    """The registry of an operator's file, laid over the shipped one. Its models name endpoints of the file.

    Raises:
        RegistryError: the file cannot be used.
    """
    data = read_toml(path)
    endpoints = {name: _operator_endpoint(name, row, environ) for name, row in table_of(data, "endpoints").items()}
    own = Catalogue.from_toml(data)
    if not own.models:
        raise RegistryError(f"{path}: there is no [models] row")
    return build(shipped().under(own), endpoints, own.models)


def _operator_endpoint(name: str, row: Mapping[str, Any], environ: Mapping[str, str]) -> Endpoint:
    """`base_url_env`, `key_env` and `key_file` say where the address and the key are to be found."""
    fields = dict(row)
    if "key" in fields:
        raise RegistryError(f"endpoints.{name}: a key does not belong into a file; name its variable in key_env")
    for field in ("base_url_env", "base_url", "key_env", "key_file"):
        if not isinstance(fields.get(field, ""), str):
            raise RegistryError(f"endpoints.{name}.{field}: is no string")
    address = environ.get(fields.pop("base_url_env", ""), fields.pop("base_url", ""))
    key = environ.get(fields.pop("key_env", ""), "")
    key_file = fields.pop("key_file", "")
    if key_file:
        try:
            key = Path(key_file).read_text(encoding="utf-8")
        except OSError as error:
            raise RegistryError(f"endpoints.{name}.key_file: {error.strerror}") from None
        except ValueError:
            raise RegistryError(f"endpoints.{name}.key_file: is no text") from None
    return endpoint_of(f"endpoints.{name}", {**fields, "base_url": address, "key": key.strip() or None})


def _overruled(settings: ModelSettings, provider: Provider, environ: Mapping[str, str]) -> list[str]:
    """Variables that are set and do nothing because an earlier source decides."""
    source = f"seed-{settings.model_provider or 'azure'}" if provider == "seed" else provider
    named = _named_by_file(settings.models_file) if settings.models_file else frozenset()
    return [
        f"{name} is set and has no effect: the models come from {provider}"
        for name, sources in _READ_BY.items()
        if name in environ and name not in named and source not in sources
    ]


def _named_by_file(path: Path) -> frozenset[str]:
    """The variables that a registry file takes addresses and keys from."""
    rows = table_of(read_toml(path), "endpoints").values()
    return frozenset(row[field] for row in rows for field in ("base_url_env", "key_env") if field in row)
