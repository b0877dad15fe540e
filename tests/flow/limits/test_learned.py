"""The period of a limit is found from its headers, and from headers that say nothing nothing is found."""

from math import ceil
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rowmill.core.leases import LimitSample
from rowmill.flow.limits.learned import PERIODS, Evidence, Learned
from rowmill.simulator.limits import Gcra
from tests.flow.limits.provider_model import said


class Bucket:
    """A linear refill over any period, whose headers are rounded as servers do: one or the other way."""

    def __init__(self, limit: float, period: float, *, whole_seconds: bool = False, other_way: bool = False) -> None:
        self.limit, self.period, self.whole_seconds, self.other_way = limit, period, whole_seconds, other_way
        self.full_at = 0.0

    def spend(self, units: float, now: float) -> None:
        self.full_at = min(max(self.full_at, now) + units * self.period / self.limit, now + self.period)

    def sample(self, now: float) -> LimitSample:
        reset = max(0.0, self.full_at - now)
        used = reset * self.limit / self.period
        unit = 1.0 if self.whole_seconds or reset >= 60 else 0.001
        if self.other_way:
            return LimitSample(self.limit, ceil(self.limit - used - 1e-9), int(reset / unit + 1e-9) * unit)
        return LimitSample(self.limit, int(self.limit - used + 1e-9), ceil(reset / unit - 1e-9) * unit)


def learn(
    bucket: Bucket, rate: float, seconds: float = 60, seed: int = 0, evidence: Evidence | None = None
) -> set[Learned]:
    """Send about this rate with pauses, look four times a second; return all that was believed."""
    rng, now, found = Random(seed), 0.0, set()
    evidence = evidence or Evidence()
    look = before = None
    while now < seconds:
        now += rng.expovariate(rate)
        bucket.spend(1, now)
        if look is None or now > look:
            look = now + 0.25
            sample = bucket.sample(now)
            if sample != before and (learned := evidence.add(sample, now)) is not None:
                found.add(learned)
            before = sample
    return found


@settings(deadline=None, max_examples=60)
@given(
    limit=st.integers(20, 100_000),
    period=st.sampled_from(sorted(PERIODS)),
    load=st.floats(0.3, 1.5),
    seed=st.integers(0, 1000),
    other_way=st.booleans(),
)
def test_never_a_wrong_period(limit: int, period: float, load: float, seed: int, other_way: bool) -> None:
    rate = min(limit / period * load, 300.0)
    assert learn(Bucket(limit, period, other_way=other_way), rate, 20, seed) <= {Learned(limit, period)}


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("other_way", [False, True])
def test_the_period_is_found_within_seconds(period: float, other_way: bool) -> None:
    limit = 200 * period
    assert learn(Bucket(limit, period, other_way=other_way), 190, 10) == {Learned(limit, period)}


def test_few_samples_or_samples_of_one_moment_are_not_enough() -> None:
    for gap, enough in ((0.1, 21), (2.0, 5)):
        evidence, bucket = Evidence(), Bucket(6000, 60)
        for look in range(40):
            bucket.spend(20 if look % 2 else 3 + gap * 100, look * gap)
            found = evidence.add(bucket.sample(look * gap), look * gap)
            assert (found is not None) == (look + 1 == enough), look
            if found:
                break


@pytest.mark.parametrize("per_minute", [300, 6000, 60_000])
def test_the_simulators_limit_is_found_at_full_load(per_minute: int) -> None:
    server, evidence, rng, now, found = Gcra(per_minute), Evidence(), Random(0), 0.0, set()
    while now < 10:
        for _ in range(rng.randrange(round(per_minute / 60))):
            if server.wait(1, now) == 0:
                server.spend(1, now)
        if (learned := evidence.add(said(server, now), now)) is not None:
            found.add(learned)
        now += 0.25
    assert found == {Learned(per_minute, 60)}


def test_the_daily_bucket_of_the_documentation_is_found() -> None:
    """Limit 10000, remaining 9999, reset 8.64 s: 10,000 a day."""
    assert learn(Bucket(10_000, 86_400), 2, 20) == {Learned(10_000, 86_400)}


def test_whole_seconds_are_enough_for_long_periods() -> None:
    assert learn(Bucket(5000, 3600, whole_seconds=True), 20, 20) == {Learned(5000, 3600)}


@pytest.mark.parametrize("resets", [[1.0], [6.0, 60.0], [0.001, 3600.0]])
def test_a_server_that_always_writes_the_same_is_not_believed(resets: list[float]) -> None:
    evidence = Evidence()
    for look in range(400):
        sample = LimitSample(60, 59 - look % 3, resets[look % len(resets)])
        assert evidence.add(sample, look / 4) is None


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_a_server_that_writes_at_random_is_not_believed(seed: int) -> None:
    rng, evidence = Random(seed), Evidence()
    for look in range(200):
        sample = LimitSample(6000, rng.randrange(6000), round(rng.uniform(0, 100), 3))
        assert evidence.add(sample, look / 4) is None


@settings(deadline=None, max_examples=60)
@given(
    window=st.sampled_from([1.0, 10.0, 60.0, 3600.0, 86_400.0]),
    limit=st.integers(1, 20_000),
    load=st.floats(0.001, 1.5),
    start=st.floats(0, 1),
)
@example(window=60.0, limit=6000, load=0.5, start=0.0)
@example(window=10.0, limit=12, load=0.15, start=0.0)
def test_a_server_that_counts_in_fixed_windows_is_not_believed(
    window: float, limit: int, load: float, start: float
) -> None:
    """All units come back at the window's end: its reset says when, not how full it is."""
    evidence, before = Evidence(), None
    for look in range(400):
        now = start * window + look * 0.25
        into = now % window
        used = min(limit, int(limit * load * into / window) + 1)
        sample = LimitSample(limit, limit - used, round(window - into, 3))
        if sample != before:
            assert evidence.add(sample, now) is None
        before = sample


def test_a_full_bucket_says_nothing_and_does_not_disturb() -> None:
    evidence, bucket = Evidence(), Bucket(6000, 60)
    found = set()
    for look in range(60):
        now = look / 4
        bucket.spend(20 + look % 3, now)
        assert evidence.add(LimitSample(6000, 6000, 0.0), now) is None
        if (learned := evidence.add(bucket.sample(now), now)) is not None:
            found.add(learned)
    assert found == {Learned(6000, 60)}


def test_a_limit_that_changes_is_followed() -> None:
    evidence = Evidence()
    for limit, period in ((6000, 60.0), (3000, 60.0), (9000, 60.0), (9000, 3600.0), (900, 10.0)):
        assert Learned(limit, period) in learn(
            Bucket(limit, period), 0.9 * limit / min(period, 60.0), evidence=evidence
        )
