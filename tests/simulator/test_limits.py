"""The limiter is strict: what it admits is bounded in every window, and it never turns away what is due."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.simulator.limits import EnforcedLimits, Gcra, duration

rates = st.floats(min_value=0.5, max_value=200_000)
arrivals = st.lists(
    st.tuples(st.floats(min_value=0, max_value=5), st.integers(min_value=1, max_value=5000)), min_size=1, max_size=60
)


@given(per_minute=rates, arriving=arrivals)
def test_no_window_admits_more_than_its_rate_and_one_burst(
    per_minute: float, arriving: list[tuple[float, int]]
) -> None:
    limit = Gcra(per_minute)
    now = 1000.0
    admitted: list[tuple[float, int]] = []
    for gap, cost in arriving:
        now += gap
        if limit.wait(cost, now) == 0:
            limit.spend(cost, now)
            admitted.append((now, cost))
    allowance = max([limit.burst, *(cost for _, cost in admitted)])
    for first in range(len(admitted)):
        total = 0
        for moment, cost in admitted[first:]:
            total += cost
            window = moment - admitted[first][0]
            assert total <= per_minute / 60 * window + allowance + 1e-3


@given(per_minute=rates, costs=st.lists(st.integers(min_value=1, max_value=5000), min_size=1, max_size=40))
def test_who_waits_as_told_is_admitted_and_gets_the_whole_rate(per_minute: float, costs: list[int]) -> None:
    limit = Gcra(per_minute)
    now = 1000.0
    for cost in costs:
        now += limit.wait(cost, now)
        assert limit.wait(cost, now) == 0
        limit.spend(cost, now)
    assert now - 1000 <= sum(costs) * 60 / per_minute * (1 + 1e-9) + 1e-6


def test_the_burst_is_one_second_and_at_least_one_request() -> None:
    assert Gcra(60_000).burst == 1000
    assert Gcra(6).burst == 1


def test_a_minute_at_full_pressure_admits_a_minutes_worth() -> None:
    limits = EnforcedLimits(requests_per_minute=600, tokens_per_minute=None)
    admitted = sum(limits.admit(1, 1000 + tick / 1000) is None for tick in range(60_000))
    assert 600 <= admitted <= 610


def test_a_denied_request_is_charged_to_neither_limit() -> None:
    limits = EnforcedLimits(requests_per_minute=600, tokens_per_minute=60)
    assert limits.admit(50, 0.0) is None
    before = limits.headers(0.0)
    denial = limits.admit(50, 0.0)
    assert denial is not None
    assert denial.limit == "tokens"
    assert denial.wait == pytest.approx(50)
    assert limits.headers(0.0) == before


def test_a_request_of_more_than_a_minutes_tokens_is_told_that_no_wait_helps() -> None:
    limits = EnforcedLimits(requests_per_minute=None, tokens_per_minute=100)
    denial = limits.admit(101, 0.0)
    assert denial is not None
    assert (denial.limit, denial.wait) == ("tokens", None)
    assert limits.admit(100, 0.0) is None


def test_what_is_missing_from_the_limit_comes_back_within_the_reset() -> None:
    limits = EnforcedLimits(requests_per_minute=10_000, tokens_per_minute=60_000)
    for _ in range(100):
        assert limits.admit(1, 5.0) is None
    headers = limits.headers(5.0)
    assert headers["x-ratelimit-limit-requests"] == "10000"
    assert headers["x-ratelimit-remaining-requests"] == "9900"
    assert headers["x-ratelimit-reset-requests"] == "600ms"
    assert headers["x-ratelimit-remaining-tokens"] == "59900"
    assert limits.headers(5.6)["x-ratelimit-remaining-requests"] == "10000"


def test_a_limit_that_is_not_set_has_no_headers() -> None:
    assert EnforcedLimits(None, None).headers(0.0) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.012, "12ms"), (8.64, "8.64s"), (59.9994, "1m0s"), (360, "6m0s"), (3600, "1h0m0s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.lists(st.floats(min_value=0, max_value=1e5), min_size=2, max_size=10))
def test_durations_never_promise_less_than_the_time(times: list[float]) -> None:
    read = [_seconds(duration(time)) for time in sorted(times)]
    assert all(told >= time - 1e-6 for told, time in zip(read, sorted(times), strict=True))
    assert all(earlier <= later for earlier, later in pairwise(read))


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_a_limit_must_be_above_zero(wrong: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Gcra(wrong)


def _seconds(text: str) -> float:
    if text.endswith("ms"):
        return float(text[:-2]) / 1000
    total, number = 0.0, ""
    for char in text:
        if char in "hms":
            total += float(number) * {"h": 3600, "m": 60, "s": 1}[char]
            number = ""
        else:
            number += char
    return total
