"""Requests and answers of the helpers: protocol buffers to domain and back; pure."""

import hashlib
from typing import Any

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.errors import InvalidArgument
from services.image.convert import to_cost, to_usage
from services.image.convert_text import MODES, refuse_nul
from services.image.domain.generations import ASSETS, PAID_CALLS
from services.image.domain.helping import AnalyzeRequest, EnhanceRequest, NameRequest, ProtectRequest
from services.image.helping import Answer


def enhance_request(message: pb.EnhanceImagePromptRequest) -> EnhanceRequest:
    """The request in domain terms.

    Raises:
        InvalidArgument: INVALID_FIELD for text that cannot be stored.
    """
    refuse_nul(message)
    return EnhanceRequest(message.prompt, message.model, message.request_id.lower())


def protect_request(message: pb.ProtectImagePromptRequest) -> ProtectRequest:
    """The request in domain terms; raises as `enhance_request`."""
    refuse_nul(message)
    mode = MODES.get(message.mode, "NEUTRALIZE")
    return ProtectRequest(message.prompt, mode, tuple(message.brands), message.model, message.request_id.lower())


def name_request(message: pb.SuggestImageFilenameRequest) -> NameRequest:
    """The request in domain terms; raises as `enhance_request`."""
    refuse_nul(message)
    return NameRequest(message.prompt, message.extension, message.model, message.request_id.lower())


def analyze_request(message: pb.AnalyzeImageRequest) -> AnalyzeRequest:
    """The request in domain terms. Digests inline bytes: it belongs off the event loop.

    Raises:
        InvalidArgument: INVALID_FIELD, also for an analysis that has no asset to be kept on.
    """
    refuse_nul(message)
    content = message.image.inline
    if message.save and not message.image.asset:
        raise InvalidArgument.field("save", "needs an asset: there is nothing to keep the analysis of inline bytes on")
    return AnalyzeRequest(
        asset_id=ASSETS.parse(message.image.asset, field="image.asset") if message.image.asset else "",
        content=content,
        sha256=hashlib.sha256(content).hexdigest() if content else "",
        instructions=message.instructions,
        model=message.model,
        save=message.save,
        request_id=message.request_id.lower(),
    )


def to_enhanced(answer: Answer) -> pb.EnhanceImagePromptResponse:
    """The response."""
    return pb.EnhanceImagePromptResponse(enhanced_prompt=answer.value["prompt"], **_account(answer))


def to_protected(answer: Answer) -> pb.ProtectImagePromptResponse:
    """The response."""
    value = answer.value
    return pb.ProtectImagePromptResponse(protected_prompt=value["prompt"], changed=value["changed"], **_account(answer))


def to_named(answer: Answer) -> pb.SuggestImageFilenameResponse:
    """The response."""
    return pb.SuggestImageFilenameResponse(filename=answer.value["filename"], **_account(answer))


def to_analyzed(answer: Answer) -> pb.AnalyzeImageResponse:
    """The response."""
    return pb.AnalyzeImageResponse(analysis=pb.ImageAnalysis(**answer.value), **_account(answer))


def _account(answer: Answer) -> dict[str, Any]:
    return {
        "usage": to_usage(answer.usage),
        "cost": to_cost(answer.cost),
        "model": answer.model,
        "paid_call": PAID_CALLS.format(answer.paid_call),
    }
