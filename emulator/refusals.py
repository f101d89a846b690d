"""The errors that faults answer with, in the words of those who refuse."""

from emulator.errors import ApiError
from emulator.faults import Order


def refusal(order: Order) -> ApiError:
    """The error that a fault of a kind in REFUSALS answers."""
    match order.kind:
        case "moderation_blocked":
            return _moderation_blocked(order)
        case "content_filter":
            return _content_filter(order.filter_code)
        case "rate_limit":
            return ApiError(
                429,
                "Rate limit reached. Please try again later.",
                kind="requests",
                code="rate_limit_exceeded",
                headers={"retry-after": f"{order.retry_after:g}"},
            )
        case "overloaded":
            return ApiError(
                503,
                "The engine is currently overloaded, please try again later.",
                kind="server_error",
                code="overloaded",
                headers={"retry-after": f"{order.retry_after:g}"},
            )
        case _:
            return ApiError(500, "The server had an error while processing your request.", kind="server_error")


def _moderation_blocked(order: Order) -> ApiError:
    listed = ", ".join(order.categories)
    return ApiError(
        400,
        f"Your request was rejected by the safety system. safety_violations=[{listed}].",
        kind="image_generation_user_error",
        code="moderation_blocked",
        extra={"moderation_details": {"moderation_stage": order.stage, "categories": list(order.categories)}},
    )


def _content_filter(code: str) -> ApiError:
    """Azure's own filter, in the shapes Azure gives it: that of chats, and that of its image models."""
    harmless = {"filtered": False, "severity": "safe"}
    result = dict.fromkeys(("hate", "self_harm", "sexual"), harmless)
    result |= {"violence": {"filtered": True, "severity": "high"}}
    reason = {"code": "ResponsibleAIPolicyViolation"}
    if code == "content_policy_violation":
        return ApiError(
            400,
            "Your request was rejected as a result of our safety system.",
            code=code,
            extra={"inner_error": reason | {"content_filter_results": result}},
        )
    return ApiError(
        400,
        "The response was filtered due to the prompt triggering the content management policy.",
        kind=None,
        param="prompt",
        code=code,
        extra={"status": 400, "innererror": reason | {"content_filter_result": result}},
    )
