"""The rules of states and ids, without anything around them."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.common.errors import Billed
from services.image.domain.generations import GenerationState, PictureState, asset_id_of, state_of
from services.image.domain.requests import GenerateRequest, Placement
from services.models.image_requests import ImageRequest
from services.models.paid_calls import PaidCall, State

STORED, SPOOLED, FAILED = PictureState.STORED, PictureState.SPOOLED, PictureState.FAILED
NOW = datetime(2026, 11, 23, tzinfo=UTC)
CALL = PaidCall(
    id="c1",
    principal="somebody",
    method="GenerateImages",
    request_id="r",
    fingerprint=b"",
    operation="generate",
    model="m",
    endpoint="e",
    subject="imageGenerations/g",
    state=State.SUCCEEDED,
    billed=Billed.YES,
    fence=1,
    provider_request_id="",
    usage=None,
    cost=None,
    price_date=None,
    error=None,
    resolution_note="",
    create_time=NOW,
    call_time=NOW,
    end_time=NOW,
)


@pytest.mark.parametrize(
    ("pictures", "state"),
    [
        ([STORED], GenerationState.SUCCEEDED),
        ([STORED, STORED], GenerationState.SUCCEEDED),
        ([STORED, FAILED], GenerationState.PARTIALLY_SUCCEEDED),
        ([FAILED, FAILED], GenerationState.FAILED),
        ([STORED, SPOOLED], GenerationState.STORING),
        ([FAILED, SPOOLED], GenerationState.STORING),
    ],
)
def test_a_generations_state_follows_from_its_pictures(pictures: list[PictureState], state: GenerationState) -> None:
    assert state_of(pictures) is state


def test_an_assets_id_depends_on_the_paid_call_and_the_place_in_it_alone() -> None:
    assert asset_id_of(CALL, 0) == asset_id_of(replace(CALL, fence=9, state=State.CALLING), 0)
    assert len({asset_id_of(CALL, 0), asset_id_of(CALL, 1), asset_id_of(replace(CALL, id="c2"), 0)}) == 3


def test_a_request_is_the_same_whatever_its_id_and_whether_it_is_a_rehearsal() -> None:
    request = GenerateRequest(ImageRequest("x", n=2), Placement(tags=("a", "b")))
    assert replace(request, request_id="r", validate_only=True).fingerprint() == request.fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        GenerateRequest(ImageRequest("y")),
        GenerateRequest(ImageRequest("x", n=2)),
        GenerateRequest(ImageRequest("x", output_compression=0)),
        GenerateRequest(ImageRequest("x", seed=0)),
        GenerateRequest(ImageRequest("x"), Placement(folder="a")),
        GenerateRequest(ImageRequest("x"), Placement(tags=("a",))),
    ],
)
def test_every_field_makes_another_request(other: GenerateRequest) -> None:
    assert other.fingerprint() != GenerateRequest(ImageRequest("x")).fingerprint()
