"""The one translation between `ServiceError` and `google.rpc.Status`, in both directions."""

from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf import message
from google.rpc import error_details_pb2, status_pb2

from services.common.errors import (
    ERROR_CLASSES,
    Billed,
    Internal,
    QuotaViolation,
    Reason,
    Resource,
    ServiceError,
    Unavailable,
    Violation,
)

DOMAIN = "contentlab"
STATUS_METADATA_KEY = "grpc-status-details-bin"

# gRPC clients refuse trailing metadata at random from 8 KiB on. The message travels percent-encoded (three times its
# bytes at worst), the status in base64: together these limits stay below.
MAX_MESSAGE_BYTES = 600
MAX_TEXT_BYTES = 400
MAX_METADATA_BYTES = 2 * 1024
MAX_VIOLATIONS = 20
MAX_STATUS_BYTES = 4 * 1024

_M = TypeVar("_M", bound=message.Message)
_COMMON_KEYS = frozenset({"billed", "retrySafe", "requestId"})


def to_status(error: ServiceError, *, request_id: str = "") -> status_pb2.Status:
    """The status every client sees: exactly one ErrorInfo, and each other detail at most once.

    ErrorInfo metadata always has `billed`, `retrySafe` and, where there is one, `requestId`.
    """
    status = status_pb2.Status(code=_number(error.code), message=_shorten(error.message, MAX_MESSAGE_BYTES))
    status.details.add().Pack(_error_info(error, request_id))
    for detail in _further_details(error):
        status.details.add().Pack(detail)
        if status.ByteSize() > MAX_STATUS_BYTES:
            del status.details[-1]
    return status


def _error_info(error: ServiceError, request_id: str) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    info.metadata.update(billed=error.billed.value, retrySafe="true" if error.retry_safe else "false")
    if request_id:
        info.metadata["requestId"] = request_id
    for key, value in error.metadata.items():
        if key not in info.metadata and info.ByteSize() + len(key) + MAX_TEXT_BYTES <= MAX_METADATA_BYTES:
            info.metadata[key] = _shorten(value)
    return info


def _further_details(error: ServiceError) -> Iterable[message.Message]:
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after * 1000))
        yield retry
    if error.resource is not None:
        yield error_details_pb2.ResourceInfo(
            resource_type=error.resource.type,
            resource_name=_shorten(error.resource.name),
            description=_shorten(error.resource.description),
        )
    if error.quota:
        quota = error_details_pb2.QuotaFailure()
        for limit in error.quota[:MAX_VIOLATIONS]:
            quota.violations.add(subject=_shorten(limit.subject), description=_shorten(limit.description))
        yield quota
    if error.violations:
        yield _bad_request(error.violations)


def _bad_request(violations: Iterable[Violation]) -> error_details_pb2.BadRequest:
    """As many violations as fit: the first ones help, and a status that is too large reaches nobody."""
    detail = error_details_pb2.BadRequest()
    for violation in list(violations)[:MAX_VIOLATIONS]:
        detail.field_violations.add(
            field=_shorten(violation.field), description=_shorten(violation.description), reason=violation.reason
        )
        if detail.ByteSize() > MAX_STATUS_BYTES // 3 and len(detail.field_violations) > 1:
            del detail.field_violations[-1]
            break
    return detail


def from_status(status: status_pb2.Status) -> ServiceError:
    """The error that `to_status` made the status of; a foreign status keeps its code and message."""
    code = _code(status.code)
    # A server that stops cancels what is still running after its grace.
    error_class = Unavailable if code is grpc.StatusCode.CANCELLED else ERROR_CLASSES.get(code, Internal)
    info = _detail(status, error_details_pb2.ErrorInfo)
    metadata = dict(info.metadata) if info else {}
    bad_request = _detail(status, error_details_pb2.BadRequest)
    retry = _detail(status, error_details_pb2.RetryInfo)
    resource = _detail(status, error_details_pb2.ResourceInfo)
    quota = _detail(status, error_details_pb2.QuotaFailure)
    return error_class(
        info.reason if info else _default_reason(code),
        status.message,
        billed=_billed(metadata),
        retry_safe=metadata.get("retrySafe") == "true",
        metadata={key: value for key, value in metadata.items() if key not in _COMMON_KEYS},
        violations=[Violation(v.field, v.description, v.reason) for v in bad_request.field_violations]
        if bad_request
        else (),
        retry_after=retry.retry_delay.ToMilliseconds() / 1000 if retry else None,
        resource=Resource(resource.resource_type, resource.resource_name, resource.description) if resource else None,
        quota=[QuotaViolation(v.subject, v.description) for v in quota.violations] if quota else (),
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> ServiceError:
    """What a sibling service answered, typed.

    Without details, that is from the transport and not from the sibling, the outcome of the call is unknown:
    such an error is never `retry_safe`, and the transport's text (addresses, for one) is not passed on.
    """
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_METADATA_KEY and isinstance(value, bytes):
            try:
                return from_status(status_pb2.Status.FromString(value))
            except message.DecodeError:
                break
    message_for_callers = f"A call to another part of the suite failed: {error.code().name}."
    return from_status(status_pb2.Status(code=_number(error.code()), message=message_for_callers))


async def abort(
    context: "grpc.aio.ServicerContext[Any, Any]", error: ServiceError, *, request_id: str = ""
) -> NoReturn:
    """Ends the call with the error's code, message and details.

    Not `abort_with_status`: interceptors such as OpenTelemetry's wrap `abort` only and would record OK.
    """
    status = to_status(error, request_id=request_id)
    trailing = (*context.trailing_metadata(), (STATUS_METADATA_KEY, status.SerializeToString()))
    await context.abort(error.code, status.message, trailing)


def _detail(status: status_pb2.Status, kind: type[_M]) -> _M | None:
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            return detail
    return None


def _billed(metadata: dict[str, str]) -> Billed:
    """A sibling that does not say cannot be trusted to have cost nothing."""
    try:
        return Billed(metadata.get("billed", Billed.UNKNOWN))
    except ValueError:
        return Billed.UNKNOWN


def _default_reason(code: grpc.StatusCode) -> str:
    reasons = {
        grpc.StatusCode.UNAVAILABLE: Reason.UNAVAILABLE,
        grpc.StatusCode.CANCELLED: Reason.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED: Reason.NOT_IMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED: Reason.UNAUTHENTICATED,
    }
    return reasons.get(code, Reason.INTERNAL_ERROR).value


def _shorten(text: str, limit: int = MAX_TEXT_BYTES) -> str:
    """At most `limit` bytes of UTF-8, cut between characters; lone surrogates, which no wire carries, as `?`."""
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode(errors="ignore") + "…"


def _number(code: grpc.StatusCode) -> int:
    number, _ = code.value
    return int(number)


_CODES = {_number(code): code for code in grpc.StatusCode}


def _code(number: int) -> grpc.StatusCode:
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)
