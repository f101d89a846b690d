"""Prepares pictures for a model, each request in a process of its own: a decoder that crashes takes no call along."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import structlog

from services.models.helpers.failures import not_prepared, unusable_picture
from services.models.helpers.flatten import FORMATS
from services.models.text_requests import Picture

PROCESS = "services.models.helpers.flatten_process"
GRACE_SECONDS = 2.0
"""How much later than the process's own clock we stop waiting for it; it has to start first."""

START_SECONDS = 10.0
# What one picture may become; more is no answer of ours.
_MOST_BYTES = 64 * 1024 * 1024
_LINE_BYTES = 4096
_MIME_TYPES: dict[str, Literal["image/png", "image/jpeg"]] = {"image/png": "image/png", "image/jpeg": "image/jpeg"}
# Nothing of ours is in the environment of a process that opens hostile files.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")

_log = structlog.get_logger(__name__)


class Flattener:
    """Up to `processes` requests at a time; further ones wait for their turn.

    `max_pixels` bounds each picture that goes in, `seconds` all of one request, `memory_bytes` the address space.
    """

    def __init__(
        self,
        *,
        max_pixels: int = 2**26,
        seconds: float = 20.0,
        memory_bytes: int = 3 * 2**29,
        processes: int = 2,
    ) -> None:
        self._order = {"max_pixels": max_pixels, "seconds": seconds, "memory_bytes": memory_bytes}
        self._seconds = seconds
        self._turn = asyncio.Semaphore(processes)

    async def prepare(
        self, contents: Sequence[bytes], *, edge_px: int, field: str = "image", formats: Sequence[str] = FORMATS
    ) -> list[Picture]:
        """The pictures, in their order. `field` is what an error names; with several, with the index.

        Raises:
            InvalidArgument: INVALID_IMAGE.
            Unavailable: time or memory ran out before anything could be said of them.
        """
        order = {**self._order, "edge_px": edge_px, "formats": list(formats), "sizes": [len(c) for c in contents]}
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                PROCESS,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )
            try:
                async with asyncio.timeout(START_SECONDS + self._seconds + GRACE_SECONDS):
                    return await _converse(process, order, contents, field)
            except (TimeoutError, EOFError, ConnectionError, ValueError) as error:
                _log.warning("picture_process_failed", error=type(error).__name__)
                raise not_prepared("The picture ends the process that decodes it, or takes it too long.") from None
            finally:
                await _end(process)


async def _converse(
    process: asyncio.subprocess.Process, order: dict[str, Any], contents: Sequence[bytes], field: str
) -> list[Picture]:
    writing = asyncio.create_task(_write(process, [json.dumps(order).encode() + b"\n", *contents]))
    try:
        names = [field] if len(contents) == 1 else [f"{field}[{index}]" for index in range(len(contents))]
        return [await _read(process, name) for name in names]
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def _write(process: asyncio.subprocess.Process, parts: Sequence[bytes]) -> None:
    if process.stdin is None:
        raise RuntimeError("the process has no input")
    for part in parts:
        process.stdin.write(part)
        await process.stdin.drain()


async def _read(process: asyncio.subprocess.Process, field: str) -> Picture:
    """One picture, or the refusal of it. What the process says is believed no further than its form."""
    if process.stdout is None:
        raise RuntimeError("the process has no output")
    line = await process.stdout.readline()
    if not line.endswith(b"\n") or len(line) > _LINE_BYTES:
        raise EOFError
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise EOFError
    if "refusal" in answer:
        raise unusable_picture(field, str(answer["refusal"])[:200])
    if "memory" in answer:
        raise not_prepared("The picture needs too much memory to decode.")
    mime_type, size = _MIME_TYPES.get(str(answer.get("mime_type"))), answer.get("size")
    if mime_type is None or not isinstance(size, int) or not 0 < size <= _MOST_BYTES:
        raise EOFError
    return Picture(await process.stdout.readexactly(size), mime_type)


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGKILL: the process holds nothing that is worth a farewell."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await process.wait()
