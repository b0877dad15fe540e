"""The ceiling of an untold limit: follows what the provider takes, outlives outages, and is not fooled by noise."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.config import ProviderConfig
from rowmill.flow.limits.ceiling import Ceiling
from rowmill.flow.limits.provider_limits import ProviderLimits
from rowmill.flow.limits.slow_down import SlowDown
from rowmill.simulator.limits import Gcra
from tests.flow.limits.provider_model import Model, between


def model(per_s: float, per_minute: float | None = None, **settings: Any) -> Model:
    """Return a provider that takes so many requests a second, says nothing of it, and is sent four times as many."""
    limits = ProviderLimits(ProviderConfig(requests_per_minute=per_minute), 0.0)
    return Model(limits, Gcra(per_s * 60), **{"unpaced": per_s * 4, **settings})


@pytest.mark.parametrize(("before", "after"), [(100, 20), (100, 90), (50, 100), (20, 100)])
def test_a_limit_that_changes_is_followed_within_a_minute_or_so(before: float, after: float) -> None:
    changing = model(before)
    changing.run(60)
    changing.server = Gcra(after * 60)
    changing.run(180)
    assert changing.rate_taken(130, 180) == pytest.approx(after, rel=0.05)
    assert changing.share_refused(130, 180) < 0.05


def test_an_outage_is_not_hammered_and_is_recovered_from() -> None:
    out = model(100, outage=lambda now: 40 < now < 100)
    out.run(200)
    assert between(out.sent, 50, 100) < 60, "a probe every few seconds"
    assert out.rate_taken(160, 180) > 40
    assert out.rate_taken(190, 200) > 90


def test_a_short_outage_costs_little() -> None:
    out = model(100, outage=lambda now: 40 < now < 41)
    out.run(90)
    assert out.rate_taken(40, 90) > 88


def test_a_refused_first_burst_does_not_pin_the_rate_to_the_floor() -> None:
    """As after a restart, when the run before has emptied the bucket."""
    drained = model(100, outage=lambda now: now < 3)
    drained.run(90)
    assert drained.rate_taken(60, 90) > 70


@pytest.mark.parametrize(("share", "least"), [(0.02, 85), (0.05, 85), (0.25, 50)])
def test_refusals_that_come_at_any_rate_do_not_bring_it_down(share: float, least: float) -> None:
    noisy = model(1000, stray=share, per_minute=6000)
    noisy.run(300)
    assert between(noisy.sent, 100, 300) / 200 > least


def test_a_long_reply_time_does_not_matter() -> None:
    slow = model(100, unpaced=150, reply_s=30.0)
    slow.run(120)
    assert slow.rate_taken(20, 120) > 95
    assert slow.share_refused(20, 120) < 0.03


def test_a_few_a_minute_are_not_overrun_for_ever() -> None:
    tiny = model(0.05, unpaced=20)
    tiny.run(1200)
    assert between(tiny.sent, 600, 1200) < 40, "30 are allowed"
    assert between(tiny.taken, 600, 1200) > 12


def test_the_ceiling_goes_away_when_it_holds_nothing_back() -> None:
    idle = model(100, demand=lambda now: 1000.0 if now < 20 else 20.0)
    idle.run(30)
    assert idle.limits.requests(30.0) is not None
    idle.run(120)
    assert idle.limits.requests(120.0) is None


def test_one_burst_is_followed_once() -> None:
    ceiling = Ceiling(1 / 60)
    assert repr(ceiling) == "<none>"
    ceiling.refused(100.0, 200.0, 10.0)
    assert repr(ceiling) == "<from 95 at 10 to 100, noise 0%>"
    first = ceiling.rate(11.0)
    ceiling.refused(80.0, 200.0, 11.0)
    assert ceiling.rate(11.0) == first == pytest.approx(96.4, rel=0.01)


def test_it_comes_back_slowly_and_then_climbs_ever_faster() -> None:
    ceiling = Ceiling(1 / 60)
    ceiling.refused(100.0, 200.0, 0.0)
    rates = [ceiling.rate(float(now)) for now in (0, 10, 20, 30, 50)]
    assert rates == [pytest.approx(rate) for rate in (95, 100, 105, 140, 420)]


refusals = st.lists(
    st.tuples(st.floats(0, 60), st.floats(0, 1e5), st.floats(0, 1)).map(lambda of: (of[0], of[1] * of[2], of[1])),
    max_size=40,
)


@settings(deadline=None)
@given(refusals, st.floats(0, 1e4), st.sampled_from([None, 1.0, 1e3]))
def test_whatever_comes_the_ceiling_is_a_rate_that_can_be_used(
    bursts: list[tuple[float, float, float]], used: float, limit: float | None
) -> None:
    ceiling, slow, now = Ceiling(1 / 60), SlowDown(1 / 60), 0.0
    for gap, taken, sent in bursts:
        now += gap
        ceiling.refused(taken, sent, now)
        slow.said(taken, sent, now)
        for brake in (ceiling, slow):
            rate = brake.rate(now)
            assert rate is None or 1 / 130 <= rate < 1e9
            brake.relax(used, limit, now + gap)
            relaxed = brake.rate(now + gap)
            assert relaxed is None or limit is None or relaxed < limit


def test_slow_down_as_the_first_answer_does_not_end_the_run() -> None:
    slow = SlowDown(1 / 60)
    slow.said(0.0, 64.0, 0.0)
    assert slow.rate(0.0) == 16


def test_slow_down_is_counted_once_for_what_was_in_flight() -> None:
    slow = SlowDown(1 / 60)
    slow.said(100.0, 100.0, 0.0)
    slow.said(90.0, 100.0, 3.0)
    assert slow.rate(3.0) == pytest.approx(50, rel=0.01)
    slow.said(50.0, 60.0, 30.0)
    assert slow.rate(30.0) == pytest.approx(25, rel=0.02)


@settings(deadline=None)
@given(st.floats(0, 1e5), st.floats(0, 5000))
def test_after_slow_down_no_quarter_of_an_hour_grows_by_more_than_half(taken: float, now: float) -> None:
    slow = SlowDown(1 / 60)
    slow.said(taken, taken, 0.0)
    before, after = slow.rate(now), slow.rate(now + 900)
    assert before is not None
    assert after is not None
    assert after <= before * 1.5 * (1 + 1e-9)
