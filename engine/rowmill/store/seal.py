"""A sealed shard: what it adds to the output, all rows in order, in one file, ready to be joined with the others.

    output section | errors section | footer, one record (see `framing`)

The output section is what the output's codec makes of the shard's lines (of a step that is not the last: the rows as
the next one reads them); the errors section has one line for each failed row. The footer is `{"rowmill":2,
"shard":[...],"output_bytes":n,"error_bytes":n,"totals":{...},"format":"jsonl","failures":{...},"crc":n}`. The file
appears under its name whole and synced, or not at all. It can be made again from its checkpoint, whose records have
their checksums; so can one of another format, where the user has changed his mind.
"""

import mmap
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
from zlib_ng.zlib_ng import crc32

from rowmill.core import private_files
from rowmill.core.counts import Totals
from rowmill.core.errors import RunDirectoryError
from rowmill.core.output_codec import OutputCodec
from rowmill.core.rows import Shard
from rowmill.store import durable
from rowmill.store.framing import FORMAT, FRAME_BYTES, framed, unframed
from rowmill.store.output_lines import error_line, failed_row, fault_of
from rowmill.store.recovery import attempts_of
from rowmill.store.row_index import FAILED, RowIndex

_CHUNK_BYTES = 1 << 17  # gathered before a write: a worker's memory is to be the same for small and large shards
_CHECKED_BYTES = 1 << 20
_FOOTER_BYTES = 4096  # more than any footer has


class Sealed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The footer of a sealed shard."""

    rowmill: int  # `FORMAT`
    shard: Shard
    output_bytes: int
    error_bytes: int
    totals: Totals
    format: str  # the key of the codec
    failures: dict[str, int] | None = None  # see `failures_of`; None where they were not counted
    crc: int | None = None  # CRC-32 of both sections; None where an earlier version made it
    left_out: int = 0  # of the rows, those that are not in the output: a step's condition does not hold for them


_decode_footer = msgspec.json.Decoder(Sealed).decode


def seal_name(number: int) -> str:
    """Return the file name of a sealed shard."""
    return f"{number:06d}.sealed"


def write_sealed(directory: Path, checkpoint: Path, index: RowIndex, totals: Totals, codec: OutputCodec) -> Sealed:
    """Write the sealed file of a complete shard and return its footer. Blocks.

    Lines are cut out of the checkpoint as they are; their checksums were right when they were written or read.
    """
    path = directory / seal_name(index.shard.number)
    temporary = _unfinished(path)
    with durable.machine_errors(f"write the sealed shard {path}"):
        fd = private_files.make_file(temporary)
        try:
            with checkpoint.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as source:
                # A map and not reads: a read gives up the interpreter lock, and getting it back from a busy event loop
                # takes milliseconds for every row.
                failures: Counter[str] = Counter()
                left_out: Counter[str] = Counter()
                lines = codec.chosen(_output_lines(source, index), left_out)
                output_bytes, crc = _write(fd, lines, codec.end, 0)
                error_bytes, crc = _write(fd, _error_lines(source, index, codec, failures), b"\n", crc)
            totals = msgspec.structs.replace(totals)
            sealed = Sealed(
                FORMAT,
                index.shard,
                output_bytes,
                error_bytes,
                totals,
                codec.key,
                dict(failures),
                crc,
                left_out.total(),
            )
            durable.write_all(fd, framed(msgspec.json.encode(sealed)))
            durable.sync_data(fd)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        durable.publish(temporary, path)
    return sealed


def lay_sealed(directory: Path, number: int, start: int, data: bytes, *, last: bool) -> None:
    """Add to a sealed file that comes in pieces; with the last one it appears under its name. Blocks.

    Who begins anew with the first piece takes the place of whoever has not come to the end. Raises `MachineError`;
    then nothing of it stays.
    """
    path = directory / seal_name(number)
    temporary = _unfinished(path)
    try:
        with durable.machine_errors(f"write the sealed shard {path}"):
            if not start:
                os.close(private_files.make_file(temporary))
            durable.write_at(temporary, start, data, sync=last)
            if last:
                durable.publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _output_lines(source: mmap.mmap, index: RowIndex) -> Iterator[bytes]:
    seen = 0
    for offset, length in zip(index.offsets, index.lengths, strict=True):
        seen += length
        if seen >= _CHUNK_BYTES:
            seen = 0
            source.madvise(mmap.MADV_DONTNEED)  # pages that were read would count as memory of this process
        yield source[offset : offset + length]


def _error_lines(source: mmap.mmap, index: RowIndex, codec: OutputCodec, failures: Counter[str]) -> Iterator[bytes]:
    """Yield the errors-file lines, and count their classes."""
    place = index.states.find(FAILED)
    while place >= 0:
        offset = index.offsets[place]
        line = source[offset : offset + index.lengths[place]]
        attempts = attempts_of(source[source.rfind(b"\n", 0, offset) + 1 + FRAME_BYTES : offset])
        row = failed_row(line)
        failures[row.error.fault] += 1
        own = codec.failed(line, attempts)
        yield error_line(row, attempts) if own is None else own
        place = index.states.find(FAILED, place + 1)


def _write(fd: int, pieces: Iterable[bytes], end: bytes, crc: int) -> tuple[int, int]:
    """Write the pieces, several at a time and each with the end; return the bytes written, and the CRC gone on with."""
    total = size = 0
    chunk: list[bytes] = []
    for piece in pieces:
        chunk.append(piece)
        size += len(piece)
        if size >= _CHUNK_BYTES:
            written, crc = _write_chunk(fd, chunk, end, crc)
            total += written
            chunk.clear()
            size = 0
    written, crc = _write_chunk(fd, chunk, end, crc)
    return total + written, crc


def _write_chunk(fd: int, pieces: list[bytes], end: bytes, crc: int) -> tuple[int, int]:
    data = pieces[0] if len(pieces) == 1 and not end else end.join((*pieces, b"")) if pieces else b""
    durable.write_all(fd, data)
    return len(data), crc32(data, crc)


def read_sealed(path: Path) -> Sealed | None:
    """Return what the footer says, None where there is no such file. Reads the footer only.

    Raise RunDirectoryError where the footer is damaged or does not fit the size of the file.
    """
    try:
        with durable.machine_errors(f"read the sealed shard {path}", absent=True), path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _FOOTER_BYTES))
            tail = file.read()
    except FileNotFoundError:
        return None
    record = tail[tail.rfind(b"\n", 0, -1) + 1 :]
    json = unframed(record)
    if json is None:
        raise damaged(path, "is damaged: it has no valid last record")
    try:
        footer = _decode_footer(json)
    except msgspec.DecodeError as error:
        raise damaged(path, "is damaged: its last record is of another version of Rowmill") from error
    if footer.rowmill != FORMAT or size != footer.output_bytes + footer.error_bytes + len(record):
        raise damaged(path, f"is damaged: it has {size} bytes, which its last record contradicts")
    return footer


def check_sections(fd: int, path: Path, sealed: Sealed) -> None:
    """Raise RunDirectoryError where the bytes of an open sealed shard are not those that were sealed. Blocks."""
    if sealed.crc is None:
        return
    crc, size = 0, sealed.output_bytes + sealed.error_bytes
    with durable.machine_errors(f"read the sealed shard {path}"):
        for offset in range(0, size, _CHECKED_BYTES):
            wanted = min(_CHECKED_BYTES, size - offset)
            data = os.pread(fd, wanted, offset)
            if len(data) < wanted:
                return  # too short: what copies it says by how much
            crc = crc32(data, crc)
    if crc != sealed.crc:
        raise damaged(path, "is damaged: its bytes are not those that its last record vouches for")


def failures_of(path: Path, sealed: Sealed) -> dict[str, int]:
    """Return how many rows of a sealed shard failed by class, in the order of each class's first row.

    Where the footer does not say so they are counted in the errors section. Blocks.
    """
    if sealed.failures is not None:
        return sealed.failures
    with durable.machine_errors(f"read the sealed shard {path}"), path.open("rb") as file:
        file.seek(sealed.output_bytes)
        try:
            return Counter(map(fault_of, islice(file, sealed.totals.failed)))
        except (ValueError, LookupError, TypeError) as error:
            raise damaged(path, "is damaged: it lists failed rows that cannot be read") from error


def damaged(path: Path, what: str) -> RunDirectoryError:
    """Make the error that tells what is wrong with a sealed shard, and what to do."""
    return RunDirectoryError(
        f"the sealed shard {path} {what}. "
        "Move it out of the run directory and run the same command again: it is made anew from its checkpoint"
    )
