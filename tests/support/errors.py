"""Reading the one JSON shape in which the suite tells an error."""

from dataclasses import dataclass
from typing import Any

import httpx2

ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


@dataclass(frozen=True)
class RestError:
    """An error answer, checked for the shape that every error has."""

    status: int
    code: int
    message: str
    reason: str
    metadata: dict[str, str]
    fields: tuple[str, ...]
    details: tuple[dict[str, Any], ...]

    @property
    def billed(self) -> str:
        """`yes`, `no` or `unknown`."""
        return self.metadata["billed"]


def rest_error(answer: httpx2.Response) -> RestError:
    """The error in `answer`; fails the test if it is not in the shape."""
    assert answer.headers["content-type"].startswith("application/json"), (answer.status_code, answer.text[:500])
    body = answer.json()
    assert body.keys() == {"code", "message", "details"}, body
    assert isinstance(body["code"], int), body
    assert body["message"], body
    [info] = [detail for detail in body["details"] if detail["@type"] == ERROR_INFO]
    assert info["domain"] == "contentlab", info
    assert info["metadata"]["billed"] in {"yes", "no", "unknown"}, info
    assert info["metadata"]["retrySafe"] in {"true", "false"}, info
    assert info["metadata"]["requestId"], info
    violations = [
        violation
        for detail in body["details"]
        if detail["@type"] == BAD_REQUEST
        for violation in detail["fieldViolations"]
    ]
    return RestError(
        status=answer.status_code,
        code=body["code"],
        message=body["message"],
        reason=info["reason"],
        metadata=info["metadata"],
        fields=tuple(violation["field"] for violation in violations),
        details=tuple(body["details"]),
    )
