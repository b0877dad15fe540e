"""The supervisor's end: who gets what, when it moves, and what becomes of credit and debts.

Most tests use a `Desk`: the allocator and real clients, with messages that arrive at once unless a worker is stopped.
"""

import math
from random import Random
from typing import Any

import msgspec
import pytest

from rowmill.core.counts import ProviderReport
from rowmill.core.leases import Lease, Share
from rowmill.flow.leases.allocator import LeaseAllocator
from rowmill.flow.leases.capacity import Capacity
from rowmill.flow.leases.holder import Allocation
from rowmill.flow.leases.lease import ClientLease
from rowmill.flow.leases.limit_shares import LimitShares


class Desk:
    """An allocator and its workers, on a clock that the tests move. `stopped` workers neither read nor report."""

    def __init__(self, workers: int = 0, **capacity: Any) -> None:
        self.now = 0.0
        self.allocator = LeaseAllocator(3, Random(1))
        self.whole = Capacity(in_flight=40, ceiling=40)
        self.clients: dict[int, ClientLease] = {}
        self.leases: dict[int, list[Lease]] = {}
        self.reports: dict[int, dict[str, Any]] = {}
        self.stopped: set[int] = set()
        self.capacity(**capacity)
        for number in range(workers):
            self.join(number)
        self.settle()

    def capacity(self, **changes: Any) -> None:
        self.whole = msgspec.structs.replace(self.whole, **changes)
        self.allocator.set_capacity(self.whole, self.now)

    def join(self, number: int, **report: Any) -> None:
        self.allocator.join(number, self.now)
        self.clients[number] = ClientLease()
        self.leases[number] = []
        self.reports[number] = report

    def leave(self, number: int) -> None:
        self.allocator.leave(number, self.now)
        del self.clients[number], self.reports[number]

    def reported(self, number: int, *, requests_per_s: float = 0.0, tokens_per_s: float = 0.0, **report: Any) -> None:
        """Let the allocator hear of a worker that has used so much; left out: nothing, and it wants nothing."""
        self.allocator.report(number, ProviderReport(**report), (requests_per_s, tokens_per_s), self.now)

    def says(self, number: int, **report: Any) -> None:
        """From now on its reports say this."""
        self.reports[number] = report

    def hungry(self, *numbers: int, **report: Any) -> None:
        """Let these use all they have and want more, and the others have nothing to do."""
        for number in self.reports:
            self.says(number, **({"wants_rate": True, "wants_slots": True, **report} if number in numbers else {}))

    def renew(self) -> list[int]:
        """Send what there is to send, once; return to whom."""
        sent = []
        for number, lease in self.allocator.renew(self.now):
            assert lease.provider == 3
            assert self.now + 2.0 < lease.expires <= self.now + 3.0
            assert number not in sent
            sent.append(number)
            self.leases[number].append(lease)
        return sent

    def read(self, number: int) -> None:
        """Let a worker read its next lease."""
        for lease in self.leases[number]:
            if lease.serial > self.clients[number].serial:
                self.allocator.acknowledge(number, lease.serial, self.clients[number].apply(lease, self.now), self.now)
                return

    def settle(self) -> int:
        """Let messages go to and fro until there are no more; return how many leases went out."""
        sent = 0
        for _ in range(20):
            numbers = self.renew()
            sent += len(numbers)
            for number in numbers:
                if number not in self.stopped and number in self.clients:
                    self.read(number)
        assert not numbers, "it comes to rest"
        return sent

    def run(self, seconds: float) -> int:
        """Let time pass, with reports and calls four times a second; return how many leases went out."""
        sent = 0
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            for number, report in self.reports.items():
                if number not in self.stopped:
                    shares = self.clients[number]._requests, self.clients[number]._tokens
                    used = {
                        name: share.rate
                        for name, share in zip(("requests_per_s", "tokens_per_s"), shares, strict=True)
                        if share is not None and report.get("wants_rate")
                    }
                    self.reported(number, **(report | used))
            sent += self.settle()
        return sent

    def rates(self) -> list[float]:
        """Return each one's requests a second."""
        return [0.0 if (share := self.leases[n][-1].requests) is None else share.rate for n in self.clients]

    def slots(self) -> list[int]:
        return [self.leases[number][-1].in_flight for number in self.clients]


def share(lease: Lease) -> Share:
    assert lease.requests is not None
    return lease.requests


# Who gets what


def test_without_a_limit_leases_have_no_shares() -> None:
    desk = Desk(2, largest=500.0)
    for number in range(2):
        lease = desk.leases[number][-1]
        assert (lease.requests, lease.tokens, lease.largest) == (None, None, 500.0)
    assert desk.allocator.outstanding_in_flight == 40


def test_all_alike_share_alike() -> None:
    desk = Desk(4, requests=Share(100.0, 20.0), tokens=Share(1000.0, 400.0))
    for lease in (desk.leases[number][-1] for number in range(4)):
        assert lease.requests is not None
        assert lease.tokens is not None
        assert (lease.requests.rate, lease.requests.burst) == pytest.approx((25.0, 5.0))
        assert (lease.tokens.rate, lease.tokens.burst) == pytest.approx((250.0, 100.0))
        assert lease.in_flight == 10


def test_a_hungry_one_gets_the_whole_budget_within_two_refreshes_of_the_others_going_idle() -> None:
    desk = Desk(4, requests=Share(100.0, 20.0))
    desk.hungry(0, 1, 2, 3)
    desk.run(5.0)
    assert desk.rates() == pytest.approx([25.0] * 4)
    desk.hungry(2)
    desk.run(2.0)
    assert desk.rates() == pytest.approx([0.0, 0.0, 100.0, 0.0])
    assert share(desk.leases[2][-1]).burst == pytest.approx(20.0)
    assert desk.slots() == [0, 0, 40, 0]


def test_one_that_wakes_up_has_a_share_at_once_and_a_fair_one_soon() -> None:
    desk = Desk(3, requests=Share(90.0, 30.0))
    desk.hungry(0, 1)
    desk.run(3.0)
    assert desk.rates()[2] == 0.0
    desk.hungry(0, 1, 2)
    desk.run(0.25)
    assert desk.rates()[2] > 5.0
    desk.run(0.25)  # the others' next reports say that nothing of theirs is on the wire
    assert desk.slots()[2] > 0
    desk.run(2.0)
    assert desk.rates() == pytest.approx([30.0] * 3)


def test_one_that_has_enough_keeps_what_it_uses_and_a_little() -> None:
    desk = Desk(2, requests=Share(100.0, 20.0))
    desk.hungry(0)
    desk.says(1, requests_per_s=8.0, in_flight=3)
    desk.run(6.0)
    assert desk.rates()[1] == pytest.approx(8.0 * 1.25, rel=0.1)
    assert sum(desk.rates()) == pytest.approx(100.0)
    assert desk.slots() == [35, 5]


def test_one_that_waited_by_chance_takes_no_fair_share_from_those_that_use_theirs() -> None:
    desk = Desk(2, requests=Share(100.0, 20.0))
    desk.hungry(0)
    desk.says(1, requests_per_s=1.0, in_flight=1)
    desk.run(6.0)
    for _ in range(4):
        desk.reported(1, requests_per_s=1.0, wants_rate=True)
        desk.settle()
        desk.now += 0.25
    assert desk.rates()[1] < 10.0


def test_when_nobody_is_hungry_what_is_left_is_lent_to_all() -> None:
    desk = Desk(4, requests=Share(100.0, 20.0))
    desk.hungry()
    desk.says(1, requests_per_s=20.0, in_flight=1)
    desk.run(6.0)
    assert sum(desk.rates()) == pytest.approx(100.0)
    assert min(desk.rates()) > 15.0
    assert sum(desk.slots()) == 40


def test_of_two_limits_the_one_that_does_not_bind_goes_to_who_can_use_it() -> None:
    """One has rows of many tokens, the other rows of few: together they use up both budgets."""
    desk = Desk(2, requests=Share(100.0, 50.0), tokens=Share(10_000.0, 5_000.0))
    for _ in range(60):
        desk.now += 0.25
        for number, cost in ((0, 1_000.0), (1, 10.0)):
            lease = desk.leases[number][-1]
            assert lease.requests is not None
            assert lease.tokens is not None
            used = min(lease.requests.rate, lease.tokens.rate / cost)
            desk.reported(number, requests_per_s=used, tokens_per_s=used * cost, wants_rate=True, largest=int(cost))
        desk.settle()
    heavy, light = (desk.leases[number][-1] for number in range(2))
    assert share(light).rate > 80.0
    assert heavy.tokens is not None
    assert heavy.tokens.rate > 8_000.0


def test_no_holder_has_more_slots_than_the_ceiling() -> None:
    desk = Desk(3, ceiling=8)
    desk.hungry(0)
    desk.run(2.0)
    assert desk.slots()[0] == 8
    assert max(desk.slots()) == 8


@pytest.mark.parametrize(("in_flight", "slots"), [(3, [1, 1, 1]), (4, [1, 1, 2]), (40, [13, 13, 14])])
def test_everyone_with_work_has_a_slot_where_there_are_enough(in_flight: int, slots: list[int]) -> None:
    desk = Desk(3, in_flight=in_flight)
    desk.hungry(0, 1, 2)
    desk.run(2.0)
    assert sorted(desk.slots()) == slots


def test_a_probe_goes_to_exactly_one_that_has_work_and_nothing_on_the_wire() -> None:
    desk = Desk(4, requests=Share(100.0, 20.0))
    desk.hungry(1, 2, 3, in_flight=5)
    desk.reports[2]["in_flight"] = 0
    desk.run(2.0)
    desk.capacity(in_flight=0)
    desk.run(1.0)
    assert desk.slots() == [0, 0, 0, 0]
    desk.capacity(in_flight=1)
    desk.settle()
    assert desk.slots() == [0, 0, 1, 0]
    assert desk.rates()[2] > 0.0
    assert desk.allocator.outstanding_in_flight == 1


def test_fewer_slots_than_workers_go_round() -> None:
    desk = Desk(4, in_flight=1)
    desk.hungry(0, 1, 2, 3)
    had = set()
    for _ in range(40):
        desk.run(0.25)
        assert sum(desk.slots()) <= 1
        had |= {number for number, slots in enumerate(desk.slots()) if slots}
    assert had == {0, 1, 2, 3}


# Rotation


def test_what_is_too_small_to_be_cut_goes_round_whole() -> None:
    """Room for two: a share lets one request through, or it is none. Everyone has one, for a second at least."""
    desk = Desk(5, requests=Share(4.0, 2.5))
    desk.hungry(0, 1, 2, 3, 4)
    desk.run(1.0)
    kept: dict[int, list[int]] = {number: [0] for number in range(5)}
    for _ in range(80):
        desk.run(0.25)
        assert sum(desk.rates()) == pytest.approx(4.0)
        for number, lease in ((number, desk.leases[number][-1]) for number in range(5)):
            assert share(lease).burst == 0.0 or share(lease).burst >= 1.0
            if share(lease).rate:
                kept[number][-1] += 1
            elif kept[number][-1]:
                kept[number].append(0)
    for quarters in kept.values():
        assert len(quarters) > 2, "a share every few seconds"
        assert min(quarters[1:-1]) >= 4, "of a second at least"


def test_a_request_above_the_token_burst_has_all_of_it() -> None:
    desk = Desk(3, tokens=Share(1000.0, 500.0))
    desk.hungry(0, 1, 2, largest=200)
    desk.run(3.0)
    assert [bool(lease.tokens and lease.tokens.rate) for lease in (desk.leases[n][-1] for n in range(3))].count(
        True
    ) == 2
    desk.reports[1]["largest"] = 2_000
    had = set()
    for _ in range(60):
        desk.run(0.25)
        bursts = [0.0 if (tokens := desk.leases[n][-1].tokens) is None else tokens.burst for n in range(3)]
        if bursts[1]:
            assert bursts == [0.0, pytest.approx(500.0), 0.0]
        had |= {number for number, burst in enumerate(bursts) if burst}
    assert had == {0, 1, 2}


def test_one_that_no_longer_waits_gives_its_share_to_one_that_does() -> None:
    desk = Desk(2, requests=Share(0.01, 1.0))
    desk.hungry(0, 1)
    desk.run(2.0)
    holder = 0 if desk.rates()[0] else 1
    desk.hungry(1 - holder)
    desk.run(2.0)
    assert desk.rates()[1 - holder] == pytest.approx(0.01), "although a share would stay for a hundred seconds"


# Shrink first


def test_nothing_grows_before_the_shrinking_one_has_acknowledged() -> None:
    desk = Desk(1, requests=Share(100.0, 20.0))
    desk.join(1)
    assert repr(desk.allocator) == "<workers [0, 1]: 100 requests/s, 0 tokens/s, 40 of 40 slots, pressing>"
    assert desk.renew() == [1, 0]
    assert repr(desk.allocator) == "<workers [0, 1]: 100 requests/s, 0 tokens/s, 40 of 40 slots>"
    assert share(desk.leases[0][-1]).rate < 100.0
    assert share(desk.leases[1][-1]).rate == 0.0
    assert desk.leases[1][-1].in_flight == 0
    assert desk.allocator.outstanding_requests == (100.0, 20.0)
    desk.read(1)
    assert desk.renew() == []
    desk.read(0)
    assert desk.renew() == [1]
    assert sum(desk.rates()) == pytest.approx(100.0)
    assert desk.allocator.outstanding_requests == pytest.approx((100.0, 20.0))


def test_a_shrink_that_is_never_acknowledged_counts_until_the_old_lease_expires() -> None:
    desk = Desk(1, requests=Share(100.0, 20.0))
    desk.stopped.add(0)
    desk.join(1)
    desk.hungry(1)
    before = desk.leases[0][-1].expires
    while desk.now < before - 0.25:
        desk.run(0.25)
        assert desk.allocator.outstanding_requests == pytest.approx((100.0, 20.0))
        assert share(desk.leases[1][-1]).rate == 0.0
    desk.run(0.5)
    assert share(desk.leases[1][-1]).rate > 0.0
    assert desk.clients[0].ready_at(1, desk.now) == math.inf
    desk.run(1.0)
    assert share(desk.leases[1][-1]).rate == pytest.approx(100.0)


def test_slots_grow_elsewhere_when_the_requests_that_used_them_are_back() -> None:
    desk = Desk(2, in_flight=20)
    desk.hungry(0, in_flight=20)
    desk.run(3.0)
    assert desk.slots() == [20, 0]
    desk.hungry(0, 1)
    desk.reports[0]["in_flight"] = 20
    desk.run(1.5)
    assert desk.slots() == [10, 0]
    desk.reports[0]["in_flight"] = 14
    desk.run(0.5)
    assert desk.slots() == [10, 6]
    desk.reports[0]["in_flight"] = 10
    desk.run(0.5)
    assert desk.slots() == [10, 10]


def test_one_that_has_not_reported_yet_has_nothing_on_the_wire_to_wait_for() -> None:
    desk = Desk(1)
    assert desk.slots() == [40]
    desk.join(1)
    desk.settle()
    assert desk.slots() == [20, 20], "at once, not after its first report"
    assert desk.allocator.outstanding_in_flight == 40


def test_a_smaller_capacity_is_told_at_once_and_a_larger_one_too() -> None:
    desk = Desk(2, requests=Share(100.0, 20.0))
    desk.now += 0.01
    desk.capacity(requests=Share(50.0, 10.0), in_flight=10)
    desk.settle()
    assert desk.rates() == pytest.approx([25.0, 25.0])
    assert desk.slots() == [5, 5]
    assert desk.allocator.outstanding_requests == pytest.approx((50.0, 10.0))
    desk.now += 0.01
    desk.capacity(requests=Share(80.0, 10.0))
    desk.settle()
    assert desk.rates() == pytest.approx([40.0, 40.0])


def test_a_limit_that_appears_is_cut_among_all_and_one_that_goes_is_forgotten() -> None:
    desk = Desk(2)
    desk.capacity(tokens=Share(100.0, 50.0))
    desk.settle()
    assert desk.allocator.outstanding_tokens == pytest.approx((100.0, 50.0))
    desk.capacity(tokens=None)
    desk.settle()
    assert all(desk.leases[number][-1].tokens is None for number in range(2))


def test_a_capacity_that_creeps_makes_no_storm() -> None:
    """A learned limit climbs at every call; leases go out about as often as reports come in."""
    desk = Desk(4, requests=Share(100.0, 20.0))
    desk.hungry(0, 1, 2, 3)
    sent = 0
    for step in range(1000):
        desk.now += 0.01
        if step % 25 == 0:
            sent += desk.run(0.0)
            for number in range(4):
                desk.reported(number, **desk.reports[number])
        desk.capacity(requests=Share(100.0 + step * 0.01, 20.0))
        sent += desk.settle()
    assert sent <= 10 * 4 * 5 * 1.2, "five times a second at most to each of four, over ten seconds"
    assert sum(desk.rates()) == pytest.approx(100.0 + 10.0, rel=0.01)


def test_unchanged_leases_are_renewed_about_once_a_second() -> None:
    desk = Desk(4, requests=Share(100.0, 20.0))
    desk.hungry(0, 1, 2, 3)
    desk.run(3.0)
    assert 32 <= desk.run(10.0) <= 44
    assert desk.renew() == []


# Told to all


@pytest.mark.parametrize(
    "change", [{"paused_until": 9.0}, {"closed": True}, {"largest": 77.0}, {"failing": True}], ids=str
)
def test_what_concerns_everyone_is_told_at_once(change: dict[str, Any]) -> None:
    desk = Desk(3, requests=Share(100.0, 20.0))
    desk.now += 0.1
    desk.capacity(**change)
    assert sorted(desk.renew()) == [0, 1, 2]
    for number in range(3):
        for name, value in change.items():
            assert getattr(desk.leases[number][-1], name) == value
        assert desk.leases[number][-1].in_flight == (0 if "closed" in change else desk.leases[number][0].in_flight)


# Silence and death


def test_a_dead_ones_part_is_free_at_once() -> None:
    desk = Desk(2, requests=Share(100.0, 20.0))
    desk.now += 0.1
    desk.leave(0)
    assert desk.renew() == [1]
    assert desk.rates() == pytest.approx([100.0])
    assert desk.slots() == [40]
    desk.allocator.acknowledge(0, 1, (5.0, 5.0), desk.now)  # its last words
    desk.reported(0)
    assert desk.allocator.outstanding_requests == pytest.approx((100.0, 20.0))


def test_a_silent_one_is_not_renewed_and_its_part_goes_to_others_when_it_expires() -> None:
    desk = Desk(2, requests=Share(100.0, 20.0))
    desk.hungry(0, 1)
    desk.run(3.0)
    desk.stopped.add(0)
    last, count = desk.leases[0][-1].expires, len(desk.leases[0])
    desk.run(0.75)
    while desk.now < last - 0.3:
        desk.run(0.25)
        assert desk.rates()[1] == pytest.approx(50.0)
    assert len(desk.leases[0]) <= count + 1, "at most the one of before its silence was noticed"
    last = desk.leases[0][-1].expires
    while desk.now < last:
        desk.run(0.25)
    desk.run(1.0)
    assert desk.rates()[1] == pytest.approx(100.0)
    assert desk.clients[0].ready_at(1, desk.now) == math.inf
    # It goes on: first with its expired lease, then with what came meanwhile, then it is heard of.
    desk.stopped.clear()
    while desk.clients[0].serial < desk.leases[0][-1].serial:
        desk.read(0)
    assert desk.clients[0].ready_at(1, desk.now) == math.inf
    desk.run(3.0)
    assert desk.rates() == pytest.approx([50.0, 50.0])
    assert desk.clients[0].ready_at(1, desk.now) < math.inf


def test_an_acknowledgement_of_what_was_never_sent_counts_for_nothing() -> None:
    desk = Desk(2, requests=Share(100.0, 20.0))
    before = desk.allocator.outstanding_requests
    desk.allocator.acknowledge(0, 999, (1000.0, 0.0), desk.now)
    assert desk.allocator.outstanding_requests == before
    assert desk.renew() == []


# Credit


def credit_of(desk: Desk) -> float:
    """Return the credit of all clients; debts count below 0."""
    return sum(
        0.0 if client._requests is None else client._requests.credit(desk.now)
        for number, client in desk.clients.items()
        if number not in desk.stopped
    )


def test_the_budget_opens_empty() -> None:
    desk = Desk(3, requests=Share(30.0, 30.0))
    assert credit_of(desk) == 0.0
    desk.now += 0.5
    assert credit_of(desk) == pytest.approx(15.0)


def test_the_pool_has_what_nobody_holds_and_a_debt_that_nobody_can_earn() -> None:
    pool = LimitShares(0.0)
    pool.rate, pool.burst = 100.0, 50.0
    one = Allocation(1.0)
    one.rate, one.burst = 60.0, 20.0
    pool.settle([one], 1.0, credit=12.0)
    assert repr(pool) == "<100/s, burst 50, pool <40/s, burst 30, credit 12 at 1>, owed 0>"
    one.rate, one.burst = 100.0, 50.0
    pool.settle([one], 1.0, credit=-20.0)
    assert repr(pool) == "<100/s, burst 50, pool <0/s, burst 0, credit 0 at 1>, owed 8>"


def test_what_a_shrinking_one_gives_back_comes_out_of_the_pool_again() -> None:
    desk = Desk(2, requests=Share(100.0, 20.0))
    desk.hungry(0, 1)
    desk.run(3.0)
    assert credit_of(desk) == pytest.approx(20.0), "nobody spends, so all buckets are full"
    desk.hungry(1)
    for _ in range(8):
        desk.run(0.25)
        assert credit_of(desk) == pytest.approx(20.0)
    assert desk.clients[1].ready_at(1, desk.now) <= desk.now
    for _ in range(20):
        desk.clients[1].spend(1, desk.now)
    assert desk.clients[1].ready_at(1, desk.now) == pytest.approx(desk.now + 0.01), "the whole burst had moved"


def test_a_debt_that_comes_back_is_paid_by_the_next() -> None:
    desk = Desk(2, tokens=Share(100.0, 50.0))
    desk.hungry(0, largest=50)
    desk.run(3.0)
    desk.clients[0].spend(1050, desk.now)  # the bucket was full: a thousand are owed
    desk.hungry(1, largest=50)
    start = desk.now
    desk.run(2.0)
    earned = 100.0 * (desk.now - start)
    assert desk.clients[0].ready_at(50, desk.now) == math.inf
    assert desk.clients[1].ready_at(50, desk.now) - desk.now == pytest.approx((1000 - earned + 50) / 100, abs=0.1)


def test_the_debt_of_a_dead_one_stays() -> None:
    desk = Desk(2, tokens=Share(100.0, 50.0))
    desk.hungry(0, largest=50)
    desk.run(3.0)
    desk.clients[0].spend(1050, desk.now)
    desk.hungry(1, largest=50)
    desk.run(2.0)  # the allocator has handed the debt on to 1
    left = desk.clients[1].ready_at(50, desk.now) - desk.now
    assert left > 7.0
    desk.join(2)
    desk.leave(1)
    desk.hungry(2, largest=50)
    desk.run(0.5)
    assert desk.clients[2].ready_at(50, desk.now) - desk.now == pytest.approx(left - 0.5, abs=0.1)


def test_one_that_dies_right_after_borrowing_leaves_its_debt() -> None:
    """The allocator has not heard of it, but knows that requests above the burst were sent."""
    desk = Desk(2, tokens=Share(100.0, 50.0))
    desk.hungry(0, largest=400)
    desk.run(3.0)
    desk.clients[0].spend(400, desk.now)
    desk.leave(0)
    desk.hungry(1, largest=400)
    desk.run(0.25)
    assert desk.clients[1].ready_at(50, desk.now) - desk.now == pytest.approx((350 + 50) / 100 - 0.25, abs=0.1)


def test_two_hundred_workers_are_divided_quickly_and_fully() -> None:
    desk = Desk(200, requests=Share(1000.0, 250.0), tokens=Share(1e6, 2.5e5), in_flight=1000, ceiling=64)
    desk.hungry(*range(200))
    desk.run(2.0)
    assert sum(desk.rates()) == pytest.approx(1000.0)
    assert sum(desk.slots()) == 1000
    assert min(desk.rates()) == pytest.approx(5.0)
