"""Whole lives of workers of one lease allocator: thousands join, hunger, idle, stop, go on and die, on a moved clock.

The allocator and every worker's `ClientLease` are real; between them lie messages with delays, in order in each
direction. A stopped worker first tries to send, and only then reads what has come meanwhile. The provider is a strict
bucket.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.counts import ProviderReport
from rowmill.core.leases import Lease, Share
from rowmill.flow.leases.allocator import LeaseAllocator
from rowmill.flow.leases.capacity import Capacity
from rowmill.flow.leases.lease import ClientLease
from tests.lives import SHARE, examples

ROUNDING = 1 + 1e-9
REPORT_S = 0.25
LIFE_S = 3.0  # of a lease


@dataclass
class Habits:
    """What happens to the workers of a world, in means of seconds, and what they send."""

    life_s: float = math.inf
    mood_s: float = math.inf  # between changes of appetite
    stop_every_s: float = math.inf
    stop_s: tuple[float, float] = (0.2, 6.0)
    reply_s: tuple[float, float] = (0.01, 0.3)
    slow_message: float = 0.02  # share of the messages that take up to 0.4 s instead of some milliseconds
    cost: Callable[[Random], int] = lambda _: 1
    largest: int = 0  # cost that a worker knows of before it sends anything; 0: it finds out
    moods: Sequence[str] = ("hungry", "hungry", "light", "idle")


class Provider:
    """A strict limit on the whole: a bucket that starts full. Also measures what burst would have been enough."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.level, self.at = rate, burst, burst, 0.0
        self.refused = 0
        self.spent = 0.0
        self.needed = 0.0  # most that any window held above rate * its length
        self._lowest = math.inf

    def charge(self, cost: float, now: float) -> None:
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if min(cost, self.burst) > self.level + 1e-6 * max(1.0, cost):
            self.refused += 1
        else:
            self.level -= cost
        self._lowest = min(self._lowest, self.spent - self.rate * now)
        self.spent += cost
        self.needed = max(self.needed, self.spent - self.rate * now - self._lowest)


@dataclass
class Life:
    """One worker process."""

    number: int
    mood: str
    client: ClientLease = field(default_factory=ClientLease)
    alive: bool = True
    stopped: bool = False
    lease: Lease | None = None
    inbox: deque[Lease] = field(default_factory=deque)
    to_worker: float = 0.0  # when the last message arrives
    to_allocator: float = 0.0
    rows: float = 0.0  # waiting
    cost: int = 1  # of the next row
    in_flight: int = 0
    sent: int = 0
    tokens: int = 0
    largest: int = 0
    wants_rate: bool = False
    wants_slots: bool = False
    alarm: float = math.inf
    # The supervisor's arithmetic of its reports
    seen: tuple[int, int, float] = (0, 0, 0.0)

    def in_force(self, now: float) -> Lease | None:
        return self.lease if self.alive and self.lease is not None and now < self.lease.expires else None


class World:
    """A supervisor, its workers and one provider."""

    def __init__(
        self,
        seed: int,
        habits: Habits,
        *,
        workers: int,
        requests: Share | None = None,
        tokens: Share | None = None,
        in_flight: int = 64,
        server_burst: float = 2.0,
    ) -> None:
        self.random = Random(seed)
        self.habits = habits
        self.now = 0.0
        self.requests, self.tokens, self.in_flight = requests, tokens, in_flight
        self.allocator = LeaseAllocator(0, Random(seed + 1))
        self.servers = [
            None if limit is None else Provider(limit.rate, limit.burst * server_burst) for limit in (requests, tokens)
        ]
        self.lives: dict[int, Life] = {}
        self.born = 0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.samples: list[float] = []  # share of the capacity that is outstanding, while anyone is hungry
        self.on_the_wire = False  # also hold that no more requests are in flight than the capacity
        self.capacities: deque[tuple[float, Share | None, Share | None, int]] = deque()
        self.capacity()
        for _ in range(workers):
            self.birth()
        self.at(0.0, self.tick)
        self.at(1.0, self.sample)

    # The clock

    def at(self, time: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (time, next(self.order), what))

    def run(self, until: float) -> None:
        while self.events and self.events[0][0] <= until:
            self.now, _, what = heapq.heappop(self.events)
            what()
        self.now = until

    def after(self, mean: float, what: Callable[[], None]) -> None:
        if math.isfinite(mean):
            self.at(self.now + self.random.expovariate(1 / mean), what)

    def delay(self) -> float:
        if self.random.random() < self.habits.slow_message:
            return self.random.uniform(0.0, 0.4)
        return self.random.expovariate(1 / 0.003)

    # The supervisor

    def capacity(self) -> None:
        self.capacities.append((self.now, self.requests, self.tokens, self.in_flight))
        whole = Capacity(requests=self.requests, tokens=self.tokens, in_flight=self.in_flight, ceiling=self.in_flight)
        self.allocator.set_capacity(whole, self.now)

    def tick(self) -> None:
        self.renew()
        self.at(self.now + 0.25, self.tick)

    def renew(self) -> None:
        for number, lease in self.allocator.renew(self.now):
            life = self.lives[number]
            life.to_worker = max(life.to_worker, self.now + self.delay())
            self.at(life.to_worker, lambda life=life, lease=lease: self.deliver(life, lease))  # type: ignore[misc]
        self.check()

    def sample(self) -> None:
        self.at(self.now + self.random.uniform(0.0, 0.1), self.sample)
        living = [life for life in self.lives.values() if life.mood == "hungry" and not life.stopped and life.sent]
        if living:
            for holder in self.allocator._holders.values():
                holder.recount(self.now)  # what has expired since is not outstanding
            for limit, out in (
                (self.requests, self.allocator.outstanding_requests),
                (self.tokens, self.allocator.outstanding_tokens),
            ):
                if limit is not None:
                    self.samples += [out[0] / limit.rate, out[1] / limit.burst]

    def check(self) -> None:
        """Hold the promise: called whenever a lease was sent or has come into force.

        After the capacity has shrunk, leases of before may be in force until they expire, and no longer.
        """
        while len(self.capacities) > 1 and self.capacities[1][0] < self.now - LIFE_S:
            self.capacities.popleft()
        leases = [lease for life in self.lives.values() if (lease := life.in_force(self.now)) is not None]
        slots = sum(lease.in_flight for lease in leases)
        assert slots <= self.allocator.outstanding_in_flight <= max(capacity[3] for capacity in self.capacities)
        for limits, out, shares in (
            (
                [each[1] for each in self.capacities],
                self.allocator.outstanding_requests,
                [each.requests for each in leases],
            ),
            (
                [each[2] for each in self.capacities],
                self.allocator.outstanding_tokens,
                [each.tokens for each in leases],
            ),
        ):
            if limits[-1] is not None:
                assert all(shares)
                rates = math.fsum(share.rate for share in shares if share)
                bursts = math.fsum(share.burst for share in shares if share)
                assert rates <= out[0] * ROUNDING
                assert bursts <= out[1] * ROUNDING
                assert out[0] <= max(limit.rate for limit in limits if limit) * ROUNDING
                assert out[1] <= max(limit.burst for limit in limits if limit) * ROUNDING

    # The workers

    def birth(self) -> None:
        life = Life(self.born, self.random.choice(self.habits.moods), cost=self.habits.cost(self.random))
        life.seen = (0, 0, self.now)
        self.born += 1
        self.lives[life.number] = life
        self.allocator.join(life.number, self.now)
        self.at(self.now + self.random.uniform(0.0, REPORT_S), lambda: self.report(life))
        self.after(self.habits.life_s, lambda: self.death(life))
        self.after(self.habits.mood_s, lambda: self.change(life))
        self.after(self.habits.stop_every_s, lambda: self.stop(life))
        self.arrival(life)
        if self.habits.largest:
            self.told(life, ProviderReport(wants_rate=True, wants_slots=True, largest=self.habits.largest))
        self.renew()

    def death(self, life: Life) -> None:
        life.alive = False

        def notice() -> None:
            del self.lives[life.number]
            self.allocator.leave(life.number, self.now)
            self.birth()

        self.at(self.now + self.random.uniform(0.0, 0.05), notice)

    def change(self, life: Life) -> None:
        life.mood = self.random.choice(self.habits.moods)
        life.rows = min(life.rows, 3)
        self.send(life)
        self.after(self.habits.mood_s, lambda: self.change(life))

    def arrival(self, life: Life) -> None:
        """Bring a row to one that has only little to do."""
        if life.mood == "light":
            life.rows += 1
            self.send(life)
        self.after(0.5, lambda: self.arrival(life))

    def stop(self, life: Life) -> None:
        life.stopped = True

        def go_on() -> None:
            life.stopped = False
            self.send(life)
            while life.inbox:
                self.apply(life, life.inbox.popleft())
            self.after(self.habits.stop_every_s, lambda: self.stop(life))

        self.at(self.now + self.random.uniform(*self.habits.stop_s), go_on)

    def deliver(self, life: Life, lease: Lease) -> None:
        if not life.alive:
            return
        if life.stopped:
            life.inbox.append(lease)
        else:
            self.apply(life, lease)

    def apply(self, life: Life, lease: Lease) -> None:
        returned = life.client.apply(lease, self.now)
        life.lease = lease
        self.check()

        def acknowledged() -> None:
            self.allocator.acknowledge(life.number, lease.serial, returned, self.now)
            self.renew()

        life.to_allocator = max(life.to_allocator, self.now + self.delay())
        self.at(life.to_allocator, acknowledged)
        self.send(life)

    def send(self, life: Life) -> None:
        """Send all that the lease allows; then wait for what it is that is missing."""
        while life.alive and not life.stopped and (life.mood == "hungry" or life.rows >= 1):
            life.largest = max(life.largest, life.cost)
            if life.in_flight >= life.client.allowed or self.now >= life.client.expires:
                life.wants_slots = True
                return
            due = life.client.ready_at(life.cost, self.now)
            if due > self.now:
                life.wants_rate = True
                if due < life.alarm or life.alarm <= self.now:
                    life.alarm = due
                    if math.isfinite(due):
                        self.at(due, lambda: self.send(life))
                return
            lease = life.in_force(self.now)
            assert lease is not None, "nothing is sent on a stale lease"
            life.client.spend(life.cost, self.now)
            life.in_flight += 1
            if self.on_the_wire:
                assert sum(each.in_flight for each in self.lives.values()) <= self.in_flight
            life.sent += 1
            life.tokens += life.cost
            life.rows = max(0, life.rows - 1)
            for server, cost in zip(self.servers, (1, life.cost), strict=True):
                if server is not None:
                    server.charge(cost, self.now)
            life.cost = self.habits.cost(self.random)
            self.at(self.now + self.random.uniform(*self.habits.reply_s), lambda: self.answered(life))

    def answered(self, life: Life) -> None:
        life.in_flight -= 1
        self.send(life)

    def report(self, life: Life) -> None:
        if not life.alive:
            return
        self.at(self.now + REPORT_S, lambda: self.report(life))
        if life.stopped:
            return
        self.send(life)
        report = ProviderReport(
            requests=life.sent,
            tokens=life.tokens,
            wants_rate=life.wants_rate,
            wants_slots=life.wants_slots,
            in_flight=life.in_flight,
            largest=max(life.largest, self.habits.largest),
        )
        life.wants_rate = life.wants_slots = False
        life.largest = life.cost if life.mood == "hungry" or life.rows else 0
        life.to_allocator = max(life.to_allocator, self.now + self.delay())
        self.at(life.to_allocator, lambda: self.told(life, report))

    def told(self, life: Life, report: ProviderReport) -> None:
        sent, tokens, at = life.seen
        life.seen = report.requests, report.tokens, self.now
        elapsed = max(0.05, self.now - at)
        used = (report.requests - sent) / elapsed, (report.tokens - tokens) / elapsed
        self.allocator.report(life.number, report, used, self.now)

    # What a test asks

    @property
    def handed_out(self) -> float:
        """Mean share of the capacity that was outstanding while anyone was hungry."""
        return sum(self.samples) / len(self.samples)

    def used(self, seconds: float) -> float:
        """Let it run on; return the share of the scarcer budget that was spent in this time."""
        servers = [server for server in self.servers if server is not None]
        before = [server.spent for server in servers]
        self.run(self.now + seconds)
        return max(
            (server.spent - spent) / (server.rate * seconds) for server, spent in zip(servers, before, strict=True)
        )


def wild(**changes: object) -> Habits:
    """Everything that can happen, often."""
    habits = Habits(life_s=4.0, mood_s=3.0, stop_every_s=10.0)
    return replace(habits, **changes)  # type: ignore[arg-type]  # one for all fields


def heavy_tailed(top: int) -> Callable[[Random], int]:
    """Return costs of a median of 400 tokens, one in a hundred above 4,000."""
    return lambda random: min(top, int(random.lognormvariate(6.0, 1.0)) + 1)


@pytest.mark.parametrize(
    ("workers", "requests", "tokens", "largest", "server_burst"),
    [
        (16, Share(200.0, 50.0), None, 1, 1.0),
        (8, Share(40.0, 10.0), None, 1, 1.0),
        (6, Share(4.0, 2.0), None, 1, 1.0),
        (16, None, Share(50_000.0, 25_000.0), 1_000, 2.0),
        (12, None, Share(20_000.0, 10_000.0), 5_000, 2.0),
        (8, Share(40.0, 10.0), Share(20_000.0, 10_000.0), 2_000, 2.0),
    ],
)
def test_thousands_of_lives_never_hold_more_than_there_is_and_waste_nearly_nothing(
    workers: int, requests: Share | None, tokens: Share | None, largest: int, server_burst: float
) -> None:
    """More than 2,000 lives, where all are tried. The sums are asserted inside, whenever a lease goes out or comes in.

    A strict provider with the very burst of the leases refuses no request; for tokens it has twice the burst, of
    which 1.0 was needed at most: see the next test.
    """
    habits = wild(cost=heavy_tailed(largest), largest=largest)
    world = World(
        workers, habits, workers=workers, requests=requests, tokens=tokens, server_burst=server_burst, in_flight=128
    )
    world.run(SHARE * 1500.0 / workers)
    assert world.born > SHARE * 300
    assert world.handed_out >= 0.97
    for server in world.servers:
        assert server is None or server.refused == 0
    assert world.used(20.0) >= 0.3, "and what is handed out is spent, by those that are not stopped or idle"


@settings(deadline=None, max_examples=examples(8))
@given(
    seed=st.integers(0, 2**32),
    rate=st.floats(500, 50_000),
    burst_s=st.floats(0.1, 1.0),
    top=st.floats(0.01, 6.0),
    stops=st.booleans(),
)
def test_a_strict_provider_of_twice_the_burst_refuses_no_tokens_whatever_they_cost(
    seed: int, rate: float, burst_s: float, top: float, stops: bool
) -> None:
    """`top`: the dearest request in bursts. One that is above the burst waits for all of it and then borrows."""
    largest = max(1, int(top * rate * burst_s))
    habits = Habits(cost=heavy_tailed(largest), largest=largest, moods=("hungry",))
    if stops:
        habits = replace(habits, stop_every_s=10.0, life_s=10.0)
    world = World(seed, habits, workers=5, tokens=Share(rate, rate * burst_s))
    world.run(30.0)
    server = world.servers[1]
    assert server is not None
    assert server.refused == 0
    # The margin that is really needed, where no request costs more than the burst.
    if top <= 0.5:
        assert server.needed <= 1.25 * rate * burst_s


@settings(deadline=None, max_examples=examples(8))
@given(seed=st.integers(0, 2**32), rate=st.floats(0.2, 300), burst_s=st.floats(0.1, 1.0), workers=st.integers(1, 8))
def test_a_provider_as_strict_as_the_leases_refuses_no_request(
    seed: int, rate: float, burst_s: float, workers: int
) -> None:
    habits = Habits(stop_every_s=10.0, life_s=10.0, mood_s=5.0)
    world = World(seed, habits, workers=workers, requests=Share(rate, max(1.0, rate * burst_s)), server_burst=1.0)
    world.run(30.0)
    server = world.servers[0]
    assert server is not None
    assert server.refused == 0


@settings(deadline=None, max_examples=examples(8))
@given(seed=st.integers(0, 2**32), changes=st.lists(st.tuples(st.floats(0.01, 4.0), st.floats(0.1, 3.0)), max_size=30))
def test_sums_hold_when_the_capacity_changes(seed: int, changes: list[tuple[float, float]]) -> None:
    """What was sent of a larger capacity is gone one lease life later, whoever is stopped."""
    world = World(seed, wild(), workers=6, requests=Share(50.0, 12.0), in_flight=24)
    for gap, factor in changes:
        world.run(world.now + gap)
        world.requests = Share(50.0 * factor, 12.0 * factor)
        world.in_flight = int(24 * factor)
        world.capacity()
        world.renew()
    world.run(world.now + 5.0)


@pytest.mark.parametrize("per_second", [4.0, 100.0, 1000.0])
def test_the_last_one_with_work_gets_the_whole_budget(per_second: float) -> None:
    world = World(7, Habits(moods=("hungry",), slow_message=0.0), workers=4, requests=Share(per_second, per_second / 4))
    world.in_flight = 2_000
    world.capacity()
    assert world.used(20.0) >= 0.94, "with all of them hungry, from the empty start on"
    for life in list(world.lives.values())[1:]:
        life.mood = "idle"
    world.run(world.now + 2.6)  # two refreshes, each as late as it may be, after the report
    assert world.allocator.outstanding_requests[0] == pytest.approx(per_second)
    lease = world.lives[0].lease
    assert lease is not None
    assert lease.requests is not None
    assert lease.requests.rate == pytest.approx(per_second)
    assert world.used(20.0) >= 0.95


def test_hungry_workers_with_rows_of_very_different_cost_use_the_token_budget() -> None:
    habits = Habits(moods=("hungry",), slow_message=0.0, cost=heavy_tailed(8_000))
    world = World(3, habits, workers=4, tokens=Share(100_000.0, 25_000.0), in_flight=256)
    world.run(5.0)
    assert world.used(55.0) >= 0.97


def test_slots_move_to_others_only_when_their_requests_are_off_the_wire() -> None:
    """Without deaths and stops the requests in flight never exceed the capacity, not only the leases."""
    habits = Habits(mood_s=2.0, reply_s=(0.1, 3.0), moods=("hungry", "light", "idle"))
    world = World(11, habits, workers=5, in_flight=20)
    world.run(2.0)  # before the first reports the allocator cannot know
    world.on_the_wire = True
    world.run(122.0)
    assert sum(life.sent for life in world.lives.values()) >= 0.5 * 120 * 20 / 1.55, "half of what 20 slots can do"
