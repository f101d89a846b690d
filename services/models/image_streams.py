"""Images that come as a stream of events: previews, and each image when it is finished."""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from openai import AsyncAPIResponse

from services.common.errors import Billed, ServiceError
from services.models.failures import CallFailed, bad_response, content_rejected, is_content_rejection
from services.models.image_bytes import Image, image_of


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture of one that is not finished. `index` is the image, `partial_index` the number of its preview."""

    index: int
    partial_index: int
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Completed:
    """A finished image, or what is wrong with it, and what the provider says it used."""

    image: Image
    usage: object
    svg_usage: object


@dataclass(frozen=True, slots=True)
class Problem:
    """The provider says in the middle of its answer that there is none, or wrote what cannot be read."""

    error: Mapping[str, Any] | None


OnPreview = Callable[[Preview], None]
Event = Completed | Problem | tuple[int, bytes] | None
InThread = Callable[[Callable[[bytes], Event], bytes], Awaitable[Event]]


def unseen(_: Preview) -> None:
    """Nobody looks at previews."""


class Lines:
    """Server-sent events in bytes that come in pieces (WHATWG HTML, 9.2.6): their data, comments and names left out."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of every event that ends in this piece."""
        self._rest += piece
        start = 0
        while (end := self._rest.find(b"\n", max(start, self._searched))) >= 0:
            line = bytes(self._rest[start:end]).removesuffix(b"\r")
            start = end + 1
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data.clear()
        del self._rest[:start]
        # What has been looked at is not looked at again: one line may hold megabytes.
        self._searched = len(self._rest)


class ImageStream:
    """The answer to one streaming call, as far as it has come.

    `whole` is set instead when the server did not stream after all. With `broken` nobody knows what else was made.
    """

    def __init__(self, *, wanted: int, max_bytes: int, on_preview: OnPreview, in_thread: InThread) -> None:
        self._wanted = wanted
        self._max_bytes = max_bytes
        self._on_preview = on_preview
        self._in_thread = in_thread
        self.completed: list[Completed] = []
        self.whole: bytearray | None = None
        self.request_id = ""
        self.broken = False

    async def read(self, response: AsyncAPIResponse[Any]) -> None:
        """Reads until every image is there, or to the end: the last image may come before the last preview.

        Raises:
            CallFailed: there is not a single image.
        """
        self.request_id = response.headers.get("x-request-id", "")
        lines, read = Lines(), 0
        async for piece in response.iter_bytes():
            read += len(piece)
            if read > self._max_bytes:
                raise self._failed(bad_response("it is too large", billed=Billed.UNKNOWN))
            if self.whole is None and read == len(piece) and piece.lstrip()[:1] == b"{":
                # A server that does not know `stream` answers as ever, whatever the content type says.
                self.whole = bytearray()
            if self.whole is not None:
                self.whole += piece
                continue
            for data in lines.feed(piece):
                await self._take(data)
            if len(self.completed) >= self._wanted:
                return
        if self.whole is None and not self.completed:
            raise self._failed(bad_response("it ended without an image", billed=Billed.UNKNOWN))

    async def _take(self, data: bytes) -> None:
        match await self._in_thread(parse_event, data):
            case Completed() as completed:
                self.completed.append(completed)
            case Problem(error):
                if error is not None and is_content_rejection(error):
                    raise self._failed(content_rejected(error, billed=Billed.UNKNOWN))
                what = "an event is not JSON" if error is None else "it ended with an error"
                raise self._failed(bad_response(what, billed=Billed.UNKNOWN))
            case (int() as number, bytes() as content):
                self._on_preview(Preview(len(self.completed), number, content))

    def _failed(self, error: ServiceError) -> CallFailed:
        return CallFailed(error, self.request_id)


def parse_event(data: bytes) -> Event:
    """What an event says; None: nothing that is known."""
    try:
        event = json.loads(data) if data != b"[DONE]" else None
    except (ValueError, RecursionError):
        return Problem(None)
    if not isinstance(event, dict):
        return None
    error, kind = event.get("error"), str(event.get("type", ""))
    if error or kind == "error":
        return Problem(error if isinstance(error, Mapping) else event)
    if kind.endswith(".completed"):
        return Completed(image_of(event), event.get("usage"), event.get("svg_usage"))
    if kind.endswith(".partial_image"):
        number, content = event.get("partial_image_index"), image_of(event).content
        return (number if isinstance(number, int) else 0, content) if content else None
    return None
