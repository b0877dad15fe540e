"""`rowmill.near_duplicates`: what a program has as vectors."""

import numpy as np
import pytest

import rowmill


def test_lists_arrays_and_nothings_are_taken() -> None:
    vectors = [[1, 0], None, [0.0, 2.0], (3, 0.1), np.array([0, 1])]
    found = rowmill.near_duplicates(vectors, threshold=0.99)
    assert found == [rowmill.Duplicate(3, 0, 0.9994), rowmill.Duplicate(4, 2, 1.0)]
    array = np.repeat(np.eye(600, dtype="f4"), 2, axis=0)
    assert rowmill.near_duplicates(array) == [(row, row - 1, 1.0) for row in range(1, 1200, 2)]
    assert rowmill.near_duplicates(iter([])) == []


@pytest.mark.parametrize("wrong", ["text", 5, [1, "a"], [[1, 2]], [1e300]])
def test_what_is_no_vector_is_refused_with_its_place(wrong: object) -> None:
    with pytest.raises(rowmill.InputError, match="row 1 is no vector of numbers, but "):
        rowmill.near_duplicates([[1, 2], wrong])
    with pytest.raises(rowmill.ConfigError, match="threshold"):
        rowmill.near_duplicates([], threshold=2)
