"""Language models that answer by script, and calls of the helpers."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.image.v1 import image_service_pb2 as pb
from tests.image.galleries import ServedGallery
from tests.image.harness import Service
from tests.support.media import png
from tests.support.openai_server import Behaviour, Exchange, Received, draws, writes

SEEN: dict[str, Any] = {
    "description": "A harbour at dusk.",
    "products": "none",
    "tags": ["harbour", "dusk"],
    "feedback": "Crop it.",
}
CHAT_COST = 20
"""Micro-USD of one scripted answer: 100 tokens in and 20 out of gpt-6-luna."""


def tells(**fields: Any) -> Behaviour:
    """An answer of a language model."""
    return writes(json.dumps(fields))


def task_of(received: Received) -> str:
    """Which step a call at the provider is for."""
    if not received.path.endswith("/chat/completions"):
        return "generate"
    said = received.body["messages"][0]["content"]
    text = said if isinstance(said, str) else said[0]["text"]
    for words, step in _STEPS.items():
        if text.startswith(words):
            return step
    raise AssertionError(text)


_STEPS = {
    "You turn": "enhance",
    "You take brands": "protect",
    "You name": "suggest_filename",
    "You look": "analyze",
}


def by_step(**behaviours: Behaviour) -> Behaviour:
    """Each step is answered as is said here; those not named go well."""
    usual: Mapping[str, Behaviour] = {
        "enhance": tells(prompt="a rich harbour with a Nike sign"),
        "protect": tells(prompt="a rich harbour with a sign", brands=[{"brand": "Nike", "replacement": "sign"}]),
        "suggest_filename": tells(filename="rich-harbour"),
        "analyze": tells(**SEEN),
        "generate": draws(),
    }

    async def behave(exchange: Exchange) -> web.StreamResponse:
        step = task_of(exchange.received)
        return await (behaviours.get(step) or usual[step])(exchange)

    return behave


def steps_of(received: list[Received]) -> list[str]:
    """The steps in the order in which they came."""
    return [task_of(one) for one in received]


async def stored_picture(service: Service, gallery: ServedGallery, name: str = "") -> gallery_pb.Asset:
    """An asset of the caller's."""
    generation = await service.generate(display_name=name)
    return await gallery.asset(generation.assets[0])


async def enhanced(service: Service, prompt: str = "a harbour", **fields: Any) -> pb.EnhanceImagePromptResponse:
    """One call of EnhanceImagePrompt."""
    request = pb.EnhanceImagePromptRequest(prompt=prompt, **fields)
    answer: pb.EnhanceImagePromptResponse = await service.stub.EnhanceImagePrompt(request, timeout=30)
    return answer


async def protected(service: Service, prompt: str, **fields: Any) -> pb.ProtectImagePromptResponse:
    """One call of ProtectImagePrompt."""
    request = pb.ProtectImagePromptRequest(prompt=prompt, **fields)
    answer: pb.ProtectImagePromptResponse = await service.stub.ProtectImagePrompt(request, timeout=30)
    return answer


async def named(service: Service, prompt: str = "a harbour", **fields: Any) -> pb.SuggestImageFilenameResponse:
    """One call of SuggestImageFilename."""
    request = pb.SuggestImageFilenameRequest(prompt=prompt, **fields)
    answer: pb.SuggestImageFilenameResponse = await service.stub.SuggestImageFilename(request, timeout=30)
    return answer


async def analyzed(service: Service, **fields: Any) -> pb.AnalyzeImageResponse:
    """One call of AnalyzeImage: of inline bytes, unless an asset is named."""
    asset = fields.pop("asset", "")
    image = pb.ImageInput(asset=asset) if asset else pb.ImageInput(inline=fields.pop("inline", png(64, 48)))
    request = pb.AnalyzeImageRequest(image=image, **fields)
    answer: pb.AnalyzeImageResponse = await service.stub.AnalyzeImage(request, timeout=60)
    return answer


async def paid_call(service: Service, name: str) -> pb.PaidCall:
    """One paid call as it stands."""
    call: pb.PaidCall = await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=name), timeout=10)
    return call
