"""What a provider lets through: configured, learned, and what its refusals leave of it."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.config import ProviderConfig
from rowmill.core.leases import LimitSample, Share
from rowmill.flow.limits.provider_limits import ProviderLimits, burst
from rowmill.simulator.limits import Gcra
from tests.flow.limits.provider_model import Model, between, said


def limits(**configured: Any) -> ProviderLimits:
    return ProviderLimits(ProviderConfig(**configured), 0.0)


def teach(learner: ProviderLimits, server: Gcra, now: float, seconds: float = 10.0, *, tokens: bool = False) -> float:
    """Let a server be used at nine tenths, and tell what its headers say."""
    rng, end = Random(1), now + seconds
    while now < end:
        now += 0.25
        cost = server.per_minute / 60 * 0.25 * rng.uniform(0.5, 1.3)
        server.spend(cost, now)
        sample = said(server, now)
        learner.sample(None if tokens else sample, sample if tokens else None, now)
    return now


# Configured


def test_without_any_limit_there_is_nothing_to_pace() -> None:
    free = limits()
    assert free.requests(1.0) is None
    assert free.tokens(1.0) is None
    assert free.largest is None


def test_a_configured_limit_is_cut_into_rate_and_a_quarter_seconds_burst() -> None:
    known = limits(requests_per_minute=6000, tokens_per_minute=120_000)
    assert known.requests(1.0) == Share(100.0, 25.0)
    assert known.tokens(1.0) == Share(2000.0, 500.0)
    assert known.largest == 120_000


@settings(deadline=None)
@given(st.floats(1e-6, 1e7))
def test_the_burst_is_within_what_the_design_allows(rate: float) -> None:
    at_once = burst(rate)
    assert 1 <= at_once <= max(1.0, rate)
    assert at_once >= min(2.0, rate)


def test_no_request_may_be_larger_than_the_smallest_of_the_token_limits() -> None:
    assert limits(tokens_per_minute=1000, tokens_per_day=500).largest == 500


# Days


def test_the_days_budget_counts_beside_the_minutes() -> None:
    both = limits(requests_per_minute=6000, requests_per_day=1000)
    first = both.requests(0.0)
    assert first is not None
    assert first.rate == 100
    both.spent(900, 0, 1.0)
    later = both.requests(1.0)
    assert later is not None
    assert later.rate == pytest.approx(100 / 9, rel=0.01)
    both.spent(100, 0, 1.0)
    none = both.requests(1.0)
    assert none is not None
    assert none.rate < 1e-3


def test_earlier_sessions_are_debited() -> None:
    resumed = limits(requests_per_day=86_400, tokens_per_day=1_000_000)
    resumed.spent_before(86_000, 999_000, seconds_ago=100.0)
    share = resumed.requests(0.0)
    assert share is not None
    assert share.rate == pytest.approx(1 + 500 / 9, rel=0.01)  # one a second came back since


@settings(deadline=None, max_examples=20)
@given(per_day=st.integers(10, 4000), per_minute=st.floats(600, 60_000))
def test_a_days_budget_is_never_exceeded_and_used_to_the_end(per_day: int, per_minute: float) -> None:
    model = Model(limits(requests_per_minute=per_minute, requests_per_day=per_day), Gcra(1e9))
    until = per_day / per_minute * 60 + 70
    model.run(until)
    assert per_day * 0.99 - 1 <= len(model.sent) <= per_day * (1 + until / 86_400)


def test_headers_say_how_much_of_the_day_is_left() -> None:
    """The day's bucket of the documentation: 10,000 a day under the name "requests"."""
    model = Model(limits(), Gcra(10_000 / 1440), headers=True, unpaced=50)
    model.server.burst = 10_000
    model.server.spend(7000, 0.0)
    model.server.per_minute = 10_000  # what the headers call the limit; its period is a day
    model.run(160)
    assert model.news == ["learned from the server's headers: 10,000 requests a day"]
    assert len(model.refused) == 0
    assert 2970 <= len(model.taken) <= 3020


# Headers


def test_a_limit_that_nobody_configured_is_learned_and_said_once() -> None:
    free = limits()
    teach(free, Gcra(6000), 0.0, 30)
    assert free.requests(30.0) == Share(100.0, 25.0)
    assert free.learned() == ["learned from the server's headers: 6,000 requests a minute"]
    assert free.learned() == []
    assert free.tokens(30.0) is None


def test_learned_tokens_bound_the_largest_request() -> None:
    free = limits(tokens_per_minute=1_000_000)
    teach(free, Gcra(90_000), 0.0, tokens=True)
    assert free.largest == 90_000
    assert free.learned() == ["learned from the server's headers: 90,000 tokens a minute"]


def test_a_configured_limit_below_the_servers_stays() -> None:
    known = limits(requests_per_minute=600)
    teach(known, Gcra(6000), 0.0)
    assert known.requests(10.0) == Share(10.0, 2.5)
    assert known.learned() == []


def test_a_learned_limit_follows_the_server_down_and_up_again() -> None:
    known = limits(requests_per_minute=6000)
    now = teach(known, Gcra(3000), 0.0)
    assert known.requests(now) == Share(50.0, 12.5)
    now = teach(known, Gcra(1200), now)
    assert known.requests(now) == Share(20.0, 5.0)
    now = teach(known, Gcra(4800), now)
    assert known.requests(now) == Share(80.0, 20.0)
    now = teach(known, Gcra(12_000), now)
    assert known.requests(now) == Share(100.0, 25.0)
    assert known.learned() == [
        "learned from the server's headers: 3,000 requests a minute",
        "learned from the server's headers: 1,200 requests a minute",
        "learned from the server's headers: 4,800 requests a minute",
        "the server's headers allow more again: 6,000 requests a minute, as configured",
    ]


LIES: dict[str, Callable[[Random], LimitSample]] = {
    "always the same": lambda _rng: LimitSample(60, 59, 1.0),
    "always empty": lambda _rng: LimitSample(6000, 0, 60.0),
    "always full": lambda _rng: LimitSample(60, 60, 0.0),
    "at random": lambda rng: LimitSample(rng.randrange(1, 1000), 0, rng.uniform(0, 100)),
    "remaining at random": lambda rng: LimitSample(1000, rng.randrange(1000), 30.0),
    "reset at random": lambda rng: LimitSample(1000, 500, rng.uniform(0, 1e6)),
    "two limits by turns": lambda rng: LimitSample(*rng.choice([(60, 50, 10.0), (6000, 5900, 1.0)])),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_make_no_sense_together_change_nothing(lie: str) -> None:
    known, rng = limits(requests_per_minute=6000), Random(1)
    for look in range(1000):
        known.spent(25, 0, look / 4)
        known.sample(LIES[lie](rng), LIES[lie](rng), look / 4)
    assert known.requests(250.0) == Share(100.0, 25.0)
    assert known.tokens(250.0) is None
    assert known.learned() == []


def test_a_sample_that_workers_repeat_is_no_evidence() -> None:
    free = limits()
    server, now = Gcra(6000), 0.0
    samples = []
    for spent in (20, 3, 30):
        server.spend(spent, now)
        samples.append(said(server, now))
        now += 0.05
    for look in range(400):
        free.sample(samples[look % 3], None, now + look / 12)
    assert free.requests(now + 40) is None


# Refusals


@pytest.mark.parametrize("per_s", [2, 5, 20, 100])
def test_a_limit_that_nobody_tells_is_used_nine_tenths_with_few_refusals(per_s: int) -> None:
    model = Model(limits(), Gcra(per_s * 60), unpaced=4 * per_s)
    model.run(180)
    assert model.rate_taken(30, 180) >= 0.95 * per_s
    assert model.share_refused(30, 180) < 0.03
    assert len(model.news) == 1


def test_a_limit_that_is_configured_twice_too_high_is_corrected_by_the_headers() -> None:
    model = Model(limits(requests_per_minute=12_000), Gcra(6000), headers=True)
    model.run(60)
    assert "learned from the server's headers: 6,000 requests a minute" in model.news
    assert between(model.refused, 15, 60) == 0
    assert model.rate_taken(15, 60) >= 99


def test_a_limit_that_is_configured_right_is_used_whole_without_refusals() -> None:
    model = Model(limits(requests_per_minute=6000), Gcra(6000), headers=True)
    model.run(60)
    assert model.refused == []
    assert model.rate_taken(1, 60) >= 99


def test_stray_refusals_cost_nothing() -> None:
    known = limits(requests_per_minute=60_000)
    for tick in range(400):
        known.spent(250, 0, tick / 4, refused=int(tick % 10 == 5))
        if tick % 10 == 5:  # one in 2,500
            known.refused(tick / 4, slow_down=False, requests_per_s=1000.0, tokens_per_s=0.0)
        assert known.requests(tick / 4) == Share(1000.0, 250.0)
    assert known.learned() == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stray", [0.02, 0.05])
def test_strays_while_a_run_still_grows_hold_it_to_nothing(stray: float, seed: int) -> None:
    """They came when little was sent: a limit made of them was a tenth of what is let through, for a minute."""
    model = Model(
        limits(), Gcra(600_000), demand=lambda now: min(500, 20 * 2 ** (now / 1.5)), unpaced=500, stray=stray, seed=seed
    )
    model.run(60)
    assert model.rate_taken(30, 60) > 450


def test_a_limit_that_is_met_while_a_run_still_grows_is_kept() -> None:
    model = Model(limits(), Gcra(60 * 60), demand=lambda now: min(500, 20 * 2 ** (now / 1.5)), unpaced=500)
    model.run(90)
    assert model.rate_taken(20, 90) > 54
    assert model.share_refused(20, 90) < 0.05


def refused_of(known: ProviderLimits, sent: int, refused: int, now: float) -> float | None:
    """Send so many in ten seconds, a part of which is refused in the middle of them; return the rate afterwards."""
    for second in range(10):
        now += 1.0
        known.spent(sent // 10, 0, now, refused=refused if second == 4 else 0)
        if second == 4 and refused:
            known.refused(now, slow_down=False, requests_per_s=sent / 10, tokens_per_s=0.0)
    share = known.requests(now)
    return None if share is None else share.rate


@pytest.mark.parametrize(
    ("sent", "refused", "lowers"),
    [
        (1000, 5, False),  # a small part
        (1000, 30, True),
        (40, 1, False),  # a large part, but so few of many
        (40, 2, False),
        (40, 4, True),
        (20, 2, True),  # and of few
    ],
)
def test_without_a_ceiling_a_few_refusals_are_stray(sent: int, refused: int, lowers: bool) -> None:
    free = limits()
    rate = refused_of(free, sent, refused, 0.0)
    assert (rate is not None) == lowers
    assert bool(free.learned()) == lowers


@pytest.mark.parametrize(("sent", "refused", "lowers"), [(1000, 1, False), (1000, 5, True), (100, 2, True)])
def test_with_a_ceiling_only_one_in_hundreds_is_stray(sent: int, refused: int, lowers: bool) -> None:
    """Against the same ceiling without any refusal."""
    rates = []
    for strays in (0, refused):
        free = limits()
        assert refused_of(free, sent, sent // 10, 0.0) is not None
        refused_of(free, sent, 0, 10.0)
        rates.append(refused_of(free, sent, strays, 20.0))
    assert (rates[0] != rates[1]) == lowers


def held_to_a_crawl(refused: int) -> ProviderLimits:
    """Return limits with a ceiling from a time in which each of so many refusals a second held everybody."""
    known, now = limits(), 0.0
    known.spent(0, 0, now)
    for _ in range(10):
        now += 1.0
        known.refused(now, slow_down=False, requests_per_s=40.0, tokens_per_s=0.0)
        known.holds()
        known.spent(40 + refused, 0, now, refused=refused)
        known.requests(now + 0.35)
    assert known.requests(now) is not None
    return known


def test_a_ceiling_from_waits_that_held_everybody_goes_once_refusals_stand_alone() -> None:
    known = held_to_a_crawl(2)
    known.stands_alone()
    assert known.requests(10.0) is None


def test_a_ceiling_stays_where_more_is_refused_than_stands_alone() -> None:
    known = held_to_a_crawl(8)
    known.stands_alone()
    assert known.requests(10.0) is not None


def test_refusals_that_hold_everybody_pace_by_themselves_until_they_are_many() -> None:
    known, now = limits(), 0.0
    known.spent(0, 0, now)
    seen = []
    for _ in range(9):
        now += 1.0
        known.refused(now, slow_down=False, requests_per_s=20.0, tokens_per_s=0.0)
        known.holds()
        known.spent(40, 0, now, refused=2)
        seen.append(known.requests(now + 0.35) is not None)
    assert seen == [False] * 4 + [True] * 5


def test_refusals_of_tokens_lower_the_tokens() -> None:
    known = limits(requests_per_minute=6000, tokens_per_minute=60_000)
    now = 0.0
    for _ in range(28):  # 10 requests of 100 tokens a second: all of the tokens, a tenth of the requests
        now += 0.25
        known.spent(5 if now % 0.5 else 0, 250, now, refused=int(5 < now <= 6.5))
        if 5 < now <= 6.5:
            known.refused(now, slow_down=False, requests_per_s=9.0, tokens_per_s=900.0)
    tokens, requests = known.tokens(now), known.requests(now)
    assert tokens is not None
    assert requests is not None
    assert tokens.rate < 900
    assert requests.rate == 100


def test_refusals_count_although_nothing_was_told_of_what_was_sent() -> None:
    free = limits()
    for look in range(8):
        free.refused(look / 4, slow_down=False, requests_per_s=50.0, tokens_per_s=0.0)
    share = free.requests(2.0)
    assert share is not None
    assert 40 <= share.rate <= 50


def test_a_refusal_is_judged_once_it_is_known_what_was_sent() -> None:
    free = limits()
    free.refused(0.1, slow_down=False, requests_per_s=0.0, tokens_per_s=0.0)
    free.spent(0, 0, 0.5)
    assert free.requests(0.5) is None
    free.spent(60, 0, 1.0, refused=3)
    share = free.requests(1.0)
    assert share is not None
    assert share.rate > 30


# slow_down


def test_slow_down_halves_the_rate_once_and_lets_it_grow_by_half_in_a_quarter_of_an_hour() -> None:
    model = Model(limits(requests_per_minute=6000), Gcra(12_000), slow_down=lambda now: 20 < now < 20.3)
    model.run(60)
    assert model.rate_taken(10, 20) == pytest.approx(100, rel=0.02)
    assert model.rate_taken(25, 60) == pytest.approx(50, rel=0.05)
    assert model.news == ["the provider asks to slow down: half the rate, growing by half in 15 minutes"]
    later = model.limits.requests(20 + 900)
    assert later is not None
    assert later.rate == pytest.approx(75, rel=0.05)


def test_slow_down_ends_at_the_known_limit() -> None:
    known = limits(requests_per_minute=6000)
    known.spent(25, 0, 0.25)
    known.refused(0.25, slow_down=True, requests_per_s=100.0, tokens_per_s=0.0)
    for now in range(1, 3000):
        known.spent(100, 0, float(now))
    assert known.requests(3000.0) == Share(100.0, 25.0)
