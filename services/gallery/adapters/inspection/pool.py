"""Inspection as the service sees it: hand over an open file, get facts or a typed refusal."""

from datetime import timedelta
from typing import Any

from services.common.errors import ServiceError
from services.gallery.adapters.inspection.fair_turns import FairTurns, Rank
from services.gallery.adapters.inspection.processes import (
    LARGE_AT_ONCE,
    Asker,
    Death,
    InspectionLimits,
    Processes,
    WorkerDiedError,
)
from services.gallery.domain import failures

__all__ = ["InspectionLimits", "Inspector"]

SERVICE_PROCESSES = 1


class Inspector:
    """Up to `processes` files of users at a time; further ones wait, and no user has two turns while others wait.

    Services have a process of their own: what was paid for waits behind nobody's uploads. A picture above 16 megapixels
    waits, whoever brings it, until the one before is done (`large`).
    """

    def __init__(self, limits: InspectionLimits, *, processes: int, large: FairTurns | None = None) -> None:
        large = large or FairTurns(LARGE_AT_ONCE)
        self._limits = limits
        self._users = Processes(limits, count=processes, large=large)
        self._services = Processes(limits, count=SERVICE_PROCESSES, large=large)

    async def inspect(self, descriptor: int, who: str = "", *, by_service: bool = False) -> dict[str, Any]:
        """The fields of `domain.assets.Media` that the file with this descriptor tells.

        Raises:
            InvalidArgument: UNSUPPORTED_MEDIA, IMAGE_TOO_LARGE: of the bytes themselves, or the work in them.
            Unavailable: time, memory or the process ran out before anything could be said of them.
        """
        try:
            if by_service:
                answer = await self._services.ask({}, [descriptor], Asker(who, Rank.SERVICE))
            else:
                answer = await self._users.ask({}, [descriptor], Asker(who))
        except WorkerDiedError as error:
            raise _death_of(error.death, self._limits) from error
        if "refusal" in answer:
            raise refusal_of(answer["refusal"], self._limits)
        facts: dict[str, Any] = answer["facts"]
        micros = facts.pop("duration_micros")
        return {**facts, "duration": None if micros is None else timedelta(microseconds=micros)}

    @property
    def process_ids(self) -> list[int]:
        """The processes of users' files that wait for one."""
        return self._users.idle

    async def close(self) -> None:
        """Ends the processes."""
        await self._users.close()
        await self._services.close()


def _death_of(death: Death, limits: InspectionLimits) -> ServiceError:
    match death:
        case Death.WORK:
            return refusal_of("work", limits)
        case Death.TIME:
            return failures.not_inspected("The file takes longer to decode than any file may.")
        case Death.UNKNOWN:
            return failures.not_inspected("The file ends the process that decodes it.")


def refusal_of(refusal: str, limits: InspectionLimits) -> ServiceError:
    """The error for what a process says of a file."""
    match refusal:
        case "unknown":
            return failures.unsupported_media("The bytes are no image or video of an accepted type.")
        case "pixels":
            return failures.image_too_large(limits.max_pixels)
        case "memory":
            return failures.not_inspected("The file needs too much memory to decode.")
        case "work":
            return failures.unsupported_media("The file takes far more work to decode than files of its size do.")
        case "no-picture":
            return failures.unsupported_media("The file has no video in it.")
        case _:
            return failures.unsupported_media("The file is broken: it cannot be decoded as what it begins like.")
