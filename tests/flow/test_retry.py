"""The verdict on a failed row, the heap in which it waits, and the budget that it is sent from."""

from random import Random
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.wire import Failure, FaultClass
from rowmill.flow.retry import DueHeap, RetryBudget, RetryPolicy

SPENDS = FaultClass("server_error", True, "row", True, False, True)
SPENDS_NONE = FaultClass("rate_limited", True, "row", False, True, False)
FINAL = FaultClass("invalid_request", False, "row", True, False, False)
FINAL_FOR_ALL = FaultClass("auth", False, "provider", False, False, False)

JITTER = 0.25
LONGEST_S = 60.0
FREE_TRIES = 50

Item = TypeVar("Item")

seeds = st.integers(0, 2**32)
tries = st.integers(1, 2_000)
retryable = st.sampled_from([SPENDS, SPENDS_NONE])


def failure(fault: FaultClass, retry_after: float | None = None) -> Failure:
    return Failure(fault=fault, message="m", retry_after=retry_after)


def popped(heap: DueHeap[Item], now: float) -> list[Item]:
    """Take everything that is due."""
    items = []
    while (item := heap.pop_due(now)) is not None:
        items.append(item)
    return items


@settings(deadline=None)
@given(seed=seeds, fault=retryable, tries=tries, retry_after=st.none() | st.floats(0, 86_400))
def test_never_earlier_than_the_server_asked_and_later_only_by_the_jitter(
    seed: int, fault: FaultClass, tries: int, retry_after: float | None
) -> None:
    policy = RetryPolicy(100, Random(seed))
    wait = policy.wait_s(failure(fault, retry_after), tries=tries, attempts=tries)
    if wait is None:
        assert tries >= 100
        return
    asked = retry_after or 0.0
    assert wait >= asked
    assert wait <= max(asked, LONGEST_S) * (1 + JITTER)


@settings(deadline=None)
@given(seed=seeds, tries=tries, retry_after=st.floats(0, 86_400))
def test_a_server_that_asks_to_slow_down_knows_better_than_our_backoff(
    seed: int, tries: int, retry_after: float
) -> None:
    wait = RetryPolicy(3_000, Random(seed)).wait_s(failure(SPENDS_NONE, retry_after), tries=tries, attempts=0)
    assert wait is not None
    longest = max(retry_after, 0.1)
    assert retry_after <= wait <= longest + min(longest * JITTER, 30.0)


@pytest.mark.parametrize("retry_after", [0.0, 0.001, 0.1])
def test_a_server_that_says_at_once_is_not_asked_again_in_the_same_millisecond(retry_after: float) -> None:
    policy = RetryPolicy(6, Random(1))
    waits = {policy.wait_s(failure(SPENDS_NONE, retry_after), tries=1, attempts=0) for _ in range(50)}
    assert len(waits) == 50
    assert all(wait is not None and 0.1 <= wait <= 0.1 * (1 + JITTER) for wait in waits)


@settings(deadline=None)
@given(retry_after=st.floats(100, 86_400), seed=seeds)
def test_rows_that_failed_together_do_not_come_back_together(retry_after: float, seed: int) -> None:
    policy = RetryPolicy(6, Random(seed))
    waits = {policy.wait_s(failure(SPENDS_NONE, retry_after), tries=1, attempts=0) for _ in range(50)}
    assert len(waits) > 40


@settings(deadline=None)
@given(seed=seeds, fault=retryable)
def test_the_backoff_grows_with_every_try_up_to_its_cap(seed: int, fault: FaultClass) -> None:
    policy = RetryPolicy(100, Random(seed))
    for number in range(1, 60):
        wait = policy.wait_s(failure(fault), tries=number, attempts=1)
        assert wait is not None
        floor = min(2.0 ** (number - 1), LONGEST_S)
        assert floor <= wait <= floor * (1 + JITTER)


@settings(deadline=None)
@given(limit=st.integers(1, 100), seed=seeds)
def test_a_class_that_spends_fails_the_row_at_its_last_attempt(limit: int, seed: int) -> None:
    policy = RetryPolicy(limit, Random(seed))
    verdicts = [policy.wait_s(failure(SPENDS), tries=n, attempts=n) for n in range(1, limit + 2)]
    assert [verdict is None for verdict in verdicts] == [False] * (limit - 1) + [True, True]


@settings(deadline=None)
@given(limit=st.integers(1, 100), free=st.integers(1, FREE_TRIES), attempts=st.integers(0, 200), seed=seeds)
def test_a_class_that_spends_nothing_ends_no_row_while_its_tries_are_free(
    limit: int, free: int, attempts: int, seed: int
) -> None:
    policy = RetryPolicy(limit, Random(seed))
    assert policy.wait_s(failure(SPENDS_NONE), tries=attempts + free, attempts=attempts) is not None


@settings(deadline=None)
@given(limit=st.integers(2, 100), free=st.integers(0, FREE_TRIES), seed=seeds)
def test_tries_that_did_not_count_do_not_use_up_the_attempts(limit: int, free: int, seed: int) -> None:
    """After many a 429 the first server error is still the first attempt."""
    assert RetryPolicy(limit, Random(seed)).wait_s(failure(SPENDS), tries=free + 1, attempts=1) is not None


@pytest.mark.parametrize("limit", [1, 2, 6, 100])
def test_every_refusal_beyond_the_free_ones_is_an_attempt(limit: int) -> None:
    """A request that is too large for a minute's limit is answered 429 for ever."""
    policy = RetryPolicy(limit, Random(0))
    last = next(n for n in range(1, 1_000) if policy.wait_s(failure(SPENDS_NONE, 1.0), tries=n, attempts=0) is None)
    assert last == FREE_TRIES + limit


@settings(deadline=None)
@given(limit=st.integers(1, 20), faults=st.lists(retryable, min_size=80, max_size=80), seed=seeds)
def test_a_row_that_is_refused_without_end_fails_in_the_end(limit: int, faults: list[FaultClass], seed: int) -> None:
    policy = RetryPolicy(limit, Random(seed))
    attempts = 0
    for tries, fault in enumerate(faults, 1):
        attempts += fault.spends_attempt
        counted = attempts + max(0, tries - attempts - FREE_TRIES)
        over = counted >= limit and (fault.spends_attempt or tries - attempts > FREE_TRIES)
        assert (policy.wait_s(failure(fault), tries=tries, attempts=attempts) is None) == over
        if over:
            return
    raise AssertionError("80 tries, of which 50 were free, and not one was the last")


@settings(deadline=None)
@given(seed=seeds, fault=retryable, age_s=st.floats(0, 1e5), retry_after=st.none() | st.floats(0, 86_400))
def test_no_row_waits_beyond_its_deadline_and_none_is_given_up_that_need_not(
    seed: int, fault: FaultClass, age_s: float, retry_after: float | None
) -> None:
    refused = failure(fault, retry_after)
    wait = RetryPolicy(6, Random(seed)).wait_s(refused, tries=1, attempts=1)
    assert wait is not None
    held = RetryPolicy(6, Random(seed), deadline_s=3_600.0).wait_s(refused, tries=1, attempts=1, age_s=age_s)
    assert held == (wait if age_s + wait <= 3_600.0 else None)


def test_a_retry_after_of_ten_minutes_is_waited_for_where_the_deadline_allows() -> None:
    refused = failure(SPENDS_NONE, 600.0)
    assert RetryPolicy(6, Random(0), deadline_s=86_400.0).wait_s(refused, tries=1, attempts=0, age_s=600.0) is not None
    assert RetryPolicy(6, Random(0), deadline_s=599.0).wait_s(refused, tries=1, attempts=0) is None


@pytest.mark.parametrize("fault", [FINAL, FINAL_FOR_ALL])
@settings(deadline=None)
@given(tries=tries, retry_after=st.none() | st.floats(0, 100))
def test_what_no_retry_can_help_is_not_retried_even_when_the_server_says_when(
    fault: FaultClass, tries: int, retry_after: float | None
) -> None:
    assert RetryPolicy(100, Random(0)).wait_s(failure(fault, retry_after), tries=tries, attempts=1) is None


@settings(deadline=None)
@given(seed=seeds, asked=st.lists(st.tuples(retryable, st.none() | st.floats(0, 600), st.integers(1, 20)), max_size=30))
def test_the_same_seed_gives_the_same_waits(seed: int, asked: list[tuple[FaultClass, float | None, int]]) -> None:
    def waits() -> list[float | None]:
        policy = RetryPolicy(6, Random(seed))
        return [policy.wait_s(failure(fault, after), tries=n, attempts=min(n, 6)) for fault, after, n in asked]

    assert waits() == waits()


@settings(deadline=None)
@given(dues=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]) | st.floats(0, 10), max_size=60))
def test_the_heap_gives_the_soonest_first_and_equal_ones_in_order_of_arrival(dues: list[float]) -> None:
    heap: DueHeap[int] = DueHeap()
    for arrival, due in enumerate(dues):
        heap.push(due, arrival)
    assert popped(heap, 10.0) == sorted(range(len(dues)), key=lambda arrival: dues[arrival])
    assert len(heap) == 0


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 10)), max_size=60),
)
def test_the_heap_gives_nothing_early_and_everything_that_is_due(steps: list[tuple[float, float]]) -> None:
    heap: DueHeap[float] = DueHeap()
    waiting: list[float] = []
    now = 0.0
    for gap, delay in steps:
        now += gap
        heap.push(now + delay, now + delay)
        waiting.append(now + delay)
        due = sorted(time for time in waiting if time <= now)
        assert popped(heap, now) == due
        waiting = [time for time in waiting if time > now]
        assert heap.next_due == min(waiting, default=None)
        assert len(heap) == len(waiting)


def test_the_heap_never_compares_its_items() -> None:
    heap: DueHeap[object] = DueHeap()
    first, second = object(), object()
    heap.push(1.0, first)
    heap.push(1.0, second)
    assert repr(heap) == "<2 waiting, next due 1.0>"
    assert heap.pop_due(0.9) is None
    assert (heap.pop_due(1.0), heap.pop_due(1.0), heap.pop_due(1.0)) == (first, second, None)
    assert repr(heap) == "<0 waiting, next due None>"


# The budget

shares = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1)
floors = st.sampled_from([0.01, 1.0, 10.0]) | st.floats(0.01, 100)
gaps = st.sampled_from([0.0, 0.001, 0.1, 1.0]) | st.floats(0, 30)


class Sender:
    """Sends first requests and retries from one budget, and holds its promise at every one."""

    def __init__(self, share: float, floor_per_s: float, now: float = 1e5) -> None:
        self.budget = RetryBudget(share, floor_per_s, now)
        self.share, self.floor_per_s, self.start, self.now = share, floor_per_s, now, now
        self.firsts = self.retries = 0

    def first(self, count: int = 1) -> None:
        self.firsts += count

    def due(self) -> float:
        return self.budget.ready_at(self.now, self.firsts, self.retries)

    def retry(self) -> None:
        self.retries += 1
        allowed = max(10.0, self.floor_per_s) + self.floor_per_s * (self.now - self.start)
        assert self.retries <= self.share * (self.firsts + self.retries) + allowed + 1e-3

    def retry_all(self, most: int = 1_000) -> int:
        """Retry for as long as it is allowed now; return how often that was."""
        for count in range(most):
            if self.due() > self.now:
                return count
            self.retry()
        return most


@settings(deadline=None)
@given(
    share=shares,
    floor_per_s=floors,
    steps=st.lists(st.tuples(gaps, st.integers(0, 30), st.integers(0, 30)), max_size=60),
)
def test_retries_stay_within_their_share_and_the_floor(
    share: float, floor_per_s: float, steps: list[tuple[float, int, int]]
) -> None:
    sender = Sender(share, floor_per_s)
    for gap, firsts, wanted in steps:
        sender.now += gap
        sender.first(firsts)
        sender.retry_all(wanted)


@settings(deadline=None)
@given(
    share=shares,
    floor_per_s=floors,
    steps=st.lists(st.tuples(gaps, st.integers(0, 30), st.integers(0, 30)), max_size=20),
    waiting=st.integers(1, 60),
)
def test_a_waiting_retry_is_always_let_through_and_at_the_time_that_was_said(
    share: float, floor_per_s: float, steps: list[tuple[float, int, int]], waiting: int
) -> None:
    sender = Sender(share, floor_per_s)
    for gap, firsts, wanted in steps:
        sender.now += gap
        sender.first(firsts)
        sender.retry_all(wanted)
    for _ in range(waiting):
        due = sender.due()
        assert due - sender.now <= 1 / floor_per_s * (1 + 1e-6)
        sender.now = max(sender.now, due)
        assert sender.due() <= sender.now
        sender.retry()


def test_of_a_provider_that_fails_everything_eleven_requests_are_sent_for_ten_rows() -> None:
    sender = Sender(0.1, 0.01)
    sender.retry_all()
    for _ in range(10_000):
        sender.first()
        sender.retry_all()
    assert 0.099 <= (sender.retries - 10) / (sender.firsts + sender.retries) <= 0.1


def test_a_small_run_is_not_slowed_and_what_was_not_used_is_no_stampede() -> None:
    sender = Sender(0.1, 2.0)
    assert sender.retry_all() == 10
    sender.now += 3_600.0
    assert sender.retry_all() == 2
    sender.now += 0.75
    assert sender.retry_all() == 1


def test_retries_are_paid_by_the_share_and_then_by_the_floor() -> None:
    budget = RetryBudget(0.1, 1.0, 0.0)
    assert budget.ready_at(5.0, 100, 15) == 5.0
    assert repr(budget) == "<15 retries, 11 by the share; 6 left of the floor>"


def test_without_a_share_only_the_floor_sends() -> None:
    sender = Sender(0.0, 10.0)
    sender.first(1_000_000)
    assert sender.retry_all() == 10
    sender.now += 0.5
    assert sender.retry_all() == 5


def test_a_share_of_all_holds_nothing_back() -> None:
    sender = Sender(1.0, 0.01)
    sender.first()
    assert sender.retry_all(5_000) == 5_000


def test_retries_that_did_not_ask_are_waited_out() -> None:
    sender = Sender(0.1, 2.0)
    sender.retry_all()
    sender.retries += 6
    assert sender.due() == sender.now + 3.5
    sender.first(63)
    assert sender.due() == sender.now, "what first requests earn since then is not kept back for the debt"


def test_asking_alone_costs_nothing() -> None:
    sender = Sender(0.0, 2.0)
    for _ in range(100):
        sender.due()
    assert sender.retry_all() == 10
