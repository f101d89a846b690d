"""Request ids and W3C trace context."""

import asyncio
import uuid

import pytest

from services.common.trace import continue_trace, request_id_from, trace_metadata

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.mark.parametrize("sane", ["a", "x" * 128, "0b7e:span.1_2-3", "3c0a64f0-0000-4000-8000-000000000000"])
def test_a_sane_request_id_is_kept(sane: str) -> None:
    assert request_id_from({"x-request-id": sane}) == sane


@pytest.mark.parametrize("bad", ["", "x" * 129, "a b", "a\nb", "ä", "\x7f", "\t", 'a"b', "a\\b", "{}", "a,b"])
def test_any_other_request_id_is_replaced_by_a_uuid(bad: str) -> None:
    assert uuid.UUID(request_id_from({"x-request-id": bad})).version == 4


def test_a_missing_request_id_is_made() -> None:
    assert uuid.UUID(request_id_from({})).version == 4


async def traced(metadata: dict[str, str]) -> tuple[str, dict[str, str]]:
    return continue_trace(metadata), trace_metadata()


async def test_an_incoming_trace_is_continued_and_passed_on() -> None:
    trace_id, outgoing = await asyncio.create_task(traced({"traceparent": TRACEPARENT, "tracestate": "a=1"}))
    assert (trace_id, outgoing) == (TRACE_ID, {"traceparent": TRACEPARENT, "tracestate": "a=1"})


@pytest.mark.parametrize("bad", ["", "x", "00-0-0-0", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"ff-{TRACE_ID}-00"])
async def test_without_a_valid_trace_a_new_one_begins(bad: str) -> None:
    trace_id, outgoing = await asyncio.create_task(traced({"traceparent": bad}))
    assert len(trace_id) == 32
    assert trace_id not in ("0" * 32, TRACE_ID)
    assert outgoing["traceparent"].split("-")[1] == trace_id


async def test_outside_of_a_call_nothing_is_passed_on() -> None:
    assert trace_metadata() == {}
