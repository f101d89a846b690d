"""Every method of the contract is reached, each through the cluster of its kind; nothing else is."""

import re
from collections import Counter
from typing import Any

import grpc
import httpx2
import pytest

from gateway.clusters import LANES, cluster_name
from gateway.contract import Kind, load_methods
from tests.gateway.harness import Gateway
from tests.support.contract import DESCRIPTOR_SET, bindings, methods
from tests.support.errors import rest_error

ROUTED = load_methods(DESCRIPTOR_SET)


async def totals(gateway: Gateway) -> Counter[str]:
    """How many calls of each method went through the cluster that its kind has."""
    async with httpx2.AsyncClient(base_url=gateway.admin_url) as client:
        page = (await client.get(r"/stats?filter=\.grpc\.contentlab\..*\.total$")).text
    stats = {name: int(value) for name, _, value in (line.partition(": ") for line in page.splitlines())}
    counted: Counter[str] = Counter()
    for method in ROUTED:
        cluster = cluster_name(method.upstream, LANES[method.kind])
        counted[method.path] = stats.get(f"cluster.{cluster}.grpc.{method.service}.{method.name}.total", 0)
    return counted


def some_path(template: str) -> str:
    """A path that fits a template: `*` becomes `x`."""
    return re.sub(r"\{[^=}]+=([^}]+)\}", r"\1", template).replace("*", "x")


async def test_every_binding_of_every_method_reaches_it_over_rest(gateway: Gateway) -> None:
    before = await totals(gateway)
    expected: Counter[str] = Counter()
    async with gateway.client() as client:
        for method in ROUTED:
            for verb, template in method.bindings:
                content = b"{}" if verb in ("POST", "PATCH") else None
                answer = await client.request(verb, some_path(template), content=content)
                assert answer.status_code in (400, 501), (verb, template, answer.text)
                rest_error(answer)
                expected[method.path] += 1
    assert await totals(gateway) - before == expected


async def test_every_method_is_reached_over_grpc(gateway: Gateway) -> None:
    before = await totals(gateway)
    async with gateway.channel() as channel:
        for method in ROUTED:
            call: Any = channel.unary_unary(method.path)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call(b"", timeout=10)
            assert error.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT), method.path
    assert await totals(gateway) - before == Counter({method.path: 1 for method in ROUTED})


async def test_a_method_that_a_service_has_not_built_is_501_in_the_one_shape(gateway: Gateway) -> None:
    async with gateway.client() as client:
        error = rest_error(await client.get("/api/v1/videoJobs"))
    assert (error.status, error.code, error.reason) == (501, 12, "NOT_IMPLEMENTED")


async def test_the_ledger_is_behind_no_door(gateway: Gateway) -> None:
    ledger = [method for method in methods() if method.containing_service.name == "UsageLedger"]
    assert ledger
    async with gateway.channel() as channel, gateway.client() as client:
        for method in ledger:
            path = f"/{method.containing_service.full_name}/{method.name}"
            call: Any = channel.unary_unary(path)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call(b"", timeout=10)
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
            for content_type in ("application/json", "application/grpc-web+proto", "text/plain"):
                answer = await client.post(path, content=b"\0\0\0\0\0", headers={"content-type": content_type})
                assert answer.headers.get("grpc-status", "12") == "12"
                assert answer.status_code == 404 or content_type.startswith("application/grpc")
    assert not gateway.scripts["usage"].calls


async def test_a_grpc_only_method_has_no_rest_door(gateway: Gateway) -> None:
    grpc_only = [method for method in ROUTED if not method.bindings]
    assert {method.name for method in grpc_only} == {"UploadAsset", "AnnotateAsset"}
    async with gateway.client() as client:
        for method in grpc_only:
            answer = await client.post(method.path, json={})
            assert rest_error(answer).status == 404
    assert not gateway.gallery.calls


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/api/v1/nothing"),
        ("PUT", "/api/v1/assets/a"),
        ("POST", "/api/v1/images:paint"),
        ("GET", "/api/v1/assets/a:paint"),
        ("OPTIONS", "/api/v1/assets/a"),
        ("GET", "/api/v1/images:generate"),
        ("GET", "/grpc.health.v1.Health/Check"),
    ],
)
async def test_what_does_not_exist_is_404_in_the_one_shape_and_reaches_nobody(
    gateway: Gateway, verb: str, path: str
) -> None:
    for headers in ({}, {"accept": "text/event-stream"}):
        async with gateway.client() as client:
            error = rest_error(await client.request(verb, path, headers=headers))
        assert (error.status, error.code, error.reason, error.billed) == (404, 5, "NO_SUCH_METHOD", "no")
    assert not gateway.gallery.calls + gateway.image.calls


async def test_the_front_page_names_the_api(gateway: Gateway) -> None:
    async with gateway.client() as client:
        page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/plain; charset=utf-8"
    assert f"{gateway.url}/api/v1/images:generate" in page.text


def test_every_bound_method_of_the_contract_is_tested_here() -> None:
    assert {f"{method.service}.{method.name}" for method in ROUTED if method.bindings} == {
        method.full_name for method in methods() if bindings(method)
    }
    assert {method.kind for method in ROUTED} == set(Kind)
