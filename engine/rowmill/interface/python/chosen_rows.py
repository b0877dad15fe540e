"""Which rows of a `rowmill.map` are asked, of a table, of a Dataset of Ray, or of what is gone through."""

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from rowmill.core.errors import InputError
from rowmill.interface.python import frames
from rowmill.interface.python.answers import Result

_SEED = 0  # the same rows are the same sample: the same call again goes on with them


class Chosen:
    """Which of the rows are asked: all, the first ones (`limit`), or some of all over them (`sample`)."""

    def __init__(self, limit: int | None = None, sample: int | None = None) -> None:
        self.limit = limit
        self.sample = sample
        self._places: list[int] = []  # of a sample's rows

    def directory(self, run_dir: str | os.PathLike[str] | None) -> Path | None:
        """Return where a run of these rows is kept: beside that of all rows, so that both may be there."""
        if run_dir is None:
            return None
        path = Path(run_dir).expanduser()
        if self.limit is not None:
            return path.with_name(f"{path.name}-limit-{self.limit}")
        return path if self.sample is None else path.with_name(f"{path.name}-sample-{self.sample}")

    def of_table(self, table: frames.Source) -> frames.Source:
        """Return the table with these rows alone."""
        if self.limit is not None and self.limit < len(table):
            return table.chosen(range(self.limit))
        if self.sample is not None and self.sample < len(table):
            return table.chosen(sorted(Random(_SEED).sample(range(len(table)), self.sample)))  # noqa: S311 - no secret
        return table

    def of_dataset(self, dataset: Any) -> Any:
        """Return the same of a `ray.data.Dataset`."""
        if self.sample is not None:
            raise InputError("rowmill.map: sample: of a Dataset of Ray take dataset.random_sample(...) yourself")
        return dataset if self.limit is None else dataset.limit(self.limit)

    def of_rows(self, rows: Iterable[Any]) -> Iterable[Any]:
        """Go through these rows alone; a sample of rows that nobody has counted is held in memory until the end."""
        if self.limit is not None:
            return itertools.islice(rows, self.limit)
        return rows if self.sample is None else self._sampled(rows, self.sample)

    def _sampled(self, rows: Iterable[Any], count: int) -> Iterator[Any]:
        random = Random(_SEED)  # noqa: S311 - a sample, no secret
        held: list[tuple[int, Any]] = []
        for place, row in enumerate(rows):
            if place < count:
                held.append((place, row))
            elif (other := random.randrange(place + 1)) < count:
                held[other] = (place, row)
        held.sort(key=lambda each: each[0])
        self._places = [place for place, _ in held]
        yield from (row for _, row in held)

    def numbered(self, results: Iterable[Result[Any]]) -> Iterable[Result[Any]]:
        """Return the results with the places that their rows have among all."""
        if not self._places:
            return results
        return (msgspec.structs.replace(each, index=self._places[each.index]) for each in results)
