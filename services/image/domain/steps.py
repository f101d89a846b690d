"""The steps of a generation that ask a language model: what is asked for, and what they made of it."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from services.common.errors import FailedPrecondition, ServiceError
from services.models.helpers.protect import Mode


class RevisionStep(StrEnum):
    """What was done to a prompt; the names are the gallery's."""

    ENHANCED = "ENHANCED"
    BRAND_PROTECTED = "BRAND_PROTECTED"


@dataclass(frozen=True, slots=True)
class Protection:
    """What is to be done about brands."""

    mode: Mode
    brands: tuple[str, ...] = ()
    allow_failure: bool = False


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps that are asked for."""

    enhance_prompt: bool = False
    brand_protection: Protection | None = None
    suggest_display_name: bool = False
    analyze: bool = False
    analysis_instructions: str = ""

    @property
    def before(self) -> bool:
        """Whether anything is to be done before a picture is asked for."""
        return self.enhance_prompt or self.brand_protection is not None or self.suggest_display_name

    def to_json(self) -> dict[str, Any]:
        """For a JSON column and for a request's fingerprint: what is asked for, without defaults."""
        given = {name: value for name, value in asdict(self).items() if value}
        if self.brand_protection is not None:
            given["brand_protection"]["brands"] = list(self.brand_protection.brands)
        return given

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Steps":
        """What `to_json` wrote."""
        given = dict(data)
        if protection := given.get("brand_protection"):
            given["brand_protection"] = Protection(**(protection | {"brands": tuple(protection["brands"])}))
        return cls(**given)


NO_STEPS = Steps()


@dataclass(frozen=True, slots=True)
class Revision:
    """A rewriting of the prompt before it was used: what it was before, and which model rewrote it."""

    step: RevisionStep
    previous_prompt: str
    model: str

    def to_json(self) -> dict[str, str]:
        """For a JSON column."""
        return {"step": self.step, "previousPrompt": self.previous_prompt, "model": self.model}

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> "Revision":
        """What `to_json` wrote."""
        return cls(RevisionStep(data["step"]), data["previousPrompt"], data["model"])


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the steps before the picture came to. `notes` are what those that failed and were optional have to say."""

    prompt: str
    revisions: tuple[Revision, ...] = ()
    suggested_name: str = ""
    notes: tuple[ServiceError, ...] = ()


def intent_id(*parts: str) -> str:
    """The request id of a step: a UUID that follows from what it is for, so that whoever repeats it finds it."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(("contentlab.image", *parts))))


def protection_failed(cause: ServiceError) -> ServiceError:
    """Without protection no picture is asked for, and none was paid."""
    return FailedPrecondition(
        "BRAND_PROTECTION_FAILED",
        f"Brand protection failed, so no image was made: {cause.message}",
        retry_safe=cause.retry_safe,
        retry_after=cause.retry_after,
        metadata={"cause": cause.reason},
    )


def step_failed(step: str, cause: ServiceError) -> ServiceError:
    """What an optional step that failed has to say; the pictures are made without it."""
    cause.metadata.setdefault("step", step)
    return cause
