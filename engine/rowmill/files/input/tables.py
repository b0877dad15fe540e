"""What Parquet and Arrow files have in common: tables become JSON lines, and a file is cut into shards by row numbers.

A row becomes a JSON object with the columns in the file's order. Values that JSON has keep their type. NaN and the
infinities, which it has not, become null (see `core.odd_floats`); floats of 32 and 16 bits become the shortest number
that is the same there.
Bytes become base64 text, decimals text, dates, times and timestamps ISO 8601, with all their digits: in UTC with a "Z"
where they have a zone, without one where they have none; durations ISO 8601 too. Structs and maps become objects,
all kinds of lists become lists.

Dates in years that Python has not are ISO 8601 all the same, as +12345-01-01 (see `core.far_times`).

What a single row holds that Python or JSON cannot (text that is no UTF-8, a map with the same key twice) makes a
`BROKEN` line of it: one bad row costs one row.
"""

import asyncio
import contextlib
import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Self

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]
from zlib_ng.zlib_ng import crc32

from rowmill.core import arrow_values
from rowmill.core.arrow_values import has_odd, holds_floats, is_exact
from rowmill.core.errors import InputError
from rowmill.core.odd_floats import nulls_of
from rowmill.core.rows import BROKEN, Shard
from rowmill.files.input.objects import object_maker

BATCH_ROWS = 512  # rows a read: a millisecond of work under the interpreter's lock, which the event loop also wants
_SLICE_BYTES = 1 << 20  # of Arrow data that become lines at a time

# A reader that starts inside a group decodes what is before its first row, so a group is not cut into ever more
# pieces; but the rows of a piece are bounded too, for what a worker remembers of each.
_PIECES = 16
_PIECE_ROWS = 65_536

FAILED = (pa.ArrowException, OSError)  # reading a file of a table
_UNREADABLE = (pa.ArrowException, ValueError, KeyError, TypeError, OverflowError, msgspec.MsgspecError)
_encode = msgspec.json.Encoder().encode


@contextlib.contextmanager
def translated(path: str, what: str) -> Iterator[None]:
    """Turn what pyarrow and the machine raise into an `InputError`. what: has failed, as in `unreadable`."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; set input.path to the file with the rows") from None
    except FAILED as error:
        raise unreadable(path, what, error) from None


def unreadable(path: str, what: str, why: object) -> InputError:
    """Return the error of a damaged file. what: "batch 3 cannot be decoded"."""
    return InputError(f"{path}: {what}: {' '.join(str(why).split())}; write or copy the file anew")


def check_names(path: object, schema: pa.Schema) -> None:
    """Raise `InputError` where two columns have one name: an object can hold only one of them."""
    seen = set()
    for name in schema.names:
        if name in seen:
            raise InputError(f"{path}: has two columns {name!r}; rename one of them")
        seen.add(name)


class LineEncoder:
    """Turns batches of one schema into lines.

    validate: look at every value before it is touched. Parquet's decoder does so; the buffers of an Arrow file are
        used as they lie there, and a wrong offset in them would end the process.
    """

    def __init__(self, schema: pa.Schema, *, validate: bool = False) -> None:
        self._names: list[str] = schema.names
        kinds = [kind.value_type if pa.types.is_run_end_encoded(kind) else kind for kind in schema.types]
        plain = [_plain(kind) for kind in kinds]
        self._casts = [None if now.equals(kind) else now for now, kind in zip(plain, kinds, strict=True)]
        self._floats = [holds_floats(kind) for kind in plain]
        # Asked for where there may be a map only: it makes every value a Scalar first, at seven times the cost.
        self._maps = ["strict" if "map<" in str(kind) else None for kind in plain]
        self._exact = [is_exact(kind) for kind in plain]
        self._row = object_maker(tuple(self._names))
        self._validate = validate

    def lines(self, batch: pa.RecordBatch) -> Iterator[list[bytes]]:
        """Yield the batch's rows as lines, wide rows in several lists."""
        rows = batch.num_rows
        if not self._names and rows:
            yield [b"{}"] * rows
            return
        for start in range(0, rows, BATCH_ROWS):
            piece = batch.slice(start, BATCH_ROWS)
            if not self._is_sound(piece):
                yield self._row_by_row(piece)
                continue
            step = max(1, piece.num_rows * _SLICE_BYTES // max(piece.nbytes, _SLICE_BYTES))
            for first in range(0, piece.num_rows, step):
                some = piece.slice(first, step)
                try:
                    found = self._encoded(some)
                except _UNREADABLE:
                    found = self._row_by_row(some)
                yield found

    def _is_sound(self, values: Any) -> bool:
        if self._validate:
            try:
                values.validate(full=True)
            except pa.ArrowException:
                return False
        return True

    def _encoded(self, batch: pa.RecordBatch) -> list[bytes]:
        values = [self._values(number, column) for number, column in enumerate(batch.columns)]
        return list(map(_encode, map(self._row, *values)))

    def _values(self, number: int, column: pa.Array, *, far: bool = False) -> list[Any]:
        """Return a column's values; `far`: see `arrow_values.values`."""
        if pa.types.is_run_end_encoded(column.type):
            column = pc.run_end_decode(column)
        if (cast := self._casts[number]) is not None:
            column = column.cast(cast)
        values: list[Any]
        if far or not self._exact[number]:
            values = arrow_values.values(column, far=far)
        else:
            values = column.to_pylist(maps_as_pydicts=self._maps[number])
        return nulls_of(values) if self._floats[number] and has_odd(column) else values

    def _row_by_row(self, batch: pa.RecordBatch) -> list[bytes]:
        return [self._encoded_or_broken(batch.slice(number, 1)) for number in range(batch.num_rows)]

    def _encoded_or_broken(self, row: pa.RecordBatch) -> bytes:
        values = []
        for number, column in enumerate(row.columns):
            try:
                if self._validate:
                    column.validate(full=True)
                values += self._value(number, column)
            except _UNREADABLE as error:
                reason = f"column {self._names[number]!r} cannot be read: {' '.join(str(error).split())}"
                return BROKEN + reason.encode(errors="replace")
        return _encode(self._row(*values))

    def _value(self, number: int, column: pa.Array) -> list[Any]:
        """Return the one value of a column. Raises what is to be told of the row."""
        try:
            values = self._values(number, column)
            _encode(values)
        except _UNREADABLE:
            values = self._values(number, column, far=True)
            _encode(values)
        return values


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column is cast to before Python sees it.

    Zones would need a time zone database, and dictionaries are slow value by value.
    """
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        # Of the known ones Python's values are what is meant; of others what they are stored as.
        return kind if isinstance(kind, pa.UuidType | pa.Bool8Type | pa.JsonType) else _plain(kind.storage_type)
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_timestamp(kind):
        return pa.timestamp(kind.unit, None if kind.tz is None else "+00:00")
    if types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(
            kind.key_field.with_type(_plain(kind.key_type)), kind.item_field.with_type(_plain(kind.item_type))
        )
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    if types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)), kind.list_size)
    return kind


def plan_shards(groups: Iterable[int], identity: int, shard_rows: int) -> Iterator[Shard]:
    """Cut a file into shards, counted from 0, along its groups of rows.

    groups: rows of each. Small ones are joined up to `shard_rows`, a larger one is cut into even pieces.
    identity: CRC-32 of what tells that the file is the same.
    """
    for number, (start, end) in enumerate(_cut(groups, shard_rows)):
        yield Shard(number, start, end - start, start, end, shard_crc(identity, start, end))


def shard_crc(identity: int, start: int, end: int) -> int:
    """Return the CRC-32 that stands in a shard of these rows."""
    crc: int = crc32(struct.pack("<qq", start, end), identity)
    return crc


def _cut(groups: Iterable[int], shard_rows: int) -> Iterator[tuple[int, int]]:
    start = end = 0
    for rows in groups:
        if end - start + rows > shard_rows and end > start:
            yield start, end
            start = end
        end += rows
        if rows > shard_rows:
            pieces = max(min(-(-rows // shard_rows), _PIECES), -(-rows // max(shard_rows, _PIECE_ROWS)))
            edges = [start + rows * piece // pieces for piece in range(pieces + 1)]
            yield from itertools.pairwise(edges)
            start = end
    if end > start:
        yield start, end


class TableReader:
    """Reads the rows of one shard. An async context manager; all work is done in threads.

    batches: yields the shard's lines, and checks the file before the first of them.
    """

    def __init__(self, batches: Iterator[list[bytes]]) -> None:
        self._batches: Iterator[list[bytes]] | None = batches

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Not closed but let go: a read that was cancelled may still be at work in its thread, and ends it then.
        self._batches = None

    async def read(self) -> list[bytes]:
        """Return the next rows as lines; an empty list at the end.

        Raises `RunDirectoryError` when the file is not the one that was planned, `InputError` when it cannot be read.
        """
        assert self._batches is not None
        return await asyncio.to_thread(next, self._batches, [])
