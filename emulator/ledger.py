"""What was charged: one row for each paid call, on disk before its answer leaves.

One thread owns the SQLite connection. Whatever waits in its queue is committed together, so that a burst of calls
costs one fsync and not one each. `synchronous=FULL` in WAL mode means that a commit has reached the disk.
"""

import asyncio
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any, Literal

Outcome = Literal["answered", "cut"]
"""How the answer to a charged call ended. Until it does, its row says `open`."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    operation TEXT NOT NULL,
    prompt_sha256 TEXT NOT NULL,
    n INTEGER NOT NULL,
    parameters TEXT NOT NULL,
    usage TEXT NOT NULL,
    cost_micro_usd INTEGER NOT NULL,
    idempotency_key TEXT,
    pictures TEXT NOT NULL,
    request_id TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('open', 'answered', 'cut')),
    dialect TEXT NOT NULL DEFAULT 'openai'
);
CREATE INDEX IF NOT EXISTS charges_by_key ON charges (idempotency_key);
"""
_JSON_COLUMNS = ("parameters", "usage", "pictures")
_MAX_WAITING = 10_000
_MAX_BATCH = 256
_BUSY_SECONDS = 10

_Work = Callable[[sqlite3.Connection], Any]


class LedgerUnavailable(Exception):
    """The charge could not be recorded, so the call must not be answered."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One paid call as it is recorded.

    Attributes:
        endpoint: the endpoint's path as OpenAI has it, whatever the dialect calls it.
        operation: `generate`, `edit` or `chat`.
        prompt_sha256: hex digest of the prompt's UTF-8; of a chat, of all its text parts joined by line feeds.
        n: pictures or choices charged.
        parameters: the request without prompt, messages and pictures.
        usage: what was charged for; a dialect may answer it otherwise, or not at all.
        pictures: hex SHA-256 of each picture in the answer.
        dialect: name of the dialect spoken, with its options.
    """

    endpoint: str
    model: str
    operation: str
    prompt_sha256: str
    n: int
    parameters: Mapping[str, Any]
    usage: Mapping[str, Any]
    cost_micro_usd: int
    request_id: str
    idempotency_key: str | None = None
    pictures: tuple[str, ...] = ()
    dialect: str = "openai"


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows to read: charged at or after `since` (Unix seconds), with this key, after this id."""

    since: float | None = None
    idempotency_key: str | None = None
    after: int = 0
    limit: int = 1000


class Ledger:
    """The book of charges. `open` before use and `close` at the end; safe to use from one event loop."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._queue: queue.Queue[tuple[_Work, Future[Any]] | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._opened: Future[None] = Future()
        self._closing = False

    async def open(self) -> None:
        """Create or open the file. Raises sqlite3.Error or OSError when it cannot be used."""
        self._thread.start()
        await asyncio.wrap_future(self._opened)

    async def close(self) -> None:
        """Commit what is waiting and close the file."""
        self._closing = True
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._thread.join)

    @property
    def healthy(self) -> bool:
        """Whether charges can be recorded."""
        return self._thread.is_alive() and not self._closing

    async def charge(self, charge: Charge) -> int:
        """Record a charge and answer its id once it is durable. Raises LedgerUnavailable."""
        columns = _columns(charge)
        try:
            return int(await asyncio.wrap_future(self._submit(lambda db: _insert(db, columns))))
        except sqlite3.Error as error:
            raise LedgerUnavailable(str(error)) from error

    def settle(self, row: int, outcome: Outcome) -> None:
        """Note how the answer to a charged call ended; committed soon, not awaited."""
        self._submit(lambda db: db.execute("UPDATE charges SET outcome = ? WHERE id = ?", (outcome, row)))

    async def read(self, query: Query) -> dict[str, Any]:
        """The rows of `query`, oldest first, and totals over all rows that match it."""
        answer: dict[str, Any] = await asyncio.wrap_future(self._submit(lambda db: _read(db, query)))
        return answer

    async def reset(self) -> int:
        """Forget every charge; answers how many there were."""
        return int(await asyncio.wrap_future(self._submit(lambda db: db.execute("DELETE FROM charges").rowcount)))

    def _submit(self, work: _Work) -> Future[Any]:
        future: Future[Any] = Future()
        if not self.healthy:
            raise LedgerUnavailable("the ledger is closed")
        try:
            self._queue.put_nowait((work, future))
        except queue.Full as error:
            raise LedgerUnavailable("too many charges are waiting") from error
        return future

    def _run(self) -> None:
        try:
            db = _connect(self._path)
        except (sqlite3.Error, OSError) as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while len(batch) < _MAX_BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            closing = None in batch
            # A charge whose caller has been cancelled is not made: nobody will answer it.
            _commit(db, [item for item in batch if item is not None and item[1].set_running_or_notify_cancel()])
        db.close()


def _connect(path: str) -> sqlite3.Connection:
    if path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(_SCHEMA)
    if "dialect" not in {row["name"] for row in db.execute("PRAGMA table_info(charges)")}:
        # A ledger of an older emulator.
        db.execute("ALTER TABLE charges ADD COLUMN dialect TEXT NOT NULL DEFAULT 'openai'")
    return db


def _commit(db: sqlite3.Connection, batch: list[tuple[_Work, Future[Any]]]) -> None:
    """Do all of `batch` in one transaction; nobody hears of a result before it is committed."""
    try:
        db.execute("BEGIN IMMEDIATE")
        results = [work(db) for work, _ in batch]
        db.execute("COMMIT")
    except sqlite3.Error as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        for _, future in batch:
            future.set_exception(error)
        return
    for (_, future), result in zip(batch, results, strict=True):
        future.set_result(result)


def _columns(charge: Charge) -> dict[str, str | int | float | None]:
    return {
        "time": time(),
        "endpoint": charge.endpoint,
        "model": charge.model,
        "operation": charge.operation,
        "prompt_sha256": charge.prompt_sha256,
        "n": charge.n,
        "parameters": json.dumps(charge.parameters),
        "usage": json.dumps(charge.usage),
        "cost_micro_usd": charge.cost_micro_usd,
        "idempotency_key": charge.idempotency_key,
        "pictures": json.dumps(charge.pictures),
        "request_id": charge.request_id,
        "outcome": "open",
        "dialect": charge.dialect,
    }


def _insert(db: sqlite3.Connection, columns: Mapping[str, str | int | float | None]) -> int:
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    row = db.execute(f"INSERT INTO charges ({names}) VALUES ({marks})", tuple(columns.values())).lastrowid  # noqa: S608 - the names are ours
    return int(row or 0)


_FILTER = "(:since IS NULL OR time >= :since) AND (:key IS NULL OR idempotency_key = :key)"
_ROWS = f"SELECT * FROM charges WHERE {_FILTER} AND id > :after ORDER BY id LIMIT :limit"  # noqa: S608 - our own text
_TOTALS = f"""
SELECT count(*) AS charges, coalesce(sum(cost_micro_usd), 0) AS cost_micro_usd,
       coalesce(sum(json_array_length(pictures)), 0) AS pictures,
       count(idempotency_key) - count(DISTINCT idempotency_key) AS repeated_keys
FROM charges WHERE {_FILTER}
"""  # noqa: S608 - our own text


def _read(db: sqlite3.Connection, query: Query) -> dict[str, Any]:
    values = {
        "since": query.since,
        "key": query.idempotency_key,
        "after": query.after,
        "limit": query.limit + 1,
    }
    rows = [dict(row) for row in db.execute(_ROWS, values)]
    for row in rows:
        row.update({column: json.loads(row[column]) for column in _JSON_COLUMNS})
    totals = dict(db.execute(_TOTALS, values).fetchone())
    return {
        "object": "list",
        "data": rows[: query.limit],
        "has_more": len(rows) > query.limit,
        "totals": totals,
    }
