"""What reads a planned shard: workers need no more of the input."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rowmill.core.rows import InputPart, Shard
from rowmill.files.input import jsonl

if TYPE_CHECKING:
    from rowmill.files.input.tables import TableReader


def open_reader(part: InputPart, shard: Shard, columns: list[str] | None) -> "jsonl.ShardReader | TableReader":
    """Return what reads a shard of this part: an async context manager.

    columns: those that are needed, None for all; rows of Parquet and Arrow files then have no others.
    """
    if part.kind == "lines":
        return jsonl.ShardReader(Path(part.path), shard)
    from rowmill.files.input.conversion import table
    from rowmill.files.input.tables import TableReader

    return TableReader(table(part.kind).shard_lines(part.path, shard, columns))


def shard_lines(part: InputPart, shard: Shard, columns: list[str] | None) -> Iterator[list[bytes]]:
    """Yield the same rows some hundred at a time, for who has no event loop. Raises as the readers do, and OSError."""
    if part.kind == "lines":
        return jsonl.shard_lines(Path(part.path), shard)
    from rowmill.files.input.conversion import table

    return table(part.kind).shard_lines(part.path, shard, columns)
