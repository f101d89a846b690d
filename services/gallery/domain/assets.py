"""An asset and what is known of it, as plain data."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class MediaType(StrEnum):
    """Image or video: decides the container too."""

    IMAGE = "image"
    VIDEO = "video"


class Relation(StrEnum):
    """The part that a parent played in the making."""

    EDITED_FROM = "edited_from"
    REFERENCE = "reference"
    MASK = "mask"
    MARKUP = "markup"
    REMIX_OF = "remix_of"
    EXTENSION_OF = "extension_of"


class CostSource(StrEnum):
    """Where an amount of money comes from."""

    COMPUTED = "computed"
    PROVIDER_REPORTED = "provider_reported"
    ESTIMATED = "estimated"
    UNPRICED = "unpriced"


class PromptStep(StrEnum):
    """What was done to a prompt before it was used."""

    ENHANCED = "enhanced"
    BRAND_PROTECTED = "brand_protected"


@dataclass(frozen=True, slots=True)
class PromptRevision:
    """One rewriting of the prompt."""

    step: PromptStep | None
    previous_prompt: str
    model: str


@dataclass(frozen=True, slots=True)
class Parent:
    """An asset that another one was made from; it may since have been purged."""

    asset_id: str
    relation: Relation


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider said it used: tokens, and playing time for videos."""

    input_tokens: int = 0
    output_tokens: int = 0
    input_text_tokens: int = 0
    input_image_tokens: int = 0
    output_text_tokens: int = 0
    output_image_tokens: int = 0
    video_duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Money in millionths of a US dollar; None when there is no price, which is not zero."""

    source: CostSource | None
    amount_micro_usd: int | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a model saw in an asset."""

    description: str = ""
    products: str = ""
    tags: tuple[str, ...] = ()
    feedback: str = ""
    model: str = ""
    instructions: str = ""
    analyze_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an asset comes from; empty for what a user uploaded. `origin` is a resource name of another service."""

    prompt: str = ""
    prompt_revisions: tuple[PromptRevision, ...] = ()
    model: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    parents: tuple[Parent, ...] = ()
    usage: Usage | None = None
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """What the bytes themselves say. None: not known, or not looked at."""

    media_type: MediaType
    mime_type: str
    size_bytes: int
    sha256: str
    width_px: int | None = None
    height_px: int | None = None
    duration: timedelta | None = None
    has_transparency: bool | None = None
    has_content_credentials: bool | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder an asset is in: a stable id and its present path."""

    id: str
    path: str


@dataclass(frozen=True, slots=True)
class Asset:
    """One stored image or video.

    `revision` starts at 1 and grows with every change. Times are UTC, the database's, in microseconds. `annotations`
    are the request ids of the newest annotations, each with a digest of its content behind a colon (older entries have
    none). `variants` are the derivatives that are stored (`domain.variants`),
    and no part of the revision.
    """

    id: str
    owner: str
    display_name: str
    media: Media
    create_time: datetime
    update_time: datetime
    folder: Folder | None = None
    provenance: Provenance = field(default_factory=Provenance)
    analysis: Analysis | None = None
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    favorite: bool = False
    revision: int = 1
    delete_time: datetime | None = None
    purge_time: datetime | None = None
    annotations: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The resource name."""
        return f"assets/{self.id}"

    @property
    def etag(self) -> str:
        """Opaque; another one after every change, also when a revision comes again because the index was restored."""
        return hashlib.sha256(f"{self.id}:{self.revision}:{self.update_time.timestamp()}".encode()).hexdigest()[:16]
