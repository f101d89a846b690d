"""`asset.json`: all that the index knows of an asset, kept beside its bytes, so that losing the index loses nothing.

Plain JSON in UTF-8, readable without this code: resource names, RFC 3339 times, durations in microseconds, money in
micro-USD. Fields are only ever added; `schemaVersion` counts what a reader must understand.

Of the folder only the id is kept up to date. Renaming a folder rewrites no asset's document: the path here is that of
the last writing, and the folders' own documents are the truth.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from services.gallery.domain.assets import (
    Analysis,
    Asset,
    Cost,
    CostSource,
    Folder,
    Media,
    MediaType,
    Parent,
    PromptRevision,
    PromptStep,
    Provenance,
    Relation,
    Usage,
)

SCHEMA_VERSION = 1
MIME_TYPE = "application/json"

Json = dict[str, Any]


def to_document(asset: Asset) -> bytes:
    """The document of an asset."""
    content = {
        "schemaVersion": SCHEMA_VERSION,
        "id": asset.id,
        "owner": asset.owner,
        "displayName": asset.display_name,
        "folder": {"id": asset.folder.id, "path": asset.folder.path} if asset.folder else None,
        "media": media_to_json(asset.media),
        "provenance": provenance_to_json(asset.provenance),
        "analysis": analysis_to_json(asset.analysis) if asset.analysis else None,
        "tags": list(asset.tags),
        "labels": dict(asset.labels),
        "favorite": asset.favorite,
        "revision": asset.revision,
        "createTime": _time_to_json(asset.create_time),
        "updateTime": _time_to_json(asset.update_time),
        "deleteTime": _time_to_json(asset.delete_time),
        "purgeTime": _time_to_json(asset.purge_time),
        "annotations": list(asset.annotations),
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


def from_document(document: bytes) -> Asset:
    """The asset of a document.

    Raises:
        ValueError, KeyError, TypeError: it is none, or of a version that this code does not know.
    """
    content = json.loads(document)
    if content["schemaVersion"] != SCHEMA_VERSION:
        raise ValueError(f"asset.json has schema version {content['schemaVersion']}")
    return Asset(
        id=content["id"],
        owner=content["owner"],
        display_name=content["displayName"],
        folder=Folder(**content["folder"]) if content["folder"] else None,
        media=media_from_json(content["media"]),
        provenance=provenance_from_json(content["provenance"]),
        analysis=analysis_from_json(content["analysis"]) if content["analysis"] else None,
        tags=tuple(content["tags"]),
        labels=content["labels"],
        favorite=content["favorite"],
        revision=content["revision"],
        create_time=datetime.fromisoformat(content["createTime"]),
        update_time=datetime.fromisoformat(content["updateTime"]),
        delete_time=_time_from_json(content["deleteTime"]),
        purge_time=_time_from_json(content["purgeTime"]),
        annotations=tuple(content.get("annotations", ())),
    )


def media_to_json(media: Media) -> Json:
    """What the bytes say."""
    return {
        "mediaType": media.media_type.value,
        "mimeType": media.mime_type,
        "sizeBytes": media.size_bytes,
        "sha256": media.sha256,
        "widthPx": media.width_px,
        "heightPx": media.height_px,
        "durationMicros": _duration_to_json(media.duration),
        "hasTransparency": media.has_transparency,
        "hasContentCredentials": media.has_content_credentials,
    }


def media_from_json(content: Json) -> Media:
    """The inverse of `media_to_json`."""
    return Media(
        media_type=MediaType(content["mediaType"]),
        mime_type=content["mimeType"],
        size_bytes=content["sizeBytes"],
        sha256=content["sha256"],
        width_px=content["widthPx"],
        height_px=content["heightPx"],
        duration=_duration_from_json(content["durationMicros"]),
        has_transparency=content["hasTransparency"],
        has_content_credentials=content["hasContentCredentials"],
    )


def provenance_to_json(provenance: Provenance) -> Json:
    """Where it comes from."""
    return {
        "prompt": provenance.prompt,
        "promptRevisions": revisions_to_json(provenance.prompt_revisions),
        "model": provenance.model,
        "parameters": dict(provenance.parameters),
        "origin": provenance.origin,
        "parents": parents_to_json(provenance.parents),
        "usage": usage_to_json(provenance.usage) if provenance.usage else None,
        "cost": cost_to_json(provenance.cost) if provenance.cost else None,
    }


def provenance_from_json(content: Json) -> Provenance:
    """The inverse of `provenance_to_json`."""
    return Provenance(
        prompt=content["prompt"],
        prompt_revisions=revisions_from_json(content["promptRevisions"]),
        model=content["model"],
        parameters=content["parameters"],
        origin=content["origin"],
        parents=parents_from_json(content["parents"]),
        usage=usage_from_json(content["usage"]) if content["usage"] else None,
        cost=cost_from_json(content["cost"]) if content["cost"] else None,
    )


def revisions_to_json(revisions: tuple[PromptRevision, ...]) -> list[Json]:
    """How the prompt came to be."""
    return [
        {"step": revision.step, "previousPrompt": revision.previous_prompt, "model": revision.model}
        for revision in revisions
    ]


def revisions_from_json(content: list[Json]) -> tuple[PromptRevision, ...]:
    """The inverse of `revisions_to_json`."""
    return tuple(
        PromptRevision(PromptStep(item["step"]) if item["step"] else None, item["previousPrompt"], item["model"])
        for item in content
    )


def parents_to_json(parents: tuple[Parent, ...]) -> list[Json]:
    """What it was made from."""
    return [{"assetId": parent.asset_id, "relation": parent.relation} for parent in parents]


def parents_from_json(content: list[Json]) -> tuple[Parent, ...]:
    """The inverse of `parents_to_json`."""
    return tuple(Parent(item["assetId"], Relation(item["relation"])) for item in content)


def usage_to_json(usage: Usage) -> Json:
    """Tokens and playing time."""
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "inputTextTokens": usage.input_text_tokens,
        "inputImageTokens": usage.input_image_tokens,
        "outputTextTokens": usage.output_text_tokens,
        "outputImageTokens": usage.output_image_tokens,
        "videoDurationMicros": _duration_to_json(usage.video_duration),
    }


def usage_from_json(content: Json) -> Usage:
    """The inverse of `usage_to_json`."""
    return Usage(
        input_tokens=content["inputTokens"],
        output_tokens=content["outputTokens"],
        input_text_tokens=content["inputTextTokens"],
        input_image_tokens=content["inputImageTokens"],
        output_text_tokens=content["outputTextTokens"],
        output_image_tokens=content["outputImageTokens"],
        video_duration=_duration_from_json(content["videoDurationMicros"]),
    )


def cost_to_json(cost: Cost) -> Json:
    """Money."""
    return {"source": cost.source, "amountMicroUsd": cost.amount_micro_usd}


def cost_from_json(content: Json) -> Cost:
    """The inverse of `cost_to_json`."""
    return Cost(CostSource(content["source"]) if content["source"] else None, content["amountMicroUsd"])


def analysis_to_json(analysis: Analysis) -> Json:
    """What a model saw."""
    return {
        "description": analysis.description,
        "products": analysis.products,
        "tags": list(analysis.tags),
        "feedback": analysis.feedback,
        "model": analysis.model,
        "instructions": analysis.instructions,
        "analyzeTime": _time_to_json(analysis.analyze_time),
    }


def analysis_from_json(content: Mapping[str, Any]) -> Analysis:
    """The inverse of `analysis_to_json`."""
    return Analysis(
        description=content["description"],
        products=content["products"],
        tags=tuple(content["tags"]),
        feedback=content["feedback"],
        model=content["model"],
        instructions=content["instructions"],
        analyze_time=_time_from_json(content["analyzeTime"]),
    )


def _time_to_json(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat() if time else None


def _time_from_json(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _duration_to_json(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(microseconds=1)


def _duration_from_json(micros: int | None) -> timedelta | None:
    return None if micros is None else timedelta(microseconds=micros)
