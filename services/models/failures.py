"""What a failed provider call means: one table from HTTP answers and transport errors to typed outcomes.

The question that decides everything is whether the call may have cost money. `billed` is NO only where the provider
provably did not accept the call or refused it, YES where it says what it charged, and UNKNOWN otherwise.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai

from services.common.errors import (
    Billed,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from services.models.money import Cost
from services.models.rows import Dialect
from services.models.usage import Usage

# Codes of a refusal of content: OpenAI's, its older one, and Azure's own filter in both spellings.
CONTENT_CODES = frozenset(
    {
        "moderation_blocked",
        "content_policy_violation",
        "content_filter",
        "contentFilter",
        "ResponsibleAIPolicyViolation",
    }
)
# LiteLLM's proxy replaces the provider's code by the status; the class of its own error begins the message.
CONTENT_MESSAGES = ("litellm.ContentPolicyViolationError:",)
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})

# Raised before the first byte of the request is written.
_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
# Raised while the request is put into words, before it is written: a header that HTTP does not allow.
_NOT_SENDABLE = (httpx2.LocalProtocolError,)
_SECRET = re.compile(r"\b(sk|org|proj)-[A-Za-z0-9_*-]{4,}|Bearer\s+\S+", re.IGNORECASE)
_MAX_PROVIDER_MESSAGE = 300
# Nobody raises a quota sooner than that.
QUOTA_SECONDS = 60.0
_LONGEST_RETRY_AFTER = 86_400.0


class CallFailed(Exception):
    """A provider call that gave no result: what the caller is told, and the provider's id of the call.

    `not_accepted` means that the same call may be sent again at once, by whoever counts how often. `usage` is what it
    used where the provider says so although it gave nothing.
    """

    def __init__(
        self,
        error: ServiceError,
        provider_request_id: str = "",
        *,
        not_accepted: bool = False,
        usage: Usage | None = None,
        cost: Cost | None = None,
    ) -> None:
        super().__init__(f"{error.reason}: {error.message}")
        self.error = error
        self.provider_request_id = provider_request_id
        self.not_accepted = not_accepted
        self.usage = usage
        self.cost = cost


def classify(error: Exception, dialect: Dialect, *, secret: str = "") -> CallFailed:
    """The typed outcome of an exception of the SDK. `secret` is the endpoint's key, which no message may repeat."""
    match error:
        case openai.APIStatusError():
            return _of_status(error, dialect, secret)
        case openai.APIConnectionError() if isinstance(error.__cause__, _NOT_SENT):
            return CallFailed(unreachable(), not_accepted=True)
        case openai.APIConnectionError() if isinstance(error.__cause__, _NOT_SENDABLE):
            return CallFailed(not_ready())
        case openai.APIError() | httpx2.HTTPError() | TimeoutError():
            return CallFailed(outcome_unknown())
        case _:
            raise error


def unreachable() -> ServiceError:
    """No connection came about: nothing was sent."""
    return Unavailable(
        "PROVIDER_UNAVAILABLE",
        "The model provider cannot be reached; nothing was sent to it.",
        billed=Billed.NO,
        retry_safe=True,
    )


def not_ready(*, slow: bool = False) -> ServiceError:
    """The call could not even be put together: no token, or credentials that HTTP cannot carry. Nothing was sent."""
    if slow:
        return Unavailable(
            "PROVIDER_UNAVAILABLE",
            "The identity service gave no token for the model provider in time; nothing was sent to it.",
            billed=Billed.NO,
            retry_safe=True,
        )
    return Internal(
        "PROVIDER_MISCONFIGURED",
        "The model provider cannot be called as its endpoint is set up, and nothing was sent to it; this is for the "
        "operator to set right.",
        billed=Billed.NO,
    )


def outcome_unknown() -> ServiceError:
    """The request was sent, and no answer says what came of it."""
    return DeadlineExceeded(
        "OUTCOME_UNKNOWN",
        "The model provider may have done and billed this call, and its result is not known. It is not repeated by "
        "itself: settle it.",
        billed=Billed.UNKNOWN,
    )


def bad_response(what: str, *, billed: Billed, metadata: Mapping[str, str] | None = None) -> ServiceError:
    """The provider answered with something that is no result; `what` is written by us."""
    message = f"The model provider's answer is no result: {what}."
    return Internal("PROVIDER_BAD_RESPONSE", message, billed=billed, metadata=metadata)


def answer_invalid(problems: Sequence[str]) -> ServiceError:
    """A language model wrote something of another form than asked for, and so once more. Both were paid for."""
    return FailedPrecondition(
        "MODEL_ANSWER_INVALID",
        "The language model's answer did not have the form asked for, twice.",
        billed=Billed.YES,
        metadata={"problem": problems[0][:300]} if problems else {},
    )


def content_rejected(body: Mapping[str, Any], *, billed: Billed = Billed.NO) -> ServiceError:
    """The provider refuses the content. Metadata: `stage` and `categories` where it gives them."""
    details = body.get("moderation_details")
    details = details if isinstance(details, Mapping) else {}
    stage, categories = details.get("moderation_stage"), details.get("categories")
    metadata: dict[str, str] = {}
    if isinstance(stage, str):
        metadata["stage"] = stage
    if isinstance(categories, list):
        metadata["categories"] = ",".join(str(category) for category in categories)
    return InvalidArgument(
        "CONTENT_REJECTED", "The model provider refuses the content.", billed=billed, metadata=metadata
    )


def is_content_rejection(body: Mapping[str, Any]) -> bool:
    """Whether an error object says that the content was refused, in any of the providers' ways."""
    inner = body.get("innererror") or body.get("inner_error")
    codes = [body.get("code"), body.get("type"), inner.get("code") if isinstance(inner, Mapping) else None]
    if any(code in CONTENT_CODES for code in codes if isinstance(code, str)):
        return True
    message = body.get("message")
    return isinstance(message, str) and message.startswith(CONTENT_MESSAGES)


def _of_status(error: openai.APIStatusError, dialect: Dialect, secret: str) -> CallFailed:
    body = _error_object(error.body)
    request_id = error.request_id or ""
    status = error.status_code
    if status >= 500:
        return _of_server_error(error, body, dialect, request_id)
    if status == 408:  # a gateway's patience ended; the work behind it may go on
        return CallFailed(outcome_unknown(), request_id)
    if status == 429:
        return CallFailed(_rate_limited(error, body), request_id, not_accepted=not _is_quota(body))
    if status < 400 or status in (401, 402, 403, 404, 405):
        return CallFailed(_misconfigured(status, body), request_id)
    if is_content_rejection(body):
        return CallFailed(content_rejected(body), request_id)
    return CallFailed(_rejected(error, body, secret), request_id)


def _of_server_error(
    error: openai.APIStatusError, body: Mapping[str, Any], dialect: Dialect, request_id: str
) -> CallFailed:
    given = _codes(body)
    for rule in dialect.not_accepted:
        if rule.status == error.status_code and (not rule.codes or given & set(rule.codes)):
            return CallFailed(_overloaded(error), request_id, not_accepted=True)
    if not dialect.server_errors_may_bill:
        return CallFailed(_overloaded(error), request_id)
    return CallFailed(outcome_unknown(), request_id)


def _overloaded(error: openai.APIStatusError) -> ServiceError:
    return Unavailable(
        "PROVIDER_UNAVAILABLE",
        "The model provider cannot take the call for the moment, and has not accepted it.",
        billed=Billed.NO,
        retry_safe=True,
        retry_after=retry_after(error.response.headers),
    )


def _rate_limited(error: openai.APIStatusError, body: Mapping[str, Any]) -> ServiceError:
    if _is_quota(body):
        return ResourceExhausted(
            "PROVIDER_RATE_LIMITED",
            "The quota of the account at the model provider is used up; its operator must raise it.",
            billed=Billed.NO,
            retry_safe=True,
            retry_after=max(retry_after(error.response.headers) or 0.0, QUOTA_SECONDS),
        )
    return ResourceExhausted(
        "PROVIDER_RATE_LIMITED",
        "The model provider asks to slow down.",
        billed=Billed.NO,
        retry_safe=True,
        retry_after=retry_after(error.response.headers) or 1.0,
    )


def _misconfigured(status: int, body: Mapping[str, Any]) -> ServiceError:
    what = {401: "refuses our credentials", 403: "refuses our credentials", 402: "wants its bill paid"}.get(
        status, "does not know the model or the route"
    )
    return Internal(
        "PROVIDER_MISCONFIGURED",
        f"The model provider {what}; this is for the operator to set right.",
        billed=Billed.NO,
        metadata={"providerStatus": str(status)} | _code_of(body),
    )


def _rejected(error: openai.APIStatusError, body: Mapping[str, Any], secret: str) -> ServiceError:
    message = body.get("message")
    said = f": {scrub(message, secret)}" if isinstance(message, str) and message else ""
    return InvalidArgument(
        "PROVIDER_REJECTED",
        f"The model provider refuses the request{said}",
        billed=Billed.NO,
        metadata={"providerStatus": str(error.status_code)} | _code_of(body) | _param_of(body),
    )


def _error_object(body: object) -> Mapping[str, Any]:
    """The error in OpenAI's shape; of servers that answer in another one, as far as it can be told.

    LM Studio has a text for `error`, servers on FastAPI a list `detail` of `loc` and `msg`.
    """
    if isinstance(body, str) and not body.lstrip().startswith("<"):
        return {"message": body}
    if not isinstance(body, Mapping):
        return {}
    detail = body.get("detail")
    if isinstance(detail, str):
        return {"message": detail, **body}
    first = detail[0] if isinstance(detail, list) and detail else None
    if not isinstance(first, Mapping):
        return body
    place = first.get("loc")
    names = [part for part in place if isinstance(part, str)] if isinstance(place, list) else []
    return {"message": first.get("msg"), "param": ".".join(names).removeprefix("body."), **body}


def _param_of(body: Mapping[str, Any]) -> dict[str, str]:
    param = body.get("param")
    return {"providerParam": param[:100]} if isinstance(param, str) and param else {}


def _code_of(body: Mapping[str, Any]) -> dict[str, str]:
    code = body.get("code")
    return {"providerCode": code[:100]} if isinstance(code, str) and code else {}


def _is_quota(body: Mapping[str, Any]) -> bool:
    return bool(_codes(body) & QUOTA_CODES)


def _codes(body: Mapping[str, Any]) -> set[str]:
    """The error's `code` and `type`; servers put numbers, lists and objects there too, which say nothing known."""
    return {code for code in (body.get("code"), body.get("type")) if isinstance(code, str)}


def scrub(message: str, secret: str) -> str:
    """A provider's message as clients may see it: one short line without keys."""
    if secret:
        message = message.replace(secret, "[redacted]")
    message = " ".join(_SECRET.sub("[redacted]", message).split())
    return message if len(message) <= _MAX_PROVIDER_MESSAGE else message[: _MAX_PROVIDER_MESSAGE - 1] + "…"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `retry-after-ms` or `retry-after` (a number or an HTTP date) asks to wait."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        elif "retry-after" in headers:
            seconds = _seconds(headers["retry-after"])
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER) if seconds == seconds else None


def _seconds(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        date = parsedate_to_datetime(value)
        # A date without a zone, or with -0000, comes without one; HTTP's dates are UTC.
        return ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
