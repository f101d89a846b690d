"""What a caller asks for."""

from dataclasses import dataclass, fields
from typing import Any

from services.image.domain.inputs import EditInputs
from services.image.domain.steps import NO_STEPS, Steps
from services.models.image_requests import ImageRequest
from services.models.paid_calls import fingerprint
from services.models.rows import Operation

GENERATE, EDIT = "GenerateImages", "EditImages"
"""The scopes of request ids: that of the method, whichever RPC of it is called, the streaming one or the other."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the pictures go and what they are called there."""

    folder: str = ""
    display_name: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A request of `GenerateImages`, or with `inputs` of `EditImages`, or of either as a stream.

    `partial_images` are the previews that the reader of a stream wants.
    """

    image: ImageRequest
    placement: Placement = Placement()
    request_id: str = ""
    validate_only: bool = False
    inputs: EditInputs | None = None
    partial_images: int = 0
    steps: Steps = NO_STEPS

    @property
    def method(self) -> str:
        """The scope of the request's id."""
        return GENERATE if self.inputs is None else EDIT

    @property
    def operation(self) -> Operation:
        """What the model is asked to do."""
        return "generate" if self.inputs is None else "edit"

    def fingerprint(self) -> bytes:
        """What makes two requests the same: all that is asked for, as it was asked, before any default.

        How it is watched is no part of it: one who has lost a stream may ask without one.
        """
        inputs = self.inputs.identity() if self.inputs else {}
        return fingerprint(self.method, _given(self.image) | _given(self.placement) | inputs | self.steps.to_json())


def _given(part: ImageRequest | Placement) -> dict[str, Any]:
    """The fields that differ from their defaults, so that fields added later change no fingerprint."""
    values = {field.name: (getattr(part, field.name), field.default) for field in fields(part)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, (value, default) in values.items()
        if value != default
    }
