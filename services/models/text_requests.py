"""A request to a language model, the one check of it before any money is spent, and what is sent of it."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from services.common.errors import Violation
from services.models.checks import unsupported, usable_model
from services.models.registry import Registry
from services.models.rows import TextModel

Role = Literal["system", "user", "assistant"]
Detail = Literal["auto", "low", "high"]
Rung = Literal["json_schema", "json_object", "prompt"]
RUNGS: tuple[Rung, ...] = ("json_schema", "json_object", "prompt")
"""Ways to ask for JSON, the strictest first."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to be looked at, as PNG or JPEG bytes. `detail`: how closely, where the server knows the parameter."""

    content: bytes
    mime_type: Literal["image/png", "image/jpeg"]
    detail: Detail = "auto"


@dataclass(frozen=True, slots=True)
class Message:
    """One message; its parts are texts and, of a user's message, pictures."""

    role: Role
    parts: tuple[str | Picture, ...]

    @property
    def text_chars(self) -> int:
        """Characters of all its texts."""
        return sum(len(part) for part in self.parts if isinstance(part, str))

    @property
    def pictures(self) -> int:
        """How many pictures it has."""
        return sum(isinstance(part, Picture) for part in self.parts)


@dataclass(frozen=True, slots=True)
class TextRequest:
    """What is asked of a language model. Empty model: the default one.

    `max_tokens` bounds the answer, thoughts included; a model that can give less is asked for less. The two fields are
    how the contract calls what the caller gave: a violation names them.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    model: str = ""
    text_field: str = "prompt"
    picture_field: str = "image"


@dataclass(frozen=True, slots=True)
class CheckedTextRequest:
    """A request that its model takes."""

    request: TextRequest
    model_id: str
    model: TextModel

    @property
    def max_tokens(self) -> int:
        """The bound that is sent."""
        return min(self.request.max_tokens, self.model.max_output_tokens)


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON schema and its name on the wire: letters, digits, '_' and '-', at most 64."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TextCall:
    """One call: each costs money by itself. `turn` counts the calls of one request from 0; `messages` are its own.

    `rung` says how JSON is asked for; None: the answer is plain text. With "prompt" nothing but the messages asks.
    """

    checked: CheckedTextRequest
    messages: tuple[Message, ...]
    turn: int = 0
    rung: Rung | None = None
    schema: Schema | None = None


def check_text_request(request: TextRequest, registry: Registry, *, today: date) -> CheckedTextRequest:
    """The request with its model.

    Raises:
        InvalidArgument: MODEL_UNKNOWN, or UNSUPPORTED_PARAMETER with a violation for each field.
        FailedPrecondition: MODEL_RETIRED, naming the replacement; MODEL_NOT_CONFIGURED.
    """
    model_id, model = usable_model(registry, TextModel, request.model, today)
    violations = list(_violations(request, model_id, model))
    if violations:
        raise unsupported(model_id, violations)
    return CheckedTextRequest(request, model_id, model)


def _violations(request: TextRequest, model_id: str, model: TextModel) -> Iterator[Violation]:
    if sum(message.text_chars for message in request.messages) > model.max_prompt_chars:
        limit = f"{model_id} takes at most {model.max_prompt_chars} characters, the instructions among them"
        yield Violation(request.text_field, limit)
    pictures = sum(message.pictures for message in request.messages)
    if pictures and not model.vision:
        yield Violation(request.picture_field, f"{model_id} cannot see pictures")
    elif pictures > model.max_pictures:
        yield Violation(request.picture_field, f"{model_id} looks at no more than {model.max_pictures} pictures a call")


def wire_body(call: TextCall) -> dict[str, Any]:
    """The JSON object of `POST /chat/completions`, without the messages."""
    model = call.checked.model
    body: dict[str, Any] = {"model": model.wire_id, model.max_tokens_parameter: call.checked.max_tokens}
    if call.rung == "json_object":
        body["response_format"] = {"type": "json_object"}
    elif call.rung == "json_schema":
        if call.schema is None:
            raise ValueError("json_schema needs a schema")
        named = {"name": call.schema.name, "strict": True, "schema": call.schema.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def wire_messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The messages. Texts alone are one string: not every server understands parts."""
    return [{"role": message.role, "content": _content(message)} for message in messages]


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.pictures:
        return "\n\n".join(part for part in message.parts if isinstance(part, str))
    return [{"type": "text", "text": part} if isinstance(part, str) else _image_url(part) for part in message.parts]


def _image_url(picture: Picture) -> dict[str, Any]:
    url = f"data:{picture.mime_type};base64,{base64.b64encode(picture.content).decode('ascii')}"
    detail = {} if picture.detail == "auto" else {"detail": picture.detail}
    return {"type": "image_url", "image_url": {"url": url, **detail}}
