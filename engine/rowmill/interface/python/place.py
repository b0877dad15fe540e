"""Where an `rowmill.map` keeps its run: the rows as it was given them, the results, and the run directory."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core import private_files
from rowmill.core.errors import RowmillError, RunDirectoryError
from rowmill.core.interrupts import Left, of_this_thread
from rowmill.interface.python.answers import Result
from rowmill.store import durable
from rowmill.store import manifest as manifests
from rowmill.store.run_directory import RunDirectory

_BLOCK = 1 << 18  # bytes that are written at a time


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
    def holds(self) -> bool:
        """Whether other calls are kept away."""
        return self._lock is not None

    @property
    def all_kept(self) -> str:
        """Say where all answers are that nobody was given."""
        return f"all rows are done and kept; the same call with run_dir={str(self.path)!r} has them"

    @property
    def has_outcomes(self) -> bool:
        """Whether the run here has had any row answered, or a batch on its way."""
        directory = RunDirectory(self.run)
        return directory.journal.exists() or any(
            next(folder.glob("*"), None) is not None for folder in (directory.checkpoints, directory.sealed)
        )

    def write(self, lines: Iterable[bytes]) -> int:
        """Write the rows, or those that come behind the ones that the run here began with; return how many all are.

        Raises `RunDirectoryError` where they are others, or where something else than a `map` lies here.
        """
        directory = RunDirectory(self.run)
        if not directory.manifest.exists():
            self.make()
        self._hold()
        lines = iter(lines)
        if directory.manifest.exists():
            return self._write_behind(lines, _planned_bytes(directory))
        with durable.machine_errors(f"write {self.rows}"):
            os.close(private_files.make_file(self.rows))
        return self._write_from(0, lines)

    @contextmanager
    def beside(self) -> Iterator["MapPlace"]:
        """Give a place beside this one, where rows are written before this one is touched; it is removed in the end."""
        place = MapPlace(self.path.with_name(f".{self.path.name}.new"), kept=True)
        try:
            yield place
        finally:
            if place.holds:
                shutil.rmtree(place.path, ignore_errors=True)
                place.let_go()

    def move_aside(self, move: Callable[[], object]) -> None:
        """Have the run that is here moved away, while no other call has this place."""
        if RunDirectory(self.run).manifest.exists():
            self._hold()
        try:
            move()
        finally:
            self.let_go()  # of what lies elsewhere now

    def take(self, rows: Path) -> None:
        """Begin with rows that were written elsewhere on this disk. Raises `RunDirectoryError` as `make` does."""
        self.make()
        self._hold()
        with durable.machine_errors(f"write {self.rows}"):
            durable.move(rows, self.rows)

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

    def _write_behind(self, lines: Iterator[bytes], planned: int | None) -> int:
        """Compare the rows with those that are there, and write what is behind them.

        planned: the bytes that the run has planned, None where it has not come so far and any row may be asked. Behind
        them lies what an earlier call has brought and nobody has asked: these rows take its place.
        """
        count, end, more = 0, 0, b""
        with self.rows.open("rb") as file:
            for line in lines:
                if (was := file.readline()) != line:
                    if was and (planned is None or end < planned):
                        raise self._of_others(count, "is another")
                    more = line
                    break
                count, end = count + 1, end + len(line)
            else:
                if not file.readline():
                    return count
                if planned is None or end < planned:
                    raise self._of_others(count, "is missing")
        return count + self._write_from(end, chain([more] if more else [], lines))

    def _write_from(self, end: int, lines: Iterable[bytes]) -> int:
        """Write lines behind so many bytes, and return how many they are once they are on the disk.

        What the machine refuses is told apart from what the caller's own rows raise as they come.
        """
        doing, count, held, size = f"write {self.rows}", 0, [], 0
        with durable.machine_errors(doing):
            file = self.rows.open("r+b", buffering=0)
        with file:
            with durable.machine_errors(doing):
                file.truncate(end)
                file.seek(end)
            for line in lines:
                held.append(line)
                count, size = count + 1, size + len(line)
                if size > _BLOCK:
                    with durable.machine_errors(doing):
                        durable.write_all(file.fileno(), b"".join(held))
                    held, size = [], 0
            with durable.machine_errors(doing):
                durable.write_all(file.fileno(), b"".join(held))
                durable.sync_file(file.fileno())  # the run's plan, which follows, must not outlive its rows
        return count

    def _of_others(self, number: int, what: str) -> RunDirectoryError:
        return RunDirectoryError(
            f"{self.path} is the run of other rows: row {number} {what}. Name another run_dir for these, or "
            "fresh=True to keep what is there aside"
        )

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


def _planned_bytes(directory: RunDirectory) -> int | None:
    """Return how many bytes of the rows a run has planned; None where it has no plan yet, or none that can be read."""
    with suppress(RowmillError, OSError):
        shards = manifests.load_plan(directory.plan)
        return None if shards is None else max((shard.end for shard in shards), default=0)
    return None


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
