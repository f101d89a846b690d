"""How much of the processor a file may use: in proportion to its bytes and to its pixels.

The service's own limit in seconds has to let pass the largest picture on the busiest machine, and a hostile file of a
few kilobytes would have all of it. Processor time does not depend on what else runs, and is earned: an honest file of
1 MB has 0.4 s, one of 100 megapixels 6 s. They take less than a third of it.
"""

import signal
from collections.abc import Callable

SECONDS = 0.3
SECONDS_PER_BYTE = 100e-9
SECONDS_PER_PIXEL = 60e-9
"""AVIF, the slowest, takes 36 ns for a picture of noise."""

SECONDS_PER_VIDEO_PIXEL = 20e-9
"""Of a packet that is decoded; 8K in HEVC of 10 bits takes 5 ns. Noise takes more, and has the bytes for it."""

SEARCH_SECONDS = 0.1
SEARCH_SECONDS_PER_BYTE = 60e-9
"""For looking through the frames of an animation, of the above."""

Earn = Callable[[float], None]
"""Told the seconds of the processor that the next step of decoding is worth, before it is made."""


def no_budget(seconds: float) -> None:
    """Where nothing is counted."""


class Budget:
    """Ends this process by SIGPROF once it has used what its file has earned."""

    def __init__(self, size_bytes: int, *, most: float, extra: float = 0) -> None:
        self._most = most
        self._earned = min(most, SECONDS + extra + size_bytes * SECONDS_PER_BYTE)
        self.search_seconds = min(most / 2, SEARCH_SECONDS + size_bytes * SEARCH_SECONDS_PER_BYTE)

    def start(self) -> None:
        """The clock begins to run."""
        signal.setitimer(signal.ITIMER_PROF, self._earned)

    def earn(self, seconds: float) -> None:
        """For what is decoded next: a picture whose header is read, or one packet of a video."""
        left, _ = signal.getitimer(signal.ITIMER_PROF)
        added = min(seconds, self._most - self._earned)
        self._earned += added
        signal.setitimer(signal.ITIMER_PROF, left + added)

    def stop(self) -> None:
        """The answer is there."""
        signal.setitimer(signal.ITIMER_PROF, 0)
