"""Cells in columns of one width, and lines that begin with a label."""

from rowmill.interface.ui import arranged


def test_cells_of_a_column_have_one_width_and_figures_end_where_they_all_do() -> None:
    rows = [("name", "rows"), ("a", "1,000"), ("longer", "7")]
    assert arranged.columns(rows, [1]) == [["name  ", " rows"], ["a     ", "1,000"], ["longer", "    7"]]
    assert arranged.columns([]) == []


def test_a_block_has_its_label_once_and_its_texts_below_each_other() -> None:
    first, second = arranged.block("notices", ["one", "two"])
    assert first == arranged.line("notices", "one") == "  notices  one"
    assert second == "           two"
    assert first.index("one") == arranged.LABEL


def test_a_line_that_is_wider_than_the_terminal_goes_on_below_its_text() -> None:
    line = arranged.line("trial", "the first 3 rows: in out.trial.jsonl and out.trial.jsonl.run")
    assert arranged.within(line, 0) == arranged.within(line, 80) == line
    assert arranged.within(line, 40).splitlines() == [
        "  trial    the first 3 rows: in",
        "           out.trial.jsonl and",
        "           out.trial.jsonl.run",
    ]
