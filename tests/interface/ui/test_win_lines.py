"""Who wins, as the summary says it."""

from rowmill.core.win_rates import FAILED, FIRST, SECOND, TIE, UNREADABLE, counted
from rowmill.interface.ui.win_lines import told

BOTH_ORDERS = [("judge", False), ("swapped", True)]


def test_shares_are_told_with_their_bounds_and_with_what_they_show() -> None:
    rows = {(FIRST, SECOND): 30, (SECOND, FIRST): 10, (FIRST, FIRST): 10, (UNREADABLE, TIE): 1, (FAILED, TIE): 2}
    assert told(counted(("old", "new"), BOTH_ORDERS, rows.items())) == [
        "old 60.0% (46.2% to 72.4%), new 20.0% (11.2% to 33.0%), tie 20.0% (11.2% to 33.0%) of 50 rows",
        "old is better: it has 75.0% (59.8% to 85.8%) of the 40 rows that are no tie",
        "what stood first won in both orders in 10 rows, what stood second in 0: ties",
        "not counted: 1 row with a verdict that is not first, second or tie",
        "not counted: 2 rows without one of the verdicts",
    ]
    assert told(counted(("new", "old"), [("judge", True)], [((FIRST,), 30), ((SECOND,), 10)]))[1] == (
        "old is better: it has 75.0% (59.8% to 85.8%) of the 40 rows that are no tie"
    )


def test_what_shows_nothing_is_said_to_show_nothing() -> None:
    assert told(counted(("old", "new"), [("judge", False)], [((FIRST,), 1)])) == [
        "old 100.0% (20.7% to 100.0%), new 0.0% (0.0% to 79.3%), tie 0.0% (0.0% to 79.3%) of 1 row",
        "neither is shown to be better: old has 100.0% (20.7% to 100.0%) of the 1 row that is no tie",
    ]
    assert told(counted(("old", "new"), [("judge", False)], [((UNREADABLE,), 3)])) == [
        "neither old nor new is shown to be better",
        "not counted: 3 rows with a verdict that is not first, second or tie",
    ]


def test_a_name_stays_on_its_line() -> None:
    (line, *_) = told(counted(("a\nb\x1b[2J", "c"), [("judge", False)], [((TIE,), 1)]))
    assert "\n" not in line
    assert "\x1b" not in line
