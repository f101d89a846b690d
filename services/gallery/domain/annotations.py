"""What the service that paid for an analysis adds to an asset: sums that stay exact, and each only once."""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

from services.common.errors import InvalidArgument
from services.gallery.domain import failures
from services.gallery.domain.assets import Analysis, Asset, Cost, CostSource, Usage
from services.gallery.domain.document import analysis_to_json, cost_to_json, usage_to_json

KEPT_ANNOTATIONS = 64
"""So many request ids are remembered; an older one that is sent again would count again."""

MAX_NUMBER = 2**63 - 1
MAX_DURATION = timedelta(seconds=315_576_000_000)
"""The largest `google.protobuf.Duration`."""

# From the least to the most certain: a sum is as certain as its least certain part.
_CERTAINTY: tuple[CostSource | None, ...] = (
    None,
    CostSource.ESTIMATED,
    CostSource.COMPUTED,
    CostSource.PROVIDER_REPORTED,
)


@dataclass(frozen=True, slots=True)
class Annotation:
    """What was learned and what it took; None: nothing of the kind."""

    request_id: str
    analysis: Analysis | None = None
    usage: Usage | None = None
    cost: Cost | None = None

    @property
    def digest(self) -> str:
        """The same for the same content, at any time: kept beside the id, which stands for one content."""
        content = {
            "analysis": analysis_to_json(self.analysis) if self.analysis else None,
            "usage": usage_to_json(self.usage) if self.usage else None,
            "cost": cost_to_json(self.cost) if self.cost else None,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def annotate(asset: Asset, annotation: Annotation, now: datetime) -> Asset:
    """The asset with a new analysis, and usage and cost added up; as it was if it has the annotation already.

    Raises:
        InvalidArgument: INVALID_FIELD, a sum that no field can hold; REQUEST_ID_REUSED.
    """
    for kept in asset.annotations:
        request_id, _, digest = kept.partition(":")
        if request_id == annotation.request_id:
            if digest and digest != annotation.digest:
                raise failures.request_id_reused()
            return asset
    provenance = asset.provenance
    if annotation.usage is not None:
        provenance = replace(provenance, usage=add_usage(provenance.usage or Usage(), annotation.usage))
    if annotation.cost is not None:
        provenance = replace(provenance, cost=add_cost(provenance.cost, annotation.cost))
    analysis = asset.analysis if annotation.analysis is None else replace(annotation.analysis, analyze_time=now)
    newest = (*asset.annotations, f"{annotation.request_id}:{annotation.digest}")[-KEPT_ANNOTATIONS:]
    return replace(asset, provenance=provenance, analysis=analysis, annotations=newest)


def add_usage(present: Usage, more: Usage) -> Usage:
    """The sum of two usages. Playing time that one of them does not have is none.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    numbers = {
        field.name: _sum(f"usage.{field.name}", getattr(present, field.name), getattr(more, field.name))
        for field in fields(Usage)
        if field.name != "video_duration"
    }
    return Usage(**numbers, video_duration=_add_durations(present.video_duration, more.video_duration))


def add_cost(present: Cost | None, more: Cost) -> Cost:
    """The sum of two costs, exact in micro-USD. With a part that has no price the whole has none: UNPRICED.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    if present is None:
        return more
    if present.amount_micro_usd is None or more.amount_micro_usd is None:
        return Cost(CostSource.UNPRICED, None)
    amount = _sum("cost.amount_micro_usd", present.amount_micro_usd, more.amount_micro_usd)
    return Cost(min(present.source, more.source, key=_CERTAINTY.index), amount)


def _sum(field: str, present: int, more: int) -> int:
    if present + more > MAX_NUMBER:
        raise InvalidArgument.field(field, "makes a sum that is too large")
    return present + more


def _add_durations(present: timedelta | None, more: timedelta | None) -> timedelta | None:
    if more is None:
        return present
    whole = more if present is None else present + more
    if whole > MAX_DURATION:
        raise InvalidArgument.field("usage.video_duration", "makes a sum that is too large")
    return whole
