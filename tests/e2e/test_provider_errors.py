"""The provider down, slow, throttling or refusing: each has its own reason and says whether it was billed."""

import asyncio
from typing import Any

import pytest

from tests.support.errors import RETRY_INFO, rest_error
from tests.support.stack import Stack


@pytest.mark.parametrize(
    ("fault", "status", "reason", "billed"),
    [
        pytest.param({"kind": "moderation_blocked"}, 400, "CONTENT_REJECTED", "no", id="moderation"),
        pytest.param({"kind": "content_filter"}, 400, "CONTENT_REJECTED", "no", id="azure content filter"),
        pytest.param({"kind": "rate_limit", "retry_after": 60}, 429, "PROVIDER_RATE_LIMITED", "no", id="429"),
        pytest.param({"kind": "overloaded", "retry_after": 60}, 503, "PROVIDER_UNAVAILABLE", "no", id="overloaded"),
        pytest.param({"kind": "server_error", "charged": True}, 504, "OUTCOME_UNKNOWN", "unknown", id="500"),
        pytest.param({"kind": "cut"}, 504, "OUTCOME_UNKNOWN", "unknown", id="cut before the answer"),
        pytest.param({"kind": "cut", "cut_at": "middle"}, 504, "OUTCOME_UNKNOWN", "unknown", id="cut in the answer"),
    ],
)
async def test_what_the_provider_does_wrong_is_told(
    stack: Stack, fault: dict[str, Any], status: int, reason: str, billed: str
) -> None:
    prompt = f"provider trouble {reason} {fault}"
    await stack.fault(**fault, times=None, match={"prompt_contains": prompt})
    async with stack.client() as client:
        error = rest_error(await client.post("/api/v1/images:generate", json={"prompt": prompt}))
        assert (error.status, error.reason, error.billed) == (status, reason, billed)
        if reason == "PROVIDER_RATE_LIMITED":
            assert any(detail["@type"] == RETRY_INFO for detail in error.details)
        if reason == "OUTCOME_UNKNOWN":
            name = error.metadata["imageGeneration"]
            assert (await client.get(f"/api/v1/{name}")).json()["state"] == "OUTCOME_UNKNOWN"


async def test_an_answer_that_is_no_result_is_told_as_the_providers_fault(stack: Stack) -> None:
    await stack.fault(kind="bad_json", match={"prompt_contains": "an answer that is no answer"})
    async with stack.client() as client:
        answer = await client.post("/api/v1/images:generate", json={"prompt": "an answer that is no answer"})
    error = rest_error(answer)
    assert error.reason == "PROVIDER_BAD_RESPONSE"
    assert error.billed in {"yes", "unknown"}


async def test_one_image_that_is_none_leaves_the_others(stack: Stack) -> None:
    await stack.fault(kind="short", match={"prompt_contains": "three asked, two sent"})
    async with stack.client() as client:
        request = {"prompt": "three asked, two sent", "n": 3}
        generation = (await client.post("/api/v1/images:generate", json=request)).json()
    assert generation["state"] == "PARTIALLY_SUCCEEDED"
    assert len(generation["assets"]) == 2
    assert [result["state"] for result in generation["results"]] == ["STORED", "STORED", "FAILED"]
    assert int(generation["cost"]["amountMicroUsd"]) > 0


async def test_a_client_that_does_not_wait_loses_nothing(stack: Stack) -> None:
    prompt = "slow and steady"
    await stack.fault(kind="slow", delay_seconds=3, match={"prompt_contains": prompt})
    async with stack.client() as client:
        answer = await client.post("/api/v1/images:generate", json={"prompt": prompt}, headers={"grpc-timeout": "1S"})
        assert answer.status_code == 504
        rest_error(answer)
        async with asyncio.timeout(30):
            while True:
                generations = (await client.get("/api/v1/imageGenerations")).json()["imageGenerations"]
                [mine] = [generation for generation in generations if generation["prompt"] == prompt]
                if mine["state"] == "SUCCEEDED":
                    break
                assert mine["state"] in {"RUNNING", "STORING"}
                await asyncio.sleep(0.2)
        assert (await client.get(f"/api/v1/{mine['assets'][0]}:download")).status_code == 200
