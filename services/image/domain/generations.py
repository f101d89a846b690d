"""A generation and its pictures, and the rules for their states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from services.common.errors import Billed, Internal, ServiceError, Unavailable
from services.common.names import ResourceName, derived_id
from services.image.domain.inputs import UsedInput
from services.image.domain.requests import Placement
from services.image.domain.steps import NO_STEPS, Revision, RevisionStep, Steps
from services.models.money import Cost
from services.models.paid_calls import PaidCall
from services.models.usage import Usage

GENERATIONS = ResourceName("imageGenerations/{image_generation}")
PAID_CALLS = ResourceName("paidCalls/{paid_call}")
ASSETS = ResourceName("assets/{asset}")
MAIN_OPERATIONS = ("generate", "edit")
"""The paid calls that make a generation's pictures; its others are steps around them."""


class GenerationState(StrEnum):
    """Where a generation stands; the names are the contract's."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STORING = "STORING"
    SUCCEEDED = "SUCCEEDED"
    PARTIALLY_SUCCEEDED = "PARTIALLY_SUCCEEDED"
    FAILED = "FAILED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"


class PictureState(StrEnum):
    """Where one picture stands; the names are the contract's."""

    STORED = "STORED"
    SPOOLED = "SPOOLED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """What is written down before anything is paid; the fields after `steps` are what the first steps made of it."""

    id: str
    owner: str
    request_id: str
    operation: str
    prompt: str
    model: str
    parameters: Mapping[str, str]
    placement: Placement
    inputs: tuple[UsedInput, ...] = ()
    steps: Steps = NO_STEPS
    final_prompt: str = ""
    revisions: tuple[Revision, ...] = ()
    suggested_name: str = ""
    steps_before: tuple[PaidCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What the gallery read from a picture's bytes."""

    mime_type: str
    width_px: int | None = None
    height_px: int | None = None
    has_transparency: bool | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a generation. `usage` and `cost` are its shares of the whole."""

    index: int
    state: PictureState
    asset_id: str = ""
    sha256: str = ""
    size_bytes: int = 0
    facts: Facts | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    error: ServiceError | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation as it stands. `calls` are its paid steps, `usage` and `cost` those of all of them together.

    `notes` are what optional steps that failed have to say.
    """

    id: str
    owner: str
    request_id: str
    operation: str
    state: GenerationState
    prompt: str
    final_prompt: str
    model: str
    parameters: Mapping[str, str]
    placement: Placement
    usage: Usage | None
    cost: Cost | None
    error: ServiceError | None
    create_time: datetime
    update_time: datetime
    end_time: datetime | None
    pictures: Sequence[Picture] = ()
    calls: Sequence[PaidCall] = ()
    inputs: tuple[UsedInput, ...] = ()
    steps: Steps = NO_STEPS
    revisions: tuple[Revision, ...] = ()
    suggested_name: str = ""
    notes: tuple[ServiceError, ...] = ()

    @property
    def name(self) -> str:
        """Resource name."""
        return GENERATIONS.format(self.id)


def shown_prompt(generation: Generation) -> str:
    """The prompt as people may see it in names: as it was asked, unless brands had to go."""
    protected = any(one.step is RevisionStep.BRAND_PROTECTED for one in generation.revisions)
    return generation.final_prompt if protected else generation.prompt


def asset_id_of(call: PaidCall, index: int) -> str:
    """Id of the asset that a picture becomes: the same at every attempt, so that a repeated upload finds the first."""
    return derived_id("contentlab.image", call.id, index)


def state_of(pictures: Sequence[PictureState]) -> GenerationState:
    """The state of a paid generation from those of its pictures."""
    if PictureState.SPOOLED in pictures:
        return GenerationState.STORING
    if PictureState.STORED not in pictures:
        return GenerationState.FAILED
    return GenerationState.PARTIALLY_SUCCEEDED if PictureState.FAILED in pictures else GenerationState.SUCCEEDED


def missing_picture() -> ServiceError:
    """The provider was asked for more pictures than it sent."""
    return Internal("PROVIDER_BAD_RESPONSE", "The model provider sent fewer images than asked for.", billed=Billed.YES)


def broken_picture(problem: str) -> ServiceError:
    """The provider sent something in a picture's place; `problem` is written by us."""
    return Internal("PROVIDER_BAD_RESPONSE", f"The model provider's answer is no image: {problem}.", billed=Billed.YES)


def refused_picture(reason: str) -> ServiceError:
    """The gallery did not take the picture for as long as it was asked; `reason` is the gallery's."""
    return Unavailable(
        "STORAGE_FAILED",
        f"The gallery does not take the finished image ({reason}).",
        billed=Billed.YES,
        metadata={"galleryReason": reason},
    )


def placed_elsewhere(reason: str) -> ServiceError:
    """The pictures are safe, but not where they were asked to be; `reason` is the gallery's."""
    return Unavailable(
        "STORAGE_FAILED",
        f"The gallery refused the folder, tags or display name ({reason}); the images are stored without them.",
        billed=Billed.YES,
        metadata={"galleryReason": reason},
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of handing a picture to the gallery for good: its facts, or why it is refused.

    `note` says what had to be left out to store it.
    """

    index: int
    facts: Facts | None = None
    error: ServiceError | None = None
    note: ServiceError | None = None

    def of(self, picture: Picture) -> Picture:
        """The picture, now that this came of it."""
        state = PictureState.FAILED if self.error else PictureState.STORED
        return replace(picture, state=state, facts=self.facts, error=self.error)


@dataclass(frozen=True, slots=True)
class Later:
    """Not this time: the next attempt at the picture is due in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Spooled:
    """A picture that waits in the spool, and for how long it has."""

    generation_id: str
    index: int
    attempts: int
    waited: timedelta
