"""The rows of a run of embeddings without those that are near-duplicates of an earlier one.

Two files come of it: the rows that are kept, as lines of JSON, in their order and as the input has them; and a line for
each other one with the row that it is like. Each is there whole or not at all, and the rows that are kept come last.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import BinaryIO

import msgspec
import psutil

from rowmill.core.config import Config
from rowmill.core.errors import ConfigError, InputError, MachineError, RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.files.output import vectors
from rowmill.runs.answered import Questions, Recorded, recorded
from rowmill.runs.near_duplicates import Duplicate, NearDuplicates, bytes_of
from rowmill.store import durable
from rowmill.tasks.rows import objects

_TOLD_S = 5.0  # between two words about how far it is
_MOST_MEMORY = 0.8  # of what is free


class Deduplicated(msgspec.Struct, kw_only=True):
    """What came of it. failed: rows without a vector, which are kept. unreadable: rows that are no JSON, left out."""

    rows: int = 0
    kept: int = 0
    duplicates: int = 0
    failed: int = 0
    unreadable: int = 0
    kept_path: str
    duplicates_path: str


class _Line(msgspec.Struct):
    """A line of the file of duplicates."""

    index: int
    id: msgspec.Raw
    of: int
    of_id: msgspec.Raw
    similarity: float


def deduplicate(
    config: Config, *, threshold: float, kept: Path, tell: Callable[[str], None] = lambda _: None
) -> Deduplicated:
    """Write both files: `kept`, and the other one beside it. `tell` hears now and then how far it is.

    Raises `ConfigError` where the run is none of embeddings, `RunDirectoryError` where it has not come to its end, and
    what reading its input raises.
    """
    if config.step:
        raise ConfigError("step: rowmill dedup takes the vectors of runs of one step; embed the output by one")
    if config.task.api != "embeddings" or config.output.format == "batch":
        raise ConfigError('task.api: only a run of "embeddings" has vectors that can be near to each other')
    near = NearDuplicates(threshold)
    duplicates = kept.with_name(f"{kept.stem}.duplicates.jsonl")
    if kept.suffix != ".jsonl":
        raise InputError(f"{kept}: kept rows are written as JSON Lines; name a file that ends with .jsonl")
    for path in (kept, duplicates):
        if path.exists() or path.is_symlink():
            raise InputError(f"{path} exists, and is not written over; move it away, or name another file")
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no directory {path.parent}; make it, or name another file")
    directory = config.run_dir
    shards = recorded(directory)
    asked = Questions(config)
    done = Deduplicated(kept_path=str(kept), duplicates_path=str(duplicates))
    beside = TemporaryDirectory(prefix=".rowmill-dedup-", dir=kept.parent)
    with durable.machine_errors(f"write {kept}"), beside as folder:
        parts = (Path(folder) / "kept", Path(folder) / "duplicates")
        with parts[0].open("wb") as rows_out, parts[1].open("wb") as lines_out:
            writing = _Writing(done, near, rows_out, lines_out)
            said = monotonic()
            for shard, rows in shards:
                _check_whole(shard, rows, directory)
                _check_memory(near, shard, asked.rows)
                writing.take(shard, rows, asked.lines(shard))
                if monotonic() - said >= _TOLD_S:
                    said = monotonic()
                    tell(f"{done.rows:,} of {asked.rows:,} rows, {done.duplicates:,} of them near-duplicates")
        for part, path in zip(reversed(parts), (duplicates, kept), strict=True):
            durable.publish_written(part, path)
    return done


class _Writing:
    """Writes both files, shard after shard."""

    def __init__(self, done: Deduplicated, near: NearDuplicates, rows_out: BinaryIO, lines_out: BinaryIO) -> None:
        self._done = done
        self._near = near
        self._rows_out = rows_out
        self._lines_out = lines_out
        self._ids: dict[int, bytes] = {}  # of kept rows

    def take(self, shard: Shard, rows: list[Recorded], lines: Iterator[bytes]) -> None:
        """Take the rows of the next shard: what they have come to, and the lines of the input."""
        numbers = range(shard.first_row, shard.first_row + shard.rows)
        try:
            coded = vectors.decoded([row.output for row in rows])
        except ValueError as error:
            raise RunDirectoryError(f"shard {shard.number}: {error}; run it again") from None
        found = {each.row: each for each in self._near.take(coded, numbers)}
        done = self._done
        for number, row, line in zip(numbers, rows, lines, strict=True):
            done.rows += 1
            done.failed += row.output is None
            if (duplicate := found.get(number)) is not None:
                done.duplicates += 1
                self._tell(duplicate, bytes(row.id))
            elif row.output is None and not objects([line]):
                done.unreadable += 1
            else:
                done.kept += 1
                if bytes(row.id) != b"null":
                    self._ids[number] = bytes(row.id)
                self._rows_out.write(b"%b\n" % line.strip())

    def _tell(self, duplicate: Duplicate, id_: bytes) -> None:
        of_id = msgspec.Raw(self._ids.get(duplicate.of, b"null"))
        line = _Line(duplicate.row, msgspec.Raw(id_), duplicate.of, of_id, duplicate.similarity)
        self._lines_out.write(msgspec.json.encode(line) + b"\n")


def _check_whole(shard: Shard, rows: list[Recorded], directory: Path) -> None:
    if len(rows) < shard.rows:
        raise RunDirectoryError(
            f"the run in {directory} has not come to its end: rows from {shard.first_row} on have no vector yet; "
            "go on with it by rowmill run"
        )


def _check_memory(near: NearDuplicates, shard: Shard, rows: int) -> None:
    """Refuse, once the first vectors tell how large they are, what this machine has no memory for."""
    if shard.number != 1 or not near.dimensions:
        return
    most = bytes_of(rows, near.dimensions)
    if most > (free := psutil.virtual_memory().available) * _MOST_MEMORY:
        raise MachineError(
            f"{rows:,} vectors of {near.dimensions} numbers take up to {most / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} are free; embed them with fewer dimensions, or take a larger machine"
        )
