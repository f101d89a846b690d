"""Why and when blobs are removed for good."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Cause(StrEnum):
    """Why an asset's blobs have to go."""

    PURGED = "purged"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Removal:
    """Blobs that have to go: an asset's, or (no cause) a folder's document."""

    id: str
    cause: Cause | None
    create_time: datetime

    def second_look(self, now: datetime, settle: timedelta) -> datetime | None:
        """When to look again for what was on its way to storage as it was decided; None: nothing can be any more.

        What an abandoned upload wrote is older than the sweep's limit already.
        """
        if self.cause is Cause.ABANDONED or now >= self.create_time + settle:
            return None
        return self.create_time + settle
