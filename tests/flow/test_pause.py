"""Pauses: no news twice, gone once, and every second of them counted once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.flow.pause import Pause

NEWS_S = 0.01


def test_a_pause_begins_grows_and_ends_once() -> None:
    pause = Pause(100.0)
    assert repr(pause) == "<not paused>"
    assert pause.extend(4.0, 101.0)
    assert repr(pause) == "<paused from 101 to 105.01>"
    assert not pause.extend(2.0, 103.0), "that is known"
    assert not pause.extend(2.005, 103.0), "it would end hardly later"
    assert pause.extend(3.0, 103.0)
    assert repr(pause) == "<paused from 101 to 106.01>"
    assert pause.length_s == pytest.approx(5.0 + NEWS_S)
    assert not pause.ends(106.0)
    assert pause.ends(106.25)
    assert not pause.ends(106.5)
    assert repr(pause) == "<not paused>"


def test_the_next_one_has_a_length_of_its_own() -> None:
    pause = Pause(0.0)
    pause.extend(1.0, 0.0)
    assert pause.extend(2.0, 10.0)
    assert pause.length_s == pytest.approx(2.0 + NEWS_S)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 5.0), st.booleans()), max_size=30))
def test_every_second_of_a_pause_is_counted_once(steps: list[tuple[float, float, bool]]) -> None:
    """Against a clock in small steps: `steps` are time that passes, a wait that is asked for, whether it is counted."""
    pause, now, until = Pause(0.0), 0.0, 0.0
    counted = expected = 0.0
    for gap, wait_s, look in steps:
        expected += max(0.0, min(now + gap, until) - now)
        now += gap
        if pause.extend(wait_s, now):
            until = now + wait_s + NEWS_S
        if look:
            counted += pause.passed_s(now)
    assert counted + pause.passed_s(now) == pytest.approx(expected)
