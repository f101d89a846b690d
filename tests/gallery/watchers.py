"""Clients that watch a gallery, and what they have been told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from tests.gallery.harness import Client

CHECKPOINT = pb.WatchAssetsResponse.CHECKPOINT
CREATED = pb.WatchAssetsResponse.CREATED
UPDATED = pb.WatchAssetsResponse.UPDATED
DELETED = pb.WatchAssetsResponse.DELETED
PURGED = pb.WatchAssetsResponse.PURGED
PATIENCE = 20.0


@dataclass
class Watcher:
    """One stream of changes. `events` are those read so far, checkpoints left out; `token` is the last one of all."""

    call: Any
    token: str = ""
    events: list[pb.WatchAssetsResponse] = field(default_factory=list)

    async def read(self) -> pb.WatchAssetsResponse:
        """The next message of any kind."""
        async with asyncio.timeout(PATIENCE):
            message: pb.WatchAssetsResponse = await anext(self.messages)
        self.token = message.resume_token
        if message.change_type != CHECKPOINT:
            self.events.append(message)
        return message

    @property
    def messages(self) -> AsyncIterator[pb.WatchAssetsResponse]:
        iterator: AsyncIterator[pb.WatchAssetsResponse] = aiter(self.call)
        return iterator

    async def event(self) -> pb.WatchAssetsResponse:
        """The next change."""
        async with asyncio.timeout(PATIENCE):
            while (message := await self.read()).change_type == CHECKPOINT:
                pass
        return message

    async def checkpoint(self) -> str:
        """The token of the next message, which is a checkpoint."""
        message = await self.read()
        assert message.change_type == CHECKPOINT, message
        assert not message.HasField("asset")
        return message.resume_token

    async def until(self, name: str) -> list[str]:
        """The names of all assets told of, until one is told of."""
        while not self.events or self.events[-1].asset.name != name:
            await self.event()
        return [event.asset.name for event in self.events]


@asynccontextmanager
async def watching(client: Client, token: str = "", *, begun: bool = True) -> AsyncIterator[Watcher]:
    """A stream that has sent its first checkpoint, unless `begun` is False."""
    call = client.stub.WatchAssets(pb.WatchAssetsRequest(resume_token=token), metadata=client.metadata)
    watcher = Watcher(call)
    try:
        if begun:
            await watcher.checkpoint()
        yield watcher
    finally:
        call.cancel()


async def refused(client: Client, token: str) -> Any:
    """A stream that is read until it ends: for `refusal`."""
    async with watching(client, token, begun=False) as watcher:
        while True:
            await watcher.read()
