"""Readers that leave a download in the middle: their right, and no error of the service."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from gateway.settings import Times
from services.gallery.settings import GallerySettings
from tests.conftest import NewDatabase
from tests.gallery.harness import Client, Gallery, running_gallery
from tests.gallery.media import video

READERS = 6
PATIENCE = 0.7


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gallery(
    new_database: NewDatabase, azurite: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gallery]:
    async with running_gallery(
        await new_database(), azurite, tmp_path_factory.mktemp("gallery"), download_idle_seconds=PATIENCE
    ) as running:
        yield running


@pytest.mark.parametrize("after", [0, PATIENCE - 0.02, PATIENCE, PATIENCE + 0.02, PATIENCE + 0.1])
async def test_a_reader_that_leaves_is_a_cancelled_call_and_nothing_worse(
    user: Client, after: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in the moment in which the service gives it up: the status then finds nobody."""
    asset = await user.upload(video(40_000_000), chunk=1024 * 1024)
    with capture_logs() as logs, caplog.at_level(logging.WARNING):
        calls = [user.start_download(asset.name) for _ in range(READERS)]
        for call in calls:
            await call.read()
        await asyncio.sleep(after)
        for call in calls:
            call.cancel()
        async with asyncio.timeout(10):
            while len(ended := [entry for entry in logs if entry["event"] == "call"]) < READERS:  # noqa: ASYNC110 - a log
                await asyncio.sleep(0.02)
    assert {entry["code"] for entry in ended} <= {"CANCELLED", "DEADLINE_EXCEEDED"}
    assert [entry for entry in logs if entry["log_level"] in ("warning", "error")] == []
    assert [record.getMessage() for record in caplog.records if record.name.startswith("grpc")] == []


def test_the_service_is_more_patient_than_the_gateway() -> None:
    """The gateway sees every byte that a reader takes, the service only whole messages: the gateway has to decide."""
    patience = GallerySettings.model_fields["download_idle_seconds"].default
    assert patience >= 3 * Times().transfer_idle
