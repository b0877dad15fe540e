"""Text that stands in the cells of a terminal: none is lost, none is too wide, and colour is only put around it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from rowmill.interface.ui.cells import Style, filled, painted

TEXTS = st.lists(st.text(st.sampled_from("ab \u6f22\U0001f600-"), min_size=1, max_size=30), max_size=20)


@given(TEXTS, st.integers(2, 40))
def test_pieces_fill_lines_that_are_no_wider_than_the_terminal(texts: list[str], width: int) -> None:
    lines = list(filled([(text, None) for text in texts], width, colour=False))
    assert max(map(cell_len, lines)) <= width
    assert "".join(lines).replace(" ", "") == "".join(texts).replace(" ", "")


def test_pieces_stay_whole_where_they_fit() -> None:
    pieces: list[tuple[str, Style | None]] = [("rows 12 of 90", None), ("ETA 0:38", None), ("retries 3", None)]
    assert list(filled(pieces, 26, gap="  ", colour=False)) == ["rows 12 of 90  ETA 0:38", "retries 3"]
    assert list(filled(pieces, 0, gap="  ", colour=False)) == ["rows 12 of 90  ETA 0:38  retries 3"]


@pytest.mark.parametrize("width", [0, 8])
def test_colour_changes_no_letter(width: int) -> None:
    pieces: list[tuple[str, Style | None]] = [("same", None), ("[old", "red"), ("word]", "green")]
    coloured = list(filled(pieces, width, colour=True))
    assert "\x1b[31m[old\x1b[0m" in "".join(coloured)
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in coloured] == list(filled(pieces, width, colour=False))
    assert painted("", "red", colour=True) == ""
    assert painted("x", None, colour=True) == "x"
