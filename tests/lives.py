"""How much of the longest tests is run with all others: a part of it; everything by `scripts/prove`."""

import os
from collections.abc import Sequence
from itertools import product
from typing import Any

WHOLE = os.environ.get("ROWMILL_LIVES") == "all"
SHARE = 1.0 if WHOLE else 0.25


def examples(most: int) -> int:
    """Return how many of so many examples are tried."""
    return max(1, round(most * SHARE))


def combined(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return which of their values are tried together: all with all, or else each value of each axis at least once."""
    if WHOLE:
        return list(product(*axes))
    return [tuple(axis[at % len(axis)] for axis in axes) for at in range(max(map(len, axes)))]
