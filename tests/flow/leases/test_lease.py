"""The worker's end: nothing is sent that the lease does not allow, at any time, and credit goes back with it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.leases import Lease, Share
from rowmill.flow.leases.bucket import Bucket
from rowmill.flow.leases.lease import ClientLease


def lease(
    serial: int = 1,
    *,
    expires: float = 3.0,
    in_flight: int = 4,
    requests: Share | None = None,
    tokens: Share | None = None,
    largest: float | None = None,
    paused_until: float = 0.0,
    closed: bool = False,
) -> Lease:
    return Lease(0, serial, expires, in_flight, requests, tokens, largest, paused_until, closed)


def test_without_a_lease_nothing_may_be_sent() -> None:
    client = ClientLease()
    assert client.ready_at(1, 0.0) == math.inf
    assert client.allowed == 0
    assert not client.limited


def test_without_a_limit_everything_goes_until_the_lease_expires() -> None:
    client = ClientLease()
    assert client.apply(lease(), 0.0) == (0.0, 0.0)
    assert not client.limited
    for _ in range(3):
        assert client.ready_at(10**9, 2.999) <= 2.999
        client.spend(10**9, 2.999)
        client.settle(10, 10**9, 2.999)
    assert client.ready_at(1, 3.0) == math.inf


def test_a_closed_lease_and_one_without_slots_allow_nothing() -> None:
    client = ClientLease()
    client.apply(lease(closed=True), 0.0)
    assert (client.closed, client.allowed, client.ready_at(1, 0.0)) == (True, 0, math.inf)
    client.apply(lease(2, in_flight=0), 0.0)
    assert (client.closed, client.allowed, client.ready_at(1, 0.0)) == (False, 0, math.inf)
    client.apply(lease(3), 0.0)
    assert client.ready_at(1, 0.0) <= 0.0


def test_an_older_lease_changes_nothing() -> None:
    client = ClientLease()
    client.apply(lease(5, requests=Share(10.0, 5.0, 3.0)), 0.0)
    assert client.apply(lease(5, in_flight=9), 0.0) == (0.0, 0.0)
    assert client.apply(lease(4, expires=9.0, requests=Share(0.0, 0.0)), 0.0) == (0.0, 0.0)
    assert (client.serial, client.allowed, client.expires) == (5, 4, 3.0)
    assert repr(client) == "<lease 5 to 3: 4 slots, requests <10/s, burst 5, credit 3 at 0>, tokens None>"
    assert client.ready_at(1, 0.0) <= 0.0


def test_the_longest_of_pause_and_both_budgets_counts() -> None:
    client = ClientLease()
    client.apply(lease(requests=Share(10.0, 5.0), tokens=Share(100.0, 50.0)), 0.0)
    assert client.limited
    assert client.ready_at(1, 0.0) == pytest.approx(0.1)
    assert client.ready_at(40, 0.0) == pytest.approx(0.4)
    client.pause(2.0)
    assert client.ready_at(40, 0.0) == 2.0


def test_an_own_pause_is_not_shortened_by_a_lease_and_a_leases_own_is() -> None:
    client = ClientLease()
    client.pause(2.0)
    client.apply(lease(paused_until=0.5), 0.0)
    assert client.ready_at(1, 0.0) == 2.0
    client.pause(1.0)
    assert client.ready_at(1, 0.0) == 2.0
    client.apply(lease(2, paused_until=2.5), 0.0)
    assert client.ready_at(1, 0.0) == 2.5
    client.apply(lease(3, paused_until=0.0), 0.0)
    assert client.ready_at(1, 0.0) == 2.0


@settings(deadline=None, max_examples=50)
@given(
    requests_per_s=st.floats(0.1, 1000),
    tokens_per_s=st.floats(10, 1e6),
    costs=st.lists(st.integers(1, 5_000), min_size=1, max_size=40),
)
def test_a_request_is_sent_only_when_both_budgets_allow_it(
    requests_per_s: float, tokens_per_s: float, costs: list[int]
) -> None:
    both = ClientLease()
    both.apply(lease(expires=1e9, requests=Share(requests_per_s, 2.0), tokens=Share(tokens_per_s, 3_000.0)), 0.0)
    requests, tokens = Bucket(requests_per_s, 2.0, 0.0), Bucket(tokens_per_s, 3_000.0, 0.0)
    now = 0.0
    for cost in costs:
        due = both.ready_at(cost, now)
        assert due == max(requests.ready_at(1.0, now), tokens.ready_at(cost, now))
        now = max(due, now)
        both.spend(cost, now)
        requests.spend(1.0, now)
        tokens.spend(cost, now)


def test_what_a_smaller_lease_has_no_room_for_goes_back() -> None:
    client = ClientLease()
    client.apply(lease(requests=Share(10.0, 8.0, 8.0), tokens=Share(100.0, 90.0, 50.0)), 0.0)
    assert client.apply(lease(2, requests=Share(5.0, 3.0), tokens=Share(50.0, 80.0)), 0.0) == (5.0, 0.0)
    client.spend(100, 0.0)
    assert client.apply(lease(3, requests=Share(0.0, 0.0), tokens=Share(0.0, 0.0)), 0.0) == (2.0, -50.0)
    assert client.ready_at(1, 0.0) == math.inf


def test_credit_of_a_lease_that_has_expired_is_gone_and_its_debt_is_not() -> None:
    client = ClientLease()
    client.apply(lease(requests=Share(10.0, 8.0, 8.0), tokens=Share(100.0, 90.0)), 0.0)
    client.spend(500, 0.0)
    client.settle(500, 400, 100.0)  # a late reply: nothing is earned after the end of the lease
    assert client.apply(lease(2, expires=200.0, requests=Share(10.0, 8.0), tokens=Share(100.0, 90.0)), 100.0) == (0, 0)
    assert client.ready_at(1, 100.0) == pytest.approx(101.01), "400 debited, 300 earned in three seconds, 1 to spend"
    client.apply(lease(3, requests=Share(10.0, 8.0)), 100.0)
    assert client.expires == 3.0, "a lease may be over when it comes"
    assert client.ready_at(1, 100.0) == math.inf


def test_a_limit_may_come_and_go() -> None:
    client = ClientLease()
    client.apply(lease(), 0.0)
    client.spend(1000, 0.0)
    client.apply(lease(2, tokens=Share(100.0, 50.0)), 1.0)
    assert client.limited
    assert client.ready_at(10, 1.0) == pytest.approx(1.1), "it opens empty, and owes nothing of before"
    client.spend(1000, 1.1)
    assert client.apply(lease(3), 2.0) == (0.0, 0.0)
    assert not client.limited
    assert client.ready_at(1000, 2.0) <= 2.0


def test_what_the_reply_says_is_what_the_budget_pays_unless_no_minute_can_hold_it() -> None:
    client = ClientLease()
    client.apply(lease(expires=1e9, tokens=Share(10.0, 20.0, 20.0), largest=600.0), 0.0)
    assert client.fits(600)
    assert not client.fits(601)
    client.spend(20, 0.0)
    client.settle(20, 5, 0.0)
    assert client.ready_at(15, 0.0) <= 0.0
    client.settle(20, 10**12, 0.0)
    assert client.ready_at(1, 0.0) == pytest.approx((600 - 20 - 15 + 1) / 10)
    assert ClientLease().fits(10**12)
