"""What a row of the protocol is in memory."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from grpc import StatusCode
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.errors import ERROR_CLASSES, Billed, ServiceError, Violation
from services.common.names import ResourceName
from services.models.money import Cost
from services.models.usage import Usage

Billing = Billed


class State(StrEnum):
    """Where a paid call stands; the names are the contract's."""

    PLANNED = "PLANNED"
    CALLING = "CALLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"


RUNNING = (State.PLANNED, State.CALLING)


@dataclass(frozen=True, slots=True)
class Intent:
    """A call that is to be paid for. `method` and `principal` scope the request id; `subject` names what it is for."""

    principal: str
    method: str
    request_id: str
    fingerprint: bytes
    operation: str
    model: str
    endpoint: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a person says of a call. `method` and `principal` scope the request id, as those of intents."""

    principal: str
    method: str
    request_id: str
    fingerprint: bytes
    is_billed: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class PaidCall:
    """One row."""

    id: str
    principal: str
    method: str
    request_id: str
    fingerprint: bytes
    operation: str
    model: str
    endpoint: str
    subject: str
    state: State
    billed: Billing
    fence: int
    provider_request_id: str
    usage: Usage | None
    cost: Cost | None
    price_date: date | None
    error: ServiceError | None
    resolution_note: str
    create_time: datetime
    call_time: datetime | None
    end_time: datetime | None

    @property
    def running(self) -> bool:
        """Whether it has not come to an end."""
        return self.state in RUNNING

    @property
    def may_run_again(self) -> bool:
        """Whether the same request id may try once more: it failed, cost nothing, and trying again can help.

        A failure of this kind is no result; a client that repeats its request after it, as it is told to, gets a new
        attempt and not the old error for ever.
        """
        return (
            self.state is State.FAILED and self.billed is Billed.NO and self.error is not None and self.error.retry_safe
        )

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> "PaidCall":
        """The call in a row of the table."""
        plain = {name: row[name] for name in _PLAIN}
        return cls(
            **plain,
            fingerprint=bytes(row["fingerprint"]),
            state=State(row["state"]),
            billed=Billing(row["billed"]),
            usage=Usage.from_json(row["usage"]),
            cost=Cost.from_columns(row["cost_source"], row["cost_micro_usd"]),
            error=load_error(row["error"]),
        )


_PLAIN = (
    "id",
    "principal",
    "method",
    "request_id",
    "operation",
    "model",
    "endpoint",
    "subject",
    "fence",
    "provider_request_id",
    "price_date",
    "resolution_note",
    "create_time",
    "call_time",
    "end_time",
)


@dataclass(frozen=True, slots=True)
class Opened:
    """An intent that is written down. `is_ours`: this process is to run it, and must have begun by `lease_until`
    (its own clock); else it runs or ran elsewhere."""

    call: PaidCall
    is_ours: bool
    lease_until: float = field(default=0.0)


InTransaction = Callable[[AsyncConnection, PaidCall], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Found:
    """A result that is evidently there although whoever made the call did not live to settle it.

    `keep` writes the subject's share of it in the settlement's transaction. `loss` says what of the result is gone with
    the process: should that process be alive after all, what it comes with replaces a result with a loss.
    """

    usage: Usage | None
    cost: Cost
    keep: InTransaction
    loss: ServiceError | None = None


Find = Callable[[PaidCall], Awaitable[Found | None]]


@dataclass(frozen=True, slots=True)
class Subjects:
    """What a service's paid calls are for.

    `name` forms the calls' resource names, `key` is the metadata key under which errors name the subject, and
    `on_change` writes the subject's share of every change but success, in the same transaction.

    `find` looks for the result of a call whose process is dead or taken for dead, where a result leaves traces outside
    the database; None: there is none. It raises a ServiceError when it cannot look for the moment.
    """

    name: ResourceName
    key: str
    on_change: InTransaction
    find: Find | None = None

    def name_in(self, error: ServiceError, call: PaidCall) -> ServiceError:
        """The error, with the names of call and subject added to its metadata."""
        error.metadata["paidCall"] = self.name.format(call.id)
        if call.subject:
            error.metadata[self.key] = call.subject
        return error


def fingerprint(method: str, body: Mapping[str, Any]) -> bytes:
    """SHA-256 of a request's canonical form: the method and the fields that differ from their defaults, by name.

    Independent of the protocol buffers runtime and of fields added later.
    """
    canonical = json.dumps([method, body], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).digest()


def dump_error(error: ServiceError) -> dict[str, Any]:
    """The error for a JSON column, without the characters that such a column refuses: a provider may have sent them."""
    return {
        "code": error.code.name,
        "reason": error.reason,
        "message": _storable(error.message),
        "billed": error.billed.value,
        "retrySafe": error.retry_safe,
        "metadata": {_storable(key): _storable(value) for key, value in error.metadata.items()},
        "violations": [
            [_storable(violation.field), _storable(violation.description), violation.reason]
            for violation in error.violations
        ],
        "retryAfter": error.retry_after,
    }


def _storable(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def load_error(data: Mapping[str, Any] | None) -> ServiceError | None:
    """The error that `dump_error` wrote; None stays None."""
    if data is None:
        return None
    return ERROR_CLASSES[StatusCode[data["code"]]](
        data["reason"],
        data["message"],
        billed=Billed(data["billed"]),
        retry_safe=data["retrySafe"],
        metadata=data["metadata"],
        violations=[Violation(*violation) for violation in data["violations"]],
        retry_after=data["retryAfter"],
    )
