"""What callers may know of how this gallery is set up. Never a secret."""

from dataclasses import dataclass
from datetime import timedelta

from services.gallery.domain.media import FORMATS


@dataclass(frozen=True, slots=True)
class Environment:
    """As the contract's `GalleryEnvironment`."""

    storage_kind: str
    storage_auth: str
    image_container: str
    video_container: str
    max_upload_bytes: int
    max_image_pixels: int
    delete_retention: timedelta
    link_signing: str
    max_direct_upload_bytes: int

    @property
    def accepted_mime_types(self) -> tuple[str, ...]:
        """Everything that `media.sniff` knows."""
        return tuple(format.mime_type for format in FORMATS)
