"""Who is let in without authentication, what a request may not bring along, and what the gateway says of itself."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as gallery_rpc
from gateway.settings import Times
from tests.gateway.harness import Gateway, Script, eventually, gateway_settings, healthy, running_envoy, upstream
from tests.support.errors import rest_error
from tests.support.ports import free_port

SPOOFED = {
    "x-principal": "somebody",
    "x-scopes": "admin",
    "x-contentlab-service": "image",
    "x-contentlab-token": "guessed",
    "x-upload-content-length": "1",
    "x-http-code": "206",
    "x-envoy-original-path": "/spoofed",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "sec-fetch-site": "none",
    "cookie": "session=1",
}


async def asset(request: Any, context: Any) -> gallery_pb.Asset:
    return gallery_pb.Asset(name="assets/a")


async def test_headers_that_only_the_suite_may_set_do_not_pass(gateway: Gateway) -> None:
    for method in ("GetAsset", "UploadAssetContent"):
        gateway.gallery.on(method, asset)
    async with gateway.client() as client, gateway.channel() as channel:
        assert (await client.get("/api/v1/assets/a", headers=SPOOFED)).status_code == 200
        assert (await client.post("/api/v1/assets:upload", content=b"12345", headers=SPOOFED)).status_code == 200
        metadata = tuple(SPOOFED.items())
        await gallery_rpc.GalleryServiceStub(channel).GetAsset(
            gallery_pb.GetAssetRequest(name="assets/a"), metadata=metadata
        )
    rest, upload, native = [metadata for _, _, metadata in gateway.gallery.calls]
    for seen in (rest, upload, native):
        assert not {name for name, value in SPOOFED.items() if seen.get(name) == value}
    assert upload["x-upload-content-length"] == "5"
    assert "x-upload-content-length" not in rest.keys() | native.keys()


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.10"]
)
async def test_a_page_from_elsewhere_cannot_make_this_machine_spend(gateway: Gateway, origin: str) -> None:
    async with gateway.client() as client:
        answer = await client.post(
            "/api/v1/images:generate",
            content=b'{"prompt": "a"}',
            headers={"origin": origin, "content-type": "text/plain"},
        )
    error = rest_error(answer)
    assert (error.status, error.code, error.reason, error.billed) == (403, 7, "LOOPBACK_ONLY", "no")
    assert not gateway.image.calls


async def test_a_name_that_was_made_to_point_here_is_not_served(gateway: Gateway) -> None:
    async with gateway.client() as client:
        for path in ("/", "/api/v1/assets/a"):
            error = rest_error(await client.get(path, headers={"host": f"evil.example:{gateway.port}"}))
            assert (error.status, error.reason) == (403, "LOOPBACK_ONLY")
    assert not gateway.gallery.calls


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "localhost:5173"])
async def test_pages_and_names_of_this_machine_are_served(gateway: Gateway, name: str) -> None:
    gateway.gallery.on("GetAsset", asset)
    async with gateway.client() as client:
        answer = await client.get("/api/v1/assets/a", headers={"host": name, "origin": f"http://{name}"})
    assert answer.status_code == 200


async def test_the_health_page_tells_the_truth_and_a_service_that_is_down_is_503(tmp_path: Path) -> None:
    port, video = free_port(), Script()
    async with AsyncExitStack() as stack:
        ports = {
            name: await stack.enter_async_context(upstream(name, Script())) for name in ("image", "gallery", "usage")
        }
        settings = gateway_settings({**ports, "video": port}, times=Times(health=0.5))
        log = await stack.enter_async_context(running_envoy(settings, tmp_path))
        gateway = Gateway(settings, log)
        async with gateway.client() as client:
            await healthy(gateway, status=503)
            page = rest_error(await client.get("/healthz"))
            assert (page.code, page.reason) == (14, "UNAVAILABLE")
            read = rest_error(await client.get("/api/v1/videoJobs"))
            paid = rest_error(await client.post("/api/v1/videoJobs", json={"prompt": "a"}))
            for error in (read, paid):
                assert (error.status, error.code, error.reason, error.billed) == (503, 14, "UNAVAILABLE", "no")
                assert error.metadata["retrySafe"] == "true"
                assert str(port) not in str(error)
            async with upstream("video", video, port):
                await healthy(gateway)
                assert (await client.get("/api/v1/videoJobs")).status_code == 501
            await healthy(gateway, status=503)


async def test_a_service_that_is_alive_but_not_ready_is_not_healthy(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        names = ("image", "gallery", "usage", "video")
        ports = {name: await stack.enter_async_context(upstream(name, Script())) for name in names}
        ports["video"] = ports["image"]  # listens, and does not know the video service
        settings = gateway_settings(ports, times=Times(health=0.2))
        log = await stack.enter_async_context(running_envoy(settings, tmp_path))
        await healthy(Gateway(settings, log), status=503)


async def test_a_request_whose_headers_or_body_stall_is_given_up(impatient: Gateway) -> None:
    reader, writer = await impatient.connect()
    writer.write(b"GET /api/v1/assets HTTP/1.1\r\nhost: local")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":4' in answer
    writer.close()


async def test_the_access_log_is_one_json_line_a_request_without_what_was_searched(gateway: Gateway) -> None:
    async with gateway.client() as client:
        answer = await client.get(
            "/api/v1/assets?query=secret-launch", headers={"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}
        )
    request_id = answer.headers["x-request-id"]
    await eventually(lambda: request_id in gateway.log.read_text())
    [line] = [line for line in gateway.log.read_text().splitlines() if request_id in line]
    entry = json.loads(line)
    assert (entry["method"], entry["path"], entry["rpc"]) == ("GET", "/api/v1/assets", "GalleryService.ListAssets")
    assert (entry["status"], entry["kind"], entry["cluster"]) == (501, "read", "gallery_rpc")
    assert entry["traceparent"].startswith("00-1111")
    assert "secret-launch" not in gateway.log.read_text()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/quitquitquit"),
        ("POST", "/healthcheck/fail"),
        ("POST", "/logging?level=debug"),
        ("POST", "/reset_counters"),
        ("POST", "/stats/recentlookups/enable"),
        ("GET", "/config_dump"),
        ("GET", "/clusters"),
        ("GET", "/server_info"),
        ("GET", "/"),
    ],
)
async def test_no_page_of_the_web_can_drive_or_read_the_admin_page(gateway: Gateway, method: str, path: str) -> None:
    """It knows neither Origin nor Host, so it has only what a watcher needs."""
    async with httpx2.AsyncClient(base_url=gateway.admin_url) as client:
        answer = await client.request(method, path, headers={"origin": "https://evil.example"})
        assert answer.status_code == 403
        assert "127.0.0.1" not in answer.text
        assert (await client.get("/ready")).status_code == 200


@pytest.mark.parametrize("path", ["/stats/prometheus", "/stats/prometheus?usedonly"])
async def test_a_watcher_gets_the_numbers(gateway: Gateway, path: str) -> None:
    async with httpx2.AsyncClient(base_url=gateway.admin_url) as client:
        assert "envoy_cluster_membership_healthy" in (await client.get(path)).text
