"""What of the input goes with a shard to a node: bytes, or what it is to read itself."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

from rowmill.cluster.records import Records
from rowmill.cluster.wire import PIECE_BYTES, Piece, Read
from rowmill.core.rows import InputFile, InputPart, Shard
from rowmill.files.input import carried


class ShardInput:
    """The input as one node has it."""

    def __init__(
        self,
        parts: Sequence[InputPart],
        seen: Sequence[bool],
        records: Records,
        origins: Sequence[Sequence[InputFile]],
    ) -> None:
        """`seen`: which of the parts the node reads itself."""
        self._parts = parts
        self._seen = [*seen]
        self._records = records
        self._origins = origins
        self._brought: dict[int, set[tuple[int, int]]] = {}  # part -> ranges that the node has, of parts that stay

    def lacks(self, part: int, *, every: bool) -> None:
        """Take note that the node cannot read a part itself; `every`: nor any that it fetches from other machines."""
        for number in range(len(self._parts)) if every and self._origins[part] else (part,):
            if number == part or self._origins[number]:
                self._seen[number] = False
                self._brought.pop(number, None)

    async def read(self, shard: Shard) -> Read | None:
        """Return what the node is to read itself for the shard; None where that is carried."""
        if not self._seen[shard.part]:
            return None
        part = self._parts[shard.part]
        if part.kind == "lines":
            return Read(shard.number, shard.part, [(shard.start, shard.end, shard.crc)])
        if not self._origins[shard.part]:
            return Read(shard.number, shard.part, [])
        ranges = await asyncio.to_thread(carried.ranges, part, shard)
        there = self._brought.setdefault(shard.part, set())
        ranges = [each for each in ranges if each not in there]
        there.update(ranges)
        crcs = [await asyncio.to_thread(carried.crc_of, part.path, *each) for each in ranges]
        return Read(shard.number, shard.part, [(*each, crc) for each, crc in zip(ranges, crcs, strict=True)])

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
            for offset in range(start, end, PIECE_BYTES):
                size = min(PIECE_BYTES, end - offset)
                data = await asyncio.to_thread(self._records.read, part.path, offset, size)
                yield Piece(shard.part, shard.number if own else None, offset, data)
