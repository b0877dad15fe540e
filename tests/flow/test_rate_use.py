"""Whether a rate is what limits, and how many requests in flight use it up."""

from typing import Any

from rowmill.core.config import ProviderConfig
from rowmill.core.counts import ProviderReport
from rowmill.flow import rate_use
from rowmill.flow.limits.provider_limits import ProviderLimits
from rowmill.flow.traffic import Traffic


def limited(**limits: Any) -> ProviderLimits:
    return ProviderLimits(ProviderConfig(name="main", base_url="http://127.0.0.1:1/v1", **limits), 0.0)


def test_a_rate_limits_where_rows_wait_for_it_and_it_is_used_up() -> None:
    limits = limited(requests_per_minute=600)
    for wants_rate, requests, expected in ((True, 20, True), (False, 20, False), (True, 10, False)):
        traffic = Traffic(0.0)
        traffic.report(0, ProviderReport(requests=requests, wants_rate=wants_rate))
        assert rate_use.limits(limits, traffic, 2.0) is expected
        assert not rate_use.limits(limited(), traffic, 2.0)


def test_what_uses_a_rate_up_is_told_by_how_long_replies_take_once_there_were_a_few() -> None:
    sums = ProviderReport(requests=10, answered=10, tokens=1000, reply_s=20.0)
    assert rate_use.needed(limited(requests_per_minute=600), sums, 0.0) == 10 * 2 * 1.5
    assert rate_use.needed(limited(requests_per_minute=600, tokens_per_minute=6000), sums, 0.0) == 1 * 2 * 1.5
    assert rate_use.needed(limited(), sums, 0.0) == 0
    assert rate_use.needed(limited(requests_per_minute=600), ProviderReport(answered=3, reply_s=6.0), 0.0) == 0
