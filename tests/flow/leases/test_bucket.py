"""The bucket: never more than the rate and the burst in any window, nothing of the rate wasted, no credit made."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.flow.leases.bucket import Bucket

EPSILON = 1e-6

rates = st.floats(0.01, 5000)
bursts = st.floats(0.5, 10_000)
starts = st.floats(0, 1e6)


class Gcra:
    """The same limit by its theoretical arrival time, as ITU-T I.371 writes it down."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.interval, self.burst = 1 / rate, burst
        self.full_at = now + burst / rate

    def ready_at(self, cost: float, now: float) -> float:
        return max(self.full_at, now) + (min(cost, self.burst) - self.burst) * self.interval

    def spend(self, cost: float, now: float) -> None:
        self.full_at = max(self.full_at, now) + cost * self.interval


@settings(deadline=None, max_examples=50)
@given(rate=rates, burst=bursts, costs=st.lists(st.floats(0.01, 20_000), min_size=1, max_size=40), lazy=st.floats(0, 3))
def test_it_is_gcra(rate: float, burst: float, costs: list[float], lazy: float) -> None:
    bucket, gcra, now = Bucket(rate, burst, 0.0), Gcra(rate, burst, 0.0), 0.0
    for cost in costs:
        due = gcra.ready_at(cost, now)
        assert max(now, bucket.ready_at(cost, now)) == pytest.approx(max(now, due), rel=1e-9, abs=1e-6)
        now = max(now, due) * (1 + 1e-12) + lazy
        bucket.spend(cost, now)
        gcra.spend(cost, now)


@settings(deadline=None, max_examples=50)
@given(rate=rates, burst=bursts, start=starts, costs=st.lists(st.floats(0.01, 20_000), min_size=1, max_size=40))
def test_whatever_the_costs_all_is_earned_but_for_the_newest_and_no_wait_is_longer_than_its_worth(
    rate: float, burst: float, start: float, costs: list[float]
) -> None:
    bucket, now, spent = Bucket(rate, burst, start), start, 0.0
    for cost in costs:
        due = bucket.ready_at(cost, now)
        assert bucket.ready_at(cost, due) <= due, "who comes back when told is let through"
        now = max(now, due)
        assert spent + min(cost, burst) <= rate * (now - start) * (1 + EPSILON) + EPSILON * rate + EPSILON
        bucket.spend(cost, now)
        spent += cost
    assert now - start <= spent / rate + EPSILON


def test_it_opens_empty_and_fills_to_the_burst() -> None:
    bucket = Bucket(10.0, 5.0, 100.0)
    assert bucket.ready_at(1.0, 100.0) == pytest.approx(100.1)
    assert bucket.credit(100.2) == pytest.approx(2.0)
    assert bucket.credit(200.0) == 5.0


def test_a_cost_above_the_burst_waits_for_a_full_bucket_and_borrows() -> None:
    bucket = Bucket(10.0, 5.0, 0.0)
    assert bucket.ready_at(50.0, 0.0) == pytest.approx(0.5)
    bucket.spend(50.0, 0.5)
    assert repr(bucket) == "<10/s, burst 5, credit -45 at 0.5>"
    assert bucket.credit(0.5) == pytest.approx(-45.0)
    assert bucket.ready_at(1.0, 0.5) == pytest.approx(0.5 + 4.6)


def test_without_a_rate_only_what_is_there_may_be_spent() -> None:
    bucket = Bucket(0.0, 5.0, 0.0)
    assert bucket.ready_at(0.5, 7.0) == math.inf
    bucket.spend(-2.0, 0.0)
    assert bucket.ready_at(2.0, 7.0) == 7.0
    assert bucket.ready_at(2.5, 7.0) == math.inf
    assert bucket.ready_at(9.0, 7.0) == math.inf, "nobody would ever pay it back"
    assert Bucket(0.0, 0.0, 0.0).ready_at(1.0, 7.0) == math.inf


def test_giving_back_never_makes_room_for_more_than_the_burst() -> None:
    bucket = Bucket(10.0, 5.0, 0.0)
    bucket.spend(100.0, 1.0)
    bucket.spend(-50.0, 1.0)
    assert bucket.credit(1.0) == pytest.approx(-45.0)
    bucket.spend(-500.0, 1.0)
    assert bucket.credit(1.0) == 5.0


def test_a_time_before_the_last_one_earns_nothing_and_loses_nothing() -> None:
    bucket = Bucket(10.0, 5.0, 0.0)
    bucket.spend(1.0, 0.4)
    bucket.spend(1.0, 0.1)
    assert bucket.credit(0.4) == pytest.approx(2.0)
    assert bucket.credit(0.0) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("rate", "burst", "credit", "left", "kept"),
    [
        (10.0, 5.0, 0.0, 0.0, 4.0),  # as before
        (20.0, 2.0, 0.0, 2.0, 2.0),  # a smaller burst
        (20.0, 8.0, 3.0, 0.0, 7.0),  # credit that finds room
        (20.0, 5.0, 3.0, 2.0, 5.0),  # and some that does not
        (20.0, 5.0, -9.0, 0.0, -5.0),  # a debt is taken over
        (0.0, 0.0, 0.0, 4.0, 0.0),  # no rate, no credit
        (0.0, 5.0, -9.0, -5.0, 0.0),  # nor a debt, that it could never pay
    ],
)
def test_resizing_returns_what_it_does_not_keep(
    rate: float, burst: float, credit: float, left: float, kept: float
) -> None:
    bucket = Bucket(10.0, 5.0, 0.0)
    assert bucket.resize(rate, burst, 0.4, credit) == pytest.approx(left)
    assert bucket.credit(0.4) == pytest.approx(kept)
    assert (bucket.rate, bucket.burst) == (rate, burst)
    assert bucket.credit(1000.0) == pytest.approx(burst if rate else kept)


def test_a_lapse_takes_the_credit_and_leaves_the_debt() -> None:
    bucket = Bucket(10.0, 5.0, 0.0)
    bucket.lapse(2.0, 10.0)
    assert bucket.credit(10.0) == 0.0
    assert bucket.credit(10.1) == pytest.approx(1.0)
    bucket.spend(21.0, 10.1)
    bucket.lapse(11.1, 50.0)
    assert bucket.credit(50.0) == pytest.approx(-10.0), "a second's worth was earned, then no more"
