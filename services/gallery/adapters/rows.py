"""Rows of the index to assets and back."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from services.gallery.adapters.tables import asset, folder
from services.gallery.domain import document
from services.gallery.domain.assets import Asset, Cost, CostSource, Folder, Media, MediaType, Provenance
from services.gallery.domain.search import VERSION, document_of
from services.gallery.domain.uploads import NewAsset

LISTED_PROMPT_CHARACTERS = 200

_NEVER_READ = frozenset({"search"})
_HEAVY = frozenset({"prompt", "parameters", "analysis", "annotations"})
_WITH_FOLDER = asset.outerjoin(folder, asset.c.folder_id == folder.c.id)
_FOLDER_PATH = folder.c.path.label("folder_path")

Values = dict[str, Any]


def select_assets(*, full: bool) -> sa.Select[Any]:
    """All of an asset, or what lists show of it: without analysis and parameters, the prompt cut by the database."""
    left_out = _NEVER_READ if full else _NEVER_READ | _HEAVY
    columns: list[sa.ColumnElement[Any]] = [column for column in asset.c if column.name not in left_out]
    if not full:
        columns.append(sa.func.left(asset.c.prompt, LISTED_PROMPT_CHARACTERS).label("prompt"))
    return sa.select(*columns, _FOLDER_PATH).select_from(_WITH_FOLDER)


def to_asset(row: RowMapping | Mapping[str, Any]) -> Asset:
    """The asset of a row of `select_assets`; what was not selected is empty."""
    return Asset(
        id=row["id"],
        owner=row["owner"],
        display_name=row["display_name"],
        folder=Folder(row["folder_id"], row["folder_path"]) if row["folder_id"] else None,
        media=_media(row),
        provenance=_provenance(row),
        analysis=document.analysis_from_json(row["analysis"]) if row.get("analysis") else None,
        tags=tuple(row["tags"]),
        labels=row["labels"],
        favorite=row["favorite"],
        revision=row["revision"],
        create_time=_utc(row["create_time"]),
        update_time=_utc(row["update_time"]),
        delete_time=_utc(row["delete_time"]) if row["delete_time"] else None,
        purge_time=_utc(row["purge_time"]) if row["purge_time"] else None,
        annotations=tuple(row.get("annotations", ())),
        variants=tuple(row["variants"]),
    )


def _media(row: RowMapping | Mapping[str, Any]) -> Media:
    micros = row["duration_micros"]
    return Media(
        media_type=MediaType(row["media_type"]),
        mime_type=row["mime_type"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        width_px=row["width_px"],
        height_px=row["height_px"],
        duration=None if micros is None else timedelta(microseconds=micros),
        has_transparency=row["has_transparency"],
        has_content_credentials=row["has_content_credentials"],
    )


def _provenance(row: RowMapping | Mapping[str, Any]) -> Provenance:
    return Provenance(
        prompt=row["prompt"],
        prompt_revisions=document.revisions_from_json(row["prompt_revisions"]),
        model=row["model"],
        parameters=row.get("parameters", {}),
        origin=row["origin"],
        parents=document.parents_from_json(row["parents"]),
        usage=document.usage_from_json(row["usage"]) if row["usage"] else None,
        cost=_cost(row["cost_source"], row["cost_micro_usd"]),
    )


def _cost(source: str | None, amount: int | None) -> Cost | None:
    if source is None and amount is None:
        return None
    return Cost(CostSource(source) if source else None, amount)


def values_of(new: NewAsset | Asset, folder_id: str | None) -> Values:
    """The columns of a new asset but its times, which are the database's."""
    media, origin = new.media, new.provenance
    cost = origin.cost
    return {
        "id": new.id,
        "owner": new.owner,
        "display_name": new.display_name,
        "folder_id": folder_id,
        "media_type": media.media_type.value,
        "mime_type": media.mime_type,
        "size_bytes": media.size_bytes,
        "sha256": media.sha256,
        "width_px": media.width_px,
        "height_px": media.height_px,
        "duration_micros": None if media.duration is None else media.duration // timedelta(microseconds=1),
        "has_transparency": media.has_transparency,
        "has_content_credentials": media.has_content_credentials,
        "prompt": origin.prompt,
        "prompt_revisions": document.revisions_to_json(origin.prompt_revisions),
        "model": origin.model,
        "parameters": dict(origin.parameters),
        "origin": origin.origin,
        "parents": document.parents_to_json(origin.parents),
        "usage": document.usage_to_json(origin.usage) if origin.usage else None,
        "cost_source": cost.source.value if cost and cost.source else None,
        "cost_micro_usd": cost.amount_micro_usd if cost else None,
        "tags": list(new.tags),
        "labels": dict(new.labels),
        "search": document_of(new.display_name, new.tags, origin.prompt, None),
        "search_version": VERSION,
    }


def search_values(asset: Asset) -> Values:
    """The columns that a query of words looks at."""
    words = document_of(asset.display_name, asset.tags, asset.provenance.prompt, asset.analysis)
    return {"search": words, "search_version": VERSION}


def _utc(time: datetime) -> datetime:
    """Postgres answers in the session's time zone."""
    return time.astimezone(UTC)
