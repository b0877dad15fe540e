"""How much of the tests of whole lives is run: a quarter with all other tests, everything by `scripts/prove`."""

import os

SHARE = 1.0 if os.environ.get("ROWMILL_LIVES") == "all" else 0.25


def examples(most: int) -> int:
    """Return how many of so many examples are tried."""
    return max(1, round(most * SHARE))
