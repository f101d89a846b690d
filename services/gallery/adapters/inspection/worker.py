"""The inspection process: takes open files over a socket (standard input), answers with facts, one at a time.

It has no network, no secret in its environment, a bound on its address space, and a clock that kills it. A request is
the limits as JSON with the file's descriptor attached; the answer is a line of JSON.
"""

import array
import json
import os
import resource
import signal
import socket
import sys
from dataclasses import asdict
from typing import Any

from services.gallery.adapters.inspection.examine import (
    BrokenFileError,
    Limits,
    TooManyPixelsError,
    UnknownFormatError,
    examine,
    limit_decoder,
)

REQUEST_BYTES = 4096


def main() -> None:
    """Serves until the other side closes."""
    # Ctrl-C goes to the whole group; the service decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as channel:
        _limit_memory(int(sys.argv[1]))
        channel.sendall(b"ready\n")
        while (received := _receive(channel)) is not None:
            request, descriptor = received
            with os.fdopen(descriptor, "rb") as file:
                answer = _answer(file, request)
            channel.sendall(json.dumps(answer).encode() + b"\n")


def _receive(channel: socket.socket) -> tuple[dict[str, Any], int] | None:
    room = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
    message, ancillary, _, _ = channel.recvmsg(REQUEST_BYTES, room)
    if not message:
        return None
    [(_, _, data)] = ancillary
    return json.loads(message), array.array("i", data)[0]


def _answer(file: Any, request: dict[str, Any]) -> dict[str, Any]:
    limits = Limits(request["max_pixels"], request["seconds"] / 2)
    limit_decoder(limits)
    # Kills this process whatever the decoder is doing, also when nobody is left to wait for it.
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    try:
        return {"facts": asdict(examine(file, limits))}
    except UnknownFormatError:
        return {"refusal": "unknown"}
    except BrokenFileError:
        return {"refusal": "broken"}
    except TooManyPixelsError:
        return {"refusal": "pixels"}
    except MemoryError:
        return {"refusal": "memory"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit_memory(address_space: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
