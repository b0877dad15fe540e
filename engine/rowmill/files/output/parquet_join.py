"""Many Parquet files with one schema become one, by copying bytes.

A Parquet file is `PAR1`, the row groups, the footer, its length in four bytes, `PAR1`. The row groups do not know where
they are; the footer does: it has the offset of every column in every row group, from the start of the file. So the row
groups of all files are copied one after the other, and their entries in the footers are moved by as many bytes as they
were. Nothing is decoded. That a row group is written once, in a worker, and never looked at again is what lets one
supervisor keep up with any number of workers.

What is known here of a footer (a struct in Thrift, see `thrift`) are the numbers of the fields that hold offsets:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from collections.abc import Callable
from typing import Any

from rowmill.core.output_codec import Join, Section
from rowmill.files.output import thrift
from rowmill.files.output.thrift import I16, I64, LIST, STRUCT, Struct

MAGIC = b"PAR1"
_TAIL_BYTES = 8  # length of the footer, magic
_GUESS_BYTES = 1 << 15  # read at first; nearly all footers are within

# FileMetaData
_SCHEMA, _NUM_ROWS, _ROW_GROUPS = 2, 3, 4
# RowGroup
_COLUMNS, _GROUP_OFFSET, _ORDINAL = 1, 5, 7
# ColumnChunk
_META_DATA = 3
_FILE_OFFSET = 2
_PAGE_INDEX = (4, 5, 6, 7)  # offset_index_offset and _length, column_index_offset and _length
# ColumnMetaData
_PAGE_OFFSETS = (9, 10, 11, 14)  # data_page, index_page, dictionary_page, bloom_filter

_MAX_ORDINAL = 2**15 - 1


class ParquetJoin(Join):
    """One file in the making. It keeps the entries of the row groups: some 80 bytes for each column of each."""

    def __init__(self, empty: Callable[[], bytes]) -> None:
        """`empty` makes a file without rows: what a file that nothing was added to is."""
        super().__init__(MAGIC)
        self._empty = empty
        self._footer: Struct | None = None  # of the first file
        self._groups: list[bytes] = []
        self._rows = 0
        self._at = len(MAGIC)

    def add(self, section: Section, /) -> tuple[int, int]:
        """Take in the next file, which a newline follows; return the offset and the count of the bytes to be copied."""
        try:
            return self._add(section)
        except (LookupError, TypeError, RecursionError) as error:
            raise ValueError("its footer is not that of a Parquet file") from error

    def end(self) -> bytes:
        """Return the footer."""
        if self._footer is None:
            return self._empty()[len(MAGIC) :].removesuffix(b"\n")
        rows, groups = (I64, self._rows), (LIST, (STRUCT, self._groups))
        footer = thrift.write_struct({**self._footer, _NUM_ROWS: rows, _ROW_GROUPS: groups})
        return footer + len(footer).to_bytes(4, "little") + MAGIC

    def _add(self, section: Section) -> tuple[int, int]:
        footer, end = _read_footer(section)
        if self._footer is None:
            self._footer = footer
        elif footer.get(_SCHEMA) != self._footer.get(_SCHEMA):
            raise ValueError("it has other columns than the ones before it")
        moved = self._at - len(MAGIC)
        for group in _elements(footer, _ROW_GROUPS):
            self._groups.append(thrift.write_struct(self._moved(group, moved)))
        self._rows += _value(footer, _NUM_ROWS)
        self._at += end - len(MAGIC)
        return len(MAGIC), end - len(MAGIC)

    def _moved(self, group: Struct, by: int) -> Struct:
        group = dict(group)
        _move(group, (_GROUP_OFFSET,), by)
        if _ORDINAL in group:
            if len(self._groups) <= _MAX_ORDINAL:
                group[_ORDINAL] = I16, len(self._groups)
            else:
                del group[_ORDINAL]  # it may be left out, and has no room for more
        for chunk in _elements(group, _COLUMNS):
            _move(chunk, (_FILE_OFFSET,), by)
            for number in _PAGE_INDEX:  # it has offsets of its own, of every page; nobody needs it to read the file
                chunk.pop(number, None)
            _move(_value(chunk, _META_DATA), _PAGE_OFFSETS, by)
        return group


def _read_footer(section: Section) -> tuple[Struct, int]:
    """Return the footer of a file, and the offset after its row groups."""
    size = section.size - 1
    start = max(0, size - _GUESS_BYTES)
    tail = section.read(start, size - start)
    length = int.from_bytes(tail[-_TAIL_BYTES : -len(MAGIC)], "little")
    end = size - _TAIL_BYTES - length
    if tail[-len(MAGIC) :] != MAGIC or end < len(MAGIC):
        raise ValueError("it does not end as a Parquet file")
    data = tail[end - start : -_TAIL_BYTES] if end >= start else section.read(end, length)
    footer = thrift.read_struct(data)
    if {_SCHEMA, _NUM_ROWS, _ROW_GROUPS} - set(footer):
        raise ValueError("its footer lacks what every Parquet file has")
    return footer, end


def _value(fields: Struct, number: int) -> Any:
    return fields[number][1]


def _elements(fields: Struct, number: int) -> list[Struct]:
    elements: list[Struct] = fields[number][1][1]
    return elements


def _move(fields: Struct, numbers: tuple[int, ...], by: int) -> None:
    """Move offsets; 0, as Arrow writes for one that nobody reads, stays."""
    for number in numbers:
        if number in fields and fields[number][1] > 0:
            fields[number] = I64, fields[number][1] + by
