"""A sealed shard: all its output lines in row order, in one file, ready to be copied.

    output lines, one for each row | errors-file lines, one for each failed row | footer, one record (see `framing`)

The footer is `{"rowmill":1,"shard":[...],"output_bytes":n,"error_bytes":n,"totals":{...}}`. The file appears under its
name whole and synced, or not at all. It can be made again from its checkpoint, whose records have their checksums.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.errors import RunDirectoryError
from engine.records import Shard, Totals
from engine.store import durable
from engine.store.framing import FORMAT, FRAME_BYTES, framed, unframed
from engine.store.lines import error_line
from engine.store.recovery import attempts_of
from engine.store.row_index import FAILED, RowIndex

_CHUNK_BYTES = 1 << 17  # gathered before a write: a worker's memory is to be the same for small and large shards
_FOOTER_BYTES = 4096  # more than any footer has


class Sealed(msgspec.Struct, frozen=True):
    """What the footer of a sealed shard says."""

    shard: Shard
    output_bytes: int
    error_bytes: int
    totals: Totals


class _Footer(msgspec.Struct):
    rowmill: int
    shard: Shard
    output_bytes: int
    error_bytes: int
    totals: Totals


_decode_footer = msgspec.json.Decoder(_Footer).decode


def seal_name(number: int) -> str:
    """Return the file name of a sealed shard."""
    return f"{number:06d}.sealed"


def write_sealed(directory: Path, checkpoint: Path, index: RowIndex, totals: Totals) -> Sealed:
    """Write the sealed file of a complete shard and return its footer. Blocks; the cost is that of copying the bytes.

    Lines are cut out of the checkpoint as they are; their checksums were right when they were written or read.
    """
    path = directory / seal_name(index.shard.number)
    temporary = directory / f".{path.name}.tmp"
    with durable.machine_errors(f"write the sealed shard {path}"):
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            with checkpoint.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as source:
                # A map and not reads: a read gives up the interpreter lock, and getting it back from a busy event loop
                # takes milliseconds for every row.
                output_bytes = _write_lines(fd, _output_lines(source, index), source)
                error_bytes = _write_lines(fd, _error_lines(source, index), source)
            footer = _Footer(FORMAT, index.shard, output_bytes, error_bytes, totals)
            durable.write_all(fd, framed(msgspec.json.encode(footer)))
            durable.sync_data(fd)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        durable.publish(temporary, path)
    return Sealed(index.shard, output_bytes, error_bytes, msgspec.structs.replace(totals))


def _output_lines(source: mmap.mmap, index: RowIndex) -> Iterator[bytes]:
    for offset, length in zip(index.offsets, index.lengths, strict=True):
        yield source[offset : offset + length]


def _error_lines(source: mmap.mmap, index: RowIndex) -> Iterator[bytes]:
    place = index.states.find(FAILED)
    while place >= 0:
        offset = index.offsets[place]
        head = source[source.rfind(b"\n", 0, offset) + 1 + FRAME_BYTES : offset]
        yield error_line(source[offset : offset + index.lengths[place]], attempts_of(head))
        place = index.states.find(FAILED, place + 1)


def _write_lines(fd: int, lines: Iterator[bytes], source: mmap.mmap) -> int:
    """Write the lines with newlines, in chunks, and return the bytes written."""
    total = 0
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            total += _write_chunk(fd, chunk)
            chunk.clear()
            size = 0
            source.madvise(mmap.MADV_DONTNEED)  # pages that were read would count as memory of this process
    return total + _write_chunk(fd, chunk)


def _write_chunk(fd: int, lines: list[bytes]) -> int:
    data = b"\n".join((*lines, b"")) if lines else b""
    durable.write_all(fd, data)
    return len(data)


def read_sealed(path: Path) -> Sealed | None:
    """Return what the footer says, None where there is no such file. Reads the footer only.

    Raise RunDirectoryError where the footer is damaged or does not fit the size of the file.
    """
    footer = _read_footer(path)
    return None if footer is None else Sealed(footer.shard, footer.output_bytes, footer.error_bytes, footer.totals)


def _read_footer(path: Path) -> _Footer | None:
    try:
        with durable.machine_errors(f"read the sealed shard {path}"), path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _FOOTER_BYTES))
            tail = file.read()
    except FileNotFoundError:
        return None
    record = tail[tail.rfind(b"\n", 0, -1) + 1 :]
    json = unframed(record)
    if json is None:
        raise RunDirectoryError(_damaged(path, "it has no valid last record"))
    try:
        footer = _decode_footer(json)
    except msgspec.DecodeError as error:
        raise RunDirectoryError(_damaged(path, "its last record is of another version of Rowmill")) from error
    if footer.rowmill != FORMAT or size != footer.output_bytes + footer.error_bytes + len(record):
        raise RunDirectoryError(_damaged(path, f"it has {size} bytes, which its last record contradicts"))
    return footer


def _damaged(path: Path, what: str) -> str:
    return (
        f"the sealed shard {path} is damaged: {what}. "
        "Move it out of the run directory and run the same command again: it is made anew from its checkpoint"
    )
