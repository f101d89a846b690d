"""What callers ask the prompt helpers for, what they get, and how it fails."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

from services.common.errors import Billed, DeadlineExceeded, NotFound, Resource, ServiceError, Unavailable
from services.image.domain.accounts import total_cost, total_usage
from services.models.helpers.protect import Mode
from services.models.money import Cost
from services.models.paid_calls import PaidCall, fingerprint
from services.models.usage import Usage

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class EnhanceRequest:
    """A request of `EnhanceImagePrompt`."""

    prompt: str
    model: str = ""
    request_id: str = ""

    def fingerprint(self) -> bytes:
        """What makes two requests the same."""
        return _fingerprint("EnhanceImagePrompt", self)


@dataclass(frozen=True, slots=True)
class ProtectRequest:
    """A request of `ProtectImagePrompt`."""

    prompt: str
    mode: Mode = "NEUTRALIZE"
    brands: tuple[str, ...] = ()
    model: str = ""
    request_id: str = ""

    def fingerprint(self) -> bytes:
        """What makes two requests the same."""
        return _fingerprint("ProtectImagePrompt", self)


@dataclass(frozen=True, slots=True)
class NameRequest:
    """A request of `SuggestImageFilename`."""

    prompt: str
    extension: str = ""
    model: str = ""
    request_id: str = ""

    def fingerprint(self) -> bytes:
        """What makes two requests the same."""
        return _fingerprint("SuggestImageFilename", self)


@dataclass(frozen=True, slots=True)
class AnalyzeRequest:
    """A request of `AnalyzeImage`: of an asset, or of bytes with their SHA-256."""

    asset_id: str = ""
    content: bytes = field(default=b"", repr=False)
    sha256: str = ""
    instructions: str = ""
    model: str = ""
    save: bool = False
    request_id: str = ""

    def fingerprint(self) -> bytes:
        """What makes two requests the same."""
        return _fingerprint("AnalyzeImage", replace(self, content=b""))


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a model saw in a picture, and what it was told to look at."""

    description: str
    products: str
    tags: tuple[str, ...]
    feedback: str
    model: str = ""
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Helped(Generic[ValueT]):
    """What a helper gave; `paid_call` is the id of the call that gave it, usage and cost are those of all its calls."""

    value: ValueT
    model: str
    paid_call: str
    usage: Usage | None
    cost: Cost | None


def _fingerprint(method: str, request: Any) -> bytes:
    given = {name: value for name, value in asdict(request).items() if value and name != "request_id"}
    return fingerprint(method, given)


def helped(value: ValueT, calls: Sequence[PaidCall]) -> Helped[ValueT]:
    """The value with what its calls used and cost; the last of them gave it."""
    return Helped(value, calls[-1].model, calls[-1].id, total_usage(calls), total_cost(calls))


def dump(one: Helped[Mapping[str, Any]]) -> dict[str, Any]:
    """For a JSON column."""
    return {
        "value": dict(one.value),
        "model": one.model,
        "paidCall": one.paid_call,
        "usage": one.usage.to_json() if one.usage else None,
        "costSource": one.cost.source if one.cost else None,
        "costMicroUsd": one.cost.micro_usd if one.cost else None,
    }


def load(data: Mapping[str, Any]) -> Helped[Mapping[str, Any]]:
    """What `dump` wrote."""
    cost = Cost.from_columns(data["costSource"], data["costMicroUsd"])
    return Helped(data["value"], data["model"], data["paidCall"], Usage.from_json(data["usage"]), cost)


def still_asking(*, attachable: bool) -> ServiceError:
    """The caller's time is over before the model's."""
    return DeadlineExceeded(
        "STILL_RUNNING",
        "The language model is still at work; it goes on, and its answer is kept.",
        billed=Billed.UNKNOWN,
        # Without a request id of the caller's the same call would be a second intent.
        retry_safe=attachable,
    )


def no_database(*, attachable: bool) -> ServiceError:
    """The database went away; what was paid by then is written down under the request id."""
    return Unavailable(
        "UNAVAILABLE",
        "The database is not reachable for the moment; what is known of this request cannot be looked up.",
        billed=Billed.UNKNOWN,
        retry_safe=attachable,
        retry_after=1.0,
    )


def names_unknown(*, attachable: bool) -> ServiceError:
    """The gallery does not say which names there are."""
    return Unavailable(
        "UNAVAILABLE",
        "A name was suggested, but the gallery cannot say for the moment whether it is taken.",
        billed=Billed.YES,
        retry_safe=attachable,
        retry_after=1.0,
    )


def asset_not_found(name: str) -> ServiceError:
    """The caller has no such asset."""
    resource = Resource("contentlab.gallery.v1.Asset", name)
    return NotFound("ASSET_NOT_FOUND", f"There is no asset {name!r}.", metadata={"name": name}, resource=resource)


def not_saved(request_id: str, reason: str, *, gone: bool) -> ServiceError:
    """The analysis is paid for and kept here, but not on the asset; `reason` is the gallery's."""
    what_to_do = "" if gone else f" Repeat the call with request_id {request_id}: it costs nothing more."
    return Unavailable(
        "STORAGE_FAILED",
        f"The image is analysed, but the gallery did not take the analysis ({reason}).{what_to_do}",
        billed=Billed.YES,
        retry_safe=not gone,
        retry_after=None if gone else 1.0,
        metadata={"galleryReason": reason, "analysisRequestId": request_id},
    )
