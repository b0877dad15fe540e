"""The parts of an input, read once from end to end: for its plan, or to be held against one.

What cannot be read in place is written to the spool as it passes by.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from pathlib import Path

import msgspec

from rowmill.core.rows import Shard
from rowmill.files.input import jsonl, selection
from rowmill.files.input.conversion import Conversion, table
from rowmill.files.input.copies import Copies, naming
from rowmill.files.input.layout import PlannedPart
from rowmill.files.input.spool import ready, spooled
from rowmill.files.input.streams import open_file, reading


class PartReader:
    """Reads the parts of one input, each once and in their order.

    limit, sample, plain: see `inputs.find`. kept: files of the spool that are left as they are. progress: told how many
    bytes of the user's files have been read so far.

    Everything raises `InputError` where a file cannot be read or is damaged, `MachineError` where the spool cannot be
    written, and what `remote_file.download` raises.
    """

    def __init__(
        self,
        conversion: Conversion,
        copies: Copies,
        spool: Path,
        *,
        limit: int | None,
        sample: int | None,
        plain: bool,
        kept: Collection[str] = (),
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._conversion = conversion
        self._copies = copies
        self._spool = spool
        self._limit = limit
        self._sample = sample
        self._plain = plain
        self._kept = kept
        self._progress = progress
        self._read = 0

    def shards(self, parts: Sequence[PlannedPart], *, shard_bytes: int, shard_rows: int) -> Generator[Shard]:
        """Cut all parts into shards, each yielded as soon as its rows can be read from its part."""
        number = first_row = 0
        for place, part in enumerate(parts):
            if part.kind == "lines":
                shards = jsonl.plan_blocks(self.blocks(part), shard_bytes=shard_bytes, shard_rows=shard_rows)
            else:
                shards = self.shards_of_table(part, shard_rows)
            for shard in shards:
                yield msgspec.structs.replace(shard, number=number, first_row=first_row, part=place)
                number, first_row = number + 1, first_row + shard.rows

    def blocks(self, part: PlannedPart) -> Iterator[bytes]:
        """Yield the bytes of a part of lines, written to the spool where it is not in place and not kept."""
        if part.spool is None:
            in_place = _blocks_in_place(Path(part.files[0].file.path), self._on_read)
            yield from in_place if self._plain else jsonl.without_blank_end(in_place)
            return
        blocks: Iterator[bytes] = self._conversion.blocks(part.files, self._on_read)
        if self._limit is not None:
            blocks = selection.first(blocks, self._limit)
        if self._sample is not None:
            blocks = selection.sample(blocks, self._sample, ready(self._spool))
        yield from blocks if part.spool in self._kept else spooled(blocks, ready(self._spool) / part.spool)

    def shards_of_table(self, part: PlannedPart, shard_rows: int) -> Iterator[Shard]:
        """Yield the shards of a Parquet or Arrow file, counted from 0; it is copied where it is not in place."""
        assert part.kind != "lines", "of tables"
        file = part.files[0].file
        path = Path(file.path)
        if part.spool is not None:
            path = ready(self._spool) / part.spool
            self._copies.bring(file.path, path, self._on_read)
        with naming(file.path, path):
            yield from table(part.kind).plan(path, shard_rows)
        if part.spool is None:
            self._on_read(file.size)

    def _on_read(self, count: int) -> None:
        self._read += count
        if self._progress is not None:
            self._progress(self._read)


def _blocks_in_place(path: Path, on_read: Callable[[int], None]) -> Iterator[bytes]:
    with open_file(path) as file:
        blocks = jsonl.read_blocks(file)
        while True:
            with reading(path):
                block = next(blocks, b"")
            if not block:
                return
            on_read(len(block))
            yield block
