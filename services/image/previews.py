"""Previews of generations under way, for those who watch them in this process. None is waited for, none is kept."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from services.common.errors import ServiceError
from services.models.helpers.flattener import Flattener
from services.models.image_files import read_facts
from services.models.image_streams import Preview

MAX_PREVIEW_BYTES = 1_000_000
"""The contract's limit; larger ones are scaled down."""
EDGES_PX = (1024, 512)
"""Longer edges that are tried in turn."""

# A newer preview is worth more than an older one: whoever is slow misses the old ones.
_WAITING = 3
_UNREAD = 8

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ShownPreview:
    """A preview as it may be sent."""

    index: int
    partial_index: int
    content: bytes = field(repr=False)
    mime_type: str


class Previews:
    """The generations of this process that give previews, by id of their paid call."""

    def __init__(self, flattener: Flattener) -> None:
        self._flattener = flattener
        self._channels: dict[str, Channel] = {}

    def open(self, call_id: str, work: asyncio.Task[Any]) -> None:
        """Takes the call's previews until its work is done."""
        channel = Channel(self._flattener)
        self._channels[call_id] = channel
        handing = asyncio.create_task(channel.work(), name=f"previews of {call_id}")

        def close(_: object) -> None:
            handing.cancel()
            if self._channels.get(call_id) is channel:
                del self._channels[call_id]

        work.add_done_callback(close)

    def put(self, call_id: str, preview: Preview) -> None:
        """Takes a preview of a call."""
        if (channel := self._channels.get(call_id)) is not None:
            channel.put(preview)

    def find(self, call_id: str) -> "Channel | None":
        """Where the call's previews come, if there are any here."""
        return self._channels.get(call_id)


class Channel:
    """The previews of one call, made small enough one after the other, and handed to everyone who watches."""

    def __init__(self, flattener: Flattener) -> None:
        self._flattener = flattener
        self._raw: deque[Preview] = deque(maxlen=_WAITING)
        self._arrived = asyncio.Event()
        self._latest: ShownPreview | None = None
        self._watchers: set[asyncio.Queue[ShownPreview]] = set()

    def put(self, preview: Preview) -> None:
        """Takes a preview; never waits."""
        self._raw.append(preview)
        self._arrived.set()

    @contextmanager
    def watched(self) -> Iterator[asyncio.Queue[ShownPreview]]:
        """A queue of what comes from now on, beginning with the latest there is."""
        queue: asyncio.Queue[ShownPreview] = asyncio.Queue(_UNREAD)
        if self._latest is not None:
            queue.put_nowait(self._latest)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    async def work(self) -> None:
        """Hands previews on until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._raw:
                shown = await self._shown(self._raw.popleft())
                if shown is not None:
                    self._show(shown)

    def _show(self, shown: ShownPreview) -> None:
        self._latest = shown
        for queue in self._watchers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(shown)

    async def _shown(self, preview: Preview) -> ShownPreview | None:
        content, index, number = preview.content, preview.index, preview.partial_index
        facts = read_facts(content)
        if facts is not None and len(content) <= MAX_PREVIEW_BYTES:
            return ShownPreview(index, number, content, facts.mime_type)
        for edge in EDGES_PX:
            try:
                [small] = await self._flattener.prepare([content], edge_px=edge)
            except ServiceError as error:
                _log.info("preview_left_out", index=index, partial_index=number, reason=error.reason)
                return None
            if len(small.content) <= MAX_PREVIEW_BYTES:
                return ShownPreview(index, number, small.content, small.mime_type)
        return None
