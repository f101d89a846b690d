"""The answers of the Images API, in the shape each dialect gives them, joined as bytes."""

import json
from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from emulator.dialects import Dialect
from emulator.image_params import ImageRequest
from emulator.studio import Drawn


def body(
    wanted: ImageRequest,
    dialect: Dialect,
    drawn: Sequence[Drawn],
    usage: Mapping[str, Any],
    request_id: str,
    urls: Sequence[str] = (),
) -> bytes:
    """A whole answer.

    Args:
        usage: what is charged; how much of it is told is up to the dialect.
        urls: addresses of the pictures, for an answer by address.
    """
    head = json.dumps(_head(wanted, dialect, len(drawn), usage, request_id)).encode()
    if urls:
        data = b",".join(json.dumps({"index": 0, "url": url}).encode() for url in urls)
    else:
        # Base64 needs no escaping: joined as bytes, megabytes of it cost no JSON encoding.
        beside = _beside(wanted, dialect)
        data = b",".join(b'{"b64_json":"%b"%b}' % (picture.b64, beside) for picture in drawn)
    return b'%b,"data":[%b]}' % (head[:-1], data)


def _head(
    wanted: ImageRequest, dialect: Dialect, pictures: int, usage: Mapping[str, Any], request_id: str
) -> dict[str, Any]:
    head: dict[str, Any] = {"created": int(time())}
    match dialect.errors:
        case "vllm":
            metrics = {"stage_durations": None, "peak_memory_mb": None}
            head |= {"output_format": wanted.format.name, "size": wanted.size, "cot_output": None, "metrics": metrics}
        case "sglang" | "localai":
            head |= {"id": request_id.removeprefix("req_")}
        case _:
            head |= facts(wanted)
    match dialect.usage:
        case "openai":
            head |= {name: value for name, value in usage.items() if name == "svg_usage"}
            head["usage"] = {name: value for name, value in usage.items() if name != "svg_usage"}
        case "chat_names":
            head["usage"] = {
                "prompt_tokens": usage["input_tokens"],
                "completion_tokens": usage["output_tokens"],
                "total_tokens": usage["total_tokens"],
                "prompt_tokens_details": None,
                "reasoning_tokens": 0,
                "image_count": pictures,
            }
        case "zero":
            head["usage"] = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
        case "none":
            pass
    return head


def _beside(wanted: ImageRequest, dialect: Dialect) -> bytes:
    """What stands beside a picture's base64: null fields, the prompt, or nothing."""
    match dialect.errors:
        case "vllm":
            return b',"url":null,"revised_prompt":null'
        case "sglang":
            prompt = json.dumps(wanted.prompt).encode()
            return b',"url":null,"revised_prompt":%b,"file_path":null,"resize":null' % prompt
        case "localai":
            return b',"index":0'
        case _:
            return b""


def facts(wanted: ImageRequest) -> dict[str, Any]:
    """What was drawn, as OpenAI tells it."""
    told = {
        "background": wanted.background,
        "output_format": wanted.format.name,
        "quality": wanted.quality,
        "size": wanted.size,
    }
    return told | ({"safety_identifier": wanted.safety_identifier} if wanted.safety_identifier else {})


def events(operation: str, wanted: ImageRequest, picture: Drawn, usage: Mapping[str, Any]) -> list[bytes]:
    """The server-sent events of one picture: its previews, coarse to fine, and the picture."""
    told = {"created_at": int(time()), **facts(wanted)}
    safety = {"safety_identifier": told.pop("safety_identifier")} if wanted.safety_identifier else {}
    previews = [
        _event(f"{operation}.partial_image", {**told, "partial_image_index": index}, b64)
        for index, b64 in enumerate(picture.partials)
    ]
    return [*previews, _event(f"{operation}.completed", {**told, **safety, "usage": usage}, picture.b64)]


def _event(name: str, told: Mapping[str, Any], b64: bytes) -> bytes:
    head = json.dumps({"type": name, **told}).encode()
    return b'event: %b\ndata: %b,"b64_json":"%b"}\n\n' % (name.encode(), head[:-1], b64)
