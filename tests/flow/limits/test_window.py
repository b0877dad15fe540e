"""What was sent lately: exact over any window, whenever the reports come."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.flow.limits.window import SlidingWindow, WindowSums


@settings(deadline=None)
@given(phase=st.floats(0, 0.3), rate=st.integers(1, 500), over_s=st.floats(0.3, 50), step=st.floats(0.05, 0.4))
def test_an_even_rate_is_measured_exactly(phase: float, rate: int, over_s: float, step: float) -> None:
    window, now = SlidingWindow(phase), phase
    for _ in range(300):
        now += step
        window.sent(rate, 7 * rate, now)
    lately = window.over(over_s)
    assert lately.sent_per_s == pytest.approx(rate / step, rel=1e-6)
    assert lately.tokens_of_one == pytest.approx(7)
    assert min(over_s, 60) - 1e-9 <= lately.seconds <= over_s + step + 0.2 or lately.seconds == pytest.approx(
        now - phase
    )


def test_before_the_first_report_there_is_nothing() -> None:
    assert SlidingWindow(5.0).over(10.0) == WindowSums()
    assert WindowSums().sent_per_s == WindowSums().taken_per_s == WindowSums().tokens_of_one == 0


def test_what_was_taken_is_what_was_sent_less_what_was_refused() -> None:
    window = SlidingWindow(0.0)
    for now in range(1, 11):
        window.sent(10, 100, float(now), refused=3)
    assert window.over(4.0) == WindowSums(4.0, 40, 400, 12)
    assert window.over(4.0).taken_per_s == 7


def test_no_more_than_a_minute_is_kept() -> None:
    window = SlidingWindow(0.0)
    for tick in range(10_000):
        window.sent(1, 1, tick / 4)
    assert len(window._sums) < 250
    assert window.over(1e9).seconds == pytest.approx(60, abs=0.5)


def test_estimates_that_are_corrected_do_not_make_tokens_negative() -> None:
    window = SlidingWindow(0.0)
    window.sent(1, -500, 1.0)
    assert window.over(5.0).tokens_of_one == 0


def test_the_time_before_the_first_request_does_not_count() -> None:
    window = SlidingWindow(0.0)
    for quarter in range(1, 9):
        window.sent(0, 0, quarter / 4)
    window.sent(100, 0, 2.25)
    window.sent(100, 0, 2.5)
    assert window.over(2.0).sent_per_s == 400
