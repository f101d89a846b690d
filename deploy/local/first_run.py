"""The first picture: an empty gallery on the emulator gets one, so that there is something to look at."""

import asyncio
import http.client
import json
import logging
from typing import Any

log = logging.getLogger("deploy.local")

PROMPT = "a lighthouse at dusk"
SECONDS = 60.0


async def first_picture(port: int) -> str | None:
    """Make a picture through the gateway if the gallery is empty; returns the name of the newest asset, if any.

    A failure is logged and is no reason to stop the stack.
    """
    try:
        if (name := await _newest(port)) is None:
            await _call(port, "POST", "/api/v1/images:generate", {"prompt": PROMPT})
            name = await _newest(port)
            log.info("made the first picture: %s", name)
    except (OSError, ValueError, http.client.HTTPException) as error:
        log.warning("the first picture could not be made: %s", error)
        return None
    return name


def announcement(address: str, asset: str | None, *, emulated: bool) -> tuple[str, ...]:
    """What a person is told once the stack serves."""
    generate = json.dumps({"prompt": PROMPT})
    provider = "the built-in emulator draws the pictures; nothing is charged" if emulated else "your own; it may charge"
    return (
        f"AI Content Lab serves at {address}  (API: {address}/api/v1)",
        f"Model provider: {provider}. No sign-in: only this machine can connect.",
        "Try:",
        f"  curl -s {address}/api/v1/images:generate -H 'content-type: application/json' -d '{generate}'",
        f"  curl -s {address}/api/v1/assets",
        f"  curl -s {address}/api/v1/{asset or 'assets/{asset}'}:download -o picture.png",
    )


async def _newest(port: int) -> str | None:
    answer = await _call(port, "GET", "/api/v1/assets?page_size=1")
    assets = answer.get("assets") or []
    return str(assets[0]["name"]) if assets else None


async def _call(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    return await asyncio.to_thread(_request, port, method, path, body)


def _request(port: int, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200 or not isinstance(answer, dict):
        raise ValueError(f"{method} {path} answered {response.status}: {str(answer)[:500]}")
    return answer
