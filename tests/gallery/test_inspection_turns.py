"""Whose file is looked at next, and how many large pictures are decoded at a time."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from services.gallery.adapters.inspection.errors import LargePictureError, TooMuchWorkError
from services.gallery.adapters.inspection.fair_turns import FairTurns, Rank
from services.gallery.adapters.inspection.limits import LARGE_PIXELS, Limits
from services.gallery.adapters.inspection.pool import InspectionLimits, Inspector
from services.gallery.adapters.inspection.renderer import Renderer
from services.gallery.domain.variants import Variant
from tests.gallery.media import RASTER, encoded
from tests.support.memory import MIB, child_with

LIMITS = InspectionLimits(max_pixels=100_000_000, seconds=20, memory_bytes=2048 * MIB)


@contextmanager
def opened(data: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


async def order_of(turns: FairTurns, askers: list[tuple[str, Rank]]) -> list[str]:
    """Who came when, after one turn that all waited for."""
    came: list[str] = []

    async def come(who: str, rank: Rank) -> None:
        async with turns.taken(who, rank):
            came.append(who)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, turns.taken("first"):
        for who, rank in askers:
            group.create_task(come(who, rank))
        await asyncio.sleep(0)
    return came


async def test_users_come_round_one_by_one_however_many_files_each_has() -> None:
    askers = [(who, Rank.USER) for who in ("many", "many", "many", "few", "one")] + [("few", Rank.USER)]
    assert await order_of(FairTurns(1), askers) == ["many", "few", "one", "many", "few", "many"]


async def test_nobody_has_two_turns_while_another_waits() -> None:
    turns = FairTurns(2)
    await turns.take("many")
    waiting = [asyncio.create_task(turns.take(who)) for who in ("many", "many", "other")]
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, False, False]
    turns.give_back("many")
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, False, True]
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_was_paid_for_comes_before_users_and_they_before_what_nobody_waits_for() -> None:
    askers = [("derivative", Rank.BACKGROUND), ("user", Rank.USER), ("service", Rank.SERVICE)]
    assert await order_of(FairTurns(1), askers) == ["service", "user", "derivative"]


async def test_a_turn_is_not_lost_with_somebody_who_left() -> None:
    turns = FairTurns(1)
    async with turns.taken("first"):
        gone, stays = (asyncio.create_task(turns.take(who)) for who in ("gone", "stays"))
        await asyncio.sleep(0)
        gone.cancel()
    await stays
    assert gone.cancelled()
    turns.give_back("stays")
    async with asyncio.timeout(1):
        await turns.take("next")


def test_a_picture_of_one_colour_passes_up_to_the_size_that_models_make() -> None:
    limits = Limits(100_000_000, 1)
    limits.admit_compressed(LARGE_PIXELS, 38)
    with pytest.raises(TooMuchWorkError):
        limits.admit_compressed(100_000_000, 38)
    limits.admit_compressed(100_000_000, 12_000)
    with pytest.raises(LargePictureError):
        Limits(100_000_000, 1, large=False).admit_compressed(100_000_000, 12_000)


LARGE = encoded(Image.linear_gradient("L").resize((4200, 4200)), "PNG")


async def test_a_large_picture_waits_for_the_one_before_and_holds_up_no_small_one() -> None:
    """Inspections and renderings together."""
    large = FairTurns(1)
    inspector = Inspector(LIMITS, processes=1, large=large)
    renderer = Renderer(LIMITS, processes=1, large=large)
    with opened(LARGE) as picture, opened(RASTER["image/png"]) as small:
        async with large.taken("another"):
            waiting = asyncio.ensure_future(inspector.inspect(picture, "user"))
            rendering = asyncio.ensure_future(renderer.render(picture, [Variant.THUMBNAIL]))
            assert (await inspector.inspect(small, "other"))["width_px"] == 20
            assert Variant.THUMBNAIL in await renderer.render(small, [Variant.THUMBNAIL])
            assert not waiting.done()
            assert not rendering.done()
        assert (await waiting)["width_px"] == 4200
        assert Variant.THUMBNAIL in await rendering
    await renderer.close()
    await inspector.close()


async def test_what_was_paid_for_does_not_wait_behind_the_files_of_users() -> None:
    inspector = Inspector(LIMITS, processes=1)
    with opened(LARGE) as picture, opened(RASTER["image/png"]) as small:
        await inspector.inspect(small, "image", by_service=True)
        users = [asyncio.ensure_future(inspector.inspect(picture, "user")) for _ in range(4)]
        await asyncio.sleep(0)
        assert (await inspector.inspect(small, "image", by_service=True))["width_px"] == 20
        assert not any(user.done() for user in users)
        for user in users:
            user.cancel()
        await asyncio.gather(*users, return_exceptions=True)
    await inspector.close()


def oom_score_adj(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii"))


async def test_the_system_ends_a_process_that_decodes_before_any_other() -> None:
    inspector = Inspector(LIMITS, processes=1)
    with opened(RASTER["image/png"]) as small:
        await inspector.inspect(small)
    worker = child_with("inspection.worker")
    assert oom_score_adj(worker) == 1000
    await inspector.close()
