"""The verdict on a failed row, and the heap in which it waits."""

from random import Random
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.flow.retry import DueHeap, RetryPolicy
from engine.records import Failure, FaultClass

SPENDS = FaultClass("server_error", True, "row", True, False)
SPENDS_NONE = FaultClass("rate_limited", True, "row", False, True)
FINAL = FaultClass("invalid_request", False, "row", True, False)
FINAL_FOR_ALL = FaultClass("auth", False, "provider", False, False)

JITTER = 0.25
LONGEST_S = 60.0

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
    wait = policy.wait_s(failure(fault, retry_after), tries=tries, attempts=1)
    assert wait is not None
    asked = retry_after or 0.0
    assert wait >= asked
    assert wait <= max(asked, LONGEST_S) * (1 + JITTER)


@settings(deadline=None)
@given(seed=seeds, tries=tries, retry_after=st.floats(0, 86_400))
def test_a_server_that_asks_to_slow_down_knows_better_than_our_backoff(
    seed: int, tries: int, retry_after: float
) -> None:
    wait = RetryPolicy(6, Random(seed)).wait_s(failure(SPENDS_NONE, retry_after), tries=tries, attempts=0)
    assert wait is not None
    longest = max(retry_after, 0.1)
    assert retry_after <= wait <= longest + min(longest * JITTER, 30.0)


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
@given(limit=st.integers(1, 100), tries=tries, attempts=st.integers(0, 200), seed=seeds)
def test_a_class_that_spends_nothing_never_ends_a_row(limit: int, tries: int, attempts: int, seed: int) -> None:
    policy = RetryPolicy(limit, Random(seed))
    assert policy.wait_s(failure(SPENDS_NONE), tries=tries, attempts=attempts) is not None


@settings(deadline=None)
@given(limit=st.integers(2, 100), tries=st.integers(50, 2_000), seed=seeds)
def test_tries_that_did_not_count_do_not_use_up_the_attempts(limit: int, tries: int, seed: int) -> None:
    """After any number of 429s the first server error is still the first attempt."""
    assert RetryPolicy(limit, Random(seed)).wait_s(failure(SPENDS), tries=tries, attempts=1) is not None


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
    assert heap.pop_due(0.9) is None
    assert (heap.pop_due(1.0), heap.pop_due(1.0), heap.pop_due(1.0)) == (first, second, None)
    assert heap.next_due is None
