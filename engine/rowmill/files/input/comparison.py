"""A part's bytes held against the shards that were planned of it: the same, others, or the same and more behind them.

An input may grow: rows are appended to its last file, or further files come behind it. What was planned keeps its
shards, also the last one, which may be short and may have had no line break at its end; what is new is cut behind it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec
from zlib_ng.zlib_ng import crc32

from rowmill.core.rows import Shard
from rowmill.files.input.jsonl import plan_blocks


class PlannedBytes:
    """The bytes of a part, read once from its start.

    first: the bytes after which what is new begins.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.first = 0
        self._blocks = iter(blocks)
        self._rest = b""
        self._last = b"\n"

    def differing(self, shards: Sequence[Shard]) -> Shard | None:
        """Read what was planned, and return the first shard that is another one; None where all are right."""
        for shard in shards:
            gap = shard.start - self.first
            if gap and (gap != 1 or self._take(1) != (1, crc32(b"\n"))):
                return shard  # a shard behind one that grew begins behind the line break that this lacked
            if self._take(shard.end - shard.start) != (shard.end - shard.start, shard.crc):
                return shard
            self.first = shard.end
        # A last line that had no line break and goes on now is another row.
        if self._last == b"\n" or not (more := self._next()):
            return None
        if more[:1] != b"\n":
            return shards[-1]
        self._rest = more[1:]
        self.first += 1
        return None

    def more(self) -> Iterator[bytes]:
        """Return what follows."""
        return chain([self._rest] if self._rest else [], self._blocks)

    def _next(self) -> bytes:
        block, self._rest = self._rest or next(self._blocks, b""), b""
        return block

    def _take(self, size: int) -> tuple[int, int]:
        """Read so many bytes, and return how many there were, and their CRC-32."""
        taken, crc = 0, 0
        while taken < size and (block := self._next()):
            piece = block[: size - taken]
            crc = crc32(piece, crc)
            taken += len(piece)
            self._last = piece[-1:]
            self._rest = block[len(piece) :]
        return taken, crc


def shards_behind(blocks: Iterable[bytes], start: int, *, shard_bytes: int, shard_rows: int) -> Iterator[Shard]:
    """Cut what follows the bytes up to `start` into shards, counted from 0, but by their place in the part."""
    for shard in plan_blocks(blocks, shard_bytes=shard_bytes, shard_rows=shard_rows):
        yield msgspec.structs.replace(shard, start=shard.start + start, end=shard.end + start)
