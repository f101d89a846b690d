"""A pytest plugin (`-p tests.support.later`) under which it is a year later wherever code asks what day it is.

Models end, and no test may fail for it. The day is asked for in the modules named here and nowhere else, which
`tests/test_a_year_from_now.py` holds true.
"""

import importlib
from datetime import datetime, timedelta, tzinfo

ASKS = ("services.image.generating", "emulator.models")
A_YEAR = timedelta(days=365)


class Later(datetime):
    """The class `datetime` of those modules."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Later":
        """A year from now."""
        then = datetime.now(tz) + A_YEAR
        return cls.fromtimestamp(then.timestamp(), tz)


def pytest_configure() -> None:
    """Before any test module is imported."""
    for name in ASKS:
        vars(importlib.import_module(name))["datetime"] = Later
