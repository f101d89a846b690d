"""What is known of a generation of which only the pictures in the gallery are left."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

from services.common.errors import Billed, ServiceError, Unavailable
from services.image.domain.generations import Facts, Picture, PictureState, asset_id_of
from services.models.money import UNPRICED, Cost, CostSource
from services.models.paid_calls import PaidCall
from services.models.usage import Usage


@dataclass(frozen=True, slots=True)
class Stored:
    """A picture that the gallery has, with its shares of usage and cost."""

    origin: str
    sha256: str
    size_bytes: int
    facts: Facts
    usage: Usage | None
    cost: Cost | None


def adopted_pictures(call: PaidCall, stored: Mapping[int, Stored], count: int) -> list[Picture]:
    """A picture for each of `count`: those that are stored, and the others as lost."""
    return [
        _picture(call, index, stored[index])
        if index in stored
        else Picture(index, PictureState.FAILED, error=lost_picture())
        for index in range(count)
    ]


def adopted_usage(stored: Mapping[int, Stored], count: int) -> Usage | None:
    """The usage of the whole call; None: its shares are not all known."""
    usages = [one.usage for one in stored.values() if one.usage is not None]
    return reduce(add, usages) if len(usages) == count else None


def adopted_cost(stored: Mapping[int, Stored], count: int) -> Cost:
    """The cost of the whole call: the sum of its shares, which add up to it exactly.

    When some are missing, it is the most that it can have been: shares differ by a micro-USD at most, and the first
    ones are the larger.
    """
    shares = {index: one.cost for index, one in stored.items() if one.cost is not None}
    amounts = [cost.micro_usd for cost in shares.values() if cost.micro_usd is not None]
    if not amounts or len(amounts) < len(stored):
        return UNPRICED
    first = min(shares)
    if len(stored) == count:
        return Cost(shares[first].source, sum(amounts))
    return Cost(CostSource.ESTIMATED, (shares[first].micro_usd or 0) * count + first)


def lost_picture() -> ServiceError:
    """The picture was made and paid for, and was on its way to the gallery when the process died that had it."""
    return Unavailable(
        "STORAGE_FAILED",
        "The service stopped before the gallery had the finished image: it is lost.",
        billed=Billed.YES,
    )


def partly_lost() -> ServiceError:
    """What the paid call itself says when not all of its pictures were found."""
    return Unavailable(
        "STORAGE_FAILED",
        "The service stopped before the gallery had every finished image; those that it has are kept, and the cost is "
        "an upper bound.",
        billed=Billed.YES,
    )


def _picture(call: PaidCall, index: int, one: Stored) -> Picture:
    return Picture(
        index,
        PictureState.STORED,
        asset_id=asset_id_of(call, index),
        sha256=one.sha256,
        size_bytes=one.size_bytes,
        facts=one.facts,
        usage=one.usage,
        cost=one.cost,
    )
