"""Derivatives from processes of their own, apart from those that uploads wait for."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from services.gallery.adapters.inspection.fair_turns import FairTurns, Rank
from services.gallery.adapters.inspection.processes import (
    LARGE_AT_ONCE,
    Asker,
    Death,
    InspectionLimits,
    Processes,
    WorkerDiedError,
)
from services.gallery.adapters.spool import memory_file
from services.gallery.domain.variants import MAX_DERIVATIVE_BYTES, Variant

_ASKER = Asker(rank=Rank.BACKGROUND)

BACKGROUND_PATIENCE = 4
"""How many times as long as for a request a rendering may take that runs when nobody else does."""

OUT_OF_TIME = "time"
LOWEST = 19
"""Of the system's priorities; a worker of this one is idle, where the system knows that."""


class NotRenderableError(Exception):
    """No derivative can be made of these bytes."""


class NotRenderedError(Exception):
    """Time, memory or the process ran out; another time it may work."""


class Renderer:
    """Up to `processes` files at a time; further ones wait for their turn. `background`: only while others rest."""

    def __init__(
        self, limits: InspectionLimits, *, processes: int, large: FairTurns | None = None, background: bool = False
    ) -> None:
        if background:
            limits = replace(limits, seconds=BACKGROUND_PATIENCE * limits.seconds)
        large = large or FairTurns(LARGE_AT_ONCE)
        self._processes = Processes(limits, count=processes, large=large, niceness=LOWEST if background else 0)

    async def render(self, descriptor: int, variants: Sequence[Variant]) -> dict[Variant, bytes]:
        """WebP for each variant, from one look at the file.

        Raises:
            NotRenderableError, NotRenderedError.
        """
        with ExitStack() as stack:
            # Not yet there when the process is asked: what it makes comes back in files without a name.
            targets = [stack.enter_context(memory_file()) for _ in variants]
            descriptors = [descriptor, *(target.fileno() for target in targets)]
            try:
                answer = await self._processes.ask({"variants": list(variants)}, descriptors, _ASKER)
            except WorkerDiedError as error:
                if error.death is Death.WORK:
                    raise NotRenderableError("work") from error
                raise NotRenderedError(OUT_OF_TIME if error.death is Death.TIME else "process") from error
            refusal = answer.get("refusal")
            if refusal == "memory":
                raise NotRenderedError(refusal)
            if refusal is not None:
                raise NotRenderableError(refusal)
            made = [os.pread(target.fileno(), MAX_DERIVATIVE_BYTES, 0) for target in targets]
        # Said by a process that a file may have taken over: what cannot be a WebP is not stored as one.
        if not all(data.startswith(b"RIFF") and data[8:12] == b"WEBP" for data in made):
            raise NotRenderableError("no WebP")
        return dict(zip(variants, made, strict=True))

    async def close(self) -> None:
        """Ends the processes."""
        await self._processes.close()
