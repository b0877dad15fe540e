"""The day's budget: never exceeded although leases are old and reports late, and used to the end."""

from collections import deque
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rowmill.core.leases import LimitSample, Share
from rowmill.flow.limits.day_budget import DayBudget

DAY_S = 86_400.0


def spend_all(budget: DayBudget, *, pace: float, lease_s: float, report_s: float, seconds: float, size: int = 1) -> int:
    """Spend as a greedy worker: at the lease's rate or `pace` a second, told of late; return the units spent.

    `lease_s`: a lease is used for so long after what it was written from; `report_s`: until the spending is known.
    """
    step, now, spent, credit = 0.05, 0.0, 0, 0.0
    leases: deque[tuple[float, Share]] = deque([(0.0, budget.share(0.0))])
    reports: deque[tuple[float, int]] = deque()
    share = leases[0][1]
    while now < seconds:
        now += step
        while reports and reports[0][0] <= now:
            budget.spent(reports.popleft()[1], 1, now)
        leases.append((now + lease_s, budget.share(now)))
        while leases and leases[0][0] <= now:
            share = leases.popleft()[1]
        credit = min(credit + min(share.rate, pace) * step, share.burst)
        # A request larger than the burst goes from a full bucket and borrows, as in the leases of the workers.
        while credit >= min(size, share.burst):
            credit -= size
            spent += size
            reports.append((now + report_s, size))
    return spent


@settings(deadline=None, max_examples=25)
@given(
    limit=st.integers(1, 3000),
    pace=st.floats(5, 5000),
    lease_s=st.floats(0, 2.75),
    report_s=st.floats(0, 0.5),
)
@example(limit=3000, pace=5000, lease_s=2.75, report_s=0.5)
@example(limit=1, pace=100, lease_s=0.0, report_s=0.0)
def test_never_exceeded_and_used_to_the_end(limit: int, pace: float, lease_s: float, report_s: float) -> None:
    seconds = 90.0 + limit / pace
    spent = spend_all(DayBudget(limit, DAY_S, 0.0), pace=pace, lease_s=lease_s, report_s=report_s, seconds=seconds)
    assert spent <= limit + limit / DAY_S * seconds
    assert spent >= limit * 0.99 - 1


def test_a_budget_of_tokens_ends_at_most_two_requests_early_and_is_not_exceeded_by_one_worker() -> None:
    budget = DayBudget(200_000, DAY_S, 0.0)
    spent = spend_all(budget, pace=50_000, lease_s=1.25, report_s=0.25, seconds=150, size=700)
    assert 200_000 * 0.99 <= spent <= 200_000 * (1 + 150 / DAY_S)


def test_the_day_limits_nothing_while_much_is_left() -> None:
    assert DayBudget(1_000_000, DAY_S, 0.0).share(0.0).rate > 100_000


def test_bursts_are_a_part_of_what_is_left() -> None:
    budget = DayBudget(8_640_000, DAY_S, 0.0)  # 100 a second come back
    budget.spent(8_640_000 - 40, 8_640_000, 0.0)
    share = budget.share(0.0)
    assert share.rate == pytest.approx(100 + 40 / 9)
    assert share.burst == 10


def test_a_large_request_is_expected_again_for_some_tens_of_reports() -> None:
    """What is left is less than it took, and there is nothing to be had, until it is forgotten."""
    budget = DayBudget(10_000, DAY_S, 0.0)
    budget.spent(2000, 1, 0.0)
    assert repr(budget) == "<8000 of 10000 left, 2000 a request>"
    budget.spent(6500, 100, 0.0)
    assert budget.share(0.0).rate < 1e-3
    for _ in range(10):
        budget.spent(10, 1, 0.0)
    assert budget.share(0.0).rate == pytest.approx((1400 - 2000 * 0.9**11) / 9, rel=0.01)
    for _ in range(40):
        budget.spent(10, 1, 0.0)
    assert budget.share(0.0).rate == pytest.approx((1000 - 10) / 9, rel=0.01), "one of the usual size is kept for"


def test_what_comes_back_may_be_spent() -> None:
    budget = DayBudget(8640, DAY_S, 0.0)
    budget.spent(8640, 8640, 0.0)
    assert budget.share(5.0).rate < 1e-3
    assert budget.share(11.0).rate > 0.1
    assert budget.left == pytest.approx(1.1)


def test_an_hour_of_nothing_but_refill_is_used() -> None:
    budget = DayBudget(3600 * 24, DAY_S, 0.0)  # one a second
    budget.spent(3600 * 24, 3600 * 24, 0.0)
    spent = spend_all(budget, pace=100, lease_s=1.0, report_s=0.25, seconds=600)
    assert 580 <= spent <= 600


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2 * DAY_S), st.integers(0, 5000)), min_size=1, max_size=8), st.randoms())
def test_earlier_sessions_are_debited_in_any_order(sessions: list[tuple[float, int]], rng: Random) -> None:
    budget = DayBudget(10_000, DAY_S, 1e6)
    shuffled = sessions[:]
    rng.shuffle(shuffled)
    for ago, units in shuffled:
        budget.spent_before(units, 1e6 - ago)
    left, at = 10_000.0, 2 * DAY_S
    for ago, units in sorted(sessions, reverse=True):
        left = min(10_000.0, left + (at - ago) * 10_000 / DAY_S) - units
        at = ago
    assert budget.left == pytest.approx(min(10_000.0, left + at * 10_000 / DAY_S), abs=1e-3)


def test_the_server_knows_of_others_who_spend() -> None:
    budget = DayBudget(10_000, DAY_S, 0.0)
    budget.said(LimitSample(10_000, 4000, 51_840), unseen=500, now=0.0)
    assert budget.left == 4000


def test_an_old_sample_does_not_give_back_what_was_spent() -> None:
    budget = DayBudget(10_000, DAY_S, 0.0)
    budget.spent(600, 600, 10.0)
    before = budget.left
    budget.said(LimitSample(10_000, 9999, 8.64), unseen=600, now=10.0)  # from before the 600 were sent
    assert budget.left == before


def test_what_the_server_gives_back_is_believed_as_far_as_it_is_no_old_news() -> None:
    budget = DayBudget(10_000, DAY_S, 0.0)
    budget.spent(9000, 9000, 0.0)
    budget.said(LimitSample(10_000, 10_000, 0.0), unseen=700, now=100.0)
    assert budget.left == 9300


@settings(deadline=None)
@given(units=st.lists(st.integers(-500, 5000), max_size=30))
def test_shares_are_always_usable(units: list[int]) -> None:
    budget = DayBudget(20_000, DAY_S, 0.0)
    for now, spent in enumerate(units):
        budget.spent(spent, 1, float(now))
        share = budget.share(float(now))
        assert share.rate > 0
        assert share.burst >= 1
        assert budget.left <= 20_000
