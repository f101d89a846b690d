"""What a caller asks for."""

from dataclasses import dataclass, fields
from typing import Any

from services.models.image_requests import ImageRequest
from services.models.paid_calls import fingerprint

GENERATE = "GenerateImages"
"""The scope of request ids: that of the method, whichever RPC of it is called."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the pictures go and what they are called there."""

    folder: str = ""
    display_name: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A request of `GenerateImages`."""

    image: ImageRequest
    placement: Placement = Placement()
    request_id: str = ""
    validate_only: bool = False

    def fingerprint(self) -> bytes:
        """What makes two requests the same: all that is asked for, as it was asked, before any default."""
        return fingerprint(GENERATE, _given(self.image) | _given(self.placement))


def _given(part: ImageRequest | Placement) -> dict[str, Any]:
    """The fields that differ from their defaults, so that fields added later change no fingerprint."""
    values = {field.name: (getattr(part, field.name), field.default) for field in fields(part)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, (value, default) in values.items()
        if value != default
    }
