"""Who waits for slots uses little of its rate, who waits for its rate uses few slots: nobody is held to either.

A closed loop: workers with rows enough, which send as fast as their rate and their slots allow, and say which of them
held them back, four times a second.
"""

from random import Random

import pytest

from rowmill.core.counts import ProviderReport
from rowmill.core.leases import Lease, Share
from rowmill.flow.leases.allocator import LeaseAllocator
from rowmill.flow.leases.capacity import Capacity
from rowmill.flow.leases.lease import ClientLease

TICK_S = 0.25


class Mill:
    """Workers at one provider, each of whose replies takes so many seconds."""

    def __init__(self, rate: float, reply_s: list[float], in_flight: int) -> None:
        self.now = 0.0
        self.allocator = LeaseAllocator(0, Random(1))
        self.reply_s = reply_s
        self.clients: list[ClientLease] = []
        self.leases: list[Lease] = []
        self.credit: list[float] = []
        self.used: list[float] = []
        self.whole = Capacity(in_flight=in_flight, ceiling=1024, requests=Share(rate, rate / 4))
        self.allocator.set_capacity(self.whole, self.now)

    def join(self) -> None:
        number = len(self.clients)
        self.clients.append(ClientLease())
        self.credit.append(0.0)
        self.used.append(0.0)
        self.leases.append(Lease(0, 0, 0.0, 0))
        self.allocator.join(number, self.now)
        self.told()

    def allow(self, in_flight: int) -> None:
        self.whole = Capacity(in_flight=in_flight, ceiling=1024, requests=self.whole.requests)
        self.allocator.set_capacity(self.whole, self.now)
        self.told()

    def told(self) -> None:
        for _ in range(20):
            leases = self.allocator.renew(self.now)
            for number, lease in leases:
                assert lease.requests is not None
                self.leases[number] = lease
                self.credit[number] = min(self.credit[number] + lease.requests.credit, lease.requests.burst)
                self.allocator.acknowledge(number, lease.serial, self.clients[number].apply(lease, self.now), self.now)
        assert not leases, "it comes to rest"

    def run(self, seconds: float) -> None:
        """Let everyone send for so long."""
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            for number, lease in enumerate(self.leases):
                assert lease.requests is not None
                by_rate = self.credit[number] + lease.requests.rate * TICK_S
                by_slots = lease.in_flight / self.reply_s[number] * TICK_S
                sent = min(by_rate, by_slots)
                self.credit[number] = min(by_rate - sent, lease.requests.burst)
                self.used[number] = sent / TICK_S
                report = ProviderReport(
                    in_flight=round(self.used[number] * self.reply_s[number]),
                    wants_rate=by_rate < by_slots,
                    wants_slots=by_slots < by_rate,
                )
                self.allocator.report(number, report, (self.used[number], 0.0), self.now)
            self.told()


def test_who_had_hardly_a_slot_has_its_fair_share_as_soon_as_there_are_slots() -> None:
    """As a run begins that knows nothing of its provider: with two slots a worker, and the last has just come up."""
    mill = Mill(1000.0, [0.2] * 4, in_flight=8)
    for _ in range(3):
        mill.join()
    mill.run(2.0)
    mill.join()
    mill.allow(320)
    mill.run(1.0)
    assert mill.used == pytest.approx([250.0] * 4, rel=0.25)
    assert sum(mill.used) >= 980.0


@pytest.mark.parametrize(
    ("reply_s", "in_flight"), [([0.2] * 4, 323), ([0.2] * 4, 210), ([0.1, 0.1, 0.3, 0.3], 260), ([0.5] * 16, 600)]
)
def test_a_rate_is_used_up_by_all_whatever_held_them_back_before(reply_s: list[float], in_flight: int) -> None:
    """One was alone at first and has nearly all; the next have a rate, and no slots, or slots, and no rate."""
    mill = Mill(1000.0, reply_s, in_flight)
    mill.join()
    mill.run(3.0)
    for _ in reply_s[1:]:
        mill.join()
        mill.run(TICK_S)
    total = fair = 0.0
    mill.run(4.0)
    for _ in range(20):
        mill.run(TICK_S)
        total += sum(mill.used) / 20
        fair += min(mill.used) / 20
    assert total >= 980.0
    assert fair >= 0.8 * 1000.0 / len(reply_s)


def test_one_that_waits_for_slots_it_cannot_have_takes_no_rate_from_one_that_could_use_it() -> None:
    """Ten slots for replies of a second are ten requests a second: all else is the other's."""
    mill = Mill(100.0, [0.01, 4.0], in_flight=40)
    mill.join()
    mill.join()
    mill.run(8.0)
    assert sum(mill.used) >= 97.0  # a quarter more than it uses stays with the other
