"""A list's filters as conditions on rows."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from services.gallery.adapters.candidates import Condition, Searched
from services.gallery.adapters.tables import asset, folder, tag, total
from services.gallery.domain.assets import Folder, MediaType
from services.gallery.domain.listing import MAX_COUNT, Filters


def walked_conditions(owner: str, filters: Filters, inside: Folder | None) -> list[Condition]:
    """Conditions that indexes of lists begin with, and those that are cheap on any row."""
    conditions = [asset.c.owner == owner]
    if inside is not None and not filters.include_subfolders:
        conditions.append(asset.c.folder_id == inside.id)
    if filters.media_type is not None:
        conditions.append(asset.c.media_type == filters.media_type.value)
    if filters.model:
        # Repeats the partial index's own condition: the planner does not derive it from a parameter.
        conditions += [asset.c.model == filters.model, asset.c.model != sa.literal_column("''")]
    if filters.origin:
        conditions += [asset.c.origin == filters.origin, asset.c.origin != sa.literal_column("''")]
    if filters.favorite is not None:
        conditions.append(asset.c.favorite if filters.favorite else ~asset.c.favorite)
    if filters.created_after is not None:
        conditions.append(asset.c.create_time >= filters.created_after)
    if filters.created_before is not None:
        conditions.append(asset.c.create_time < filters.created_before)
    return conditions


def searched_conditions(owner: str, filters: Filters, inside: Folder | None, words: str) -> list[Searched]:
    """Conditions that many rows or few may meet; `words` is a tsquery, or empty."""
    conditions = []
    if inside is not None and filters.include_subfolders:
        tree = _tree(owner, inside)
        # As a set for checking rows, as an array for reading the index of folders.
        lookup = asset.c.folder_id == sa.any_(sa.func.array(tree.scalar_subquery()))
        conditions.append(Searched(asset.c.folder_id.in_(tree), lookup, folders=tree))
    if filters.tags:
        tagged = asset.c.tags.contains(list(filters.tags))
        conditions.append(Searched(tagged, tagged))
    if words:
        matches = matches_words(words)
        conditions.append(Searched(matches, matches))
    return conditions


def matches_words(words: str) -> Condition:
    """Whether an asset has all the words."""
    return asset.c.search.bool_op("@@")(tsquery(words))


def tsquery(words: str) -> sa.ColumnElement[Any]:
    """A query that `domain/search.py` made; no text configuration touches it."""
    return sa.cast(words, TSQUERY)


def known_total(owner: str, filters: Filters, inside: Folder | None) -> sa.ColumnElement[int] | None:
    """The number of matches where the journal keeps it, up to MAX_COUNT + 1; None: they have to be counted."""
    counted: sa.Select[Any] | None = None
    match _given(filters):
        case []:
            counted = sa.select(total.c.image_count + total.c.video_count).where(total.c.owner == owner)
        case ["media_type"]:
            images = filters.media_type is MediaType.IMAGE
            counted = sa.select(total.c.image_count if images else total.c.video_count).where(total.c.owner == owner)
        case ["folder"] if inside is not None:
            counted = sa.select(folder.c.asset_count).where(folder.c.id == inside.id)
        case ["folder", "include_subfolders"] if inside is not None:
            counted = _tree(owner, inside, sa.func.sum(folder.c.asset_count))
        case ["tags"] if len(set(filters.tags)) == 1:
            counted = sa.select(tag.c.asset_count).where(tag.c.owner == owner, tag.c.tag == filters.tags[0])
    if counted is None:
        return None
    return sa.cast(sa.func.least(sa.func.coalesce(counted.scalar_subquery(), 0), MAX_COUNT + 1), sa.Integer)


def _given(filters: Filters) -> list[str]:
    """The names of the filters that are set, in the order of their declaration."""
    names = list(Filters.__dataclass_fields__)
    return [name for name in names if getattr(filters, name) != getattr(_NO_FILTERS, name)]


_NO_FILTERS = Filters()


def _tree(owner: str, root: Folder, column: sa.ColumnElement[Any] = folder.c.id) -> sa.Select[Any]:
    inside = (folder.c.id == root.id) | sa.func.starts_with(folder.c.path, root.path + "/")
    return sa.select(column).where(folder.c.owner == owner, inside)
