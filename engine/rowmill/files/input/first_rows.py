"""The first rows of an input, as lines, and the columns that they show."""

import contextlib
import json
from collections.abc import Iterable, Sequence

from rowmill.core.rows import Column

_HEAD_BYTES = 8 << 20  # of first rows that are looked at: a hundred rows can be a gigabyte


def first_lines(blocks: Iterable[bytes], count: int, *, whole_blocks: bool) -> list[bytes]:
    """Return up to `count` lines, without newlines. Fewer of long ones.

    whole_blocks: each block is of whole lines, and is taken however long it is.
    """
    pieces: list[bytes] = []
    size = newlines = 0
    for block in blocks:
        if not whole_blocks and newlines and size + len(block) > _HEAD_BYTES:
            break
        pieces.append(block)
        size += len(block)
        newlines += block.count(b"\n")
        if newlines >= count or (newlines and size >= _HEAD_BYTES):
            break
    return b"".join(pieces).split(b"\n")[: min(newlines, count)]


def columns_of_lines(lines: Sequence[bytes]) -> tuple[Column, ...]:
    """Return the columns of rows of JSON: their keys, which are JSON unless they are always text."""
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):  # what Python reads: NaN and 1e400 are in some rows
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return tuple(
        Column(name, "string" if all(isinstance(row.get(name), str) for row in rows) else "json") for name in names
    )
