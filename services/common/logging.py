"""Structured logs: one JSON line an event on stdout, with the call's ids, and never what users wrote.

Modules log through `structlog.get_logger()`; lines of other libraries (standard logging) come out in the same shape.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

PRIVATE_KEYS = frozenset(
    {"prompt", "prompts", "body", "request", "response", "content", "data", "text", "password", "token", "api_key",
     "authorization", "secret", "connection_string", "database_url"}
)  # fmt: skip
"""Keys whose values never reach a log, whoever passes them."""

MAX_VALUE_CHARACTERS = 8_000

_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^@\s/]+@")
# Postgres repeats the offending row in DETAIL and the query in CONTEXT: both hold what users wrote.
_POSTGRES_ROW = re.compile(r"^(DETAIL|CONTEXT|QUERY|STATEMENT|LINE \d+):.*$", re.MULTILINE)
_QUIET = ("alembic", "asyncio", "azure", "grpc", "httpcore2", "httpx2", "openai", "sqlalchemy")
"""Loggers of libraries that speak at WARNING and above only."""


def configure_logging(
    level: str = "INFO",
    format: Literal["json", "console"] = "json",
    *,
    service: str = "",
    stream: TextIO | None = None,
) -> None:
    """Sets up structlog and standard logging of this process, on stdout unless told otherwise.

    Later calls replace the setup.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _add_service(service),
    ]
    final: list[Processor] = (
        [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if format == "json"
        else [structlog.processors.format_exc_info, redact, structlog.dev.ConsoleRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Drops private keys, passwords in URLs and rows that Postgres quotes; shortens what is too long."""
    for key, value in list(event.items()):
        if key in PRIVATE_KEYS:
            event[key] = "[redacted]"
        elif isinstance(value, str):
            event[key] = _clean(value)
        elif isinstance(value, bytes):
            event[key] = f"[{len(value)} bytes]"
    return event


def _clean(value: str) -> str:
    if "://" in value:
        value = _URL_PASSWORD.sub(r"\1[redacted]@", value)
    if "\n" in value:
        value = _POSTGRES_ROW.sub(r"\1: [redacted]", value)
    if len(value) > MAX_VALUE_CHARACTERS:
        half = MAX_VALUE_CHARACTERS // 2
        value = f"{value[:half]} ... {value[-half:]}"
    return value


def _add_service(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if service:
            event.setdefault("service", service)
        return event

    return add
