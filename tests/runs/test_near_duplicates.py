"""Near-duplicates among vectors: the first of each group is kept, whatever the order of blocks."""

import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rowmill.core.errors import ConfigError, InputError
from rowmill.runs.near_duplicates import Duplicate, NearDuplicates

Vectors = Any  # of numpy


def coded(vectors: Vectors) -> list[bytes | None]:
    return [each.tobytes() for each in vectors.astype("<f4")]


def grouped(vectors: list[bytes | None], threshold: float, step: int | None = None) -> list[Duplicate]:
    near = NearDuplicates(threshold)
    step = step or len(vectors)
    return [
        each
        for start in range(0, len(vectors), step)
        for each in near.take(vectors[start : start + step], range(start, min(start + step, len(vectors))))
    ]


def made(rows: int, copies: int) -> tuple[Vectors, dict[int, int]]:
    """Return vectors of clusters, of which some are almost the same as an earlier one, and which."""
    random = np.random.default_rng(5)
    vectors = random.normal(size=(40, 96))[random.integers(0, 40, rows)] + 0.7 * random.normal(size=(rows, 96))
    of: dict[int, int] = {}
    for row in sorted(random.choice(np.arange(1, rows), copies, replace=False)):
        source = int(random.integers(0, row))
        vectors[row] = vectors[source] + 0.05 * random.normal(size=96)
        of[int(row)] = of.get(source, source)
    return vectors.astype("f4"), of


def test_every_near_duplicate_is_found_and_names_the_first_of_its_group() -> None:
    vectors, of = made(5000, 700)
    found = grouped(coded(vectors), 0.98)
    assert {each.row: each.of for each in found} == of
    assert all(first.row < second.row for first, second in pairwise(found))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert all(abs(float(unit[each.row] @ unit[each.of]) - each.similarity) < 0.0005 for each in found)


def test_what_comes_of_it_is_the_same_every_time_and_in_every_process() -> None:
    vectors, _ = made(1500, 150)
    found = grouped(coded(vectors), 0.9, step=1024)
    assert found == grouped(coded(vectors), 0.9)
    code = (
        "import sys, numpy as np; from rowmill.runs.near_duplicates import NearDuplicates;"
        "v = np.frombuffer(sys.stdin.buffer.read(), '<f4').reshape(1500, 96);"
        "print(NearDuplicates(0.9).take([each.tobytes() for each in v], range(1500)))"
    )
    again = subprocess.run(
        [sys.executable, "-c", code], input=vectors.astype("<f4").tobytes(), stdout=subprocess.PIPE, check=True
    )
    assert again.stdout.decode().strip() == str(found)


def test_near_is_to_one_that_is_kept_and_not_by_way_of_a_chain() -> None:
    angles = np.arange(12) * 0.1
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = grouped(coded(circle), float(np.cos(0.25)))
    assert {each.row: each.of for each in found} == {1: 0, 2: 0, 4: 3, 5: 3, 7: 6, 8: 6, 10: 9, 11: 9}
    assert found[0].similarity == pytest.approx(np.cos(0.1), abs=0.0005)


def test_at_a_threshold_of_1_only_the_same_is_near() -> None:
    vectors, _ = made(300, 0)
    found = grouped(coded(np.concatenate([vectors, vectors * 2])), 1.0)
    assert [(each.row, each.of, each.similarity) for each in found] == [(300 + row, row, 1.0) for row in range(300)]


def test_vectors_that_are_none_are_near_to_none() -> None:
    one = np.ones((1, 8), "<f4").tobytes()
    zero, odd, infinite = (np.full(8, value, "<f4").tobytes() for value in (0.0, np.nan, np.inf))
    near = NearDuplicates(0.9)
    assert near.take([None, zero, one, odd, None, one, infinite, zero], range(8)) == [Duplicate(5, 2, 1.0)]
    assert (near.kept, near.without) == (1, 6)
    assert near.take([], range(0)) == near.take([None], range(8, 9)) == []


def test_vectors_of_two_lengths_and_a_threshold_that_is_none_are_refused() -> None:
    with pytest.raises(InputError, match="row 1 has a vector of 3 numbers, and those before it have 2"):
        NearDuplicates(0.9).take([b"\0\0\x80?" * 2, b"\0\0\x80?" * 3], range(2))
    for threshold in (0, -1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="the threshold must be above 0 and at most 1"):
            NearDuplicates(threshold)


@pytest.mark.parametrize(("package", "extra"), [("numpy", "embeddings"), ("usearch", "dedup")])
def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"near-duplicates need {package}, .* pip install 'rowmill\[{extra}\]'"):
        NearDuplicates(0.9)
