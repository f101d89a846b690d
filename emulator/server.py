"""The emulator on a port: uvicorn, with access to connections so that a cut can be real."""

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from emulator.app import create_app
from emulator.delivery import CONNECTION
from emulator.settings import Settings

_BACKLOG = 2048
# Longer than any client keeps an idle connection: the server must not close one that a paid call is just entering.
_KEEP_ALIVE_SECONDS = 300


class _Protocol(HttpToolsProtocol):
    """Puts the connection into the request's state, where a fault finds it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][CONNECTION] = self.transport


class Server(uvicorn.Server):
    """Serves one emulator. SIGTERM and SIGINT end it with exit code 0, after open calls have had time to finish."""

    def __init__(self, settings: Settings) -> None:
        config = uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            http=_Protocol,
            ws="none",
            lifespan="on",
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
            server_header=False,
            log_level=settings.log_level,
        )
        super().__init__(config)

    @property
    def bound_port(self) -> int:
        """The port it listens on, once it has started; of interest when 0 was asked for."""
        sockets = [socket for server in self.servers for socket in server.sockets]
        return cast("int", sockets[0].getsockname()[1])

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Uvicorn raises the signal anew when it is done, which would turn a wanted stop into a death by signal."""
        yield

    async def run_until_signalled(self) -> None:
        """Serve until SIGTERM or SIGINT; a second one does not wait for open calls."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        await self.serve()

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
