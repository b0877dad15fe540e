"""Which bytes of a part are needed for a shard, where its rows are read on another machine than the one that has them.

The file there has the same size and the same bytes at the same offsets; what nobody needs is a hole. So whoever reads
it does so as here.
"""

import os
from pathlib import Path

from zlib_ng.zlib_ng import crc32

from rowmill.core.rows import InputPart, Shard

_ENDS = 1 << 16  # bytes at both ends of a file by which it is known again
_BLOCK = 1 << 23
_MAGIC = 4  # bytes at the start of a Parquet file that are looked at


def mark(path: str) -> bytes:
    """Return what tells a file from others of its name: size, time of change, both ends. Empty where there is none."""
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            first = file.read(_ENDS)
            file.seek(max(0, status.st_size - _ENDS))
            return b"%d %d %08x" % (status.st_size, status.st_mtime_ns, crc32(file.read(_ENDS), crc32(first)))
    except OSError:
        return b""


def ranges(part: InputPart, shard: Shard) -> list[tuple[int, int]]:
    """Return the ranges (start, end) that reading the shard takes. Raises the machine's errors, and pyarrow's."""
    if part.kind == "lines":
        return [(shard.start, shard.end)]
    size = Path(part.path).stat().st_size
    if part.kind == "arrow":
        return [(0, size)]  # where its batches are, only the readers of Arrow know
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # only here: lines need none of it

    metadata = pq.read_metadata(part.path)
    found = [(0, min(size, _MAGIC)), (max(0, size - 8 - metadata.serialized_size), size)]
    row = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if row < shard.end and row + group.num_rows > shard.start:
            for place in range(group.num_columns):
                column = group.column(place)
                start = column.data_page_offset
                if column.has_dictionary_page and column.dictionary_page_offset is not None:
                    start = min(start, column.dictionary_page_offset)
                found.append((start, start + column.total_compressed_size))
        row += group.num_rows
    return found


def crc_of(path: str, start: int, end: int) -> int:
    """Return the CRC-32 of these bytes of a file. Raises OSError."""
    found = 0
    with Path(path).open("rb", buffering=0) as file:
        for at in range(start, end, _BLOCK):
            found = crc32(os.pread(file.fileno(), min(_BLOCK, end - at), at), found)
    return found
