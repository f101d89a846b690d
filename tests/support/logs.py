"""Logs of the tests themselves."""

import structlog


def plain_logs() -> None:
    """One line an event, and short tracebacks.

    Left to itself structlog takes rich's as soon as it is installed: with every local variable, which takes tenths of a
    second each, in the event loop.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=True),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
