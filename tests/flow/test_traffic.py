"""What the reports of all workers come to, over their ends and over time."""

from rowmill.core.counts import ProviderReport
from rowmill.flow.traffic import Traffic


def test_sums_outlive_the_workers_and_what_is_so_now_does_not() -> None:
    traffic = Traffic(0.0)
    assert repr(traffic) == "<workers []: 0 requests, 0 in flight>"
    assert not traffic.heard
    assert traffic.report(1, ProviderReport(requests=5, in_flight=3, wants_rate=True)) == ProviderReport()
    traffic.report(2, ProviderReport(requests=7, in_flight=2, wants_slots=True))
    assert traffic.report(1, ProviderReport(requests=9, in_flight=4, wants_rate=True)).requests == 5
    assert repr(traffic) == "<workers [1, 2]: 16 requests, 6 in flight>"
    assert (traffic.wants_rate, traffic.wants_slots) == (True, True)
    traffic.leave(1)
    traffic.leave(1)
    assert repr(traffic) == "<workers [2]: 16 requests, 2 in flight>"
    assert (traffic.wants_rate, traffic.wants_slots) == (False, True)
    traffic.report(3, ProviderReport(requests=1))
    assert traffic.total.requests == 17


def test_a_rate_is_that_of_the_last_two_seconds() -> None:
    traffic = Traffic(0.0)
    for tick in range(1, 41):  # ten a second for five seconds, then thirty
        now = tick / 4
        traffic.report(1, ProviderReport(answered=round(10 * now if now <= 5 else 30 * now - 100)))
        traffic.remember(now)
        if now == 5.0:
            assert traffic.rate("answered", now) == 10
    assert traffic.rate("answered", 10.0) == 30
    assert traffic.rate("requests", 10.0) == 0


def test_at_the_start_a_few_replies_are_no_high_rate() -> None:
    traffic = Traffic(0.0)
    traffic.report(1, ProviderReport(answered=4))
    assert traffic.rate("answered", 0.1) == 4, "as if a second had passed"
