"""Fills a database of the gallery's with a made-up library, as fast as this machine can."""

import asyncio
import hashlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import psycopg
from rich.progress import Progress

from services.gallery.__main__ import apply_migrations
from services.gallery.adapters.tables import SCHEMA
from services.gallery.settings import GallerySettings
from tests.benchmarks.gallery_rows import FOLDERS, OWNERS, Library, folder_id, folder_path

CHUNK_ROWS = 5_000

_COUNTS = (
    """
    UPDATE gallery.folder f SET asset_count = c.n FROM (
        SELECT folder_id, count(*) AS n FROM gallery.asset WHERE delete_time IS NULL GROUP BY folder_id
    ) c WHERE f.id = c.folder_id
    """,
    """
    INSERT INTO gallery.tag (owner, tag, asset_count)
    SELECT owner, unnest(tags), count(*) FROM gallery.asset WHERE delete_time IS NULL GROUP BY 1, 2
    """,
    """
    INSERT INTO gallery.total (owner, image_count, video_count, deleted_count, size_bytes)
    SELECT owner, count(*) FILTER (WHERE delete_time IS NULL AND media_type = 'image'),
           count(*) FILTER (WHERE delete_time IS NULL AND media_type = 'video'),
           count(*) FILTER (WHERE delete_time IS NOT NULL), sum(size_bytes)
    FROM gallery.asset GROUP BY owner
    """,
)


async def load(settings: GallerySettings, count: int) -> None:
    """An index with so many rows, with its indexes, counts and statistics."""
    await apply_migrations(settings)
    url = settings.database_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        found = await connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = %s AND tablename = 'asset' "
            "AND indexname LIKE 'ix_%%'",
            (SCHEMA,),
        )
        indexes: list[tuple[str, str]] = await found.fetchall()
        for name, _ in indexes:
            # Built at the end, in a tenth of the time.
            await connection.execute(f"DROP INDEX {SCHEMA}.{name}".encode())
        await _copy_folders(connection)
        with Progress() as progress:
            await _copy_assets(url, count, progress)
            built = progress.add_task("indexes, counts, statistics", total=len(indexes) + len(_COUNTS) + 1)
            await connection.execute("SET maintenance_work_mem = '1GB'")
            for _, definition in indexes:
                await connection.execute(definition.encode())
                progress.advance(built)
            for statement in _COUNTS:
                await connection.execute(statement.encode())
                progress.advance(built)
            # Index-only scans need the visibility map, as autovacuum would have made it by now.
            await connection.execute("VACUUM (ANALYZE)")
            progress.advance(built)


async def _copy_assets(url: str, count: int, progress: Progress) -> None:
    loop = asyncio.get_running_loop()
    copied = progress.add_task("rows", total=count)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count() or 2, mp_context=spawn) as pool:
        chunks = [
            loop.run_in_executor(pool, copy_chunk, url, count, first, min(first + CHUNK_ROWS, count))
            for first in range(0, count, CHUNK_ROWS)
        ]
        for chunk in asyncio.as_completed(chunks):
            progress.advance(copied, await chunk)


def copy_chunk(url: str, count: int, first: int, last: int) -> int:
    """In a process of its own: makes rows and copies them; how many."""
    rows = list(Library(count).rows(first, last))
    columns = list(rows[0])
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        statement = f"COPY {SCHEMA}.asset ({', '.join(columns)}) FROM STDIN"
        with cursor.copy(statement.encode()) as copy:
            for row in rows:
                copy.write_row([row[name] for name in columns])
    return len(rows)


async def _copy_folders(connection: psycopg.AsyncConnection[Any]) -> None:
    statement = "COPY gallery.folder (id, owner, path, path_key, document_revision) FROM STDIN"
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for owner, _ in OWNERS:
            for number in range(FOLDERS):
                path = folder_path(number)
                key = hashlib.sha256(path.encode()).digest()
                await copy.write_row((folder_id(owner, number), owner, path, key, 1))
