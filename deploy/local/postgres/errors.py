"""The launcher's one exception."""


class PostgresError(RuntimeError):
    """The database cannot be started; the message says why and what to do."""
