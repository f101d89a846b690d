"""The pictures that an edit works on: what was sent, and what is kept of it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.models.image_requests import References

MAX_INLINE_BYTES = 20_000_000
"""The contract's limit of inline images in one request."""


class Role(StrEnum):
    """The part that a picture plays; the names are those of the gallery's relations."""

    EDITED_FROM = "EDITED_FROM"
    REFERENCE = "REFERENCE"
    MASK = "MASK"
    MARKUP = "MARKUP"


@dataclass(frozen=True, slots=True)
class Source:
    """A picture to work on: an asset of the caller's, or bytes with their SHA-256 in hexadecimal digits."""

    asset_id: str = ""
    content: bytes = field(default=b"", repr=False)
    sha256: str = ""

    @classmethod
    def inline(cls, content: bytes) -> "Source":
        """Bytes that came with the request. Digests them: large ones belong off the event loop."""
        return cls(content=content, sha256=hashlib.sha256(content).hexdigest())

    @property
    def identity(self) -> str:
        """What makes two sources the same. An asset's bytes never change, so its id will do."""
        return f"assets/{self.asset_id}" if self.asset_id else f"sha256:{self.sha256}"


@dataclass(frozen=True, slots=True)
class UsedInput:
    """What is kept of one picture: its part, and either the asset or the digest of inline bytes."""

    role: Role
    asset_id: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class EditInputs:
    """The pictures of an edit. The first of `images` is the one that mask and markup belong to."""

    images: tuple[Source, ...]
    mask: Source | None = None
    markup: Source | None = None

    def parts(self) -> Iterator[tuple[str, Role, Source]]:
        """Every picture, with the field that names it and the part it plays."""
        for index, source in enumerate(self.images):
            yield f"images[{index}]", Role.REFERENCE if index else Role.EDITED_FROM, source
        if self.mask is not None:
            yield "mask", Role.MASK, self.mask
        if self.markup is not None:
            yield "markup", Role.MARKUP, self.markup

    def asked(self) -> References:
        """What the registry has to say about."""
        return References(len(self.images), mask=self.mask is not None, markup=self.markup is not None)

    @property
    def inline_bytes(self) -> int:
        """Bytes of all inline pictures together."""
        return sum(len(source.content) for _, _, source in self.parts())

    def used(self) -> tuple[UsedInput, ...]:
        """What is written down of them."""
        return tuple(UsedInput(role, source.asset_id, source.sha256) for _, role, source in self.parts())

    def identity(self) -> dict[str, Any]:
        """Their share of a request's fingerprint."""
        one = {"images": [source.identity for source in self.images]}
        overlays = {"mask": self.mask, "markup": self.markup}
        return one | {name: source.identity for name, source in overlays.items() if source is not None}
