"""Last: every request message against the rules in the contract (protovalidate)."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from protovalidate import FieldPathPb, Validator
from protovalidate import Violation as RuleViolation
from typing_extensions import override

from services.common.errors import InvalidArgument, Reason, Violation
from services.common.interceptors.base import Call, CallInterceptor


class ValidationInterceptor(CallInterceptor):
    """Compiles the rules of all `services` at once, so that a broken rule stops the start and not a call.

    Raises:
        protovalidate.CompilationError: a rule in the contract is wrong.
    """

    name: ClassVar[str] = "validation"
    after: ClassVar[frozenset[str]] = frozenset({"errors"})

    def __init__(self, services: Iterable[str] = ()) -> None:
        self._validator = Validator()
        for request in _request_types(services):
            self._validator.collect_violations(request())

    @override
    def receive(self, call: Call, message: Any) -> Any:
        violations = self._validator.collect_violations(message)
        if violations:
            raise invalid_fields([to_violation(violation) for violation in violations])
        return message

    @override
    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        yield


def invalid_fields(violations: list[Violation]) -> InvalidArgument:
    """One error for all wrong fields; its message tells a person about the first."""
    first, more = violations[0], len(violations) - 1
    message = f"{first.field}: {first.description}" if first.field else first.description
    if more:
        message += f" (and {more} more invalid {'field' if more == 1 else 'fields'})"
    return InvalidArgument(
        Reason.INVALID_FIELD, message, violations=violations, metadata={"field": first.field} if first.field else {}
    )


def to_violation(violation: RuleViolation) -> Violation:
    """A broken rule in our terms; the reason is the rule's id (`string.min_len` becomes STRING_MIN_LEN)."""
    proto = violation.proto
    field = field_path(proto.field) if proto.field is not None else ""
    reason = "".join(c if c.isalnum() else "_" for c in proto.rule_id or "").upper()
    return Violation(field, proto.message or "is not valid", reason)


def field_path(path: FieldPathPb) -> str:
    """The path in the contract's spelling: `image.size`, `tags[2]`, `labels["a"]`."""
    return ".".join(_segment(element.field_name, element.subscript) for element in path.elements)


def _segment(name: str, subscript: Any) -> str:
    if subscript is None:
        return name
    key = subscript.value
    return f"{name}[{json.dumps(key, ensure_ascii=False)}]"


def _request_types(services: Iterable[str]) -> Iterator[type[Message]]:
    pool = descriptor_pool.Default()
    for service in services:
        for method in pool.FindServiceByName(service).methods:
            yield message_factory.GetMessageClass(method.input_type)
