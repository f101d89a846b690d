"""Settings from environment variables: read once, frozen, and a mistake names the variable.

A service's `settings.py` subclasses `ServiceSettings` (or mixes in `DatabaseSettings`) and calls `load` in its
`__main__.py`. Variables are `CONTENTLAB_<FIELD>` unless a field has an alias of its own; tests construct settings
by field name.
"""

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

ENV_PREFIX = "CONTENTLAB_"
EXIT_CONFIGURATION = 2
"""Exit code of a process whose environment is wrong (that of a wrong command line)."""


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("not host:port")
    return value


def _postgres_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
        raise ValueError("not a postgresql URL")
    return value


def _service_token_file(path: str) -> str:
    read_service_token(path)
    return path


def read_service_token(path: str) -> str:
    """The suite's shared secret in a file, without surrounding white space.

    Raises:
        ValueError: the file cannot be read, is empty, or holds what metadata cannot carry.
    """
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise ValueError("cannot be read") from error
    if not token or not token.isprintable():
        raise ValueError("holds no token")
    return token


Address = Annotated[str, AfterValidator(_address)]
"""`host:port`; an IPv6 host stands in brackets."""


class Settings(BaseSettings):
    """The base of everything that is read from the environment."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        validate_by_alias=True,
        validate_by_name=True,
        hide_input_in_errors=True,
        validate_default=True,
    )


class ServiceSettings(Settings):
    """What every gRPC server of the suite understands."""

    listen: Address = Field(description="host:port of the gRPC server")
    metrics_listen: Address | None = Field(default=None, description="host:port of the Prometheus page; unset: none")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Literal["json", "console"] = Field(default="json", description="json or console")
    reflection: bool = Field(default=False, description="true or false: serve gRPC reflection")
    service_token_file: Annotated[str, AfterValidator(_service_token_file)] | None = Field(
        default=None, description="path of a readable file that holds the suite's service token"
    )
    lame_duck_seconds: float = Field(
        default=1.0, ge=0, le=60, description="seconds (0 to 60) between NOT_SERVING and refusing new calls"
    )
    drain_seconds: float = Field(
        default=20.0, ge=0, le=900, description="seconds (0 to 900) that running calls may finish in"
    )
    max_receive_bytes: int = Field(
        default=4 * 1024 * 1024, ge=64 * 1024, le=64 * 1024 * 1024, description="largest request message in bytes"
    )
    max_concurrent_calls: int = Field(
        default=25_000, ge=1, description="calls served at a time; one more is RESOURCE_EXHAUSTED"
    )


class DatabaseSettings(Settings):
    """What every part with a schema in Postgres understands."""

    database_url: Annotated[SecretStr, AfterValidator(_postgres_url)] = Field(
        validation_alias="DATABASE_URL", description="postgresql://user:password@host:port/database"
    )
    migrate: bool = Field(default=True, description="true or false: bring the schema up to date at start")
    database_pool_size: int = Field(default=10, ge=1, le=200, description="database connections kept open (1 to 200)")
    database_pool_overflow: int = Field(
        default=5, ge=0, le=200, description="connections above the pool size (0 to 200)"
    )
    database_pool_timeout: float = Field(
        default=10.0, gt=0, le=300, description="seconds to wait for a free database connection"
    )
    database_connect_timeout: int = Field(
        default=5, ge=1, le=60, description="seconds to wait for a new database connection"
    )
    database_statement_timeout: float = Field(
        default=30.0, ge=0, le=3600, description="seconds after which the server ends a statement; 0: never"
    )
    database_wait_seconds: float = Field(
        default=60.0, ge=0, le=3600, description="seconds to wait at start for the database to come up"
    )


_QUOTED_FIELD = re.compile(r'field "(\w+)"')

SettingsT = TypeVar("SettingsT", bound=Settings)


def load(settings_class: type[SettingsT], **overrides: Any) -> SettingsT:
    """The settings of this process.

    A missing or wrong variable ends the process: exit code 2 and one line on stderr that names each variable and
    what it should hold. Values are never printed, they may be secrets.
    """
    try:
        return settings_class(**overrides)
    except ValidationError as error:
        problem = describe_error(settings_class, error)
    except SettingsError as error:  # a list or a table that is no JSON; the text names the field only
        field = _QUOTED_FIELD.search(str(error))
        name, expected = _variable(settings_class, field.group(1) if field else "")
        problem = f"configuration: {name} is wrong, expected {expected}"
    sys.stderr.write(problem + "\n")
    raise SystemExit(EXIT_CONFIGURATION)


def describe_error(settings_class: type[Settings], error: ValidationError) -> str:
    """One line: every wrong variable and what is expected of it."""
    problems = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        verdict = "is missing" if problem["type"] == "missing" else "is wrong"
        name, expected = _variable(settings_class, field)
        problems.append(f"{name} {verdict}, expected {expected}")
    return "configuration: " + "; ".join(dict.fromkeys(problems))


def variables(settings_class: type[Settings]) -> dict[str, str]:
    """Every environment variable that these settings read, with its meaning: for --help and documentation tests."""
    return dict(_variable(settings_class, name) for name in settings_class.model_fields)


def _variable(settings_class: type[Settings], field: str) -> tuple[str, str]:
    """The variable of a field, found by name or alias, and what it should hold."""
    for name, info in settings_class.model_fields.items():
        alias = info.validation_alias if isinstance(info.validation_alias, str) else None
        variable = alias or f"{ENV_PREFIX}{name}".upper()
        if field in (name, alias, variable, variable.lower()):
            return variable, _description(settings_class, name)
    return field or settings_class.__name__, "consistent settings"


def _description(settings_class: type[Settings], name: str) -> str:
    """The field's description, or that of the field it overrides: services change defaults, not meanings."""
    for base in settings_class.__mro__:
        info = base.model_fields.get(name) if issubclass(base, Settings) else None
        if info is not None and info.description:
            return info.description
    return "a valid value"
