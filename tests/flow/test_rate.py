"""Pacing: never more than the rate and the burst in any window, and nothing of the rate wasted.

The time is a number that the tests move; nothing here waits.
"""

import heapq
import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.flow.rate import Gcra, Lease, Slice, divide

EPSILON = 1e-6  # units: far above the rounding of the clock's floats, far below one request

rates = st.floats(0.01, 5000)
starts = st.floats(0, 1e6)
gaps = st.lists(st.floats(0, 2) | st.just(0.0), min_size=1, max_size=60)


def burst_of(rate: float) -> float:
    """Return the design's burst: at most one second's worth, and at least the one unit that has to fit."""
    return max(1.0, rate)


def sends(gcra: Gcra, now: float, gaps: list[float], cost: float = 1.0) -> list[float]:
    """Offer a cost after each gap; return the times at which it was allowed."""
    allowed = []
    for gap in gaps:
        now += gap
        if gcra.ready_at(cost, now) <= now:
            gcra.spend(cost, now)
            allowed.append(now)
    return allowed


def saturated(gcra: Slice, seconds: float, late: Callable[[], float], tokens: int = 1) -> list[float]:
    """Send as often as allowed from time 0 on; each wait ends `late()` seconds after it should."""
    now = 0.0
    times: list[float] = []
    while True:
        due = gcra.ready_at(tokens, now)
        if due > now:
            now = due + late()
        if now > seconds:
            return times
        gcra.spend(tokens, now)
        times.append(now)


def most_above(times: list[float], costs: list[float], rate: float) -> float:
    """Return by how much, over all windows, the spent costs exceed rate * length at most: the burst seen."""
    # The worst window starts at one send and ends at another; a running minimum finds it in one pass.
    worst, lowest, spent = -math.inf, math.inf, 0.0
    for time, cost in zip(times, costs, strict=True):
        lowest = min(lowest, spent - rate * time)
        spent += cost
        worst = max(worst, spent - rate * time - lowest)
    return worst


@settings(deadline=None)
@given(rate=rates, start=starts, gaps=gaps, repeat=st.integers(1, 20))
def test_no_window_holds_more_than_the_rate_and_one_seconds_burst(
    rate: float, start: float, gaps: list[float], repeat: int
) -> None:
    times = sends(Gcra(rate, start), start, gaps * repeat)
    assert most_above(times, [1.0] * len(times), rate) <= burst_of(rate) + EPSILON * rate + EPSILON


@settings(deadline=None)
@given(rate=rates, start=starts, gaps=gaps)
@example(rate=1000.0, start=0.0, gaps=[0.0] * 60)
def test_the_bucket_opens_empty(rate: float, start: float, gaps: list[float]) -> None:
    for count, time in enumerate(sends(Gcra(rate, start), start, gaps), start=1):
        assert count <= rate * (time - start) + 1 + EPSILON * rate + EPSILON


@settings(deadline=None)
@given(rate=rates, now=starts, wait=st.floats(0, 100))
def test_the_first_unit_waits_for_its_turn_and_no_longer(rate: float, now: float, wait: float) -> None:
    assert Gcra(rate, now, wait).ready_at(1.0, now) == pytest.approx(now + wait, abs=1e-6)


@settings(deadline=None)
@given(rate=rates, costs=st.lists(st.floats(0.01, 20_000), min_size=1, max_size=60))
def test_costs_of_any_size_get_through_at_the_rate(rate: float, costs: list[float]) -> None:
    """A cost above the burst is not held for ever; what it took ahead is waited for afterwards."""
    gcra, now, spent = Gcra(rate, 0.0), 0.0, 0.0
    for cost in costs:
        now = max(now, gcra.ready_at(cost, now))
        assert math.isfinite(now)
        # All that was sent before is paid for by now, up to the burst: only the newest cost may be ahead of time.
        assert spent <= rate * now + burst_of(rate) + EPSILON * spent + EPSILON
        gcra.spend(cost, now)
        spent += cost
    assert now <= spent / rate + EPSILON, "no wait is longer than the costs are worth"


@settings(deadline=None)
@given(rate=rates, cost=st.floats(0.01, 100), idle=st.floats(0, 1e4))
def test_asking_changes_nothing(rate: float, cost: float, idle: float) -> None:
    asked, other = Gcra(rate, 0.0), Gcra(rate, 0.0)
    for now in (0.0, idle, idle / 2):
        asked.ready_at(cost, now)
    assert asked.ready_at(1.0, idle) == other.ready_at(1.0, idle)


@pytest.mark.parametrize("per_minute", [6, 60, 90, 300, 600, 6_000, 60_000, 600_000])
@pytest.mark.parametrize("late_ms", [0.0, 1.0, 2.0])
def test_a_saturated_slice_reaches_99_percent_of_its_rate(per_minute: float, late_ms: float) -> None:
    """With a timer that is late by what an event loop's timer is late by."""
    rate = per_minute / 60
    seconds = max(20.0, 500 / rate)
    times = saturated(Slice(divide(per_minute, None, 1)[0], 0.0), seconds, lambda: late_ms / 1000)
    assert len(times) >= 0.99 * rate * seconds
    assert len(times) <= rate * seconds + burst_of(rate)


def test_a_fast_slice_makes_up_for_a_loop_that_was_busy_for_a_fifth_of_a_second() -> None:
    lateness = itertools.cycle([0.2] + [0.001] * 50)
    times = saturated(Slice(Lease(100.0, None), 0.0), 60.0, lambda: next(lateness))
    assert len(times) >= 0.99 * 6_000


@settings(deadline=None)
@given(requests=st.none() | st.floats(0.1, 1e7), tokens=st.none() | st.floats(0.1, 1e9), workers=st.integers(1, 256))
def test_the_leases_of_all_workers_sum_to_the_budget(
    requests: float | None, tokens: float | None, workers: int
) -> None:
    leases = divide(requests, tokens, workers)
    assert len(leases) == workers
    for budget, shares in (
        (requests, [lease.requests_per_s for lease in leases]),
        (tokens, [lease.tokens_per_s for lease in leases]),
    ):
        if budget is None:
            assert set(shares) == {None}
        else:
            assert math.fsum(share or 0.0 for share in shares) == pytest.approx(budget / 60, rel=1e-12)


@pytest.mark.parametrize(("per_minute", "workers"), [(60, 16), (600, 4), (6_000, 16), (60_000, 256), (6, 256)])
def test_all_workers_together_open_without_a_burst(per_minute: float, workers: int) -> None:
    slices = [Slice(lease, 0.0) for lease in divide(per_minute, None, workers)]
    seconds = max(5.0, 3 * workers * 60 / per_minute)
    times = list(heapq.merge(*(saturated(each, seconds, lambda: 0.0) for each in slices)))
    for count, time in enumerate(times, start=1):
        assert count <= per_minute / 60 * time + 1 + EPSILON * count
    assert len(times) >= 0.99 * per_minute / 60 * seconds - workers


def test_without_a_limit_everything_goes_at_once() -> None:
    free = Slice(Lease(None, None), 5.0)
    for _ in range(3):
        assert free.ready_at(10**9, 5.0) == 5.0
        free.spend(10**9, 5.0)
    free.settle(10, 10**9, 5.0)
    assert free.ready_at(1, 5.0) == 5.0


@settings(deadline=None)
@given(
    requests_per_s=st.floats(0.1, 1000),
    tokens_per_s=st.floats(10, 1e6),
    costs=st.lists(st.integers(1, 5_000), min_size=1, max_size=60),
)
def test_a_request_is_sent_only_when_both_budgets_allow_it(
    requests_per_s: float, tokens_per_s: float, costs: list[int]
) -> None:
    both = Slice(Lease(requests_per_s, tokens_per_s), 0.0)
    requests, tokens = Gcra(requests_per_s, 0.0), Gcra(tokens_per_s, 0.0)
    now = 0.0
    for cost in costs:
        due = both.ready_at(cost, now)
        assert due == max(requests.ready_at(1.0, now), tokens.ready_at(cost, now))
        now = max(due, now)
        for spent in (both.spend, lambda tokens_spent, at: requests.spend(1.0, at), tokens.spend):
            spent(cost, now)


@settings(deadline=None)
@given(
    rate=st.floats(10, 1e6),
    uses=st.lists(st.tuples(st.integers(1, 2_000), st.integers(1, 2_000)), min_size=1, max_size=60),
)
def test_what_replies_say_was_used_is_what_the_budget_pays(rate: float, uses: list[tuple[int, int]]) -> None:
    paced, now, used = Slice(Lease(None, rate), 0.0), 0.0, 0
    for estimated, actual in uses:
        now = max(now, paced.ready_at(estimated, now))
        paced.spend(estimated, now)
        paced.settle(estimated, actual, now)
        used += actual
    now = max(now, paced.ready_at(1, now))
    assert used <= rate * now + burst_of(rate) + max(max(pair) for pair in uses) + EPSILON * used


@settings(deadline=None)
@given(rate=st.floats(1, 1e5), given_back=st.floats(0, 1e6))
def test_giving_back_never_makes_room_for_more_than_the_burst(rate: float, given_back: float) -> None:
    gcra = Gcra(rate, 0.0)
    gcra.spend(10.0, 0.0)
    gcra.spend(-given_back, 0.0)
    times = sends(gcra, 0.0, [0.0] * (math.ceil(burst_of(rate)) + 10 if rate < 500 else 600))
    assert len(times) <= burst_of(rate) + EPSILON


def test_a_refund_shortens_the_wait_by_its_worth() -> None:
    gcra = Gcra(10.0, 0.0)
    gcra.spend(100.0, 0.0)
    due = gcra.ready_at(1.0, 0.0)
    gcra.spend(-50.0, 0.0)
    assert gcra.ready_at(1.0, 0.0) == pytest.approx(due - 5.0)
