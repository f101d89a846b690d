"""Inspection as the service sees it: hand over an open file, get facts or a typed refusal."""

from datetime import timedelta
from typing import Any

from services.common.errors import ServiceError
from services.gallery.adapters.inspection.processes import InspectionLimits, Processes, WorkerDiedError
from services.gallery.domain import failures

__all__ = ["InspectionLimits", "Inspector"]


class Inspector:
    """Up to `processes` files at a time; further ones wait for their turn."""

    def __init__(self, limits: InspectionLimits, *, processes: int) -> None:
        self._processes = Processes(limits, count=processes)

    async def inspect(self, descriptor: int) -> dict[str, Any]:
        """The fields of `domain.assets.Media` that the file with this descriptor tells.

        Raises:
            InvalidArgument: UNSUPPORTED_MEDIA, IMAGE_TOO_LARGE: of the bytes themselves.
            Unavailable: time, memory or the process ran out before anything could be said of them.
        """
        try:
            answer = await self._processes.ask({}, [descriptor])
        except WorkerDiedError as error:
            raise failures.not_inspected(
                "The file takes longer to decode than files of its size may."
                if error.timed_out
                else "The file ends the process that decodes it."
            ) from error
        if "refusal" in answer:
            raise refusal_of(answer["refusal"], self._processes.limits)
        facts: dict[str, Any] = answer["facts"]
        micros = facts.pop("duration_micros")
        return {**facts, "duration": None if micros is None else timedelta(microseconds=micros)}

    async def close(self) -> None:
        """Ends the processes."""
        await self._processes.close()


def refusal_of(refusal: str, limits: InspectionLimits) -> ServiceError:
    """The error for what a process says of a file."""
    match refusal:
        case "unknown":
            return failures.unsupported_media("The bytes are no image or video of an accepted type.")
        case "pixels":
            return failures.image_too_large(limits.max_pixels)
        case "memory":
            return failures.not_inspected("The file needs too much memory to decode.")
        case "no-picture":
            return failures.unsupported_media("The file has no video in it.")
        case _:
            return failures.unsupported_media("The file is broken: it cannot be decoded as what it begins like.")
