"""Full-text queries through the RPC."""

import asyncio
import uuid
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery import finding
from services.gallery.adapters import filtering
from services.gallery.adapters.listing import Listing
from tests.gallery.harness import Client, refusal
from tests.support.media import png

PICTURE = png(8, 8)


async def made(user: Client, prompt: str = "", **fields: Any) -> str:
    """The name of a new asset with a prompt."""
    if not prompt:
        return (await user.upload(PICTURE, **fields)).name
    provenance = pb.Provenance(owner=user.principal, prompt=prompt)
    return (await user.as_service().upload(PICTURE, provenance=provenance, **fields)).name


async def annotated(user: Client, name: str, description: str) -> None:
    seen = pb.Analysis(description=description)
    request = pb.AnnotateAssetRequest(name=name, analysis=seen, request_id=str(uuid.uuid4()))
    await user.as_service().call(request)


async def test_prompt_name_tags_and_analysis_are_found(user: Client) -> None:
    prompt, name = await made(user, "a lighthouse in fog"), await made(user, display_name="Lighthouse.png")
    tag, seen = await made(user, tags=["lighthouse"]), await made(user)
    await annotated(user, seen, "One sees a lighthouse.")
    await made(user, "a tower")
    assert set(await user.names(query="lighthouse")) == {prompt, name, tag, seen}


async def test_the_best_matches_come_first_and_of_equal_ones_the_newest(user: Client) -> None:
    named = await made(user, display_name="harbour")
    prompts = [await made(user, "the harbour at dawn") for _ in range(3)]
    seen = await made(user)
    await annotated(user, seen, "a harbour")
    expected = [named, *prompts[::-1], seen]
    assert await user.names(query="harbour") == expected
    assert await user.names(query="harbour", page_size=1) == expected
    assert await user.names(query="harbour", order_by="create_time", page_size=2) == [named, *prompts, seen]


async def test_all_words_are_needed_and_the_last_may_be_a_beginning(user: Client) -> None:
    both = await made(user, "golden harbour")
    await made(user, "golden gate")
    assert await user.names(query="harb gold") == []
    assert await user.names(query="golden harb") == [both]
    assert await user.names(query="HARBOUR  golden!") == [both]


async def test_a_query_without_a_word_finds_nothing(user: Client) -> None:
    await made(user, "anything")
    for query in ("!!!", " ", "&|"):
        page = await user.page(query=query)
        assert (list(page.assets), page.total_size, page.total_size_exact) == ([], 0, True)
    assert (await refusal(user.page(query="!!!", folder="nowhere"))).reason == "FOLDER_NOT_FOUND"


async def test_changes_of_name_and_tags_are_found_at_once(user: Client) -> None:
    name = await made(user, display_name="old", tags=["red"])
    asset = pb.Asset(name=name, display_name="new", tags=["blue"])
    await user.call(pb.UpdateAssetRequest(asset=asset))
    assert await user.names(query="old") == await user.names(query="red") == []
    assert await user.names(query="new blue") == [name]


async def test_a_query_adds_up_with_every_other_filter(user: Client) -> None:
    plain = await made(user, "sea")
    filed = await made(user, "sea", folder="a/b", tags=["x"])
    await user.delete(plain)
    assert await user.names(query="sea") == [filed]
    assert await user.names(query="sea", show_deleted=True) == [filed, plain]
    assert await user.names(query="sea", folder="a") == []
    assert await user.names(query="sea", folder="a", include_subfolders=True) == [filed]
    assert await user.names(query="sea", tags=["x"]) == [filed]
    assert await user.names(query="sea", tags=["y"]) == []
    assert await user.names(query="sea", media_type=pb.Asset.VIDEO) == []
    assert await user.names(query="sea", favorite=False) == [filed]


async def test_somebody_elses_words_find_nothing(user: Client) -> None:
    await made(user, "a secret harbour")
    assert await user.gallery.user().names(query="harbour") == []


async def test_pages_by_relevance_neither_skip_nor_repeat_while_assets_are_added_and_deleted(user: Client) -> None:
    names = [await made(user, "harbour", display_name=f"harbour {number % 3}") for number in range(12)]
    kept, seen, token = set(names[::2]), [], ""
    doomed = names[1::2]
    while True:
        page = await user.page(query="harbour", page_size=2, page_token=token)
        seen += [asset.name for asset in page.assets]
        token = page.next_page_token
        assert page.total_size == 12, "counted when the first page was made"
        if not token:
            break
        changes: list[Awaitable[Any]] = [made(user, "harbour", display_name="harbour"), made(user, "harbour")]
        if doomed:
            changes.append(user.delete(doomed.pop()))
        await asyncio.gather(*changes)
    assert len(seen) == len(set(seen))
    assert kept <= set(seen) <= set(names)


async def test_the_newest_500_matches_are_ranked(user: Client) -> None:
    best = await made(user, display_name="harbour")
    columns = "owner, media_type, mime_type, size_bytes, sha256, prompt, search_version, derive_time"
    await user.gallery.execute(
        f"INSERT INTO gallery.asset (id, display_name, {columns}, search, create_time) "  # noqa: S608 - our own names
        f"SELECT 'match-' || n || owner, '', {columns}, '''harbour'':1B'::tsvector, now() + n * interval '1 s' "
        "FROM gallery.asset, generate_series(1, 520) n WHERE owner = %s AND id NOT LIKE 'match-%%'",
        user.principal,
    )
    page = await user.page(query="harbour")
    assert (page.total_size, page.total_size_exact) == (521, True)
    ranked = await user.names(query="harbour", page_size=200)
    assert len(ranked) == 500
    assert best not in ranked, "older than the newest 500"
    assert len(await user.names(query="harbour", order_by="create_time desc", page_size=200)) == 521


@pytest.mark.parametrize("order", ["create_time", "display_name", "size_bytes desc", "update_time desc"])
async def test_a_token_of_one_order_is_none_of_another(user: Client, order: str) -> None:
    for _ in range(2):
        await made(user, "sea")
    token = (await user.page(page_size=1, query="sea")).next_page_token
    error = await refusal(user.page(page_token=token, query="sea", order_by=order))
    assert error.reason == "INVALID_PAGE_TOKEN"


async def test_a_query_of_too_many_words_is_refused(user: Client) -> None:
    await made(user, " ".join("abcdefghijklmnopqrstuvwxyz"))
    assert len(await user.names(query=" ".join("abcdefghijklmnopqrstuvwxyz"))) == 1
    many = " ".join(f"w{number}" for number in range(33))
    error = await refusal(user.page(query=many))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.fields == ("query",)


async def test_a_list_that_takes_too_long_ends_and_says_so(user: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await made(user)
    monkeypatch.setattr(finding, "LIST_SECONDS", 0.3)
    slow = sa.cast(sa.cast(sa.func.pg_sleep(20), sa.Text), TSQUERY)
    monkeypatch.setattr(filtering, "tsquery", lambda words: slow)
    error = await refusal(user.page(query="anything"))
    assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert error.metadata["retrySafe"] == "true"
    monkeypatch.undo()
    assert len(await user.names()) == 1


async def test_the_slow_lists_of_one_owner_leave_the_others_theirs(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, list_page = asyncio.Event(), Listing.list_page

    async def slow(self: Listing, owner: str, *rest: Any, **named: Any) -> Any:
        if owner == user.principal:
            await go_on.wait()
        return await list_page(self, owner, *rest, **named)

    monkeypatch.setattr(Listing, "list_page", slow)
    slow_ones = [asyncio.ensure_future(user.page()) for _ in range(30)]
    try:
        async with asyncio.timeout(3):
            assert await user.gallery.user().names() == []
    finally:
        go_on.set()
        await asyncio.gather(*slow_ones)
