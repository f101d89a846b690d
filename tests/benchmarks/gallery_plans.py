"""How Postgres answers the very statements that the service sends."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.caller import acting_for
from services.common.pages import read_page
from services.gallery import convert_listing as convert
from services.gallery.adapters.counts import Counts
from services.gallery.adapters.listing import Listing
from tests.benchmarks.gallery_rows import LARGE


@dataclass
class Plan:
    """Of one call: milliseconds in the database, pages touched, and the scans that ran with the rows they gave."""

    planning: float = 0
    execution: float = 0
    pages: int = 0
    read: int = 0
    scans: list[str] = field(default_factory=list)


async def plan_of(engine: AsyncEngine, request: Any) -> Plan:
    """The plan of all statements of a request, run once more by EXPLAIN (ANALYZE, BUFFERS)."""
    plan = Plan()
    for statement, parameters in await _statements(engine, request):
        async with engine.connect() as connection:
            explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
            answer = await connection.exec_driver_sql(explained, parameters)
            found = answer.scalar_one()
        [top] = found if isinstance(found, list) else json.loads(found)
        plan.planning += top["Planning Time"]
        plan.execution += top["Execution Time"]
        plan.pages += top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"]
        plan.read += top["Plan"]["Shared Read Blocks"]
        plan.scans += _scans(top["Plan"])
    return plan


async def _statements(engine: AsyncEngine, request: Any) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []

    def note(*arguments: Any) -> None:
        found.append((arguments[2], arguments[3]))

    sa.event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        with acting_for(LARGE):
            await _call(engine, request)
    finally:
        sa.event.remove(engine.sync_engine, "before_cursor_execute", note)
    return found


async def _call(engine: AsyncEngine, request: Any) -> None:
    match request:
        case pb.ListAssetsRequest():
            order, filters = convert.order_of(request), convert.filters_of(request)
            page = read_page(request, keys=convert.page_keys(order))
            after = convert.position_of(page, order)
            await Listing(engine).list_page(LARGE, filters, order=order, size=page.size + 1, after=after, full=False)
        case pb.ListTagsRequest():
            await Counts(engine).tags(LARGE, prefix=request.prefix, size=101, after=None)
        case _:
            await Counts(engine).totals(LARGE)


def _scans(node: dict[str, Any]) -> Iterator[str]:
    if node["Actual Loops"] == 0:
        return
    name = node.get("Index Name") or node.get("Relation Name")
    if name and "Scan" in node["Node Type"]:
        rows = round(node["Actual Rows"] * node["Actual Loops"])
        yield f"{node['Node Type'].replace(' Scan', '')} {name.removeprefix('ix_asset_')} {rows}"
    elif node["Node Type"] == "Sort":
        yield f"Sort {round(node['Plans'][0]['Actual Rows'])}"
    for child in node.get("Plans", []):
        yield from _scans(child)
