"""Assets and what belongs to them, from the contract to the domain and back. Pure."""

from dataclasses import fields
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.errors import InvalidArgument
from services.gallery.domain.assets import (
    Analysis,
    Asset,
    Cost,
    CostSource,
    Media,
    MediaType,
    Parent,
    PromptRevision,
    PromptStep,
    Provenance,
    Relation,
    Usage,
)
from services.gallery.domain.variants import Variant

BASIC_PROMPT_CHARACTERS = 200

_COUNTS = tuple(field.name for field in fields(Usage) if field.name != "video_duration")

MEDIA_TYPES = {MediaType.IMAGE: pb.Asset.IMAGE, MediaType.VIDEO: pb.Asset.VIDEO}
RELATIONS = {
    Relation.EDITED_FROM: pb.Parent.EDITED_FROM,
    Relation.REFERENCE: pb.Parent.REFERENCE,
    Relation.MASK: pb.Parent.MASK,
    Relation.MARKUP: pb.Parent.MARKUP,
    Relation.REMIX_OF: pb.Parent.REMIX_OF,
    Relation.EXTENSION_OF: pb.Parent.EXTENSION_OF,
}
SOURCES = {
    CostSource.COMPUTED: pb.Cost.COMPUTED,
    CostSource.PROVIDER_REPORTED: pb.Cost.PROVIDER_REPORTED,
    CostSource.ESTIMATED: pb.Cost.ESTIMATED,
    CostSource.UNPRICED: pb.Cost.UNPRICED,
}
STEPS = {PromptStep.ENHANCED: pb.PromptRevision.ENHANCED, PromptStep.BRAND_PROTECTED: pb.PromptRevision.BRAND_PROTECTED}
VARIANTS = {
    Variant.PREVIEW: pb.Asset.PREVIEW,
    Variant.THUMBNAIL: pb.Asset.THUMBNAIL,
    Variant.POSTER: pb.Asset.POSTER,
}

_MEDIA_TYPES_BACK = {message: value for value, message in MEDIA_TYPES.items()}
_RELATIONS_BACK = {message: value for value, message in RELATIONS.items()}
_SOURCES_BACK = {message: value for value, message in SOURCES.items()}
_STEPS_BACK = {message: value for value, message in STEPS.items()}
_VARIANTS_BACK = {message: value for value, message in VARIANTS.items()}


def media_type_of(value: pb.Asset.MediaType.ValueType) -> MediaType | None:
    """None: every kind."""
    return _MEDIA_TYPES_BACK.get(value)


def variant_of(value: pb.Asset.Variant.ValueType) -> Variant | None:
    """None: the original."""
    return _VARIANTS_BACK.get(value)


def provenance_of(message: pb.Provenance) -> Provenance:
    """Where an asset comes from; an empty message gives an empty provenance.

    Raises:
        InvalidArgument: INVALID_FIELD, a number that is none of an enum's.
    """
    return Provenance(
        prompt=message.prompt,
        prompt_revisions=tuple(_revision_of(revision) for revision in message.prompt_revisions),
        model=message.model,
        parameters=dict(message.parameters),
        origin=message.origin,
        parents=tuple(
            Parent(parent.asset.removeprefix("assets/"), _RELATIONS_BACK[parent.relation]) for parent in message.parents
        ),
        usage=usage_of(message.usage, "metadata.provenance.usage") if message.HasField("usage") else None,
        cost=cost_of(message.cost, "metadata.provenance.cost") if message.HasField("cost") else None,
    )


def asset_message(asset: Asset, *, full: bool) -> pb.Asset:
    """The contract's asset: everything (FULL), or what lists show (BASIC)."""
    message = pb.Asset(
        name=asset.name,
        display_name=asset.display_name,
        folder=f"folders/{asset.folder.id}" if asset.folder else "",
        folder_path=asset.folder.path if asset.folder else "",
        tags=asset.tags,
        labels=asset.labels,
        favorite=asset.favorite,
        owner=asset.owner,
        create_time=stamp(asset.create_time),
        update_time=stamp(asset.update_time),
        delete_time=stamp(asset.delete_time),
        purge_time=stamp(asset.purge_time),
        etag=asset.etag,
        variants=sorted(VARIANTS[Variant(variant)] for variant in asset.variants),
    )
    message.MergeFrom(_media_message(asset.media))
    message.MergeFrom(_provenance_message(asset.provenance, full=full))
    if full and asset.analysis is not None:
        message.analysis.CopyFrom(_analysis_message(asset.analysis))
    return message


def _media_message(media: Media) -> pb.Asset:
    return pb.Asset(
        media_type=MEDIA_TYPES[media.media_type],
        mime_type=media.mime_type,
        size_bytes=media.size_bytes,
        sha256=media.sha256,
        width_px=media.width_px,
        height_px=media.height_px,
        duration=_duration(media.duration),
        has_transparency=media.has_transparency,
        has_content_credentials=media.has_content_credentials,
    )


def _provenance_message(provenance: Provenance, *, full: bool) -> pb.Asset:
    def shown(prompt: str) -> str:
        return prompt if full else prompt[:BASIC_PROMPT_CHARACTERS]

    return pb.Asset(
        prompt=shown(provenance.prompt),
        prompt_revisions=[
            pb.PromptRevision(
                step=STEPS[revision.step] if revision.step else pb.PromptRevision.STEP_UNSPECIFIED,
                previous_prompt=shown(revision.previous_prompt),
                model=revision.model,
            )
            for revision in provenance.prompt_revisions
        ],
        model=provenance.model,
        parameters=provenance.parameters if full else None,
        origin=provenance.origin,
        parents=[
            pb.Parent(asset=f"assets/{parent.asset_id}", relation=RELATIONS[parent.relation])
            for parent in provenance.parents
        ],
        usage=_usage_message(provenance.usage) if provenance.usage else None,
        cost=_cost_message(provenance.cost) if provenance.cost else None,
    )


def _revision_of(message: pb.PromptRevision) -> PromptRevision:
    step = _STEPS_BACK.get(message.step)
    if step is None and message.step:
        raise InvalidArgument.field("metadata.provenance.prompt_revisions.step", "is not a step of this contract")
    return PromptRevision(step, message.previous_prompt, message.model)


def usage_of(message: pb.Usage, field: str) -> Usage:
    """What a provider said it used; `field` is where it stands in the request.

    Raises:
        InvalidArgument: INVALID_FIELD, a playing time that is none, or a negative number.
    """
    try:
        duration = message.video_duration.ToTimedelta() if message.HasField("video_duration") else None
    except (ValueError, OverflowError):
        raise InvalidArgument.field(f"{field}.video_duration", "is not a duration") from None
    if duration is not None and duration < timedelta():
        raise InvalidArgument.field(f"{field}.video_duration", "must not be negative")
    for name in _COUNTS:
        if getattr(message, name) < 0:
            raise InvalidArgument.field(f"{field}.{name}", "must not be negative")
    return Usage(
        input_tokens=message.input_tokens,
        output_tokens=message.output_tokens,
        input_text_tokens=message.input_text_tokens,
        input_image_tokens=message.input_image_tokens,
        output_text_tokens=message.output_text_tokens,
        output_image_tokens=message.output_image_tokens,
        video_duration=duration,
    )


def _usage_message(usage: Usage) -> pb.Usage:
    return pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        input_text_tokens=usage.input_text_tokens,
        input_image_tokens=usage.input_image_tokens,
        output_text_tokens=usage.output_text_tokens,
        output_image_tokens=usage.output_image_tokens,
        video_duration=_duration(usage.video_duration),
    )


def cost_of(message: pb.Cost, field: str) -> Cost | None:
    """Money; None for an empty message. `field` is where it stands in the request.

    Raises:
        InvalidArgument: INVALID_FIELD, a number that is no source, a negative amount, an amount that is UNPRICED, or
            another source without an amount.
    """
    source = _SOURCES_BACK.get(message.source)
    if source is None and message.source:
        raise InvalidArgument.field(f"{field}.source", "is not a source of this contract")
    amount = message.amount_micro_usd if message.HasField("amount_micro_usd") else None
    if amount is not None and amount < 0:
        raise InvalidArgument.field(f"{field}.amount_micro_usd", "must not be negative")
    if source is not None and (amount is None) != (source is CostSource.UNPRICED):
        rule = "must be absent of a cost that is UNPRICED, and given with every other source"
        raise InvalidArgument.field(f"{field}.amount_micro_usd", rule)
    return Cost(source, amount) if source is not None or amount is not None else None


def _cost_message(cost: Cost) -> pb.Cost:
    source = SOURCES[cost.source] if cost.source else pb.Cost.SOURCE_UNSPECIFIED
    return pb.Cost(source=source, amount_micro_usd=cost.amount_micro_usd)


def analysis_of(message: pb.Analysis) -> Analysis:
    """What a model saw; when it did is for the gallery to say."""
    return Analysis(
        description=message.description,
        products=message.products,
        tags=tuple(message.tags),
        feedback=message.feedback,
        model=message.model,
        instructions=message.instructions,
    )


def _analysis_message(analysis: Analysis) -> pb.Analysis:
    return pb.Analysis(
        description=analysis.description,
        products=analysis.products,
        tags=analysis.tags,
        feedback=analysis.feedback,
        model=analysis.model,
        instructions=analysis.instructions,
        analyze_time=stamp(analysis.analyze_time),
    )


def stamp(time: datetime | None) -> Timestamp | None:
    """The contract's time."""
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration
