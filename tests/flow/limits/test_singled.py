"""A row that is refused for ever while others are let through fails for it; what a limit refuses never does."""

from random import Random

import pytest

from rowmill.flow.limits.singled import Singled


def attempts(singled: Singled, row: int, times: int, *, answers: int, each: int = 0, at: float = 1.0) -> list[int]:
    """Return how many attempts each of so many refusals in a row has spent, with so many answers between."""
    return [
        singled.refused(row, at + place, answers=answers + place * each, in_flight=8)[1]
        for place in range(1, times + 1)
    ]


def test_a_row_beside_which_all_others_are_let_through_has_spent_all_its_attempts_at_the_sixth_refusal() -> None:
    singled = Singled()
    spent = [singled.refused(7, 0.1, answers=10, in_flight=8)[1], *attempts(singled, 7, 5, answers=150)]
    assert sum(spent) == 6
    assert singled.refused(7, 9.0, answers=150, in_flight=1) == (True, 1), "and each one counts from then on"


def test_from_the_second_on_it_tells_nobody_of_a_limit() -> None:
    singled = Singled()
    assert singled.refused(7, 0.1, answers=10, in_flight=8) == (False, 0), "the first may be a limit's"
    assert singled.refused(7, 1.1, answers=200, in_flight=8) == (True, 0)


def test_where_nothing_was_let_through_since_nothing_is_known() -> None:
    singled = Singled()
    assert not any(attempts(singled, 7, 40, answers=100))
    singled = Singled()
    singled.refused(7, 0.1, answers=10, in_flight=8)
    assert not any(attempts(singled, 7, 40, answers=18)), "what was in flight then may have been let through before"


def test_a_minute_and_a_quarter_later_what_was_let_through_together_with_it_counts_too() -> None:
    singled = Singled()
    singled.refused(7, 0.1, answers=0, in_flight=20)
    assert not any(attempts(singled, 7, 20, answers=19))
    assert sum(attempts(singled, 7, 1, answers=19, at=80.0)) == 22


def test_while_others_are_refused_too_and_nobody_is_let_through_it_is_no_row_of_its_own() -> None:
    singled = Singled()
    singled.refused(7, 0.1, answers=10, in_flight=8)
    for place in range(40):
        singled.refused(100 + place, 30.0 + place, answers=500, in_flight=8)
        assert singled.refused(7, 30.5 + place, answers=500, in_flight=8)[1] == 0 or not place


def test_several_such_rows_are_found_though_they_are_all_that_is_left() -> None:
    singled = Singled()
    spent = [
        sum(singled.refused(row, float(place), answers=150 if place else 0, in_flight=8)[1] for place in range(6))
        for row in (7, 8, 9)
    ]
    assert spent == [6, 6, 6]
    between = Singled()
    counts = [
        between.refused(row, 1.0, answers=150 * bool(place), in_flight=8)[1] for place in range(6) for row in (7, 8)
    ]
    assert sum(counts) == 12


def test_a_row_or_two_that_are_left_alone_are_their_own_matter_soon_and_fail_once_a_minute_is_over() -> None:
    singled = Singled()
    seen = [singled.refused(row, 10.0 * place, answers=2, in_flight=1, left=2) for place in range(9) for row in (1, 2)]
    assert [alone for alone, _ in seen] == [False] * 6 + [True] * 12
    assert [spent for _, spent in seen] == [0] * 16 + [9, 9], "limits are of a minute"
    more = Singled()
    assert not any(more.refused(1, 10.0 * place, answers=2, in_flight=1, left=3)[1] for place in range(9))
    unheard = Singled()
    assert not any(unheard.refused(1, 10.0 * place, answers=0, in_flight=1, left=1)[1] for place in range(30))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6])
def test_refusals_at_random_fail_no_row_however_many_there_are(share: float) -> None:
    singled, rng, answers, spent = Singled(), Random(7), 0, 0
    waiting: list[int] = []
    for number in range(60_000):
        row = waiting.pop(0) if len(waiting) > 16 else number
        if rng.random() < share:
            spent += singled.refused(row, number / 100, answers=answers, in_flight=16)[1]
            waiting.append(row)
        else:
            singled.passed(row)
            answers += 1
    assert spent == 0


def test_what_is_never_heard_of_again_does_not_pile_up() -> None:
    singled = Singled()
    for row in range(30_000):
        singled.refused(row, 1.0, answers=5, in_flight=8)
    assert len(singled.rows) <= 10_000
    singled.forget(29_999)
    singled.passed(1)
