import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.worker.batch.custom_ids import custom_id, rows_of


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**14), st.integers(1, 10**6))
def test_an_id_says_which_rows_it_is_of(first_row: int, rows: int) -> None:
    name = custom_id(first_row, rows)
    assert rows_of(name) == (first_row, rows)
    assert len(name) <= 64
    assert name.isalnum()


@pytest.mark.parametrize(
    "name", ["", "r", "17", "r07", "r7x", "r7x0", "r7x1", "R7", "r7 ", "r-7", "r7x08", "r" + "9" * 40]
)
def test_what_was_given_to_no_line_is_no_rows(name: str) -> None:
    assert rows_of(name) is None
