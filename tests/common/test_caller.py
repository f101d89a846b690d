"""Whose word counts."""

import asyncio

import pytest

from services.common.caller import (
    Caller,
    acting_for,
    bind_caller,
    current_caller,
    identify,
    require_service_principal,
)
from services.common.errors import PermissionDenied, Unauthenticated

TOKEN = "suite-token"


def known(**metadata: str) -> Caller:
    sent = {f"x-{key.replace('_', '-')}": value for key, value in metadata.items()}
    return identify(sent, service_token=TOKEN, request_id="r")


def test_without_credentials_everybody_is_local_whatever_they_claim() -> None:
    assert known() == Caller("local", None, "r")
    assert known(principal="anna", contentlab_service="image") == Caller("local", None, "r")


def test_a_sibling_with_the_token_speaks_for_an_owner() -> None:
    caller = known(contentlab_token=TOKEN, contentlab_service="image", principal="anna")
    assert caller == Caller("anna", "image", "r")


def test_a_sibling_that_names_no_owner_acts_for_local() -> None:
    assert known(contentlab_token=TOKEN, contentlab_service="image").principal == "local"


def test_the_gateway_speaks_for_users_and_is_no_service_principal() -> None:
    caller = known(contentlab_token=TOKEN, contentlab_service="gateway", principal="anna")
    assert caller == Caller("anna", None, "r")


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "täuschung"])
def test_a_wrong_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        known(contentlab_token=token, contentlab_service="image")


def test_the_token_without_a_service_name_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        known(contentlab_token=TOKEN)


@pytest.mark.parametrize("sent", ["", "None", TOKEN])
def test_a_server_that_knows_no_token_believes_none(sent: str) -> None:
    with pytest.raises(Unauthenticated):
        identify({"x-contentlab-token": sent, "x-contentlab-service": "image"}, service_token=None, request_id="r")


def test_only_services_pass_where_a_service_is_required() -> None:
    with acting_for("anna"), pytest.raises(PermissionDenied) as refused:
        require_service_principal()
    assert refused.value.reason == "SERVICE_PRINCIPAL_REQUIRED"


async def test_a_service_passes_where_a_service_is_required() -> None:
    async def as_service() -> Caller:
        bind_caller(Caller("anna", "image", "r"))
        return require_service_principal()

    assert (await asyncio.create_task(as_service())).service == "image"


async def test_callers_of_concurrent_tasks_do_not_mix() -> None:
    async def work(owner: str) -> str:
        bind_caller(Caller(owner))
        await asyncio.sleep(0)
        return current_caller().principal

    owners = [f"owner-{n}" for n in range(20)]
    tasks = [asyncio.create_task(work(owner)) for owner in owners]
    assert [await task for task in tasks] == owners
    assert current_caller() == Caller("local")


def test_acting_for_an_owner_ends_with_the_block() -> None:
    with acting_for("anna", request_id="job-1") as caller:
        assert current_caller() == caller == Caller("anna", None, "job-1")
    assert current_caller() == Caller("local")
