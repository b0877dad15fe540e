"""Arrow IPC files and streams, read in place by row numbers.

An IPC file (also called Feather V2) has a footer that tells where each of its batches is; a stream, as Hugging Face's
`save_to_disk` writes it, is read from its start. Both are mapped into memory: a batch that is skipped is not touched,
and what is read belongs to the page cache, not to the process. Only compressed batches are unpacked, each as a whole.

Whether the file is still the planned one is told by what describes the batches: the footer, or the head of every
message of a stream, with the sizes of all buffers. A changed value of the same length may pass.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
from zlib_ng.zlib_ng import crc32

from rowmill.core.errors import InputError
from rowmill.core.rows import Shard
from rowmill.files.input.formats import HEAD, refuse_instead
from rowmill.files.input.jsonl import changed
from rowmill.files.input.tables import (
    LineEncoder,
    check_names,
    plan_shards,
    shard_crc,
    translated,
)

_MAGIC = b"ARROW1"  # at both ends of an IPC file; a stream has none
_TAIL = 4 + len(_MAGIC)  # bytes at the end of an IPC file: length of the footer, magic
_SPAN_ROWS = 10_000  # rows after which a whole read maps the file anew: mapped pages that were touched count as memory


def check(path: Path) -> None:
    """Raise `InputError` where the file is no Arrow file or stream, or ends inside a batch."""
    with _Mapped(str(path)) as mapped:
        mapped.groups()


def schema(path: Path) -> pa.Schema:
    """Return the file's schema. Raises `InputError`."""
    with _Mapped(str(path)) as mapped:
        return mapped.schema


def lines(path: Path) -> Iterator[list[bytes]]:
    """Yield all rows as lines, some hundred at a time. Raises `InputError`."""
    with _Mapped(str(path)) as mapped:
        total = sum(mapped.groups())
    for start in range(0, total, _SPAN_ROWS):
        with _Mapped(str(path)) as mapped:
            yield from mapped.lines(start, min(total, start + _SPAN_ROWS), None)


def plan(path: Path, shard_rows: int) -> Iterator[Shard]:
    """Cut the file into shards, counted from 0. Raises `InputError`.

    Small batches are joined up to `shard_rows`, a larger one is cut.
    """
    with _Mapped(str(path)) as mapped:
        groups, identity = mapped.groups(), mapped.identity()
    return plan_shards(groups, identity, shard_rows)


def shard_lines(path: str, shard: Shard, columns: list[str] | None) -> Iterator[list[bytes]]:
    """Yield the rows of one shard as lines, some hundred at a time.

    columns: the only ones to read; those that do not exist are left out. None: all of them. Raises `RunDirectoryError`,
    before the first row, where the file is not the planned one, and `InputError`.
    """
    with _Mapped(path) as mapped:
        if shard_crc(mapped.identity(), shard.start, shard.end) != shard.crc:
            raise changed(path, shard)
        yield from mapped.lines(shard.start, shard.end, columns)


class _Mapped:
    """An Arrow file or stream in memory. A context manager. Raises `InputError` for what cannot be read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._batch = -1  # number of the batch that is read, for messages

    def __enter__(self) -> Self:
        with self._translated():
            self._file = pa.memory_map(self.path)
            start = bytes(self._file.read_at(min(HEAD, self._file.size()), 0))
            refuse_instead(self.path, start)  # of very many files nobody has looked at each
            if start.startswith(b"FEA1"):
                raise InputError(
                    f"{self.path}: is a Feather file of version 1; write it anew with pyarrow.feather.write_feather"
                )
            self._is_file = start.startswith(_MAGIC)
            self.schema = self._open(None).schema
        check_names(self.path, self.schema)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def identity(self) -> int:
        """Return the CRC-32 of what describes the batches."""
        with self._translated():
            if self._is_file:
                size = self._file.size()
                length = int.from_bytes(self._file.read_at(4, size - _TAIL), "little")
                return int(crc32(self._file.read_at(length, size - _TAIL - length)))
            return _stream_identity(self.path, *_status(self.path))

    def groups(self) -> list[int]:
        """Return the rows of each batch."""
        # Of one column only, the cheapest to unpack, so that compressed batches are not unpacked in vain.
        kinds = self.schema.types
        fields = [min(range(len(kinds)), key=lambda number: _bits(kinds[number]))] if kinds else None
        return [batch.num_rows for batch in self._batches(fields)]

    def lines(self, start: int, end: int, columns: list[str] | None) -> Iterator[list[bytes]]:
        """Yield these rows as lines."""
        names = [name for name in self.schema.names if columns is None or name in columns]
        encoder = LineEncoder(pa.schema([self.schema.field(name) for name in names]), validate=True)
        fields = [self.schema.names.index(name) for name in names]
        before = 0
        for batch in self._batches(fields or None):
            after = before + batch.num_rows
            if after > start:
                wanted = batch.select(names).slice(max(0, start - before), end - max(before, start))
                yield from encoder.lines(wanted)
                if after >= end:
                    return
            before = after

    def _batches(self, fields: list[int] | None) -> Iterator[Any]:
        """Yield the batches with these columns, by number; None: all of them."""
        with self._translated():
            reader = self._open(fields)
            self._batch = 0
        while True:
            with self._translated():
                if self._is_file:
                    if self._batch == reader.num_record_batches:
                        break
                    batch = reader.get_batch(self._batch)
                else:
                    try:
                        batch = reader.read_next_batch()
                    except StopIteration:
                        break
            yield batch
            self._batch += 1
        self._batch = -1

    def _open(self, fields: list[int] | None) -> Any:
        options = pa.ipc.IpcReadOptions(included_fields=fields)  # None: all of them
        if self._is_file:
            # Of a file, fields are copied where they are chosen: only worth it where they would be unpacked.
            if fields is None or not _is_compressed(self.path, *_status(self.path)):
                return pa.ipc.open_file(self._file)
            return pa.ipc.open_file(self._file, options=options)
        self._file.seek(0)
        return pa.ipc.open_stream(self._file, options=options)

    def _translated(self) -> AbstractContextManager[None]:
        what = f"batch {self._batch} cannot be decoded" if self._batch >= 0 else "cannot be read as Arrow"
        return translated(self.path, what)


@functools.lru_cache(maxsize=64)
def _stream_identity(path: str, *_of: int) -> int:
    """Return the CRC-32 of a stream's message heads. Kept while the file's status is the same: 10 us a batch."""
    identity = 0
    with pa.memory_map(path) as file:
        for message in pa.MessageReader.open_stream(file):
            identity = crc32(message.metadata, identity)
    return identity


@functools.lru_cache(maxsize=64)
def _is_compressed(path: str, *_of: int) -> bool:
    """Return whether the batches of an IPC file are compressed: then what is read does not lie in the map."""
    with pa.memory_map(path) as file:
        reader = pa.ipc.open_file(file)
        if reader.num_record_batches == 0:
            return False
        columns = reader.get_batch(0).columns
        file.seek(0)
        whole = file.read_buffer()
        inside = range(whole.address, whole.address + whole.size)
        buffers = [buffer for column in columns for buffer in column.buffers() if buffer is not None and buffer.size]
        return any(buffer.address not in inside for buffer in buffers)


def _status(path: str) -> tuple[int, int, int]:
    """Return what changes when a file changes."""
    status = Path(path).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _bits(kind: pa.DataType) -> int:
    try:
        return int(kind.bit_width)
    except ValueError:  # it has no fixed width
        return 1 << 30
