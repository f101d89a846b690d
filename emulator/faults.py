"""Faults on order: what goes wrong, with which call, how often, and whether it is charged all the same."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    "truncated_base64",
    "html",
    "error_in_200",
    "wrong_mime",
    "wrong_format",
    "slow_drip",
    "reset",
    "early_final",
    "fewer_partials",
]

# Kinds that are an error instead of an answer.
REFUSALS: frozenset[Kind] = frozenset(
    {"moderation_blocked", "content_filter", "rate_limit", "server_error", "overloaded"}
)
_PREVIEWS: frozenset[Kind] = frozenset({"early_final", "fewer_partials"})
_ONLY_IMAGES: frozenset[Kind] = _PREVIEWS.union(
    ("moderation_blocked", "wrong_image", "short", "truncated_base64", "wrong_format")
)
_ONLY_CHAT: frozenset[Kind] = frozenset({"refusal"})
_ONLY_STREAMS: frozenset[Kind] = _PREVIEWS.union(("mid_stream_error",))
# Kinds for which no work is done unless they are charged.
IDLE: frozenset[Kind] = frozenset({"html", "error_in_200", "reset"})
# Where the provider has done the work, the call costs money whatever becomes of the answer.
_CHARGED: frozenset[Kind] = _PREVIEWS.union(
    ("slow", "cut", "mid_stream_error", "bad_json", "wrong_image", "short", "refusal"),
    ("truncated_base64", "html", "wrong_mime", "wrong_format", "slow_drip"),
)

Endpoint = Literal["/v1/images/generations", "/v1/images/edits", "/v1/chat/completions"]


class Match(BaseModel):
    """Which calls a fault is for; what is left out matches everything.

    Attributes:
        dialect: the name without options.
        headers: of the request; each must be there with this value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: Endpoint | None = None
    model: str | None = None
    prompt_contains: str | None = None
    dialect: str | None = None
    headers: dict[str, str] = Field(default_factory=dict, max_length=8)

    def fits(self, call: "Call") -> bool:
        """Whether the call is one of them."""
        return (
            self.endpoint in (None, call.endpoint)
            and self.model in (None, call.model)
            and (self.prompt_contains is None or self.prompt_contains in call.text)
            and self.dialect in (None, call.dialect)
            and all(call.headers.get(name.lower()) == text for name, text in self.headers.items())
        )


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
        missing: of `short`, how many pictures are left out; of `fewer_partials`, how many previews.
        filter_code: of `content_filter`: the code, which has had several spellings.
        status: of `html`.
        content_type: of `wrong_mime`.
        bytes_per_second: of `slow_drip`.
        reset_at: of `reset`: before the request's body was read, after it, with the answer ready but no byte of it
            sent, or in the middle of the answer's body.
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
    filter_code: Literal["content_filter", "contentFilter", "content_policy_violation"] = "content_filter"
    status: Literal[200, 502, 503, 504] = 200
    content_type: Annotated[str, Field(pattern=r"^[\x21-\x7e][\x20-\x7e]{0,99}$")] = "text/plain; charset=utf-8"
    bytes_per_second: Annotated[int, Field(ge=1, le=10**9)] = 65_536
    reset_at: Literal["unread", "read", "answered", "middle"] = "read"

    @model_validator(mode="after")
    def _unread_knows_no_body(self) -> Self:
        if self.is_unread and (self.match.model or self.match.prompt_contains or self.charged):
            raise ValueError("before the body is read, no model or prompt can match and nothing can be charged")
        return self

    @property
    def is_unread(self) -> bool:
        """Whether it hits a call before its body is read."""
        return self.kind == "reset" and self.reset_at == "unread"

    @property
    def is_charged(self) -> bool:
        """Whether a call that this hits is charged."""
        if self.charged is not None:
            return self.charged
        return self.kind in _CHARGED or (self.kind == "reset" and self.reset_at in ("answered", "middle"))

    @property
    def delay(self) -> float:
        """The seconds that count."""
        if self.delay_seconds is not None:
            return self.delay_seconds
        return 600.0 if self.kind == "hang" else 1.0


@dataclass(frozen=True, slots=True)
class Call:
    """What a fault is matched against; of one whose body has not been read, model and text are empty."""

    endpoint: str
    model: str
    text: str
    streams: bool
    dialect: str
    headers: Mapping[str, str]
    unread: bool = False


@dataclass(slots=True)
class _Standing:
    id: str
    order: Order
    hits: int = 0
    request_ids: list[str] = field(default_factory=list)

    def fits(self, call: Call) -> bool:
        kind = self.order.kind
        chat = call.endpoint == "/v1/chat/completions"
        return (
            (self.order.times is None or self.hits < self.order.times)
            and self.order.is_unread is call.unread
            and self.order.match.fits(call)
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
