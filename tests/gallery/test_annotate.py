"""Annotations: what services have learned and spent is added exactly, and once."""

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.domain.annotations import KEPT_ANNOTATIONS, Annotation, add_cost, annotate
from services.gallery.domain.assets import Asset, Cost, CostSource, Media, MediaType, Usage
from services.gallery.domain.document import from_document, to_document
from tests.gallery.counts import drift
from tests.gallery.harness import Client, refusal
from tests.support.media import png

PICTURE = png(8, 8)


def annotation(name: str, **fields: Any) -> pb.AnnotateAssetRequest:
    return pb.AnnotateAssetRequest(**{"name": name, "request_id": str(uuid.uuid4()), **fields})


async def test_only_services_annotate(user: Client) -> None:
    asset = await user.upload(PICTURE)
    error = await refusal(user.call(annotation(asset.name)))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SERVICE_PRINCIPAL_REQUIRED")


async def test_an_analysis_replaces_the_one_before_and_tells_when(user: Client) -> None:
    service, asset = user.as_service(), await user.upload(PICTURE)
    first = pb.Analysis(description="a cat", products="none", tags=["cat"], feedback="more light", model="m")
    annotated = await service.call(annotation(asset.name, analysis=first))
    assert annotated == await user.get(asset.name)
    assert annotated.analysis.analyze_time == annotated.update_time
    annotated.analysis.ClearField("analyze_time")
    assert annotated.analysis == first
    second = await service.call(
        annotation(asset.name, analysis=pb.Analysis(description="夜の海", instructions="in words"))
    )
    assert (second.analysis.description, second.analysis.model) == ("夜の海", "")
    third = await service.call(annotation(asset.name, usage=pb.Usage(input_tokens=1)))
    assert third.analysis == second.analysis, "an annotation without an analysis keeps it"


async def test_usage_and_cost_are_added_to_what_the_making_took(user: Client) -> None:
    service = user.as_service()
    usage = pb.Usage(input_tokens=10, output_tokens=20, output_image_tokens=20)
    cost = pb.Cost(source=pb.Cost.COMPUTED, amount_micro_usd=7)
    provenance = pb.Provenance(owner=user.principal, usage=usage, cost=cost)
    asset = await service.upload(PICTURE, provenance=provenance)
    more = pb.Usage(input_tokens=3, input_text_tokens=3)
    await service.call(annotation(asset.name, usage=more, cost=pb.Cost(source=pb.Cost.ESTIMATED, amount_micro_usd=5)))
    now = await user.get(asset.name)
    assert now.usage == pb.Usage(input_tokens=13, output_tokens=20, output_image_tokens=20, input_text_tokens=3)
    assert now.cost == pb.Cost(source=pb.Cost.ESTIMATED, amount_micro_usd=12)
    await service.call(annotation(asset.name, cost=pb.Cost(source=pb.Cost.UNPRICED)))
    now = await user.get(asset.name)
    assert (now.cost.source, now.cost.HasField("amount_micro_usd")) == (pb.Cost.UNPRICED, False)


async def test_a_repeated_request_counts_once_also_at_the_same_time(user: Client) -> None:
    service, asset = user.as_service(), await user.upload(PICTURE)
    request = annotation(asset.name, cost=pb.Cost(source=pb.Cost.COMPUTED, amount_micro_usd=5))
    other_case = annotation(asset.name, cost=request.cost, request_id=request.request_id.upper())
    answers = await asyncio.gather(*(service.call(r) for r in [request, other_case] * 5))
    assert {answer.cost.amount_micro_usd for answer in answers} == {5}
    assert len({answer.etag for answer in answers}) == 1
    assert await drift(user) == {}


async def test_a_request_id_stands_for_one_content(user: Client) -> None:
    service, asset = user.as_service(), await user.upload(PICTURE)
    request = annotation(asset.name, cost=pb.Cost(source=pb.Cost.COMPUTED, amount_micro_usd=5))
    counted = await service.call(request)
    for other in (
        {"cost": pb.Cost(source=pb.Cost.COMPUTED, amount_micro_usd=999)},
        {"cost": request.cost, "usage": pb.Usage(input_tokens=1)},
        {"cost": request.cost, "analysis": pb.Analysis(description="a cat")},
        {},
    ):
        error = await refusal(service.call(annotation(asset.name, request_id=request.request_id, **other)))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert await service.call(request) == counted


def test_a_request_id_from_before_digests_is_the_same_whatever_its_content() -> None:
    asset = replace(ASSET, annotations=("r",))
    assert annotate(asset, Annotation("r", usage=Usage(input_tokens=1)), NOW) == asset


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cost": pb.Cost(source=pb.Cost.UNPRICED, amount_micro_usd=5)}, "cost.amount_micro_usd"),
        ({"cost": pb.Cost(source=pb.Cost.COMPUTED)}, "cost.amount_micro_usd"),
        ({"cost": pb.Cost(source=pb.Cost.COMPUTED, amount_micro_usd=-5)}, "cost.amount_micro_usd"),
        ({"usage": pb.Usage(output_image_tokens=-7)}, "usage.output_image_tokens"),
        ({"usage": {"video_duration": timedelta(seconds=-1)}}, "usage.video_duration"),
    ],
)
async def test_an_upload_with_a_cost_or_usage_that_cannot_be_is_refused(
    user: Client, fields: dict[str, Any], field: str
) -> None:
    provenance = pb.Provenance(owner=user.principal, **fields)
    error = await refusal(user.as_service().upload(PICTURE, provenance=provenance))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.fields == (f"metadata.provenance.{field}",)
    assert await user.names() == []


async def test_annotations_at_once_all_count(user: Client) -> None:
    service, asset = user.as_service(), await user.upload(PICTURE)
    calls = [
        service.call(annotation(asset.name, usage=pb.Usage(input_tokens=n), cost=pb.Cost(amount_micro_usd=n)))
        for n in range(1, 21)
    ]
    await asyncio.gather(*calls)
    now = await user.get(asset.name)
    assert (now.usage.input_tokens, now.cost.amount_micro_usd) == (210, 210)


async def test_the_document_remembers_what_was_counted(user: Client) -> None:
    service, asset = user.as_service(), await user.upload(PICTURE)
    request = annotation(asset.name, usage=pb.Usage(input_tokens=1))
    await service.call(request)
    async with asyncio.timeout(10):
        while True:
            document = from_document(await user.gallery.blob(f"{asset.name[7:]}/asset.json"))
            if document.annotations:
                break
            await asyncio.sleep(0.05)
    [kept] = document.annotations
    assert kept.partition(":")[0] == request.request_id
    assert document.provenance.usage == Usage(input_tokens=1)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"usage": pb.Usage(input_tokens=-1)}, "usage.input_tokens"),
        ({"usage": pb.Usage(output_tokens=2**63 - 1)}, "usage.output_tokens"),
        ({"usage": {"video_duration": timedelta(seconds=-1)}}, "usage.video_duration"),
        ({"cost": pb.Cost(amount_micro_usd=-1)}, "cost.amount_micro_usd"),
        ({"cost": pb.Cost(amount_micro_usd=2**63 - 1)}, "cost.amount_micro_usd"),
        ({"cost": {"source": 99}}, "cost.source"),
        ({"cost": pb.Cost(source=pb.Cost.UNPRICED, amount_micro_usd=5)}, "cost.amount_micro_usd"),
        ({"cost": pb.Cost(source=pb.Cost.COMPUTED)}, "cost.amount_micro_usd"),
        ({"cost": pb.Cost(source=pb.Cost.PROVIDER_REPORTED)}, "cost.amount_micro_usd"),
        ({"cost": pb.Cost(source=pb.Cost.ESTIMATED)}, "cost.amount_micro_usd"),
        ({"analysis": pb.Analysis(description="a\0b")}, "analysis.description"),
        ({"request_id": "no uuid"}, "request_id"),
        ({"request_id": ""}, "request_id"),
    ],
)
async def test_what_cannot_be_added_is_refused_and_changes_nothing(
    user: Client, fields: dict[str, Any], field: str
) -> None:
    service, asset = user.as_service(), await user.upload(PICTURE)
    one = {"usage": pb.Usage(output_tokens=1), "cost": pb.Cost(amount_micro_usd=1)}
    before = await service.call(annotation(asset.name, **one))
    error = await refusal(service.call(annotation(asset.name, **fields)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.fields == (field,)
    assert await user.get(asset.name) == before


NOW = datetime(2026, 5, 1, tzinfo=UTC)
ASSET = Asset(
    id="a",
    owner="o",
    display_name="n",
    media=Media(MediaType.IMAGE, "image/png", 9, "0" * 64),
    create_time=NOW,
    update_time=NOW,
)
SOURCES = [None, CostSource.COMPUTED, CostSource.PROVIDER_REPORTED, CostSource.ESTIMATED]
priced = st.builds(Cost, st.sampled_from(SOURCES), st.integers(0, 10**12))
unpriced = st.just(Cost(CostSource.UNPRICED, None))


@given(st.lists(st.tuples(st.integers(0, 9), priced | unpriced), max_size=20))
def test_each_request_counts_once_and_a_sum_with_an_unknown_part_is_unknown(sent: list[tuple[int, Cost]]) -> None:
    asset, first = ASSET, dict(reversed(sent))
    for number, _ in sent:
        asset = annotate(asset, Annotation(str(number), cost=first[number], usage=Usage(input_tokens=1)), NOW)
    counted = list(first.values())
    amounts = [cost.amount_micro_usd for cost in counted]
    total = asset.provenance.cost
    if not counted:
        assert total is None
    elif None in amounts:
        assert total == Cost(CostSource.UNPRICED, None)
    else:
        assert total is not None
        assert total.amount_micro_usd == sum(amount for amount in amounts if amount is not None)
    assert (asset.provenance.usage or Usage()).input_tokens == len(counted)


@given(priced | unpriced, priced | unpriced)
def test_the_order_of_two_costs_does_not_matter(one: Cost, other: Cost) -> None:
    assert add_cost(one, other) == add_cost(other, one)


def test_a_video_keeps_its_playing_time_when_its_analysis_has_none() -> None:
    made = replace(ASSET, provenance=replace(ASSET.provenance, usage=Usage(video_duration=timedelta(seconds=8))))
    annotated = annotate(made, Annotation("r", usage=Usage(input_tokens=1)), NOW)
    assert annotated.provenance.usage == Usage(input_tokens=1, video_duration=timedelta(seconds=8))


def test_the_newest_request_ids_are_kept_and_survive_the_document() -> None:
    asset = ASSET
    for number in range(KEPT_ANNOTATIONS + 10):
        asset = annotate(asset, Annotation(str(number)), NOW)
    kept = [annotation.partition(":")[0] for annotation in asset.annotations]
    assert kept == [str(number) for number in range(10, KEPT_ANNOTATIONS + 10)]
    assert from_document(to_document(asset)) == asset


def test_a_document_from_before_annotations_has_none() -> None:
    document = to_document(ASSET).replace(b',\n "annotations": []', b"")
    assert b"annotations" not in document
    assert from_document(document) == ASSET
