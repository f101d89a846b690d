"""Faults on order: what goes wrong, with which call, how often, and whether it is charged all the same."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.errors import ApiError

Kind = Literal[
    "moderation_blocked",
    "content_filter",
    "rate_limit",
    "server_error",
    "overloaded",
    "slow",
    "hang",
    "cut",
    "mid_stream_error",
    "bad_json",
    "wrong_image",
    "short",
    "refusal",
]

# Kinds that are an error instead of an answer.
REFUSALS: frozenset[Kind] = frozenset(
    {"moderation_blocked", "content_filter", "rate_limit", "server_error", "overloaded"}
)
_ONLY_IMAGES: frozenset[Kind] = frozenset({"moderation_blocked", "wrong_image", "short"})
_ONLY_CHAT: frozenset[Kind] = frozenset({"refusal"})
_ONLY_STREAMS: frozenset[Kind] = frozenset({"mid_stream_error"})
# Where the provider has done the work, the call costs money whatever becomes of the answer.
_CHARGED: frozenset[Kind] = frozenset(
    {"slow", "cut", "mid_stream_error", "bad_json", "wrong_image", "short", "refusal"}
)

Endpoint = Literal["/v1/images/generations", "/v1/images/edits", "/v1/chat/completions"]


class Match(BaseModel):
    """Which calls a fault is for; what is left out matches everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: Endpoint | None = None
    model: str | None = None
    prompt_contains: str | None = None


class Order(BaseModel):
    """The body of POST /faults.

    Attributes:
        times: how many calls it hits; null means all until it is deleted.
        charged: overrides whether the call is charged; see README.md for each kind's own rule.
        delay_seconds: of `slow` before the answer (1 unless given), of `hang` until the connection is closed without
            one (600).
        charge_at: of `slow`: charged before or after the delay.
        retry_after: header of `rate_limit` and `overloaded`, in seconds.
        cut_at: of `cut`: before the first byte, or in the middle of the body.
        stage, categories: of `moderation_blocked`.
        missing: of `short`: how many pictures are left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    match: Match = Match()
    times: Annotated[int, Field(ge=1)] | None = 1
    charged: bool | None = None
    delay_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] | None = None
    charge_at: Literal["start", "end"] = "end"
    retry_after: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 1.0
    cut_at: Literal["before", "middle"] = "before"
    stage: Literal["input", "output", "unknown"] = "input"
    categories: tuple[str, ...] = ("violence",)
    missing: Annotated[int, Field(ge=1, le=10)] = 1

    @property
    def is_charged(self) -> bool:
        """Whether a call that this hits is charged."""
        return self.kind in _CHARGED if self.charged is None else self.charged

    @property
    def delay(self) -> float:
        """The seconds that count."""
        if self.delay_seconds is not None:
            return self.delay_seconds
        return 600.0 if self.kind == "hang" else 1.0


@dataclass(frozen=True, slots=True)
class Call:
    """What a fault is matched against."""

    endpoint: str
    model: str
    text: str
    streams: bool


@dataclass(slots=True)
class _Standing:
    id: str
    order: Order
    hits: int = 0
    request_ids: list[str] = field(default_factory=list)

    def fits(self, call: Call) -> bool:
        match, kind = self.order.match, self.order.kind
        chat = call.endpoint == "/v1/chat/completions"
        return (
            (self.order.times is None or self.hits < self.order.times)
            and match.endpoint in (None, call.endpoint)
            and match.model in (None, call.model)
            and (match.prompt_contains is None or match.prompt_contains in call.text)
            and not (kind in _ONLY_IMAGES and chat)
            and not (kind in _ONLY_CHAT and not chat)
            and not (kind in _ONLY_STREAMS and not call.streams)
        )

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            **self.order.model_dump(),
            "charged": self.order.is_charged,
            "delay_seconds": self.order.delay,
            "hits": self.hits,
            "request_ids": self.request_ids,
        }


class FaultBook:
    """The faults that stand, oldest first. A call is hit by the first one that fits it."""

    _MAX_STANDING = 1000
    _MAX_REMEMBERED = 1000

    def __init__(self) -> None:
        self._standing: dict[str, _Standing] = {}
        self._numbers = itertools.count(1)

    def add(self, order: Order) -> dict[str, Any]:
        """Let a fault stand. Raises a 400 when too many do."""
        if len(self._standing) >= self._MAX_STANDING:
            raise ApiError(400, f"At most {self._MAX_STANDING} faults can stand.", code="too_many_faults")
        fault = _Standing(f"fault_{next(self._numbers)}", order)
        self._standing[fault.id] = fault
        return fault.shown()

    def shown(self) -> list[dict[str, Any]]:
        """Every fault with how often it has hit, used up or not."""
        return [fault.shown() for fault in self._standing.values()]

    def remove(self, ids: Iterable[str] | None = None) -> int:
        """Forget these faults, or all; answers how many there were."""
        gone = [self._standing.pop(each, None) for each in (list(self._standing) if ids is None else ids)]
        return sum(fault is not None for fault in gone)

    def take(self, call: Call, request_id: str) -> Order | None:
        """The fault that hits this call, if any; it counts as one of its times."""
        fault = next((each for each in self._standing.values() if each.fits(call)), None)
        if fault is None:
            return None
        fault.hits += 1
        if len(fault.request_ids) < self._MAX_REMEMBERED:
            fault.request_ids.append(request_id)
        return fault.order


def refusal(order: Order) -> ApiError:
    """The error that a fault of a kind in REFUSALS answers."""
    match order.kind:
        case "moderation_blocked":
            return _moderation_blocked(order)
        case "content_filter":
            return _content_filter()
        case "rate_limit":
            return ApiError(
                429,
                "Rate limit reached. Please try again later.",
                kind="requests",
                code="rate_limit_exceeded",
                headers={"retry-after": f"{order.retry_after:g}"},
            )
        case "overloaded":
            return ApiError(
                503,
                "The engine is currently overloaded, please try again later.",
                kind="server_error",
                code="overloaded",
                headers={"retry-after": f"{order.retry_after:g}"},
            )
        case _:
            return ApiError(500, "The server had an error while processing your request.", kind="server_error")


def _moderation_blocked(order: Order) -> ApiError:
    listed = ", ".join(order.categories)
    return ApiError(
        400,
        f"Your request was rejected by the safety system. safety_violations=[{listed}].",
        kind="image_generation_user_error",
        code="moderation_blocked",
        extra={"moderation_details": {"moderation_stage": order.stage, "categories": list(order.categories)}},
    )


def _content_filter() -> ApiError:
    """Azure's own filter, in the shape Azure gives it."""
    harmless = {"filtered": False, "severity": "safe"}
    result = dict.fromkeys(("hate", "self_harm", "sexual"), harmless)
    return ApiError(
        400,
        "The response was filtered due to the prompt triggering the content management policy.",
        kind=None,
        param="prompt",
        code="content_filter",
        extra={
            "status": 400,
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": result | {"violence": {"filtered": True, "severity": "high"}},
            },
        },
    )
