"""The moment to go over to the live API: not so late that it has no time, and not so early that batches have none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.config import ProviderConfig
from rowmill.flow.deadline import cancel_seconds, live_seconds, switches_at

HOUR, DAY = 3600.0, 86_400.0


def provider(**more: float) -> ProviderConfig:
    return ProviderConfig(**more)  # type: ignore[arg-type]  # numbers only


def test_the_limits_tell_how_long_the_live_api_takes() -> None:
    one = provider(requests_per_minute=600.0)
    assert live_seconds(6000, 0, [one], DAY) == pytest.approx(600 * 1.25 + 10)
    assert live_seconds(6000, 0, [one, one], DAY) == pytest.approx(300 * 1.25 + 10)
    assert live_seconds(6000, 0, [one, provider(requests_per_minute=600.0, weight=0.0)], DAY) == pytest.approx(760)


def test_the_limit_that_is_met_first_counts() -> None:
    both = provider(requests_per_minute=600.0, tokens_per_minute=60_000.0)
    assert live_seconds(6000, 6000 * 100, [both], DAY) == pytest.approx(600 * 1.25 + 10)
    assert live_seconds(6000, 6000 * 200, [both], DAY) == pytest.approx(1200 * 1.25 + 10)
    assert live_seconds(6000, 6000 * 200, [provider(tokens_per_minute=60_000.0)], DAY) == pytest.approx(1510)
    assert live_seconds(6000, 0, [both], DAY) == pytest.approx(760)


def test_without_limits_a_quarter_of_the_whole_time_is_kept() -> None:
    assert live_seconds(1, 1, [provider(requests_per_minute=600.0), provider()], DAY) == DAY / 4


def test_where_nothing_is_left_there_is_nothing_to_go_over_for() -> None:
    assert live_seconds(0, 0, [provider()], DAY) == 0.0
    assert switches_at(1e9, DAY, 0.0) == 1e9


def test_cancelled_batches_are_waited_for_ten_minutes_or_less() -> None:
    assert cancel_seconds(DAY) == 600.0
    assert cancel_seconds(HOUR) == 180.0


def test_the_moment_is_what_the_live_api_takes_and_the_cancelling_before_the_deadline() -> None:
    assert switches_at(1e9, DAY, 2 * HOUR) == 1e9 - 2 * HOUR - 600


def test_where_the_live_api_is_too_slow_batches_have_the_first_half_all_the_same() -> None:
    """Else a run that is too large for live requests would go over to them at once, and miss its deadline."""
    assert switches_at(1e9, DAY, 40 * HOUR) == 1e9 - DAY / 2 - 600


@given(st.floats(1, 1e6), st.floats(0, 1e9), st.floats(1, 1e5), st.floats(60, 10 * DAY), st.floats(0, 1))
def test_the_more_has_come_back_the_later_it_is(
    requests: float, tokens: float, per_minute: float, whole_s: float, part: float
) -> None:
    providers = [provider(requests_per_minute=per_minute, tokens_per_minute=100 * per_minute)]
    all_s = live_seconds(requests, tokens, providers, whole_s)
    some_s = live_seconds(requests * part, tokens * part, providers, whole_s)
    first, later = switches_at(1e9, whole_s, all_s), switches_at(1e9, whole_s, some_s)
    assert later >= first - 1e-3
    # There is time for both kinds, whatever there is to do.
    assert 1e9 - whole_s + whole_s * 0.44 <= first <= 1e9
    assert first <= 1e9 - min(all_s, whole_s / 2) - cancel_seconds(whole_s) + 1e-3
