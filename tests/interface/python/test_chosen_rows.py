"""Which rows are asked of a table, and of what is gone through; where a trial of them is kept."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from rowmill.interface.python import frames
from rowmill.interface.python.answers import Result
from rowmill.interface.python.chosen_rows import Chosen
from tests.interface.python.test_mapping import TABLES


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    ("chosen", "rows"), [(Chosen(2), [0, 1]), (Chosen(9), [0, 1, 2, 3, 4]), (Chosen(None, 9), [0, 1, 2, 3, 4])]
)
def test_a_table_is_asked_as_far_as_it_is_wanted(kind: str, chosen: Chosen, rows: list[int]) -> None:
    table = frames.source(TABLES[kind])
    assert table is not None
    part = chosen.of_table(table)
    assert [row["n"] for row in part.rows(None)] == rows
    assert len(part) == len(rows)


def test_a_sample_is_the_same_each_time_and_keeps_its_order() -> None:
    table = frames.source(TABLES["polars"])
    assert table is not None
    some = [[row["n"] for row in Chosen(None, 3).of_table(table).rows(None)] for _ in range(2)]
    assert some[0] == some[1] == sorted(some[0])
    chosen = Chosen(None, 4)
    rows = list(chosen.of_rows(iter(range(1000))))
    assert rows == sorted(rows) == list(Chosen(None, 4).of_rows(range(1000)))
    assert len(rows) == 4
    assert max(rows) > 100, "rows of all over them"
    results: list[Result[Any]] = [Result(index=n) for n in range(4)]
    assert [each.index for each in chosen.numbered(results)] == rows, "each says which row it is of"
    assert list(Chosen(None, 9).of_rows(range(3))) == [0, 1, 2]


def test_no_row_is_taken_beyond_the_limit() -> None:
    counter = itertools.count()
    assert list(Chosen(3).of_rows(counter)) == [0, 1, 2]
    assert next(counter) == 3


def test_a_trial_is_kept_beside_the_run_of_all_rows() -> None:
    assert Chosen().directory("kept") == Path("kept")
    assert Chosen(5).directory("a/kept") == Path("a/kept-limit-5")
    assert Chosen(None, 5).directory(Path("kept")) == Path("kept-sample-5")
    assert Chosen(5).directory(None) is None
    assert Chosen().directory("~/kept") == Path.home() / "kept"
