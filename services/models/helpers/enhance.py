"""Making a prompt richer, for a model of images or of videos."""

from typing import Literal

from pydantic import BaseModel

from services.models.helpers.wording import MATERIAL, TOLERANT, Prompt, tokens_for
from services.models.structured import Task
from services.models.text_requests import Message, TextRequest

Medium = Literal["image", "video"]

_COMMON = f"""\
Keep every wish of the original: subjects, numbers, proper names, quoted words, exclusions and the mood it has. Add \
only what it leaves open, and nothing that contradicts it. Say what there is to see rather than how to feel about it. \
Write in the language of the original, as one paragraph without headings or lists. Longer originals may stay as long \
as they are.
{MATERIAL}
Put the new prompt into "prompt", and nothing else: no remark, no alternative, no quotation marks around it."""

_INSTRUCTIONS: dict[Medium, str] = {
    "image": f"""\
You turn a short prompt into one that a text-to-image model can draw well. The user's message is the prompt. Work out \
the main subject with what is characteristic of it, its surroundings, composition and point of view, light, colours, \
materials, and a style that suits the subject. Aim at 60 to 150 words.
{_COMMON}""",
    "video": f"""\
You turn a short prompt into one that a text-to-video model can film well. The user's message is the prompt. Describe \
one continuous scene: who or what is seen, what happens from its beginning to its end, how the camera is placed and \
moves, the light, the surroundings and the pace. One action that fits into a few seconds; nothing that needs a cut. \
Aim at 60 to 120 words.
{_COMMON}""",
}


class Enhanced(BaseModel):
    """The answer."""

    model_config = TOLERANT

    prompt: Prompt


def task(prompt: str, *, medium: Medium = "image", model: str = "") -> Task[Enhanced, str]:
    """Asks for a richer prompt; the value is the prompt."""
    messages = (Message("system", (_INSTRUCTIONS[medium],)), Message("user", (prompt,)))
    request = TextRequest(messages, max_tokens=tokens_for(prompt), model=model)
    return Task(request, Enhanced, lambda answer: answer.prompt)
