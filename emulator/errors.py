"""Errors in OpenAI's shape: `{"error": {message, type, param, code}}`, with a status.

The codes and the wording's form follow what the API answers; where the emulator refuses something that the API may
well accept, the message says "by this emulator".
"""

from collections.abc import Mapping, Sequence
from typing import Any

INVALID_REQUEST = "invalid_request_error"


class ApiError(Exception):
    """A refusal that the client sees as it is. Nothing has been charged unless the fault that raised it says so.

    Attributes:
        extra: fields beside the four of the error object, such as `moderation_details`.
        headers: of the response, such as `retry-after`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON object of the response."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error | self.extra}


def missing(param: str) -> ApiError:
    """A required parameter is not there."""
    message = f"Missing required parameter: '{param}'."
    return ApiError(400, message, param=param, code="missing_required_parameter")


def unknown_parameter(param: str) -> ApiError:
    """The endpoint has no such parameter."""
    return ApiError(400, f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")


def wrong_type(param: str, expected: str, value: object) -> ApiError:
    """The parameter is of another JSON type."""
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    got = "null" if value is None else names.get(type(value), "something else")
    message = f"Invalid type for '{param}': expected {expected}, but got {got} instead."
    return ApiError(400, message, param=param, code="invalid_type")


def wrong_value(param: str, value: object, supported: Sequence[str] | str) -> ApiError:
    """The parameter's value is none of those the model has."""
    if not isinstance(supported, str):
        quoted = [f"'{choice}'" for choice in supported]
        listed = quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + f", and {quoted[-1]}"
        supported = f"Supported values are: {listed}."
    shown = str(value)[:100]
    return ApiError(400, f"Invalid value: '{shown}'. {supported}", param=param, code="invalid_value")


def out_of_bounds(param: str, value: float, least: float, most: float) -> ApiError:
    """An integer is too small or too large."""
    low = value < least
    side, code, bound = ("below minimum", "below_min", least) if low else ("above maximum", "above_max", most)
    expected = f"{'>=' if low else '<='} {bound}"
    message = f"Invalid '{param}': integer {side} value. Expected a value {expected}, but got {value} instead."
    return ApiError(400, message, param=param, code=f"integer_{code}_value")


def unsupported(param: str, message: str) -> ApiError:
    """The parameter exists, but not for this model, or not together with another one."""
    return ApiError(400, message, param=param, code="unsupported_parameter")


def not_emulated(param: str, what: str) -> ApiError:
    """The API has this; the emulator does not."""
    return ApiError(400, f"{what} is not supported by this emulator.", param=param, code="unsupported_value")


def model_not_found(model: str, reason: str = "does not exist or you do not have access to it") -> ApiError:
    """No model of that id serves this endpoint, or it has been shut down."""
    return ApiError(404, f"The model `{model[:100]}` {reason}.", param="model", code="model_not_found")


def bad_json(detail: str) -> ApiError:
    """The body is no JSON object."""
    return ApiError(400, f"We could not parse the JSON body of your request: {detail}.", code="invalid_json")


def bad_picture(param: str, detail: str, code: str = "invalid_image_file") -> ApiError:
    """An uploaded or inlined picture cannot be used."""
    return ApiError(400, f"Invalid image for '{param}': {detail}.", param=param, code=code)


def body_too_large(limit: int) -> ApiError:
    """The body is larger than the endpoint takes."""
    return ApiError(413, f"The request body exceeds the limit of {limit} bytes.", code="request_too_large")


def overloaded() -> ApiError:
    """More calls are open than the emulator works on at once."""
    message = "The engine is currently overloaded, please try again later."
    return ApiError(503, message, kind="server_error", code="overloaded", headers={"retry-after": "1"})


def internal() -> ApiError:
    """A bug of the emulator; the log has the trace."""
    return ApiError(500, "The server had an error while processing your request.", kind="server_error")
