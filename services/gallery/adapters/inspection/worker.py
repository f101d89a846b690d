"""The process that decodes: takes open files over a socket (standard input), answers one request at a time.

It has no secret in its environment, bounds on its address space and on what it can write, clocks that kill it, and a
filter of system calls (`sandbox`). A request is JSON, with the file's descriptor attached, and behind it one to write
to for each variant that is to be made; the answer is a line of JSON.
"""

import array
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from services.gallery.adapters.inspection.budget import Budget
from services.gallery.adapters.inspection.errors import (
    BrokenFileError,
    LargePictureError,
    NoPictureError,
    TooManyPixelsError,
    TooMuchWorkError,
    UnknownFormatError,
)
from services.gallery.adapters.inspection.examine import examine, limit_decoder
from services.gallery.adapters.inspection.limits import Limits
from services.gallery.adapters.inspection.render import render
from services.gallery.adapters.inspection.sandbox import confine
from services.gallery.domain.variants import Variant

READY = b"ready\n"
REQUEST_BYTES = 4096
LOWEST = 19
RENDER_SECONDS = 2.0
"""For writing WebP, which takes far longer than reading what it is made from."""

_MAX_DESCRIPTORS = 1 + len(Variant)
_REFUSALS: dict[type[Exception], str] = {
    UnknownFormatError: "unknown",
    BrokenFileError: "broken",
    TooManyPixelsError: "pixels",
    LargePictureError: "large",
    TooMuchWorkError: "work",
    NoPictureError: "no-picture",
    MemoryError: "memory",
}


def main() -> None:
    """Serves until the other side closes."""
    # Ctrl-C goes to the whole group; the service decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What is too large to write is an error, and no reason to die.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as channel:
        _be_the_first_to_go()
        _give_way(int(sys.argv[2]))
        Image.init()
        channel.sendall(READY if confine(int(sys.argv[1])) else b"ready without a filter\n")
        while (received := _receive(channel)) is not None:
            request, (source, *targets) = received
            with os.fdopen(source, "rb") as file:
                answer = _answer(file, targets, request)
            for target in targets:
                os.close(target)
            channel.sendall(json.dumps(answer).encode() + b"\n")


def _receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    room = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i", [0]).itemsize)
    message, ancillary, _, _ = channel.recvmsg(REQUEST_BYTES, room)
    if not message:
        return None
    [(_, _, data)] = ancillary
    return json.loads(message), list(array.array("i", data))


def _answer(file: BinaryIO, targets: list[int], request: dict[str, Any]) -> dict[str, Any]:
    size = os.fstat(file.fileno()).st_size
    budget = Budget(size, most=request["seconds"], extra=RENDER_SECONDS if targets else 0)
    limits = Limits(request["max_pixels"], budget.search_seconds, request["large"])
    limit_decoder(limits)
    # Kill this process whatever the decoder is doing, also when nobody is left to wait for it.
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    budget.start()
    try:
        if targets:
            variants = [Variant(name) for name in request["variants"]]
            render(file, dict(zip(variants, targets, strict=True)), limits, budget.earn)
            return {"rendered": True}
        return {"facts": asdict(examine(file, limits, budget.earn))}
    except tuple(_REFUSALS) as error:
        return {"refusal": _REFUSALS[type(error)]}
    finally:
        budget.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)


def _be_the_first_to_go() -> None:
    """When memory runs out, the system ends this process rather than the service, a database, or another's."""
    with suppress(OSError):  # a system that has no such thing
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _give_way(niceness: int) -> None:
    """The lowest of all priorities becomes "while nobody else wants the processor", where the system has that."""
    if niceness >= LOWEST and hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    os.nice(niceness)


if __name__ == "__main__":
    main()
