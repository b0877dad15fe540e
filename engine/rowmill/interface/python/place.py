"""Where an `rowmill.map` keeps its run: the rows as it was given them, the results, and the run directory."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

import msgspec

from rowmill.core import private_files
from rowmill.core.errors import RunDirectoryError
from rowmill.interface.python.frames import Result
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

    def write(self, lines: Iterable[bytes]) -> int:
        """Write the rows, or compare them with those that the run here began with; return how many they are.

        Raises `RunDirectoryError` where they are others, or where something else than a `map` lies here.
        """
        if RunDirectory(self.run).manifest.exists():
            return self._compare(lines)
        # The run's directory is made first: rows without one are not ours to write over.
        if not self.run.is_dir() and self.path.is_dir() and any(self.path.iterdir()):
            raise RunDirectoryError(f"{self.path} is no run_dir of rowmill.map, and not empty; name another run_dir")
        with durable.machine_errors(f"write {self.rows}"):
            private_files.make_directory(self.path, private_files.PRIVATE)
            private_files.make_directory(self.run, private_files.PRIVATE)
            count = 0
            with os.fdopen(private_files.make_file(self.rows), "wb") as file:
                for line in lines:
                    file.write(line)
                    count += 1
                file.flush()
                durable.sync_file(file.fileno())  # the run's plan, which follows, must not outlive its rows
        return count

    def _compare(self, lines: Iterable[bytes]) -> int:
        count = 0
        with self.rows.open("rb") as file:
            for was, line in zip_longest(file, lines):
                if was != line:
                    what = "is missing" if line is None else "is new" if was is None else "is another"
                    raise RunDirectoryError(
                        f"{self.path} is the run of other rows: row {count} {what}. Name another run_dir for these"
                    )
                count += 1
        return count

    def each(self, *, vectors: bool) -> Iterator[Result]:
        """Yield the results, in the order of the rows. `vectors`: lists of numbers become float32 arrays of numpy."""
        decode = msgspec.json.Decoder(Result, float_hook=float).decode  # a number of any size is read, as 1e400
        convert: Callable[[Result], Result] = _with_array() if vectors else lambda result: result
        with self.results.open("rb") as file:
            for line in file:
                yield convert(decode(line))


def _with_array() -> Callable[[Result], Result]:
    import numpy as np  # only here: most runs have no vectors

    def convert(result: Result) -> Result:
        if result.output is None:
            return result
        # Each at once: as a list of Python's own numbers a vector takes eight times the memory.
        return msgspec.structs.replace(result, output=np.asarray(result.output, "float32"))

    return convert


@contextmanager
def map_place(run_dir: Path | None) -> Iterator[MapPlace]:
    """Give a place. One that nobody has named is removed in the end, but for one with answers somebody has paid for."""
    if run_dir is not None:
        yield MapPlace(run_dir, kept=True)
        return
    place = MapPlace(Path(tempfile.mkdtemp(prefix="rowmill-")), kept=False)
    try:
        yield place
    finally:
        if not place.holds_answers:
            shutil.rmtree(place.path, ignore_errors=True)
