"""Where an `rowmill.map` keeps its run: the rows as it was given them, the results, and the run directory."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core import private_files
from rowmill.core.errors import RunDirectoryError
from rowmill.core.interrupts import Left, of_this_thread
from rowmill.interface.python.answers import Result
from rowmill.store import durable
from rowmill.store.run_directory import RunDirectory


class MapPlace:
    """One directory. Making the object touches nothing."""

    def __init__(self, path: Path, *, kept: bool) -> None:
        self.path = path
        self.kept = kept  # by the caller's wish
        self.holds_answers = False  # that would have to be paid for again
        self.rows = path / "rows.jsonl"
        self.results = path / "results.jsonl"
        self.run = path / "run"
        self._lock: int | None = None

    @property
    def all_kept(self) -> str:
        """Say where all answers are that nobody was given."""
        return f"all rows are done and kept; the same call with run_dir={str(self.path)!r} has them"

    def write(self, lines: Iterable[bytes]) -> int:
        """Write the rows, or compare them with those that the run here began with; return how many they are.

        Raises `RunDirectoryError` where they are others, or where something else than a `map` lies here.
        """
        begun = RunDirectory(self.run).manifest
        if not begun.exists():
            self.make()
        self._hold()
        if begun.exists():
            return self._compare(lines)
        with durable.machine_errors(f"write {self.rows}"):
            count = 0
            with os.fdopen(private_files.make_file(self.rows), "wb") as file:
                for line in lines:
                    file.write(line)
                    count += 1
                file.flush()
                durable.sync_file(file.fileno())  # the run's plan, which follows, must not outlive its rows
        return count

    def make(self) -> None:
        """Make the directory. Raises `RunDirectoryError` where something else lies here."""
        # The run's directory is made first: rows without one are not ours to write over.
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is no directory; name another run_dir")
        there = list(self.path.iterdir()) if self.path.is_dir() else []
        if there and not (self.run in there and self.run.is_dir()):
            raise RunDirectoryError(f"{self.path} is no run_dir of rowmill.map, and not empty; name another run_dir")
        with durable.machine_errors(f"make {self.path}"):
            private_files.make_directory(self.path, private_files.PRIVATE)
            private_files.make_directory(self.run, private_files.PRIVATE)

    def _hold(self) -> None:
        """Keep other calls away until the end: their rows would lie in the place of these, and be answered for them."""
        if self._lock is not None:
            return
        with durable.machine_errors(f"use {self.path}"):
            try:
                self._lock = durable.lock_file(self.path / "call.lock", exclusive=True)
            except durable.Locked as locked:
                who = f" in process {locked.holder.pid} on {locked.holder.host}" if locked.holder else ""
                raise RunDirectoryError(
                    f"{self.path} is in use by another call{who}: wait for it, or name another run_dir"
                ) from None

    def let_go(self) -> None:
        """Let other calls have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _compare(self, lines: Iterable[bytes]) -> int:
        count = 0
        with self.rows.open("rb") as file:
            for was, line in zip_longest(file, lines):
                if was != line:
                    what = "is missing" if line is None else "is new" if was is None else "is another"
                    raise RunDirectoryError(
                        f"{self.path} is the run of other rows: row {count} {what}. Name another run_dir for these, or "
                        "fresh=True to keep what is there aside"
                    )
                count += 1
        return count

    def each(self, *, vectors: bool = False, raw: bool = False) -> Iterator[Result[Any]]:
        """Yield the results, in the order of the rows.

        `vectors`: lists of numbers become float32 arrays of numpy. `raw`: outputs stay JSON, as `msgspec.Raw`.
        """
        kind = _RawResult if raw else Result[Any]
        decode = msgspec.json.Decoder(kind, float_hook=float).decode  # a number of any size is read, as 1e400
        convert: Callable[[Result[Any]], Result[Any]] | None = _as_result if raw else _with_array() if vectors else None
        with self.results.open("rb") as file:
            for line in file:
                yield decode(line) if convert is None else convert(decode(line))


class _RawResult(Result[Any], frozen=True, kw_only=True):
    output: msgspec.Raw = msgspec.Raw(b"null")


def _as_result(raw: Result[Any]) -> Result[Any]:
    return Result(**msgspec.structs.asdict(raw))


def _with_array() -> Callable[[Result[Any]], Result[Any]]:
    import numpy as np  # only here: most runs have no vectors

    def convert(result: Result[Any]) -> Result[Any]:
        if result.output is None:
            return result
        # Each at once: as a list of Python's own numbers a vector takes eight times the memory.
        return msgspec.structs.replace(result, output=np.asarray(result.output, "float32"))

    return convert


@contextmanager
def map_place(run_dir: Path | None) -> Iterator[MapPlace]:
    """Give a place. One that nobody has named is removed in the end, but for one with answers somebody has paid for."""
    if run_dir is not None:
        place = MapPlace(run_dir, kept=True)
        try:
            yield place
        finally:
            place.let_go()
        return
    place = MapPlace(Path(tempfile.mkdtemp(prefix="rowmill-")), kept=False)
    remove = partial(shutil.rmtree, place.path, ignore_errors=True)
    try:
        yield place
    except BaseException:
        if not place.holds_answers:
            remove()
        raise
    finally:
        place.let_go()
    interrupts = of_this_thread()
    if interrupts is None:
        remove()
    else:  # what awaits this may be cancelled even now
        interrupts.left = Left(remove, place.all_kept)
