"""What of the input goes with a shard to a node that does not see the files itself."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

from rowmill.cluster.records import Records
from rowmill.cluster.wire import Piece
from rowmill.core.rows import InputPart, Shard
from rowmill.files.input import carried

_PIECE_BYTES = 4 << 20


class ShardInput:
    """The input as one node has it."""

    def __init__(self, parts: Sequence[InputPart], seen: Sequence[bool], records: Records) -> None:
        """`seen`: which of the parts the node sees itself."""
        self._parts = parts
        self._seen = seen
        self._records = records
        self._brought: dict[int, set[tuple[int, int]]] = {}  # part -> ranges that the node has, of parts that stay

    async def pieces(self, shard: Shard) -> AsyncIterator[Piece]:
        """Yield what the node needs for the shard and does not have. All of it is to be told: it counts as brought."""
        if self._seen[shard.part]:
            return
        part = self._parts[shard.part]
        ranges: Iterable[tuple[int, int]] = await asyncio.to_thread(carried.ranges, part, shard)
        own = part.kind == "lines"
        if not own:
            there = self._brought.setdefault(shard.part, set())
            ranges = [each for each in ranges if each not in there]
            there.update(ranges)
        for start, end in ranges:
            for offset in range(start, end, _PIECE_BYTES):
                size = min(_PIECE_BYTES, end - offset)
                data = await asyncio.to_thread(self._records.read, part.path, offset, size)
                yield Piece(shard.part, shard.number if own else None, offset, data)
