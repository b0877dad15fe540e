"""Losses at random, and those that come of the load."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.flow.concurrency.losses import Losses

TICK_S = 0.25
REPLY_S = 0.1


class Told:
    """What is told of losses, four times a second."""

    def __init__(self) -> None:
        self.losses = Losses()
        self.now = 0.0

    def tick(self, answered: int, lost: int, in_flight: int, *, times: int = 1) -> "Told":
        for _ in range(times):
            self.now += TICK_S
            self.losses.add(TICK_S, answered, lost, REPLY_S, in_flight, late=False)
        return self

    def check(self) -> None:
        self.losses.check(self.now, REPLY_S, 100)
        self.losses.forget()


@pytest.mark.parametrize(
    ("answered", "lost", "burst"),
    [(0, 1, False), (0, 2, True), (9, 1, False), (5, 3, True), (1000, 10, False), (1000, 60, True)],
)
def test_a_burst_is_more_than_chance_would_have_it(answered: int, lost: int, burst: bool) -> None:
    assert Told().tick(answered, lost, 10).losses.burst() is burst


def test_while_it_starts_a_few_losses_are_no_burst_and_many_are() -> None:
    assert not Told().tick(17, 3, 8).losses.burst(starting=True)
    assert Told().tick(17, 3, 8).losses.burst()
    assert Told().tick(5, 15, 8).losses.burst(starting=True)


def test_losses_are_forgotten_with_time_and_after_a_decision() -> None:
    losses = Told().tick(10, 10, 10).losses
    losses.add(60.0, 10, 0, REPLY_S, 10, late=False)
    assert not losses.burst()
    losses.add(TICK_S, 10, 10, REPLY_S, 10, late=False)
    assert losses.burst()
    losses.forget()
    assert not losses.burst()


def test_late_news_is_no_loss() -> None:
    losses = Losses()
    losses.add(TICK_S, 10, 10, REPLY_S, 10, late=True)
    assert not losses.burst()


@pytest.mark.parametrize(
    ("answered", "lost", "verdict"),
    [
        (175, 13, "chance"),  # seven tenths of the answers, and the same share of them lost
        (175, 0, "load"),  # fewer in flight lose nothing
        (250, 18, "load"),  # fewer in flight bring as many answers
        (20, 2, None),  # something else has changed
    ],
)
def test_what_fewer_in_flight_change_tells_what_losses_come_of(answered: int, lost: int, verdict: str | None) -> None:
    told = Told().tick(250, 18, 100, times=8)
    assert told.losses.burst()
    told.check()
    assert told.losses.checking
    assert told.losses.verdict() is None
    told.tick(answered, lost, 70, times=4)
    assert told.losses.verdict() == verdict
    if verdict is not None:
        assert told.losses.verdict() is None, "said once"


def test_a_share_that_is_usual_is_no_burst_and_more_than_that_is() -> None:
    told = Told().tick(250, 18, 100, times=8)
    told.check()
    assert repr(told.losses) == "<0.0% lost lately, 2.0% usual, finding out>"
    told.tick(175, 13, 70, times=4)
    assert told.losses.verdict() == "chance"
    assert 0.065 < told.losses.usual < 0.09
    told.losses.forget()
    assert not told.tick(250, 18, 100, times=40).losses.burst()
    assert told.tick(250, 45, 100, times=4).losses.burst()


def test_a_usual_share_follows_the_losses_down_and_fades() -> None:
    told = Told().tick(250, 18, 100, times=8)
    told.check()
    told.tick(175, 13, 70, times=4).losses.verdict()
    usual = told.losses.usual
    told.tick(250, 18, 100, times=4 * 300)
    assert told.losses.usual < 0.8 * usual, "it is found out anew now and then"
    told.tick(250, 0, 100, times=4 * 300)
    assert told.losses.usual == 0.02


def test_a_share_above_a_third_is_never_put_down_to_chance() -> None:
    told = Told().tick(60, 40, 100, times=8)
    told.check()
    assert not told.losses.checking


def test_fewer_in_flight_are_kept_until_it_is_known_and_not_for_ever() -> None:
    told = Told().tick(250, 18, 100, times=8)
    told.check()
    assert told.losses.waits(told.now + 1.9)
    assert not told.losses.waits(told.now + 2.1)


def test_how_long_it_took_to_be_lost_is_what_the_slots_were_taken_for() -> None:
    assert Told().tick(250, 10, 100, times=40).losses.took_s(REPLY_S) < 0.1
    hanging = Told().tick(250, 10, 200, times=40).losses.took_s(REPLY_S)
    assert hanging == pytest.approx(2.5, rel=0.1), "100 slots, 40 a second"


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 40), st.integers(0, 100), st.booleans(), st.booleans()),
        min_size=1,
    )
)
def test_whatever_is_told_it_comes_to_a_share_between_its_bounds(
    ticks: list[tuple[int, int, int, bool, bool]],
) -> None:
    told = Told()
    for answered, lost, in_flight, late, check in ticks:
        told.now += TICK_S
        told.losses.add(TICK_S, answered, lost, REPLY_S, in_flight, late=late)
        if check:
            told.losses.check(told.now, REPLY_S, max(1, in_flight))
            told.losses.forget()
        assert told.losses.verdict() in (None, "load", "chance")
        assert 0.02 <= told.losses.usual <= 0.3
