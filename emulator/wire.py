"""What arrived on the wire: the last requests as they were sent, whether they were accepted or refused."""

import asyncio
import base64
import binascii
import hashlib
import itertools
import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Scope

from emulator.errors import ApiError

ENTRY = "emulator.wire"
"""Key of the scope's state under which a request's entry is found."""

_MOST_ENTRIES = 1000
_MOST_BYTES = 32 * 1024 * 1024
_LONGEST_TEXT = 64 * 1024
_LONGEST_HEADER = 1000
_LARGE = 256 * 1024  # hashed off the event loop from here on
_SECRETS = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"})
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,")


@dataclass(slots=True)
class Entry:
    """One request.

    Attributes:
        credential: how the key was sent: `bearer`, `api-key` or not at all. The key itself is not kept.
        encoding: `json` or `form`, once the body has been read.
        fields: every field of the body; bytes, data URLs and very long texts as their size and SHA-256.
        status: of the response; None while there is none, and for ever when the connection was reset before it.
        error: code, parameter and message of a refusal, in the emulator's own terms.
    """

    id: int
    request_id: str
    method: str
    path: str
    query: str
    dialect: str
    credential: str | None
    headers: dict[str, str]
    time: float = field(default_factory=time)
    encoding: str | None = None
    fields: Mapping[str, Any] | None = None
    status: int | None = None
    error: dict[str, Any] | None = None
    weight: int = 0

    def shown(self) -> dict[str, Any]:
        """As `GET /requests` tells it."""
        names = [name for name in self.__slots__ if name != "weight"]
        return {name: getattr(self, name) for name in names}


class WireLog:
    """A bounded log, oldest first: so many requests, and so much text, then the oldest go."""

    def __init__(self, most_entries: int = _MOST_ENTRIES, most_bytes: int = _MOST_BYTES) -> None:
        self._entries: deque[Entry] = deque()
        self._most_entries, self._most_bytes = most_entries, most_bytes
        self._bytes = 0
        self._numbers = itertools.count(1)

    def begin(self, scope: Scope, request_id: str, dialect: str, path: str) -> Entry:
        """Note a request whose head has arrived; `path` is what the client asked for."""
        headers = _headers(scope)
        entry = Entry(
            id=next(self._numbers),
            request_id=request_id,
            method=str(scope["method"]),
            path=path,
            query=scope["query_string"].decode("latin-1"),
            dialect=dialect,
            credential=_credential(headers),
            headers={name: text for name, text in headers.items() if name not in _SECRETS},
        )
        self._entries.append(entry)
        self._weigh(entry, sum(map(len, entry.headers.values())) + len(path) + len(entry.query))
        return entry

    async def read_json(self, request: Request, fields: Mapping[str, Any], size: int) -> None:
        """Note the fields of a JSON body of `size` bytes."""
        if size > _LARGE:
            kept = await asyncio.to_thread(_compact, fields)
        else:
            kept = _compact(fields)
        self._keep(request, "json", kept)

    async def read_form(self, request: Request, form: FormData) -> None:
        """Note the fields of a form, and its files by size and digest; a repeated field becomes a list."""
        fields: dict[str, Any] = {}
        for name, value in form.multi_items():
            kept = await _file(value) if isinstance(value, UploadFile) else _compact(value)
            if name not in fields:
                fields[name] = kept
            elif isinstance(fields[name], list):
                fields[name].append(kept)
            else:
                fields[name] = [fields[name], kept]
        self._keep(request, "form", fields)

    def refused(self, request: Request, error: ApiError) -> None:
        """Note why a request was refused."""
        entry: Entry | None = getattr(request.state, ENTRY, None)
        if entry is not None:
            entry.error = {"code": error.code, "param": error.param, "message": error.message[:500]}

    def shown(self, after: int, limit: int, wanted: Mapping[str, str]) -> dict[str, Any]:
        """The entries after that id for which everything `wanted` holds, oldest first."""
        fitting = [entry for entry in self._entries if entry.id > after and _fits(entry, wanted)]
        shown = [entry.shown() for entry in fitting[:limit]]
        return {"object": "list", "data": shown, "has_more": len(fitting) > limit}

    def clear(self) -> int:
        """Forget everything; answers how many there were."""
        gone = len(self._entries)
        self._entries.clear()
        self._bytes = 0
        return gone

    def _keep(self, request: Request, encoding: str, fields: Mapping[str, Any]) -> None:
        entry: Entry | None = getattr(request.state, ENTRY, None)
        if entry is not None:
            entry.encoding, entry.fields = encoding, fields
            self._weigh(entry, len(json.dumps(fields)))

    def _weigh(self, entry: Entry, weight: int) -> None:
        if not self._entries or entry.id < self._entries[0].id:
            return  # forgotten while its body was read
        entry.weight += weight
        self._bytes += weight
        while len(self._entries) > self._most_entries or (self._bytes > self._most_bytes and len(self._entries) > 1):
            self._bytes -= self._entries.popleft().weight


def _fits(entry: Entry, wanted: Mapping[str, str]) -> bool:
    facts = {
        "idempotency_key": entry.headers.get("idempotency-key"),
        "dialect": entry.dialect,
        "path": entry.path,
        "request_id": entry.request_id,
    }
    return all(facts[name] == text for name, text in wanted.items())


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    pairs: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for name, text in pairs:
        key, value = name.decode("latin-1"), text.decode("latin-1")[:_LONGEST_HEADER]
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _credential(headers: Mapping[str, str]) -> str | None:
    if headers.get("authorization", "").lower().startswith("bearer "):
        return "bearer"
    return "api-key" if "api-key" in headers else None


def _compact(value: Any) -> Any:
    """`value` with data URLs and very long texts replaced by what identifies them."""
    if isinstance(value, dict):
        return {name: _compact(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_compact(each) for each in value]
    if not isinstance(value, str):
        return value
    if head := _DATA_URL.match(value):
        try:
            data = base64.b64decode(value[head.end() :], validate=True)
        except (binascii.Error, ValueError):
            return _told(value.encode())
        return {"media_type": head.group(1), **_told(data)}
    return _told(value.encode()) if len(value) > _LONGEST_TEXT else value


def _told(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


async def _file(file: UploadFile) -> dict[str, Any]:
    data = await file.read()
    await file.seek(0)
    told = await asyncio.to_thread(_told, data) if len(data) > _LARGE else _told(data)
    return {"filename": file.filename, "content_type": file.content_type, **told}
