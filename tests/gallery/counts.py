"""What the index keeps beside its rows, compared with the rows: counts, the log of changes, the tree of folders."""

from typing import Any

import psycopg

from tests.gallery.harness import Client

_DRIFTS = {
    "folder.asset_count": """
        SELECT f.path, f.asset_count, count(a.id) FROM gallery.folder f
        LEFT JOIN gallery.asset a ON a.folder_id = f.id AND a.delete_time IS NULL
        WHERE f.owner = %s GROUP BY f.id HAVING f.asset_count <> count(a.id)
    """,
    "tag": """
        SELECT coalesce(t.tag, c.tag), t.asset_count, c.n FROM (SELECT * FROM gallery.tag WHERE owner = %s) t
        FULL JOIN (
            SELECT unnest(tags) AS tag, count(*) AS n FROM gallery.asset
            WHERE owner = %s AND delete_time IS NULL GROUP BY 1
        ) c ON c.tag = t.tag WHERE t.asset_count IS DISTINCT FROM c.n
    """,
    "total": """
        SELECT t.*, c.* FROM gallery.total t, (
            SELECT count(*) FILTER (WHERE delete_time IS NULL AND media_type = 'image') AS images,
                   count(*) FILTER (WHERE delete_time IS NULL AND media_type = 'video') AS videos,
                   count(*) FILTER (WHERE delete_time IS NOT NULL) AS deleted, sum(size_bytes) AS bytes
            FROM gallery.asset WHERE owner = %s
        ) c WHERE t.owner = %s AND (t.image_count, t.video_count, t.deleted_count, t.size_bytes)
                               <> (c.images, c.videos, c.deleted, c.bytes)
    """,
    "an asset in a folder that is not there": """
        SELECT a.id, a.folder_id FROM gallery.asset a LEFT JOIN gallery.folder f
        ON f.id = a.folder_id AND f.owner = a.owner WHERE a.owner = %s AND a.folder_id IS NOT NULL AND f.id IS NULL
    """,
    "an entry of the log for every revision": """
        SELECT a.id, a.revision, count(c.sequence) FROM gallery.asset a LEFT JOIN gallery.asset_change c
        ON c.asset_id = a.id WHERE a.owner = %s GROUP BY a.id HAVING a.revision <> count(c.sequence)
    """,
    "a path that is not its key's": """
        SELECT path FROM gallery.folder WHERE owner = %s AND path_key <> sha256(convert_to(path, 'UTF8'))
    """,
    "a folder without its parent": """
        SELECT f.path FROM gallery.folder f WHERE f.owner = %s AND f.path LIKE '%%/%%' AND NOT EXISTS (
            SELECT FROM gallery.folder p WHERE p.owner = f.owner AND p.path = regexp_replace(f.path, '/[^/]*$', '')
        )
    """,
    "a folder that is there and is to be removed": """
        SELECT f.path FROM gallery.folder f JOIN gallery.folder_removal r ON r.folder_id = f.id WHERE f.owner = %s
    """,
}


async def drift(user: Client) -> dict[str, list[tuple[Any, ...]]]:
    """What does not agree in this owner's part of the index; empty when all does."""
    found = {}
    url = user.gallery.settings.database_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for name, query in _DRIFTS.items():
            cursor = await connection.execute(query.encode(), [user.principal] * query.count("%s"))
            if rows := await cursor.fetchall():
                found[name] = rows
    return found


async def multiply(user: Client, asset_id: str, count: int) -> None:
    """Copies of an asset's row, with all that the index keeps beside it: faster than as many uploads."""
    copied = "owner, display_name, folder_id, media_type, mime_type, size_bytes, sha256, tags"
    add = (
        f"WITH made AS (INSERT INTO gallery.asset (id, {copied}) "  # noqa: S608 - our own names
        f"SELECT 'copy-' || n || '-' || id, {copied} FROM gallery.asset, generate_series(1, %s::int) n WHERE id = %s "
        "RETURNING owner, id) INSERT INTO gallery.asset_change (owner, asset_id, change) SELECT *, 'created' FROM made"
    )
    await user.gallery.execute(add, count, asset_id)
    for recount in (
        "UPDATE gallery.folder f SET asset_count = (SELECT count(*) FROM gallery.asset a WHERE a.folder_id = f.id "
        "AND a.delete_time IS NULL) WHERE owner = %s",
        "UPDATE gallery.tag t SET asset_count = (SELECT count(*) FROM gallery.asset a WHERE a.owner = t.owner "
        "AND a.tags @> ARRAY[t.tag::text] AND a.delete_time IS NULL) WHERE owner = %s",
        "UPDATE gallery.total t SET image_count = c.n, size_bytes = c.bytes FROM (SELECT owner, count(*) "
        "FILTER (WHERE delete_time IS NULL) AS n, sum(size_bytes) AS bytes FROM gallery.asset GROUP BY owner) c "
        "WHERE c.owner = t.owner AND t.owner = %s",
    ):
        await user.gallery.execute(recount, user.principal)
