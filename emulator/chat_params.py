"""The parameters of chat completions: what is used, what is accepted without effect, and what is refused."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from emulator.dialects import Dialect
from emulator.errors import (
    ApiError,
    missing,
    not_emulated,
    out_of_bounds,
    unknown_parameter,
    unsupported,
    wrong_type,
    wrong_value,
)
from emulator.models import Model
from emulator.schema_answers import unfit
from emulator.surfaces import Surface

_USED = frozenset(
    {"model", "messages", "response_format", "max_completion_tokens", "max_tokens", "stream", "stream_options", "n"}
)
# Knobs of a real model: there is nothing here for them to turn.
_WITHOUT_EFFECT = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "seed", "stop", "metadata", "store"}
    | {"user", "safety_identifier", "reasoning_effort", "verbosity", "service_tier", "parallel_tool_calls"}
    | {"prompt_cache_key", "prompt_cache_retention"}
)
_NOT_EMULATED = frozenset(
    {"tools", "tool_choice", "functions", "function_call", "audio", "modalities", "prediction", "web_search_options"}
    | {"logprobs", "top_logprobs", "moderation", "prompt_cache_options"}
)
_ROLES = ("system", "developer", "user", "assistant", "tool")
_DETAILS = ("auto", "low", "high", "original")
_SCHEMA_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture in a message; `param` is where it stands."""

    url: str
    detail: str
    param: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its texts joined by line feeds, and its pictures."""

    role: str
    text: str
    images: tuple[ImagePart, ...]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that can be answered."""

    model: Model
    messages: tuple[Message, ...]
    mode: Literal["text", "json_object", "json_schema"]
    schema: Mapping[str, Any] | None
    max_tokens: int | None
    stream: bool
    include_usage: bool

    @property
    def text(self) -> str:
        """Every text of every message."""
        return "\n".join(message.text for message in self.messages)

    @property
    def images(self) -> list[ImagePart]:
        """Every picture of every message."""
        return [image for message in self.messages for image in message.images]


def parse(raw: Mapping[str, Any], surface: Surface) -> ChatRequest:
    """Check `raw`. Raises ApiError with the parameter named."""
    given = {name: value for name, value in raw.items() if value is not None}
    for name in given:
        if name in _NOT_EMULATED:
            raise not_emulated(name, f"'{name}'")
        if name not in _USED | _WITHOUT_EFFECT and surface.dialect.chat_unknown_refused:
            raise unknown_parameter(name)
    model = surface.chat_model(given.get("model"))
    if "messages" not in given:
        raise missing("messages")
    messages = _messages(given["messages"])
    mode, schema = _mode(given, surface.dialect)
    if mode == "json_object" and not any("json" in message.text.lower() for message in messages):
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )
        raise ApiError(400, message, param="messages")
    if _integer(given, "n", 1, 128) not in (None, 1):
        raise not_emulated("n", "More than one choice")
    stream = given.get("stream", False)
    if not isinstance(stream, bool):
        raise wrong_type("stream", "a boolean", stream)
    limits = [_limit(given, name, model, surface.dialect) for name in ("max_completion_tokens", "max_tokens")]
    return ChatRequest(
        model=model,
        messages=messages,
        mode=mode,
        schema=schema,
        max_tokens=next((limit for limit in limits if limit is not None), None),
        stream=stream,
        include_usage=_include_usage(given, stream=stream),
    )


def _mode(
    given: Mapping[str, Any], dialect: Dialect
) -> tuple[Literal["text", "json_object", "json_schema"], Mapping[str, Any] | None]:
    """The response format that has an effect: one that the server ignores is plain text."""
    mode, schema = _response_format(given.get("response_format", {"type": "text"}))
    honoured = {"text": "yes", "json_object": dialect.json_object, "json_schema": dialect.json_schema}[mode]
    if honoured == "refused":
        message = f"Invalid parameter: 'response_format' of type '{mode}' is not supported with this model."
        raise ApiError(400, message, param="response_format")
    return ("text", None) if honoured == "ignored" else (mode, schema)


def _limit(given: Mapping[str, Any], name: str, model: Model, dialect: Dialect) -> int | None:
    """A limit on tokens by one of its two names, if that name is understood."""
    honoured = dialect.max_tokens if name == "max_tokens" else dialect.max_completion_tokens
    if name == "max_tokens" and honoured == "by_model":
        honoured = "yes" if model.max_tokens else "refused"
    if name not in given or honoured == "ignored":
        return None
    if honoured == "refused":
        other = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
        message = f"Unsupported parameter: '{name}' is not supported with this model. Use '{other}' instead."
        raise unsupported(name, message)
    return _integer(given, name, 1, 1_000_000)


def _include_usage(given: Mapping[str, Any], *, stream: bool) -> bool:
    options = given.get("stream_options", {})
    if not isinstance(options, dict):
        raise wrong_type("stream_options", "an object", options)
    if options and not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise ApiError(400, message, param="stream_options")
    for name in options:
        if name not in ("include_usage", "include_obfuscation"):
            raise unknown_parameter(f"stream_options.{name}")
    return options.get("include_usage") is True


def _messages(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise wrong_type("messages", "an array", value)
    if not value:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        raise ApiError(400, message, param="messages", code="empty_array")
    return tuple(_message(each, f"messages[{index}]") for index, each in enumerate(value))


def _message(value: object, param: str) -> Message:
    if not isinstance(value, dict):
        raise wrong_type(param, "an object", value)
    role = value.get("role")
    if role not in _ROLES:
        raise wrong_value(f"{param}.role", role, _ROLES)
    content = value.get("content")
    if content is None and role == "assistant":
        content = ""
    if isinstance(content, str):
        return Message(role, content, ())
    if not isinstance(content, list):
        raise wrong_type(f"{param}.content", "a string or an array", content)
    texts, images = [], []
    for index, part in enumerate(content):
        read = _part(part, f"{param}.content[{index}]", role)
        if isinstance(read, str):
            texts.append(read)
        else:
            images.append(read)
    return Message(role, "\n".join(texts), tuple(images))


def _part(part: object, param: str, role: str) -> str | ImagePart:
    if not isinstance(part, dict):
        raise wrong_type(param, "an object", part)
    match part.get("type"):
        case "text" | "refusal" as kind:
            if not isinstance(part.get(kind), str):
                raise wrong_type(f"{param}.{kind}", "a string", part.get(kind))
            return str(part[kind])
        case "image_url" if role == "user":
            image = part.get("image_url")
            if not isinstance(image, dict) or not isinstance(image.get("url"), str):
                raise wrong_type(f"{param}.image_url", "an object with a url", image)
            detail = image.get("detail") or "auto"
            if detail not in _DETAILS:
                raise wrong_value(f"{param}.image_url.detail", detail, _DETAILS)
            return ImagePart(image["url"], detail, f"{param}.image_url.url")
        case "input_audio" | "file" | "video_url" as kind:
            raise not_emulated(f"{param}.type", f"Content of type '{kind}'")
        case kind:
            raise wrong_value(f"{param}.type", kind, ("text", "image_url") if role == "user" else ("text",))


def _response_format(value: object) -> tuple[Literal["text", "json_object", "json_schema"], Mapping[str, Any] | None]:
    if not isinstance(value, dict):
        raise wrong_type("response_format", "an object", value)
    match value.get("type"):
        case "text":
            return "text", None
        case "json_object":
            return "json_object", None
        case "json_schema":
            return "json_schema", _schema(value.get("json_schema"))
        case kind:
            raise wrong_value("response_format.type", kind, ("text", "json_object", "json_schema"))


def _schema(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise missing("response_format.json_schema")
    name, schema = value.get("name"), value.get("schema")
    if not isinstance(name, str) or not _SCHEMA_NAME.fullmatch(name):
        raise wrong_value("response_format.json_schema.name", name, "Expected 1 to 64 letters, digits, '_' or '-'.")
    if not isinstance(schema, dict):
        raise missing("response_format.json_schema.schema")
    if value.get("strict") is True:
        _check_strict(schema, schema.get("type"))
    return schema


def _check_strict(schema: object, root_type: object = "object") -> None:
    """Strict mode wants the root to be an object, every object closed, and every property required."""
    if root_type != "object":
        raise unfit("the root of a strict schema must be of type 'object'")
    if isinstance(schema, list):
        for part in schema:
            _check_strict(part)
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        if schema.get("additionalProperties") is not False:
            raise unfit("'additionalProperties' is required to be supplied and to be false")
        left_out = set(properties or {}) - set(schema.get("required") or [])
        if left_out:
            raise unfit(f"'required' must include every key in properties. Missing: {json.dumps(sorted(left_out))}")
    for key, part in schema.items():
        if key in ("properties", "$defs", "definitions") and isinstance(part, dict):
            _check_strict(list(part.values()))
        elif key in ("items", "anyOf", "oneOf", "allOf", "prefixItems"):
            _check_strict(part)


def _integer(given: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an integer", value)
    if not least <= value <= most:
        raise out_of_bounds(name, value, least, most)
    return value
