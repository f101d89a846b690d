"""Rows to domain objects."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.image.domain.accounts import billed_with, in_order, total_cost, total_usage
from services.image.domain.generations import (
    MAIN_OPERATIONS,
    Facts,
    Generation,
    GenerationState,
    Picture,
    PictureState,
)
from services.image.domain.inputs import Role, UsedInput
from services.image.domain.requests import Placement
from services.image.domain.steps import Revision, Steps
from services.models.money import Cost
from services.models.paid_calls import PaidCall
from services.models.paid_calls.records import load_error
from services.models.usage import Usage

Row = Mapping[Any, Any]


def to_generation(row: Row, pictures: Sequence[Picture], calls: Sequence[PaidCall]) -> Generation:
    """A generation with what belongs to it."""
    names = (
        "id",
        "owner",
        "request_id",
        "operation",
        "prompt",
        "final_prompt",
        "model",
        "parameters",
        "suggested_name",
    )
    times = ("create_time", "update_time", "end_time")
    main = Usage.from_json(row["usage"]), Cost.from_columns(row["cost_source"], row["cost_micro_usd"])
    mains = [call.id for call in calls if call.operation in MAIN_OPERATIONS]
    # The row has the numbers of the last main call; one before it was settled by its owner's word.
    asked = [call for call in calls if call.id not in mains[-1:]]
    notes = tuple(error for note in row["notes"] if (error := load_error(note)) is not None)
    return Generation(
        **{name: row[name] for name in (*names, *times)},
        state=GenerationState(row["state"]),
        placement=to_placement(row["placement"]),
        usage=total_usage(asked, main[0]),
        cost=total_cost(asked, main[1]),
        error=billed_with(load_error(row["error"]), asked) or next(iter(notes), None),
        pictures=pictures,
        calls=in_order(calls),
        inputs=to_inputs(row["inputs"]),
        steps=Steps.from_json(row["pipeline"]),
        revisions=tuple(Revision.from_json(one) for one in row["revisions"]),
        notes=notes,
    )


def to_picture(row: Row) -> Picture:
    """One picture; without a MIME type the gallery has not read it yet."""
    facts = Facts(row["mime_type"], row["width_px"], row["height_px"], row["has_transparency"])
    return Picture(
        index=row["index"],
        state=PictureState(row["state"]),
        asset_id=row["asset_id"],
        sha256=row["sha256"],
        size_bytes=row["size_bytes"],
        facts=facts if facts.mime_type else None,
        usage=Usage.from_json(row["usage"]),
        cost=Cost.from_columns(row["cost_source"], row["cost_micro_usd"]),
        error=load_error(row["error"]),
    )


def to_placement(data: Mapping[str, Any]) -> Placement:
    """What `from_placement` wrote."""
    return Placement(data.get("folder", ""), data.get("displayName", ""), tuple(data.get("tags", ())))


def from_placement(placement: Placement) -> dict[str, Any]:
    """For a JSON column."""
    return {"folder": placement.folder, "displayName": placement.display_name, "tags": list(placement.tags)}


def to_inputs(data: Sequence[Mapping[str, str]]) -> tuple[UsedInput, ...]:
    """What `from_inputs` wrote."""
    return tuple(UsedInput(Role(one["role"]), one.get("asset", ""), one.get("sha256", "")) for one in data)


def from_inputs(inputs: Sequence[UsedInput]) -> list[dict[str, str]]:
    """For a JSON column."""
    return [{"role": one.role, "asset": one.asset_id, "sha256": one.sha256} for one in inputs]
