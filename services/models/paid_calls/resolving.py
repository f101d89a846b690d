"""Settling by a person's word what nobody can know: whether a call of unknown outcome was billed."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import (
    Billed,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ServiceError,
    Unavailable,
)
from services.models.money import UNPRICED
from services.models.paid_calls.adoption import Adoption
from services.models.paid_calls.outcomes import accounting
from services.models.paid_calls.records import Opened, PaidCall, Resolution, State, Subjects, dump_error
from services.models.paid_calls.store import PaidCallStore

LOOK_AGAIN_SECONDS = 5.0

Begin = Callable[[AsyncConnection, PaidCall], Awaitable[Opened]]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The call as it is now, and the new one that was begun in its place; None: there is none that is to be run."""

    call: PaidCall
    again: Opened | None = None


class Resolver:
    """Takes people's word, once for each request id."""

    def __init__(
        self,
        engine: AsyncEngine,
        store: PaidCallStore,
        subjects: Subjects,
        adoption: Adoption,
    ) -> None:
        self._engine = engine
        self._store = store
        self._subjects = subjects
        self._adoption = adoption

    async def resolve(self, call: PaidCall, resolution: Resolution, begin: Begin | None) -> Resolved:
        """Settles the call, and begins another in its place, in one transaction.

        Should its result be found after all, that settles it, and nothing is begun.

        Raises:
            FailedPrecondition: NOT_RESOLVABLE.
            InvalidArgument: REQUEST_ID_REUSED.
            Unavailable: nobody can say for the moment whether the result is there.
        """
        if await self._is_known(resolution):
            return Resolved(call)
        adopted = await self._adopted(call) if call.state is State.OUTCOME_UNKNOWN else None
        async with self._engine.begin() as connection:
            is_first = await self._store.note_resolution(connection, call, resolution)
            if is_first and adopted is None:
                return await self._settle(connection, call, resolution, begin)
        if not is_first:
            # Somebody was faster with the same request id, for the same or for something else.
            await self._is_known(resolution)
        return Resolved(adopted or call)

    async def _is_known(self, resolution: Resolution) -> bool:
        """Whether this word was given before."""
        async with self._engine.connect() as connection:
            known = await self._store.resolution(connection, resolution)
        if known is not None and known != resolution.fingerprint:
            raise request_id_reused()
        return known is not None

    async def _adopted(self, call: PaidCall) -> PaidCall | None:
        try:
            return await self._adoption.adopt(call)
        except ServiceError as error:
            _log.warning("result_cannot_be_looked_for", paid_call=call.id, reason=error.reason)
            raise Unavailable(
                "UNAVAILABLE",
                "Nobody can say for the moment whether the result of the call is there after all; nothing was changed.",
                retry_safe=True,
                retry_after=LOOK_AGAIN_SECONDS,
            ) from None

    async def _settle(
        self, connection: AsyncConnection, call: PaidCall, resolution: Resolution, begin: Begin | None
    ) -> Resolved:
        error = self._subjects.name_in(_declared(is_billed=resolution.is_billed), call)
        values = {
            "state": State.FAILED,
            "billed": error.billed,
            "error": dump_error(error),
            "resolution_note": resolution.note.replace("\0", ""),
            # What it cost, the provider's bill knows.
            **accounting(None, UNPRICED if resolution.is_billed else None),
        }
        settled = await self._store.resolve(connection, call, values)
        if settled is None:
            raise not_resolvable()
        # Here, in the same transaction, belongs the release of what was reserved for the call, once anything is.
        await self._subjects.on_change(connection, settled)
        again = await begin(connection, settled) if begin else None
        _log.warning("paid_call_resolved", paid_call=call.id, billed=settled.billed, again=again and again.call.id)
        return Resolved(settled, again)


def _declared(*, is_billed: bool) -> ServiceError:
    """The error of a call that a person has settled. The same request id does not run again: that is another intent."""
    said = "that the provider charged for it" if is_billed else "that the provider did not charge for it"
    return DeadlineExceeded(
        "OUTCOME_UNKNOWN",
        f"The result of this call is not known; it was settled by the word of its owner {said}.",
        billed=Billed.YES if is_billed else Billed.NO,
    )


def not_resolvable(why: str = "Only what is OUTCOME_UNKNOWN can be resolved.") -> FailedPrecondition:
    """There is nothing to settle, or not in the way that was asked for."""
    return FailedPrecondition("NOT_RESOLVABLE", why)


def request_id_reused() -> InvalidArgument:
    """The request id stands for another request."""
    return InvalidArgument.field("request_id", "was used with another request; take a new one", "REQUEST_ID_REUSED")
