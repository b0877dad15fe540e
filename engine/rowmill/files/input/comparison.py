"""A part's bytes held against the shards that were planned of it: the same, others, or the same and more behind them.

An input may grow: rows are appended to its last file, or further files come behind it. What was planned keeps its
shards, also the last one, which may be short and may have had no line break at its end; what is new is cut behind it.
A last line that was not written whole is a new row once it goes on: its shard ends before it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path

import msgspec
from zlib_ng.zlib_ng import crc32

from rowmill.core.rows import Shard
from rowmill.files.input.jsonl import plan_blocks
from rowmill.files.input.layout import PlannedPart
from rowmill.files.input.part_reader import PartReader
from rowmill.files.input.spool import behind, spooled

_BREAKS = [(len(text), crc32(text)) for text in (b"\n", b"\r\n")]
_TEXT_ROW = (b'{"text":"', b'"}')  # around a line of text, as `rowmill map` makes a row of it


class Comparison:
    """An input held against a plan.

    shards: the plan. spool: files by their names that have all that was planned of their parts. may_have_begun: the
    last row may be longer now. grown: so is the last file that was planned.

    longer: the file of the spool that what is new belongs to, and from which byte on; till then it lies beside it.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        shard_bytes: int,
        shard_rows: int,
        *,
        spool: Mapping[str, Path],
        may_have_begun: bool,
        grown: bool,
    ) -> None:
        self._shards = shards
        self._sizes = {"shard_bytes": shard_bytes, "shard_rows": shard_rows}
        self._spool = spool
        self._may_have_begun = may_have_begun
        self._grown = grown
        self.longer: tuple[Path, int] | None = None

    def of(self, parts: Sequence[PlannedPart], reader: PartReader) -> tuple[Shard | None, list[Shard]]:
        """Read the parts as they are now, and return the first shard that is another one; else those that are new."""
        shards = self._shards
        known = {part: list(own) for part, own in groupby(shards, attrgetter("part"))}
        number, first_row = len(shards), sum(shard.rows for shard in shards)
        checked = 0  # of the planned shards
        found: list[Shard] = []
        for place, part in enumerate(parts):
            own = known.get(place, [])
            last = checked + len(own) == len(shards)
            if part.kind == "lines":
                read = PlannedBytes(reader.blocks(part))
                if (differing := self._differing(read, part, own, last=last)) is not None:
                    return differing, []
                if read.cut is not None:
                    number, first_row = number - 1, first_row - own[-1].rows
                    if read.cut.rows:
                        found.append(read.cut)
                        number, first_row = number + 1, first_row + read.cut.rows
                more = read.more()
                if last and (file := self._spool.get(part.spool or "")) is not None:
                    self.longer = file, read.first
                    more = spooled(more, behind(file))
                new = shards_behind(more, read.first, **self._sizes)
            else:
                new = reader.shards_of_table(part, self._sizes["shard_rows"])
                for shard in own:
                    now = next(new, None)
                    if now is None or (now.rows, now.start, now.end, now.crc) != (
                        shard.rows, shard.start, shard.end, shard.crc,
                    ):  # fmt: skip
                        return shard, []
            checked += len(own)
            for shard in new:
                if checked < len(shards):  # rows in the midst of others
                    return shards[checked], []
                found.append(msgspec.structs.replace(shard, number=number, first_row=first_row, part=place))
                number, first_row = number + 1, first_row + shard.rows
        return (shards[checked], []) if checked < len(shards) else (None, found)

    def _differing(self, read: "PlannedBytes", part: PlannedPart, own: Sequence[Shard], *, last: bool) -> Shard | None:
        if not (own and last and self._may_have_begun):
            return read.differing(own)
        if part.spool is None:
            return read.differing(own, ended=False)
        # What has been converted does not show whether its last row goes on: only that of a longer file can.
        before = self._spool.get(part.spool) if self._grown else None
        return read.differing(own, ended=before is None, before=before)


class PlannedBytes:
    """The bytes of a part, read once from its start.

    first: the bytes after which what is new begins.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.first = 0
        self._blocks = iter(blocks)
        self._rest = b""
        self._last = b"\n"
        self.cut: Shard | None = None  # what is left of the last shard without its last row, which is another one now

    def differing(self, shards: Sequence[Shard], *, ended: bool = True, before: Path | None = None) -> Shard | None:
        """Read what was planned, and return the first shard that is another one; None where all are right.

        ended: the last row was there whole. Else it may be another one by now: then `cut` has the others of its shard,
        and it is the first of what is new. before: the file that has the bytes as they were planned; None: these are
        still the first ones of what is read.
        """
        for number, shard in enumerate(shards, 1):
            gap = shard.start - self.first
            if gap and self._take(gap) not in _BREAKS:
                return shard  # a shard behind one that grew begins behind the line break that this lacked
            if number == len(shards) and not ended:
                return None if self._cut(shard, before) else shard
            if self._take(shard.end - shard.start) != (shard.end - shard.start, shard.crc):
                return shard
            self.first = shard.end
        # A last line that had no line break and goes on now is another row.
        if self._last != b"\n" and not self._take_line_break():
            return shards[-1]
        return None

    def _cut(self, shard: Shard, before: Path | None) -> bool:
        """Read all rows of a shard but its last one, which is new; return whether they are the ones that were planned.

        Where that row has not gone on, nothing is cut.
        """
        size = shard.end - shard.start
        read = b"".join(self._pieces(size))
        planned = read if before is None else _part_of(before, shard.start, size)
        if before is None and crc32(read) != shard.crc:
            planned = _with_text_begun(read)
        if crc32(planned) != shard.crc or len(planned) != size:
            return False
        self.first = shard.end
        if read == planned and (read[-1:] == b"\n" or self._take_line_break()):
            return True
        kept = planned.rfind(b"\n", 0, -1) + 1
        if read[:kept] != planned[:kept]:
            return False
        self._rest, self._last, self.first = read[kept:] + self._rest, b"\n", shard.start + kept
        self.cut = msgspec.structs.replace(
            shard, rows=shard.rows - 1, end=shard.start + kept, crc=crc32(planned[:kept])
        )
        return True

    def more(self) -> Iterator[bytes]:
        """Return what follows."""
        return chain([self._rest] if self._rest else [], self._blocks)

    def _take_line_break(self) -> bool:
        """Take the line break that comes next; return whether the line has ended: with that, or with the input."""
        more = self._next()
        if more == b"\r":  # the block may have ended within the line break
            more += next(self._blocks, b"")
        found = more[: 2 if more[:1] == b"\r" else 1]
        if found not in (b"", b"\r", b"\n", b"\r\n"):
            self._rest = more
            return False
        self._rest = more[len(found) :]
        self.first += len(found)
        return True

    def _next(self) -> bytes:
        block, self._rest = self._rest or next(self._blocks, b""), b""
        return block

    def _take(self, size: int) -> tuple[int, int]:
        """Read so many bytes, and return how many there were, and their CRC-32."""
        taken, crc = 0, 0
        for piece in self._pieces(size):
            crc = crc32(piece, crc)
            taken += len(piece)
            self._last = piece[-1:]
        return taken, crc

    def _pieces(self, size: int) -> Iterator[bytes]:
        """Yield so many bytes, or all that there are."""
        while size > 0 and (block := self._next()):
            piece = block[:size]
            self._rest = block[len(piece) :]
            size -= len(piece)
            yield piece


def _with_text_begun(read: bytes) -> bytes:
    """Return the bytes as they were when the text of the last row was cut where they end: its JSON was closed there."""
    begin, end = _TEXT_ROW
    last = read.rfind(b"\n") + 1
    return read[: -len(end)] + end if read.startswith(begin, last) else read


def _part_of(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def shards_behind(blocks: Iterable[bytes], start: int, *, shard_bytes: int, shard_rows: int) -> Iterator[Shard]:
    """Cut what follows the bytes up to `start` into shards, counted from 0, but by their place in the part."""
    for shard in plan_blocks(blocks, shard_bytes=shard_bytes, shard_rows=shard_rows):
        yield msgspec.structs.replace(shard, start=shard.start + start, end=shard.end + start)
