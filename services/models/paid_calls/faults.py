"""Which faults of the database pass, and which come again however often the same is asked."""

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

# The statement or its data is at fault. All else is the server's: also a standby that takes no writes after a
# failover, and a transaction that was ended for idling, which psycopg counts among the internal errors.
_LASTING = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
    psycopg.errors.ProgramLimitExceeded,
)


def may_pass(error: BaseException) -> bool:
    """Whether the same transaction can succeed later."""
    match error:
        case DBAPIError():
            return error.connection_invalidated or not isinstance(error.orig, _LASTING)
        case psycopg.Error():
            return not isinstance(error, _LASTING)
        case PoolTimeoutError() | OSError():  # OSError: TimeoutError and ConnectionError among others
            return True
        case _:
            return False
