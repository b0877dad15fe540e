"""Parquet files, read in place by row numbers.

The plan reads the footer only. A shard is a range of rows, which may lie inside a row group: Parquet cannot be entered
there, so a reader decodes the group from its start and drops what is before its first row. Workers take shards in
order; so a reader that has come to its end leaves the open file behind, and the next one goes on from there: a row
group is decoded once by each worker, and not once for each of its pieces.

Column chunks are streamed through small buffers, never read whole, and rows are decoded some hundred at a time: memory
does not depend on the size of row groups. Whether the file is still the planned one is told by its footer, which has
the place, the size and mostly the least and greatest value of every column chunk: a changed value of the same length
may pass.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
from zlib_ng.zlib_ng import crc32

from rowmill.core.errors import InputError
from rowmill.core.rows import Shard
from rowmill.files.input.formats import HEAD, refuse_instead
from rowmill.files.input.jsonl import changed
from rowmill.files.input.tables import (
    BATCH_ROWS,
    FAILED,
    LineEncoder,
    check_names,
    plan_shards,
    shard_crc,
    translated,
    unreadable,
)

_UNREADABLE = "cannot be read as Parquet"
_MAGIC = b"PAR1"
_TAIL = 8  # bytes at the end: length of the footer, magic
_BUFFER = (1 << 14, 1 << 18)  # bytes read ahead in each column chunk, at least and at most
_BUFFERS = 8 << 20  # bytes of them together
_BATCH_BYTES = 4 << 20  # that a batch aims at, by the footer's sizes: those of encoded values, so it can be more


def check(path: Path) -> None:
    """Raise `InputError` where the file is no Parquet file, is cut off, or has no sound footer."""
    _File(str(path))


def schema(path: Path) -> pa.Schema:
    """Return the file's schema. Raises `InputError`."""
    return _File(str(path)).schema


def lines(path: Path) -> Iterator[list[bytes]]:
    """Yield all rows as lines, some hundred at a time. Raises `InputError`."""
    cursor = _Cursor(str(path), None)
    yield from cursor.lines(sum(cursor.file.groups))


def plan(path: Path, shard_rows: int) -> Iterator[Shard]:
    """Cut the file into shards, counted from 0. Raises `InputError`.

    Small row groups are joined up to `shard_rows`; a larger one is cut into at most 16 pieces, and more only where
    these would have more than 65,536 rows.
    """
    file = _File(str(path))
    return plan_shards(file.groups, file.identity, shard_rows)


def shard_lines(path: str, shard: Shard, columns: list[str] | None) -> Iterator[list[bytes]]:
    """Yield the rows of one shard as lines, some hundred at a time.

    columns: the only ones to read; those that do not exist are left out. None: all of them. Raises `RunDirectoryError`,
    before the first row, where the file is not the planned one, and `InputError`.
    """
    with translated(path, _UNREADABLE), pa.OSFile(path) as file:
        if shard_crc(_identity(path, file), shard.start, shard.end) != shard.crc:
            raise changed(path, shard)
    key = (path, None if columns is None else tuple(columns))
    cursor = _left(key, shard.start) or _Cursor(path, columns)
    cursor.skip_to(shard.start)
    yield from cursor.lines(shard.end)
    _parked.append((key, cursor))


class _File:
    """An open file and its footer."""

    def __init__(self, path: str) -> None:
        self.path = path
        with translated(path, _UNREADABLE):
            file = pa.OSFile(path)
            self.identity = _identity(path, file)
            self._metadata = pq.read_metadata(file)
            self._parquet = pq.ParquetFile(
                file,
                metadata=self._metadata,
                pre_buffer=False,
                buffer_size=max(_BUFFER[0], min(_BUFFER[1], _BUFFERS // max(self._metadata.num_columns, 1))),
                page_checksum_verification=True,  # where the writer has stored checksums
            )
            self.schema = self._parquet.schema_arrow
            self.groups = [self._metadata.row_group(group).num_rows for group in range(self._metadata.num_row_groups)]
        check_names(path, self.schema)

    def batches(self, group: int, names: list[str]) -> Iterator[Any]:
        """Yield a row group's record batches with these columns."""
        size = self._batch_rows(group, names)
        return iter(self._parquet.iter_batches(size, row_groups=[group], columns=names, use_threads=False))

    def _batch_rows(self, group: int, names: list[str]) -> int:
        metadata = self._metadata.row_group(group)
        chunks = (metadata.column(chunk) for chunk in range(metadata.num_columns))
        size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in names)
        return max(1, min(BATCH_ROWS, _BATCH_BYTES * int(metadata.num_rows) // max(int(size), 1)))


class _Cursor:
    """Walks through the rows of a file, forwards."""

    def __init__(self, path: str, columns: list[str] | None) -> None:
        self.file = _File(path)
        self.position = 0  # number of the next row
        self._group = -1  # the row group that is open
        self._group_end = 0  # number of the row after it
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = None  # decoded rows from `position` on
        schema = self.file.schema
        self._names = [name for name in schema.names if columns is None or name in columns]
        self._encoder = LineEncoder(pa.schema([schema.field(name) for name in self._names]))

    def skip_to(self, row: int) -> None:
        """Make this row the next one. Row groups before its own are not touched."""
        while row >= self._group_end and self._group + 1 < len(self.file.groups):
            self._batches, self._batch = iter(()), None
            self.position = self._group_end
            self._group += 1
            self._group_end += self.file.groups[self._group]
        while self.position < row:
            if self._names:
                self._take(row)
            else:  # nothing of the file is needed
                self.position = row

    def lines(self, end: int) -> Iterator[list[bytes]]:
        """Yield the rows up to this number as lines."""
        while self.position < end:
            self.skip_to(self.position)  # into the next row group
            if self._names:
                yield from self._encoder.lines(self._take(end))
            else:
                count = min(end, self.position + BATCH_ROWS) - self.position
                self.position += count
                yield [b"{}"] * count

    def _take(self, end: int) -> Any:
        """Return a batch of the next rows, of the open row group and before `end`."""
        try:
            if self._batch is None:
                if self.position == self._group_end - self.file.groups[self._group]:
                    self._batches = self.file.batches(self._group, self._names)
                self._batch = next(self._batches).select(self._names)
        except StopIteration:
            raise self._undecodable("it has fewer rows than the footer says") from None
        except FAILED as error:
            raise self._undecodable(error) from None
        taken = self._batch.slice(0, end - self.position)
        self._batch = self._batch.slice(taken.num_rows) if taken.num_rows < self._batch.num_rows else None
        self.position += taken.num_rows
        return taken

    def _undecodable(self, why: object) -> InputError:
        return unreadable(self.file.path, f"row group {self._group} cannot be decoded", why)


def _left(key: object, row: int) -> _Cursor | None:
    """Return the cursor that was left behind, where it is of use for this row; it goes anyhow."""
    try:
        of, cursor = _parked.pop()
    except IndexError:
        return None
    return cursor if of == key and cursor.position <= row else None


# The cursor of the last shard that was read to its end, if any: a worker reads few shards at a time. Readers are in
# threads, which may take from a deque and add to it as they like.
_parked: deque[tuple[object, _Cursor]] = deque(maxlen=1)


def _identity(path: str, file: Any) -> int:
    """Return the CRC-32 of the footer. Raises `InputError` where there is none."""
    size = file.size()
    if size < len(_MAGIC) or file.read_at(len(_MAGIC), 0) != _MAGIC:
        refuse_instead(path, file.read_at(min(size, HEAD), 0))  # of very many files nobody has looked at each
        raise InputError(f"{path}: is no Parquet file; set input.format to what it is")
    tail = file.read_at(_TAIL, max(0, size - _TAIL))
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length + _TAIL > size:
        raise InputError(f"{path}: is a Parquet file without its end, cut off; write or copy the file anew")
    identity: int = crc32(file.read_at(length, size - _TAIL - length))
    return identity
