"""Suggesting a file name for what a prompt describes."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from services.models.helpers.enhance import Medium
from services.models.helpers.names import safe_name
from services.models.helpers.wording import MATERIAL, THINKING_TOKENS, TOLERANT, clean
from services.models.structured import Task
from services.models.text_requests import Message, TextRequest

# What a picture shows is said early: a name of a few words needs no more of a long prompt.
_READ_CHARS = 4000

_INSTRUCTIONS = f"""\
You name the files of images and videos. The user's message is the prompt that one was made from. Give a name of two \
to six words that says what is to be seen and tells it from others: the subject first, then what is special about it. \
Use the language and script of the prompt, lower case where the language has it but for proper names, and hyphens \
between words. No extension, no date, no number, no path, no word such as image, picture, video or file.
{MATERIAL}
Put the name into "filename"."""


class Named(BaseModel):
    """The answer."""

    model_config = TOLERANT

    filename: Annotated[str, AfterValidator(clean), Field(min_length=1)]


def task(prompt: str, *, extension: str = "", medium: Medium = "image", model: str = "") -> Task[Named, str]:
    """Asks for a name; the value is safe on every system and ends with the extension.

    Whether it is taken only the caller knows: `names.unique_name`.
    """
    messages = (Message("system", (_INSTRUCTIONS,)), Message("user", (prompt[:_READ_CHARS],)))
    request = TextRequest(messages, max_tokens=THINKING_TOKENS, model=model)
    return Task(request, Named, lambda answer: safe_name(answer.filename, extension, fallback=medium))
