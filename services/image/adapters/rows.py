"""Rows to domain objects."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.image.domain.generations import Facts, Generation, GenerationState, Picture, PictureState
from services.image.domain.inputs import Role, UsedInput
from services.image.domain.requests import Placement
from services.models.money import Cost
from services.models.paid_calls import PaidCall
from services.models.paid_calls.records import load_error
from services.models.usage import Usage

Row = Mapping[Any, Any]


def to_generation(row: Row, pictures: Sequence[Picture], calls: Sequence[PaidCall]) -> Generation:
    """A generation with what belongs to it."""
    names = ("id", "owner", "request_id", "operation", "prompt", "final_prompt", "model", "parameters")
    times = ("create_time", "update_time", "end_time")
    return Generation(
        **{name: row[name] for name in (*names, *times)},
        state=GenerationState(row["state"]),
        placement=to_placement(row["placement"]),
        usage=Usage.from_json(row["usage"]),
        cost=Cost.from_columns(row["cost_source"], row["cost_micro_usd"]),
        error=load_error(row["error"]),
        pictures=pictures,
        calls=calls,
        inputs=to_inputs(row["inputs"]),
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
