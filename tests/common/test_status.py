"""ServiceError to google.rpc.Status and back."""

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.errors import (
    ERROR_CLASSES,
    Billed,
    Internal,
    InvalidArgument,
    NotFound,
    QuotaViolation,
    Resource,
    ResourceExhausted,
    ServiceError,
    Unavailable,
    Violation,
)
from services.common.status import MAX_STATUS_BYTES, STATUS_METADATA_KEY, from_rpc_error, from_status, to_status

WORDS = st.text(st.characters(codec="utf-8"), max_size=80)


def details(status: status_pb2.Status) -> list[str]:
    return [packed.type_url.rsplit(".", 1)[1] for packed in status.details]


@pytest.mark.parametrize("error_class", ERROR_CLASSES.values())
def test_every_error_has_exactly_one_error_info_that_says_billed_and_retry_safe(
    error_class: type[ServiceError],
) -> None:
    status = to_status(error_class("SOME_REASON", "Some message."), request_id="r-1")
    info = error_details_pb2.ErrorInfo()
    assert details(status) == ["ErrorInfo"]
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("SOME_REASON", "contentlab")
    assert dict(info.metadata) == {"billed": "no", "retrySafe": "false", "requestId": "r-1"}
    assert status.code == error_class.code.value[0]


def test_every_class_of_the_tree_is_in_the_table_under_its_own_code() -> None:
    assert set(ERROR_CLASSES.values()) == set(ServiceError.__subclasses__())
    assert len(ERROR_CLASSES) == len(ServiceError.__subclasses__())


def test_each_detail_appears_where_it_applies() -> None:
    error = ResourceExhausted(
        "BUDGET_EXCEEDED",
        "The budget is used up.",
        retry_after=1.5,
        resource=Resource("contentlab.usage.v1.Budget", "budgets/b"),
        quota=[QuotaViolation("budgets/b", "10.00 of 10.00 USD")],
        violations=[Violation("count", "at most 2")],
    )
    assert details(to_status(error)) == ["ErrorInfo", "RetryInfo", "ResourceInfo", "QuotaFailure", "BadRequest"]


def test_the_common_keys_of_the_metadata_cannot_be_forged() -> None:
    error = NotFound("R", "m", metadata={"billed": "never", "retrySafe": "true", "requestId": "other"})
    info = error_details_pb2.ErrorInfo()
    to_status(error, request_id="mine").details[0].Unpack(info)
    assert dict(info.metadata) == {"billed": "no", "retrySafe": "false", "requestId": "mine"}


@given(
    error_class=st.sampled_from(list(ERROR_CLASSES.values())),
    message=WORDS,
    billed=st.sampled_from(Billed),
    retry_safe=st.booleans(),
    metadata=st.dictionaries(st.sampled_from(["field", "model", "limit"]), WORDS),
    violations=st.lists(st.builds(Violation, field=WORDS, description=WORDS, reason=st.just("R")), max_size=3),
    retry_after=st.none() | st.integers(0, 10_000).map(lambda milliseconds: milliseconds / 1000),
)
def test_an_error_survives_the_way_over_the_wire(
    error_class: type[ServiceError],
    message: str,
    billed: Billed,
    retry_safe: bool,
    metadata: dict[str, str],
    violations: list[Violation],
    retry_after: float | None,
) -> None:
    sent = error_class(
        "REASON",
        message,
        billed=billed,
        retry_safe=retry_safe,
        metadata=metadata,
        violations=violations,
        retry_after=retry_after,
        resource=Resource("type", "name", "description"),
        quota=[QuotaViolation("subject", "description")],
    )
    received = from_status(status_pb2.Status.FromString(to_status(sent, request_id="r").SerializeToString()))
    assert type(received) is error_class
    assert vars(received) == vars(sent)


@example(
    message="🦊" * 1000,
    metadata={f"key{number}": "€" * 1000 for number in range(40)},
    violations=[Violation(f"field[{number}]" + "ä" * 900, "ä" * 900, "REASON") for number in range(30)],
)
@given(
    message=st.text(max_size=3000),
    metadata=st.dictionaries(st.text(min_size=1, max_size=50), st.text(max_size=2000), max_size=40),
    violations=st.lists(st.builds(Violation, field=st.text(max_size=900), description=st.text(max_size=900))),
)
def test_whatever_the_error_says_its_status_fits_into_trailing_metadata(
    message: str, metadata: dict[str, str], violations: list[Violation]
) -> None:
    status = to_status(InvalidArgument("REASON", message, metadata=metadata, violations=violations), request_id="r")
    assert details(status)[0] == "ErrorInfo"
    assert status.ByteSize() <= MAX_STATUS_BYTES
    assert 3 * len(status.message.encode()) <= 1800
    assert details(status)[1:] == (["BadRequest"] if violations else [])


def transport_error(
    code: grpc.StatusCode, details: str, trailing: grpc.aio.Metadata | None = None
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing or grpc.aio.Metadata(), details=details)


def test_a_siblings_error_comes_back_typed() -> None:
    status = to_status(NotFound("ASSET_NOT_FOUND", "There is no such asset.", resource=Resource("t", "assets/x")))
    trailing = grpc.aio.Metadata((STATUS_METADATA_KEY, status.SerializeToString()))
    error = from_rpc_error(transport_error(grpc.StatusCode.NOT_FOUND, "There is no such asset.", trailing))
    assert isinstance(error, NotFound)
    assert (error.reason, error.resource) == ("ASSET_NOT_FOUND", Resource("t", "assets/x"))


def test_an_error_of_the_transport_is_unknown_in_outcome_and_hides_addresses() -> None:
    error = from_rpc_error(transport_error(grpc.StatusCode.UNAVAILABLE, "connect to ipv4:10.0.0.7:50053 refused"))
    assert isinstance(error, Unavailable)
    assert (error.reason, error.billed, error.retry_safe) == ("UNAVAILABLE", Billed.UNKNOWN, False)
    assert "10.0.0.7" not in error.message


@pytest.mark.parametrize("code", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS])
def test_codes_outside_the_tree_are_internal(code: grpc.StatusCode) -> None:
    assert isinstance(from_rpc_error(transport_error(code, "")), Internal)


def test_a_sibling_cancelling_us_is_unavailable() -> None:
    assert isinstance(from_rpc_error(transport_error(grpc.StatusCode.CANCELLED, "")), Unavailable)


def test_details_that_are_no_status_are_left_aside() -> None:
    trailing = grpc.aio.Metadata((STATUS_METADATA_KEY, b"\xff\xff"))
    error = from_rpc_error(transport_error(grpc.StatusCode.NOT_FOUND, "x", trailing))
    assert (type(error), error.reason) == (NotFound, "INTERNAL_ERROR")


def test_a_field_error_names_its_field_everywhere() -> None:
    error = InvalidArgument.field("image.size", "must be a multiple of 16")
    assert error.message == "image.size: must be a multiple of 16"
    assert error.violations == (Violation("image.size", "must be a multiple of 16", "INVALID_FIELD"),)
    assert error.metadata == {"field": "image.size"}
