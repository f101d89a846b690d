"""The library is what the service would have made of it: looked at on a sample."""

import psycopg

from services.gallery.domain.document import analysis_from_json
from services.gallery.domain.search import document_of
from tests.benchmarks.gallery_rows import Library

SAMPLE_ROWS = 500


async def check_sample(url: str, library: Library) -> None:
    """Compares the words of rows with those by the service's rules, and the number of rows.

    Raises:
        AssertionError: they differ.
    """
    async with await psycopg.AsyncConnection.connect(url) as connection:
        estimate = await connection.execute("SELECT count(*) FROM gallery.asset")
        row = await estimate.fetchone()
        if row is None or row[0] != library.count:
            raise AssertionError(f"{row} rows, not {library.count}")
        share = min(100.0, 300.0 * SAMPLE_ROWS / library.count)
        rows = await connection.execute(
            "SELECT display_name, tags, prompt, analysis, search::text FROM gallery.asset "
            "TABLESAMPLE SYSTEM (%s) LIMIT %s",
            (share, SAMPLE_ROWS),
        )
        async for name, tags, prompt, analysis, words in rows:
            seen = analysis_from_json(analysis) if analysis else None
            again = await connection.execute("SELECT %s::tsvector::text", (document_of(name, tags, prompt, seen),))
            if await again.fetchone() != (words,):
                raise AssertionError(f"the words of {name!r} are others than the service's")
