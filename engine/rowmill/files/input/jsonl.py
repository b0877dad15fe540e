"""JSON Lines, by byte ranges.

Every line is a row, a blank one too: it becomes a failed row rather than shift the numbers of those behind it. Blank
lines at the end of a file have none behind them, and are no rows. The
plan reads the file once, in blocks, and cuts it into shards; workers then read their own ranges. Neither holds
more than a block and the longest line.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

from zlib_ng import zlib_ng
from zlib_ng.zlib_ng import crc32

from rowmill.core.errors import RunDirectoryError
from rowmill.core.rows import BROKEN, Shard
from rowmill.files.input.formats import BOM

_BLOCK = 1 << 20  # bytes a read of the plan: large enough to run at the speed of the page cache
_COUNTED = 1 << 16  # bytes whose lines are counted at once: a shard of 20,000 short lines is no more
LONGEST_LINE = 1 << 26  # bytes; providers refuse requests of far less
_TOO_LONG = BROKEN + b"the line is longer than %d MiB: no request could hold it" % (LONGEST_LINE >> 20)
_READ = 1 << 18  # bytes a read of a worker: some hundred rows for one switch to a thread

# Beyond about 200 shards more of them only cost more syncs; below 32 KiB a shard costs more than its rows. Rows are
# bounded too, for what a worker remembers of each.
_SHARDS = 200
_SHARD_BYTES = (1 << 15, 1 << 23)
SHARD_ROWS = 20_000


def shard_bytes(input_bytes: int) -> int:
    """Return the size of a shard for an input of that size. Depends on nothing else, so a plan can be made again."""
    smallest, largest = _SHARD_BYTES
    return min(max(input_bytes // _SHARDS, smallest), largest)


def read_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of an open file, in blocks."""
    while block := file.read(_BLOCK):
        yield block


def without_blank_end(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a file's blocks up to the newline of the last line that is not blank.

    Blank lines are held back until it shows that they are not the last ones, compressed where they are many: gigabytes
    of them are some megabytes.
    """
    held: list[bytes] = []
    any_text = False
    for block in blocks:
        text = block.rstrip()
        if text:
            yield from map(zlib_ng.decompress, held)
            held, any_text = [], True
            yield text if len(text) < len(block) else block
        if len(text) < len(block):
            held.append(zlib_ng.compress(block[len(text) :], 1))
    if any_text and held:
        for each in held:
            blank = zlib_ng.decompress(each)
            if newline := blank.find(b"\n") + 1:
                yield blank[:newline]
                return
            yield blank


class LineSplitter:
    """Cuts blocks into lines, in linear time whatever their length.

    A line that is longer than any request could be is not held: a `BROKEN` one that says so takes its place. What a
    compressed file of zeros expands to, or a sparse one has, finds no room in memory.
    """

    def __init__(self) -> None:
        self._held: list[bytes] = []  # of the line that has not ended yet; nothing once that is too long
        self._size = 0

    def take(self, block: bytes) -> list[bytes]:
        """Return the lines that end in this block, without their newlines."""
        lines = block.split(b"\n")
        rest = lines.pop()
        if lines and self._size:
            self._hold(lines[0])
            lines[0] = self._line()
        if lines or self._size:
            self._hold(rest)
        elif rest:
            self._held, self._size = [rest], len(rest)
        return lines

    def end(self) -> list[bytes]:
        """Return the last line, where no newline ended it."""
        return [self._line()] if self._size else []

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > LONGEST_LINE:
            self._held.clear()
        elif piece:
            self._held.append(piece)

    def _line(self) -> bytes:
        line = _TOO_LONG if self._size > LONGEST_LINE else b"".join(self._held)
        self._held, self._size = [], 0
        return line


def bounded_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield blocks that end with a newline, without lines that are too long."""
    splitter = LineSplitter()
    for block in blocks:
        if lines := splitter.take(block):
            yield b"\n".join(lines) + b"\n"
    if last := splitter.end():
        yield last[0] + b"\n"


def whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a file's blocks without its byte order mark, and with a newline behind its last line.

    So they can follow the blocks of another file; the rows stay the same.
    """
    first, last = True, b"\n"
    for block in blocks:
        last = block[-1:]
        yield block.removeprefix(BOM) if first else block
        first = False
    if last != b"\n":
        yield b"\n"


def plan_blocks(blocks: Iterable[bytes], *, shard_bytes: int, shard_rows: int) -> Iterator[Shard]:
    """Cut the bytes of one part into shards, from its start and counted from 0, each as soon as it is known.

    A shard ends with the line that brings it to `shard_bytes`, or with its `shard_rows`-th line. The same bytes and
    sizes always give the same shards.
    """
    number = first_row = rows = 0
    start = offset = 0  # of the open shard, and of what has been looked at
    crc = 0
    last = b"\n"
    for block in blocks:
        view = memoryview(block)
        position = 0
        while position < len(block):
            wanted = max(position, position + shard_bytes - (offset - start) - 1)
            newline = block.find(b"\n", wanted)
            stop = len(block) if newline < 0 else newline + 1
            ends = newline >= 0
            found, at = 0, position
            while at < stop and rows + found < shard_rows:
                here, at = at, min(at + _COUNTED, stop)
                found += block.count(b"\n", here, at)
            if (over := rows + found - shard_rows) > 0:
                stop = after_newline(block, here, at, block.count(b"\n", here, at) - over)
            elif over == 0 and (at < stop or not ends):  # what has been counted may end within the next line
                stop = block.rfind(b"\n", position, at) + 1
            if over >= 0:
                found, ends = shard_rows - rows, True
            crc = crc32(view[position:stop], crc)
            rows += found
            offset += stop - position
            position = stop
            if ends:
                yield Shard(number, first_row, rows, start, offset, crc)
                number, first_row, rows, start, crc = number + 1, first_row + rows, 0, offset, 0
        last = block[-1:] or last
    if offset > start:
        # A last line without a newline is a row like any other.
        yield Shard(number, first_row, rows + (last != b"\n"), start, offset, crc)


def after_newline(block: bytes, start: int, stop: int, nth: int) -> int:
    """Return the position after the nth newline of block[start:stop], nth from 1, by halving: counting is fast."""
    while nth > 1:
        middle = (start + stop) // 2
        before = block.count(b"\n", start, middle)
        if before >= nth:
            stop = middle
        elif stop - start < 256:  # noqa: PLR2004 - a short rest is walked
            start = block.index(b"\n", start) + 1
            nth -= 1
        else:
            start, nth = middle, nth - before
    return block.index(b"\n", start) + 1


class _ShardCut:
    """Makes rows of the bytes of one shard, and holds them against what was planned."""

    def __init__(self, path: Path, shard: Shard) -> None:
        self._path = path
        self._shard = shard
        self.left = shard.end - shard.start
        self._lines = LineSplitter()
        self._crc = 0
        self._rows = 0

    def take(self, block: bytes) -> list[bytes]:
        """Return the lines that end in this block; raises `RunDirectoryError` where it is another file's."""
        if not block:
            raise changed(self._path, self._shard)
        self.left -= len(block)
        self._crc = crc32(block, self._crc)
        lines = self._lines.take(block)
        if self.left == 0:
            lines += self._lines.end()
            if self._crc != self._shard.crc:
                raise changed(self._path, self._shard)
        if lines:
            if self._rows == 0 and self._shard.start == 0:
                lines[0] = lines[0].removeprefix(BOM)
            self._rows += len(lines)
        return lines


def shard_lines(path: Path, shard: Shard) -> Iterator[list[bytes]]:
    """Yield the lines of one shard without their newlines, some hundred at a time: for who has no event loop.

    Raises `RunDirectoryError` when the bytes are not those that were planned, at the last ones; and OSError.
    """
    cut = _ShardCut(path, shard)
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise changed(path, shard) from None
    with file:
        file.seek(shard.start)
        while cut.left > 0:
            if lines := cut.take(file.read(min(_READ, cut.left))):
                yield lines


class ShardReader:
    """Reads the lines of one shard, a block at a time. An async context manager."""

    def __init__(self, path: Path, shard: Shard) -> None:
        self._path = path
        self._shard = shard
        self._cut = _ShardCut(path, shard)

    async def __aenter__(self) -> Self:
        import aiofiles  # with asyncio, which who only plans has no use for

        try:
            self._file = await aiofiles.open(self._path, "rb", buffering=0)
        except FileNotFoundError:
            raise changed(self._path, self._shard) from None
        await self._file.seek(self._shard.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._file.close()

    async def read(self) -> list[bytes]:
        """Return the next lines, without their newlines; an empty list at the end.

        Raises `RunDirectoryError` when the bytes are not those that were planned.
        """
        cut = self._cut
        while cut.left > 0:
            if lines := cut.take(await self._file.read(min(_READ, cut.left))):
                return lines
        return []


def changed(path: object, shard: Shard) -> RunDirectoryError:
    """Return the error of a file that is not the planned one any more, whatever its format."""
    return RunDirectoryError(
        f"{path}: rows {shard.first_row} to {shard.first_row + shard.rows - 1} changed while the run was going on; put "
        "the input back as it was, or start a new run with another checkpoint.dir"
    )
