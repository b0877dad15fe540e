"""`rowmill.near_duplicates`: which of a program's vectors are near to an earlier one."""

from collections.abc import Iterable, Sequence
from struct import error as StructError  # noqa: N812 - it is a class
from struct import pack
from typing import Any

from rowmill.core.errors import InputError
from rowmill.runs.near_duplicates import Duplicate, NearDuplicates

_TOGETHER = 1024


def near_duplicates(vectors: Iterable[Any], *, threshold: float = 0.9) -> list[Duplicate]:
    """Return the vectors that are near to an earlier one, in their order; all others are to be kept.

    `vectors`: a list of them, a two-dimensional array of numpy, or what else gives one after the other: each a sequence
    of numbers, as the `output` of a `Result` of embeddings, or None, which is near to none. They are read once.

    Each `Duplicate` has `row`, `of` (their places, from 0; `of` is no duplicate itself) and `similarity`, the cosine.
    Near is a cosine of `threshold` or more. It needs `pip install "rowmill[dedup]"`.

    Raises `ConfigError` for a threshold that is none, `InputError` for vectors of different lengths.
    """
    near = NearDuplicates(threshold)
    found: list[Duplicate] = []
    block: list[bytes | None] = []
    row = 0
    for row, vector in enumerate(vectors, 1):
        block.append(_packed(vector, row - 1))
        if len(block) == _TOGETHER:
            found += near.take(block, range(row - len(block), row))
            block = []
    return found + near.take(block, range(row - len(block), row))


def _packed(vector: Any, row: int) -> bytes | None:
    if vector is None:
        return None
    numbers: Sequence[float] = vector.tolist() if hasattr(vector, "tolist") else vector
    try:
        return pack(f"<{len(numbers)}f", *numbers)
    except (TypeError, StructError, OverflowError):
        raise InputError(f"row {row} is no vector of numbers, but {vector!r:.60}") from None
