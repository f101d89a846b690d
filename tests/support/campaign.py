"""How large campaigns are: small in `make test`, whole in `make test-long`, with the same code."""

import os

EVERYDAY_SECONDS = 12.0
FULL_SECONDS = 120.0

SECONDS = float(os.environ.get("CONTENTLAB_CAMPAIGN_SECONDS", EVERYDAY_SECONDS))
"""What one campaign may take, where time is its measure."""


def scaled(everyday: int, full: int) -> int:
    """How many of something a campaign tries: `everyday` at 12 s, `full` at 120 s and more, in proportion between."""
    share = (SECONDS - EVERYDAY_SECONDS) / (FULL_SECONDS - EVERYDAY_SECONDS)
    return round(everyday + (full - everyday) * min(max(share, 0.0), 1.0))
