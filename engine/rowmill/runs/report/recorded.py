"""The rows that a run has recorded, for its report: all of them, or some from all over where there are very many.

They are read out of the checkpoints as they lie there, so that a run at work can be read; where those were removed by
`rowmill clean`, out of the output.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from rowmill.core.rows import NO_LINE, Shard
from rowmill.runs.report.sources import RunSources
from rowmill.store.framing import FRAME_BYTES, unframed
from rowmill.store.recovery import LINE_MEMBER, RETRY

_ALL_BYTES = 12 << 20  # of checkpoints that are read whole, however few rows are to be looked at
_BLOCK = 64 << 10
_BLOCKS = 96  # that are read where not all is: some 10,000 rows of usual length
_LARGEST_BLOCK = 4 << 20  # of long rows; there are fewer blocks then
_LEAST_BLOCKS = 6
_ROWS_OF_BLOCK = 4  # of long rows, at least: the first and the last one of a block are torn
_BUFFER = 1 << 20
_SEARCHED = 64 << 20  # bytes of checkpoints in which retries are looked for; or of rows, where all are very long
_ROW = len(b'{"row":')
_FAILED = b'"failed":true'
_FAILED_LINE = b',"output":null,"error":{'  # in an output line; in the id before it every quote is escaped


class RecordedRows:
    """Where the rows lie.

    whole: every one of them is to be looked at. left_out: so many were found that a step's condition has left out.
    """

    def __init__(self, sources: RunSources, *, whole: bool) -> None:
        self.paths: list[tuple[Path, Shard | None]] = []
        size = 0
        for shard in sources.shards:
            path = sources.directory.checkpoint_path(shard)
            try:
                size += path.stat().st_size
            except OSError:
                continue
            self.paths.append((path, shard))
        self._size = size
        self._retried: dict[Path, int] = {}  # where the last retry of a checkpoint begins; -1: nowhere
        self._left = _SEARCHED
        self._rows = sources.totals.rows
        self.whole = whole or size <= _ALL_BYTES
        self.cleaned = False
        self.left_out = 0
        done = sources.manifest.finished
        if not self.paths and done is not None:
            self.cleaned = True
            output = Path(done.output)
            if output.is_file() and output.suffix == ".jsonl":
                self.paths = [(output, None)]
                self._size = output.stat().st_size
                self.whole = whole or self._size <= _ALL_BYTES

    def __iter__(self) -> Iterator[tuple[bytes, bool]]:
        """Yield output lines, each with whether its row has failed. Files that are gone meanwhile are passed over."""
        if self.whole:
            yield from self._all()
            return
        found = False
        for row in self._spread():
            found = True
            yield row
        if not found:  # each is longer than what is read of it
            left = _SEARCHED
            for row in self._all():
                yield row
                left -= len(row[0])
                if left < 0:
                    return

    def _all(self) -> Iterator[tuple[bytes, bool]]:
        for path, shard in self.paths:
            try:
                for row in _of_output(path) if shard is None else rows_of_checkpoint(path, shard):
                    if row[0] == NO_LINE:
                        self.left_out += 1
                    else:
                        yield row
            except OSError:
                continue

    def _spread(self) -> Iterator[tuple[bytes, bool]]:
        """Yield the rows of blocks that lie evenly in all files, one behind the other."""
        long = min(_LARGEST_BLOCK, _ROWS_OF_BLOCK * self._size // max(1, self._rows))
        block = max(_BLOCK, long)
        step = self._size / max(_LEAST_BLOCKS, min(_BLOCKS, _ALL_BYTES // block))
        at, begin = step / 2, 0
        for path, shard in self.paths:
            size = 0
            try:
                with path.open("rb", 0) as file:
                    size = os.fstat(file.fileno()).st_size
                    while at < begin + size:
                        offset = max(0, int(at) - begin)
                        lines = os.pread(file.fileno(), block, offset).split(b"\n")[1:-1]
                        at += step
                        for line in lines:
                            row = _of_record(line) if shard else _of_line(line)
                            if row is not None and not (row[1] and shard and self._taken_back(path, size, offset)):
                                yield row
            except OSError:
                pass
            begin += size

    def _taken_back(self, path: Path, size: int, offset: int) -> bool:
        """Whether a failed row at this place of a checkpoint is of no account any more: a retry asks for it again.

        Where looking would take too long, it may be.
        """
        if path not in self._retried:
            self._left -= size
            if self._left < 0:
                return True
            self._retried[path] = path.read_bytes().rfind(b" " + RETRY)
        return offset < self._retried[path]


def _of_output(path: Path) -> Iterator[tuple[bytes, bool]]:
    with path.open("rb", _BUFFER) as file:
        yield from map(_of_line, file)


def _of_line(line: bytes) -> tuple[bytes, bool]:
    return line, _FAILED_LINE in line


def _of_record(record: bytes) -> tuple[bytes, bool] | None:
    """Return the output line in a record, without its newline here; None where it is of no row, or broken."""
    at = record.find(LINE_MEMBER)
    if at < 0 or unframed(record + b"\n") is None:
        return None
    line = record[at + len(LINE_MEMBER) : -1]
    return None if line == NO_LINE else (line, record.find(_FAILED, 0, at) >= 0)


def rows_of_checkpoint(path: Path, shard: Shard) -> Iterator[tuple[bytes, bool]]:
    """Yield the rows of a checkpoint: of a row that stands there twice the first one, of a failed one the last try."""
    recorded = bytearray(shard.rows)
    failed: dict[int, tuple[int, int]] = {}  # where in the file, and how long: all may have failed, and be megabytes
    offset = 0
    with path.open("rb", _BUFFER) as file:
        for record in file:
            start, offset = offset, offset + len(record)
            json = unframed(record)
            if json is None:
                continue
            at = json.find(LINE_MEMBER)
            if at >= 0:
                place = int(json[_ROW : json.index(b",")]) - shard.first_row
                if not 0 <= place < shard.rows or recorded[place]:
                    continue
                recorded[place] = 1
                begin = at + len(LINE_MEMBER)
                if json.find(_FAILED, 0, at) >= 0:
                    failed[place] = start + FRAME_BYTES + begin, len(json) - 1 - begin
                else:
                    yield json[begin:-1], False
            elif json.startswith(RETRY):
                for place in failed:
                    recorded[place] = 0
                failed.clear()
        for start, length in failed.values():
            yield os.pread(file.fileno(), length, start), True
