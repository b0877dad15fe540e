"""Who wins: Wilson's bounds as tables have them, and what verdicts come to."""

from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rowmill.core.win_rates import FAILED, FIRST, SECOND, TIE, UNREADABLE, WinShare, counted, verdict, wilson

ONE_ORDER = [("judge", False)]
BOTH_ORDERS = [("judge", False), ("swapped", True)]
NAMES = ("a", "b")


@pytest.mark.parametrize(
    ("rows", "of", "low", "high"),
    # By scipy.stats.binomtest(rows, of).proportion_ci(method="wilson").
    [(5, 10, 0.236593, 0.763407), (0, 20, 0.0, 0.161125), (60, 60, 0.939828, 1.0), (1, 1, 0.206549, 1.0)],
)
def test_bounds_are_those_of_wilsons_interval(rows: int, of: int, low: float, high: float) -> None:
    found = wilson(rows, of)
    assert found.rows == rows
    assert (found.share, found.low, found.high) == pytest.approx((rows / of, low, high), abs=1e-6)


def test_of_no_rows_nothing_is_known() -> None:
    assert wilson(0, 0) == WinShare(0, 0.0, 0.0, 1.0)


@given(some.integers(0, 2_000_000), some.integers(1, 2_000_000))
def test_a_share_lies_between_its_bounds(rows: int, of: int) -> None:
    found = wilson(min(rows, of), of)
    assert 0.0 <= found.low <= found.share <= found.high <= 1.0


def test_a_verdict_is_a_word_by_itself_or_the_winner_of_an_object() -> None:
    for word, what in (("first", FIRST), ("second", SECOND), ("tie", TIE)):
        for answer in (word, word.upper(), f" {word}.\n", f"**{word}**", f'"{word}"'):
            assert verdict(answer) == what
            assert verdict({"reason": "so", "winner": answer}) == what
    odd: list[object] = ["", "third", "firstly", "first or second", "first\nsecond", None, True, 1, [], ["first"], {}]
    for each in [*odd, {"winner": 1}, {"Winner": "first"}]:
        assert verdict(each) == UNREADABLE


def test_an_answer_wins_where_both_orders_prefer_it_and_what_wins_by_its_place_is_a_tie() -> None:
    rows = {
        (FIRST, SECOND): 30, (SECOND, FIRST): 10,  # one and the same, whichever stood first
        (FIRST, FIRST): 6, (SECOND, SECOND): 1,  # by the place
        (TIE, SECOND): 2, (SECOND, TIE): 1, (TIE, TIE): 3,
        (UNREADABLE, FIRST): 4, (FIRST, UNREADABLE): 1, (UNREADABLE, FAILED): 1,
        (FAILED, FIRST): 5, (FIRST, 0): 2,  # no verdict in one of the orders, for another reason
        (0, 0): 100,  # failed before anybody judged
    }  # fmt: skip
    found = counted(NAMES, BOTH_ORDERS, rows.items())
    assert (found.rows, found.unreadable, found.incomplete) == (53, 6, 7)
    assert (found.wins, found.ties) == ((wilson(30, 53), wilson(10, 53)), wilson(13, 53))
    assert (found.decided, found.better) == (wilson(30, 40), "a")
    assert found.in_both_orders == (6, 1)
    assert (found.between, found.judges) == (NAMES, ("judge", "swapped"))


@given(some.dictionaries(some.tuples(*[some.integers(0, 5)] * 2), some.integers(1, 1000)))
def test_who_is_called_first_changes_nothing(rows: dict[tuple[int, ...], int]) -> None:
    one = counted(("a", "b"), BOTH_ORDERS, rows.items())
    other = counted(("b", "a"), [(name, not turned) for name, turned in BOTH_ORDERS], rows.items())
    assert (one.rows, one.ties, one.better) == (other.rows, other.ties, other.better)
    assert one.wins == other.wins[::-1]
    assert one.in_both_orders == other.in_both_orders
    assert one.rows + one.unreadable + one.incomplete + rows.get((0, 0), 0) == sum(rows.values())
    assert sum(each.rows for each in (*one.wins, one.ties)) == one.rows


def test_of_several_judges_more_than_half_decide() -> None:
    panel = [("one", False), ("two", False), ("three", True)]
    found = counted(NAMES, panel, Counter(product((FIRST, SECOND, TIE), repeat=3)).items())
    assert (found.wins[0].rows, found.wins[1].rows, found.ties.rows) == (7, 7, 13)
    assert found.in_both_orders == (1, 1)


def test_one_order_alone_does_not_tell_what_the_place_does() -> None:
    found = counted(NAMES, ONE_ORDER, [((FIRST,), 1), ((SECOND,), 9), ((TIE,), 2)])
    assert (found.wins[1].rows, found.ties.rows, found.better) == (9, 2, "b")
    assert found.in_both_orders is None
    assert counted(NAMES, ONE_ORDER, []).better is None
