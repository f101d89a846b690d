"""The process that decodes pictures which anybody may have sent; one request, then it ends.

It has no secret in its environment, a bound on its address space, and a clock that kills it. Standard input: a line of
JSON, then the pictures. Standard output: for each a line of JSON, and the bytes if there are any.
"""

import json
import resource
import signal
import sys
from typing import Any, BinaryIO

from PIL import Image

from services.models.helpers.flatten import Flattening, UnusablePicture, flatten


def main() -> None:
    """Serves one request."""
    # Ctrl-C goes to the whole group; the service decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = json.loads(sys.stdin.buffer.readline())
    resource.setrlimit(resource.RLIMIT_AS, (order["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Kills this process whatever the decoder is doing, also when nobody is left to wait for it.
    signal.setitimer(signal.ITIMER_REAL, order["seconds"])
    # Pillow itself refuses what the header does not tell of, such as frames larger than their canvas.
    Image.MAX_IMAGE_PIXELS = order["max_pixels"]
    wanted = Flattening(order["edge_px"], order["max_pixels"], tuple(order["formats"]))
    for size in order["sizes"]:
        answer, content = _answer(sys.stdin.buffer, size, wanted)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + content)
        sys.stdout.buffer.flush()


def _answer(source: BinaryIO, size: int, wanted: Flattening) -> tuple[dict[str, Any], bytes]:
    try:
        content, mime_type = flatten(source.read(size), wanted)
    except UnusablePicture as error:
        return {"refusal": str(error)}, b""
    except MemoryError:
        return {"memory": True}, b""
    return {"mime_type": mime_type, "size": len(content)}, content


if __name__ == "__main__":
    main()
