"""The witness counts right: repeats, repeats after a success, what is in flight, and a bounded history."""

from hypothesis import given
from hypothesis import strategies as st

from engine.simulator.stats import SERIES_S, Ledger

steps = st.lists(st.tuples(st.integers(min_value=0, max_value=5), st.booleans()), max_size=60)


@given(steps)
def test_repeats_are_counted_as_a_plain_recount_does(exchanges: list[tuple[int, bool]]) -> None:
    ledger = Ledger()
    answered: set[int] = set()
    repeated = 0
    for key, success in exchanges:
        repeated += key in answered
        ledger.arrived(key, 10, 0)
        ledger.left(key, 200 if success else 500, success=success)
        if success:
            answered.add(key)
    figures = ledger.figures(0)
    keys = [key for key, _ in exchanges]
    assert figures["repeated_after_success"] == repeated
    assert figures["distinct"] == len(set(keys))
    assert figures["duplicates"] == len(keys) - len(set(keys))
    assert figures["max_per_request"] == max((keys.count(key) for key in keys), default=0)
    assert sum(figures["by_status"].values()) == figures["requests"] == len(keys)
    assert figures["bytes_in"] == 10 * len(keys)


def test_a_repeat_before_the_answer_is_no_repeat_after_success() -> None:
    ledger = Ledger()
    ledger.arrived(1, 5, 0)
    ledger.arrived(1, 5, 0)
    ledger.left(1, 200, success=True)
    assert ledger.figures(0)["repeated_after_success"] == 0
    ledger.arrived(1, 5, 0)
    assert ledger.figures(0)["repeated_after_success"] == 1


def test_a_reset_keeps_what_is_in_flight_and_nothing_else() -> None:
    ledger = Ledger()
    ledger.arrived(1, 5, 0)
    ledger.arrived(2, 5, 0)
    ledger.left(1, 200, success=True)
    ledger.clear()
    figures = ledger.figures(0)
    assert (figures["in_flight"], figures["in_flight_max"], figures["requests"]) == (1, 1, 0)
    ledger.left(2, None, success=False)
    assert ledger.figures(0)["in_flight"] == 0


def test_the_history_is_bounded_and_recent() -> None:
    ledger = Ledger()
    for second in range(2 * SERIES_S):
        ledger.arrived(second, 1, second)
    assert len(ledger.figures(2 * SERIES_S - 1)["per_second"]) == SERIES_S
    assert ledger.figures(2 * SERIES_S + 9)["per_second"][0] == [SERIES_S + 10, 1]
