"""The input as a node has it: what is carried there, and what it reads itself, where the storage is there for both.

A file of a path that the node shares with the driver is read in place; of an object that the driver has a copy of (its
spool) the node fetches the bytes that a shard takes. Either is compared with what was planned before a worker gets the
shard: by the CRC of the bytes, or in place of a table by what tells the file. What differs, or cannot be read in time,
is carried like any other.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from zlib_ng.zlib_ng import crc32

from rowmill.cluster.wire import Errand, Piece, Read
from rowmill.core.errors import MachineError
from rowmill.core.rows import InputPart, Shard
from rowmill.files import remote
from rowmill.files.input import carried

_BLOCK_S = 30.0  # for one block; storage that a node has no way to would be waited for for minutes
_BLOCK = remote.BLOCK
_T = TypeVar("_T")


class OtherBytesError(MachineError):
    """The node reads other bytes than the driver did."""


class NodeInput:
    """The parts of the input, and the directory for what is not read in place.

    itself: which of the parts the node reads itself, as far as is known.
    """

    def __init__(self, errand: Errand, place: Path) -> None:
        self._parts = errand.parts
        self._marks = errand.marks
        self._origins = [[] if errand.carry else files for files in errand.origins]
        self._place = place
        self._in_place = [
            not errand.carry and bool(mark) and mark == carried.mark(part.path)
            for mark, part in zip(errand.marks, errand.parts, strict=True)
        ]
        self.itself = [bool(origins) or here for origins, here in zip(self._origins, self._in_place, strict=True)]
        self._turns: dict[int, asyncio.Lock] = {}  # of each part: a shard may need what is read for the one before
        self._reading: dict[int, asyncio.Task[None]] = {}  # by shard, until it is assigned

    def __repr__(self) -> str:
        return f"<reads {sum(self.itself)} of {len(self.itself)} parts itself>"

    # Carried

    def lay(self, piece: Piece) -> None:
        """Write down what was carried."""
        self._write(piece.part, piece.shard, piece.offset, piece.data)

    def path(self, shard: Shard) -> Path:
        """Return where a shard's bytes lie that are not read in place."""
        return self._path(shard.part, shard.number if self._parts[shard.part].kind == "lines" else None)

    def part(self, shard: Shard) -> InputPart | None:
        """Return where a worker reads the shard; None: where the driver has the file."""
        if self.itself[shard.part] and self._in_place[shard.part]:
            return None
        return InputPart(str(self.path(shard)), self._parts[shard.part].kind)

    def forget(self, shard: int) -> None:
        """Let go of a shard's own bytes."""
        if (reading := self._reading.pop(shard, None)) is not None:
            reading.cancel()
        (self._place / f"{shard:06d}.shard").unlink(missing_ok=True)

    def _path(self, part: int, shard: int | None) -> Path:
        return self._place / (f"{part:06d}.part" if shard is None else f"{shard:06d}.shard")

    def _write(self, part: int, shard: int | None, offset: int, data: bytes) -> None:
        fd = os.open(self._path(part, shard), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(fd, data, offset)
        finally:
            os.close(fd)

    # Read here

    def begin(self, read: Read) -> None:
        """Begin to read what a shard takes, which is assigned next."""
        reading = asyncio.get_running_loop().create_task(self._read(read))
        reading.add_done_callback(lambda task: task.cancelled() or task.exception())  # also where nobody asks any more
        self._reading[read.shard] = reading

    def take(self, shard: int) -> asyncio.Task[None] | None:
        """Return what reads for a shard that is assigned now; None where it is carried.

        Raises OSError, TimeoutError and `RowmillError` where the node cannot read the part, which then is carried.
        """
        return self._reading.pop(shard, None)

    async def _read(self, read: Read) -> None:
        async with self._turns.setdefault(read.part, asyncio.Lock()):
            if not self.itself[read.part]:
                raise MachineError("what is read for another shard has failed")
            try:
                if self._in_place[read.part]:
                    await self._compare(read)
                else:
                    await self._fetch(read)
            except OtherBytesError:
                self.itself[read.part] = False
                raise
            except Exception:
                # With other objects it would be the same, each after some time.
                alike = [bool(self._origins[read.part]) and bool(origins) for origins in self._origins]
                self.itself = [here and not same for here, same in zip(self.itself, alike, strict=True)]
                self.itself[read.part] = False
                raise

    async def _compare(self, read: Read) -> None:
        path = self._parts[read.part].path
        if not read.ranges and await _in_time(carried.mark, path) != self._marks[read.part]:
            raise OtherBytesError(f"{path} is another file there")
        for start, end, crc in read.ranges:
            if await _in_time(carried.crc_of, path, start, end) != crc:
                raise OtherBytesError(f"{path} has other bytes there")

    async def _fetch(self, read: Read) -> None:
        own = read.shard if self._parts[read.part].kind == "lines" else None
        for start, end, crc in read.ranges:
            found, at = 0, start
            for url, first, last in _spans([(file.path, file.size) for file in self._origins[read.part]], start, end):
                data = await _in_time(remote.read_range, url, first, last) if url else b"\n"
                found = crc32(data, found)
                await asyncio.to_thread(self._write, read.part, own, at, data)
                at += len(data)
            if at != end or found != crc:
                raise OtherBytesError(f"{remote.shown(self._origins[read.part][0].path)} has other bytes there")


def _spans(files: list[tuple[str, int]], start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Yield which bytes of which files, one behind the other, are these, in blocks.

    The newline that the driver has put behind a last line without one is of no file.
    """
    before = 0
    for url, size in files:
        first, last = max(start - before, 0), min(end - before, size)
        for at in range(first, last, _BLOCK):
            yield url, at, min(at + _BLOCK, last)
        before += size
    if end == before + 1:
        yield "", 0, 1


async def _in_time(function: Callable[..., _T], *arguments: str | int) -> _T:
    async with asyncio.timeout(_BLOCK_S):
        return await asyncio.to_thread(function, *arguments)
