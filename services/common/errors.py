"""The error tree: what domain code raises and every client receives.

    ServiceError
    ├── InvalidArgument      INVALID_ARGUMENT    400
    ├── OutOfRange           OUT_OF_RANGE        400
    ├── FailedPrecondition   FAILED_PRECONDITION 400
    ├── Unauthenticated      UNAUTHENTICATED     401
    ├── PermissionDenied     PERMISSION_DENIED   403
    ├── NotFound             NOT_FOUND           404
    ├── AlreadyExists        ALREADY_EXISTS      409
    ├── Aborted              ABORTED             409
    ├── ResourceExhausted    RESOURCE_EXHAUSTED  429
    ├── Unimplemented        UNIMPLEMENTED       501
    ├── Internal             INTERNAL            500
    ├── Unavailable          UNAVAILABLE         503
    └── DeadlineExceeded     DEADLINE_EXCEEDED   504

Domain code raises these; nothing but the error interceptor turns them into a gRPC status
(`services.common.status`). HTTP codes are those of Envoy's transcoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from grpc import StatusCode


class Reason(StrEnum):
    """The reasons that common code raises itself; every service's `ErrorReason` enum has them."""

    MALFORMED_REQUEST = "MALFORMED_REQUEST"
    INVALID_FIELD = "INVALID_FIELD"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"  # noqa: S105 - a reason, not a password
    INVALID_RESOURCE_NAME = "INVALID_RESOURCE_NAME"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    SERVICE_PRINCIPAL_REQUIRED = "SERVICE_PRINCIPAL_REQUIRED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    METADATA_TOO_LARGE = "METADATA_TOO_LARGE"


class Billed(StrEnum):
    """Whether the failed call cost money at a model provider."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Violation:
    """One invalid request field.

    `field` is its path in the contract's own spelling (`image.size`, `tags[2]`), `reason` an optional
    UPPER_SNAKE_CASE word for machines.
    """

    field: str
    description: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """The resource an error is about: its type (`contentlab.gallery.v1.Asset`) and its name (`assets/x`)."""

    type: str
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One exceeded limit: whose (`subject`) and which, with its numbers (`description`)."""

    subject: str
    description: str


class ServiceError(Exception):
    """An error with a meaning to clients; raise one of the subclasses.

    `reason` names a value of the service's `ErrorReason` enum and `message` is written for the caller: never
    put another library's exception text into it. `metadata` repeats the message's variable parts for
    machines. `retry_safe` says that sending the same request again can neither cost twice nor do twice, and
    `retry_after` when to do so, in seconds.
    """

    code: ClassVar[StatusCode] = StatusCode.UNKNOWN

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        billed: Billed = Billed.NO,
        retry_safe: bool = False,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        resource: Resource | None = None,
        quota: Sequence[QuotaViolation] = (),
    ) -> None:
        super().__init__(message)
        self.reason = str(reason)
        self.message = message
        self.billed = billed
        self.retry_safe = retry_safe
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.resource = resource
        self.quota = tuple(quota)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason!r}, {self.message!r})"


class InvalidArgument(ServiceError):
    """The request is wrong whatever the state of the system."""

    code = StatusCode.INVALID_ARGUMENT

    @classmethod
    def field(cls, field: str, description: str, reason: str = Reason.INVALID_FIELD) -> "InvalidArgument":
        """The common case of one wrong field: the message is `field: description`."""
        violation = Violation(field, description, str(reason))
        return cls(reason, f"{field}: {description}", violations=[violation], metadata={"field": field})


class OutOfRange(ServiceError):
    """The request points past the end, such as a watch token that is too old."""

    code = StatusCode.OUT_OF_RANGE


class FailedPrecondition(ServiceError):
    """The resource's state forbids the call until something else changes it."""

    code = StatusCode.FAILED_PRECONDITION


class Unauthenticated(ServiceError):
    """The caller's credentials are absent or wrong."""

    code = StatusCode.UNAUTHENTICATED


class PermissionDenied(ServiceError):
    """The caller is known and may not do this."""

    code = StatusCode.PERMISSION_DENIED


class NotFound(ServiceError):
    """The resource does not exist, or belongs to another principal."""

    code = StatusCode.NOT_FOUND


class AlreadyExists(ServiceError):
    """The resource to be created exists."""

    code = StatusCode.ALREADY_EXISTS


class Aborted(ServiceError):
    """Somebody else changed the resource meanwhile (etag mismatch)."""

    code = StatusCode.ABORTED


class ResourceExhausted(ServiceError):
    """A limit, quota or budget is used up."""

    code = StatusCode.RESOURCE_EXHAUSTED


class Unimplemented(ServiceError):
    """The contract has the method and this server does not implement it."""

    code = StatusCode.UNIMPLEMENTED


class Internal(ServiceError):
    """Our own fault; the message says nothing but the request id."""

    code = StatusCode.INTERNAL


class Unavailable(ServiceError):
    """Something this service needs is down for now."""

    code = StatusCode.UNAVAILABLE


class DeadlineExceeded(ServiceError):
    """Time ran out, here or at a provider; for a paid call the outcome may be unknown."""

    code = StatusCode.DEADLINE_EXCEEDED


ERROR_CLASSES: Mapping[StatusCode, type[ServiceError]] = {
    cls.code: cls
    for cls in (
        InvalidArgument,
        OutOfRange,
        FailedPrecondition,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        AlreadyExists,
        Aborted,
        ResourceExhausted,
        Unimplemented,
        Internal,
        Unavailable,
        DeadlineExceeded,
    )
}
