"""One error, in the body each kind of server gives it."""

from http import HTTPStatus
from typing import Any

from emulator.dialects import Errors
from emulator.errors import ApiError

_LITELLM_CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
}
_BLOCKED = ("moderation_blocked", "content_filter", "contentFilter", "content_policy_violation")


def shaped(error: ApiError, errors: Errors, *, chat: bool) -> dict[str, Any]:
    """The JSON object of a response. SGLang's chats and pictures are two servers with a shape each."""
    match errors:
        case "openai":
            return error.body()
        case "azure":
            return _azure(error)
        case "vllm" | "sglang" if error.status == HTTPStatus.UNAUTHORIZED:
            return {"error": "Unauthorized"}
        case "vllm":
            missing_model = chat and error.code == "model_not_found"
            kind = "NotFoundError" if missing_model else HTTPStatus(error.status).phrase
            return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.status}}
        case "sglang" if chat:
            kind = HTTPStatus(error.status).phrase.replace(" ", "")
            body = {"message": error.message, "type": kind, "param": error.param, "code": error.status}
            return {"object": "error", **body}
        case "sglang":
            return {"detail": error.message}
        case "localai":
            return {"error": {"code": error.status, "message": error.message, "type": ""}}
        case "litellm":
            return _litellm(error)


def _azure(error: ApiError) -> dict[str, Any]:
    """What its gateway refuses has a code and a message only; what the model refuses is as OpenAI has it."""
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND):
        return {"error": {"code": _gateway_code(error), "message": error.message}}
    return error.body()


def _gateway_code(error: ApiError) -> str:
    return error.code if error.code == "DeploymentNotFound" else str(error.status)


def _litellm(error: ApiError) -> dict[str, Any]:
    """The status becomes the code, and the provider's own code is lost."""
    kind = _LITELLM_CLASSES.get(error.status, "InternalServerError")
    kind = "ContentPolicyViolationError" if error.code in _BLOCKED else kind
    message = f"litellm.{kind}: OpenAIException - {error.message}"
    return {"error": {"message": message, "type": error.kind, "param": error.param, "code": str(error.status)}}
