"""The number in flight, against simulated servers: what it finds, how soon, and what it never does."""

import heapq
from collections import deque
from math import exp, log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.flow.concurrency.control import Concurrency

TICK_S = 0.25
SIGMA = 0.3
TIMEOUT_S = 2.0


class Queueing:
    """K parallel slots and a queue without bound: vLLM, llama.cpp. `slots` may change at any time."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._working = 0
        self._queue: deque[float] = deque()

    def arrive(self, now: float) -> list[float]:
        """Return when each request that begins now was sent."""
        self._queue.append(now)
        return self._begin()

    def leave(self) -> list[float]:
        self._working -= 1
        return self._begin()

    def _begin(self) -> list[float]:
        begun = []
        while self._queue and self._working < self.slots:
            self._working += 1
            begun.append(self._queue.popleft())
        return begun


class Simulation:
    """A closed loop: rows without end, sent as fast as the limit in force allows, against one server.

    The limit comes into force `lease_s` after it was set; what happened is reported four times a second.
    """

    def __init__(self, concurrency: Concurrency, *, median_s: float, sigma: float = SIGMA, seed: int = 0) -> None:
        self.concurrency = concurrency
        self.rng = Random(seed)
        self.sigma = sigma
        self.mu = log(median_s)
        self.now = 0.0
        self.lease_s = 0.0
        self.queueing: Queueing | None = None
        self.knee: float | None = None
        self.refuses_above: int | None = None  # in flight
        self.resets = 0.0  # share of requests
        self.errors = 0.0  # likewise, refused at once
        self.hangs = 0.0  # likewise, lost after `TIMEOUT_S`
        self.rate: float | None = None  # paced to so many a second
        self.in_flight = 0
        self.most = 0
        self.lost = 0
        self.replies: list[float] = []  # when
        self.limits: list[tuple[float, int]] = []
        self._heap: list[tuple[float, int, str, float]] = []
        self._serial = 0
        self._answered = self._lost = 0
        self._reply_s = 0.0
        self._in_force = concurrency.limit
        self._credit_at = 0.0
        self._paced = False
        self._short = False
        self._push(TICK_S, "tick")

    @property
    def mean_s(self) -> float:
        return exp(self.mu + self.sigma**2 / 2)

    def run(self, until: float) -> "Simulation":
        self._send()
        while self._heap and self._heap[0][0] <= until:
            self.now, _, kind, sent = heapq.heappop(self._heap)
            if kind == "tick":
                self._tick()
            elif kind == "lease":
                self._in_force = int(sent)
            elif kind != "send":
                self._back(kind, sent)
            self._send()
        self.now = until
        return self

    def goodput(self, start: float, end: float) -> float:
        return sum(start <= at < end for at in self.replies) / (end - start)

    def _push(self, at: float, kind: str, sent: float = 0.0) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (at, self._serial, kind, sent))

    def _send(self) -> None:
        while self.in_flight < self._in_force:
            if self.rate is not None:
                if self._credit_at > self.now:
                    if not self._paced or self._short:
                        self._push(self._credit_at, "send")
                    self._paced = True
                    self._short = False
                    return
                self._credit_at = max(self._credit_at, self.now - 0.25) + 1 / self.rate
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            self._serve()
        self._short = True

    def _serve(self) -> None:
        fate = self.rng.random() if self.errors or self.hangs else 1.0
        if fate < self.errors:
            self._push(self.now + 0.002, "lost", self.now)
        elif fate < self.errors + self.hangs:
            self._push(self.now + TIMEOUT_S, "lost", self.now)
        elif self.refuses_above is not None and self.in_flight > self.refuses_above:
            self._push(self.now + 0.02, "lost", self.now)
        elif self.rng.random() < self.resets:
            self._push(self.now + self.rng.random() * self.mean_s, "lost", self.now)
        elif self.queueing is not None:
            self._begun(self.queueing.arrive(self.now))
        else:
            crowd = 1.0 if self.knee is None else max(1.0, self.in_flight / self.knee) ** 2
            self._push(self.now + crowd * self.rng.lognormvariate(self.mu, self.sigma), "reply", self.now)

    def _begun(self, sent: list[float]) -> None:
        for at in sent:
            self._push(self.now + self.rng.lognormvariate(self.mu, self.sigma), "reply", at)

    def _back(self, kind: str, sent: float) -> None:
        self.in_flight -= 1
        if kind == "lost":
            self._lost += 1
            self.lost += 1
            return
        self._answered += 1
        self._reply_s += self.now - sent
        self.replies.append(self.now)
        if self.queueing is not None:
            self._begun(self.queueing.leave())

    def _tick(self) -> None:
        self.concurrency.update(
            self.now,
            answered=self._answered,
            lost=self._lost,
            reply_s=self._reply_s,
            in_flight=self.in_flight,
            busy=self._short and self.in_flight >= 0.8 * self._in_force,
            paced=self._paced,
        )
        self._answered = self._lost = 0
        self._reply_s = 0.0
        self._paced = False
        limit = self.concurrency.limit
        self.limits.append((self.now, limit))
        self._push(self.now + self.lease_s, "lease", limit)
        self._push(self.now + TICK_S, "tick")


def simulation(*, median_s: float, seed: int = 0, sigma: float = SIGMA, ceiling: int | None = None) -> Simulation:
    """Return a simulation of a number that is found; with a ceiling, of one that is given."""
    concurrency = Concurrency(auto=ceiling is None, ceiling=ceiling or 4000, now=0.0)
    return Simulation(concurrency, median_s=median_s, sigma=sigma, seed=seed)


# Servers that queue and never refuse


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("slots", "median_s"), [(4, 0.02), (4, 3.0), (10, 0.2), (50, 0.2), (50, 3.0), (100, 0.2), (200, 0.2), (200, 3.0)]
)
def test_full_slots_are_found_and_their_queue_stays_short(slots: int, median_s: float, seed: int) -> None:
    run = simulation(median_s=median_s, seed=seed)
    run.queueing = Queueing(slots)
    best = slots / run.mean_s
    soon, window = max(10.0, 25 * run.mean_s), max(1.0, 3 * run.mean_s)
    later = max(12.0, 40 * run.mean_s)
    end = later + max(8.0, 25 * run.mean_s)
    run.run(end)
    assert run.most < 3 * slots
    assert max(run.goodput(at, at + window) for at in (soon - window, soon - window / 2, soon)) >= 0.88 * best
    assert run.goodput(later, end) >= (0.9 if slots > 4 else 0.75) * best


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slots", [50, 200])
def test_lengths_that_vary_widely_do_not_mislead(slots: int, seed: int) -> None:
    run = simulation(median_s=0.2, sigma=0.8, seed=seed)
    run.queueing = Queueing(slots)
    run.run(30.0)
    assert run.most < 3 * slots
    assert run.goodput(18.0, 30.0) >= 0.9 * slots / run.mean_s


def test_replies_that_all_take_equally_long_come_in_waves_and_do_not_mislead() -> None:
    run = simulation(median_s=0.2, sigma=0.0)
    run.queueing = Queueing(50)
    run.run(20.0)
    assert run.most < 150
    assert run.goodput(8.0, 20.0) >= 0.9 * 50 / run.mean_s


@pytest.mark.parametrize("seed", range(3))
def test_leases_that_take_a_second_to_arrive_only_slow_the_search(seed: int) -> None:
    run = simulation(median_s=0.2, seed=seed)
    run.queueing = Queueing(100)
    run.lease_s = 1.0
    run.run(25.0)
    assert run.most < 300
    assert run.goodput(12.0, 25.0) >= 0.9 * 100 / run.mean_s


@pytest.mark.parametrize("seed", range(3))
def test_the_number_follows_a_server_that_doubles_and_halves(seed: int) -> None:
    run = simulation(median_s=0.2, seed=seed)
    run.queueing = Queueing(50)
    run.run(30.0)
    run.queueing.slots = 100
    run.run(85.0)
    assert run.goodput(75.0, 85.0) >= 0.9 * 100 / run.mean_s
    run.queueing.slots = 50
    run.run(115.0)
    assert run.goodput(95.0, 115.0) >= 0.9 * 50 / run.mean_s
    assert all(limit < 90 for at, limit in run.limits if at >= 105.0)


def test_output_that_grows_longer_over_the_run_is_no_overload() -> None:
    run = simulation(median_s=0.2)
    run.queueing = Queueing(50)
    run.run(15.0)
    for second in range(15, 60):
        run.mu += log(3.0) / 45
        run.run(float(second))
    assert run.goodput(50.0, 59.0) >= 0.85 * 50 / run.mean_s
    assert all(40 <= limit < 100 for at, limit in run.limits if at > 15.0)


# Servers that grow slow under load


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("knee", "median_s"), [(4, 0.02), (10, 0.02), (50, 0.2), (100, 0.2), (200, 0.2), (200, 3.0)])
def test_the_top_of_a_knee_is_found(knee: int, median_s: float, seed: int) -> None:
    run = simulation(median_s=median_s, seed=seed)
    run.knee = knee
    later = max(15.0, 60 * run.mean_s)
    end = later + max(12.0, 30 * run.mean_s)
    run.run(end)
    assert run.most < 3 * knee
    assert run.goodput(later, end) >= 0.88 * knee / run.mean_s


# Losses


@pytest.mark.parametrize("ceiling", [None, 50])
@pytest.mark.parametrize("seed", range(3))
def test_one_percent_of_random_faults_is_no_overload(seed: int, ceiling: int | None) -> None:
    run = simulation(median_s=0.2, seed=seed, ceiling=ceiling)
    run.queueing = Queueing(50)
    run.resets = 0.01
    run.run(30.0)
    assert run.lost > 30
    assert run.goodput(10.0, 30.0) >= 0.9 * 50 / run.mean_s
    assert min(limit for at, limit in run.limits if at > 10.0) >= 38


@pytest.mark.parametrize(
    ("errors", "hangs", "resets"),
    [
        (0.02, 0.0, 0.0),
        (0.05, 0.0, 0.0),
        (0.0, 0.02, 0.0),
        (0.0, 0.05, 0.0),
        (0.0, 0.0, 0.05),
        (0.02, 0.01, 0.01),
        (0.1, 0.05, 0.05),
    ],
)
@pytest.mark.parametrize("auto", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_faults_at_random_do_not_lower_the_number(
    seed: int, auto: bool, errors: float, hangs: float, resets: float
) -> None:
    run = simulation(median_s=0.25, seed=seed, ceiling=None if auto else 64)
    run.errors, run.hangs, run.resets = errors, hangs, resets
    if auto:
        run.queueing = Queueing(64)
    run.run(60.0)
    # What 64 in flight bring, or 64 slots that are never idle: then only the replies take their time.
    quick = errors + hangs
    held_s = (1 - quick) * run.mean_s * (1 - resets / 2) + hangs * TIMEOUT_S
    best = 64 / run.mean_s if auto else 64 / held_s * (1 - quick) * (1 - resets)
    assert run.goodput(30.0, 60.0) >= 0.9 * best


@pytest.mark.parametrize(("slots", "median_s", "sigma"), [(64, 0.25, 1.0), (500, 0.25, SIGMA), (64, 3.0, SIGMA)])
def test_faults_at_random_are_told_apart_by_servers_of_any_size_and_speed(
    slots: int, median_s: float, sigma: float
) -> None:
    run = simulation(median_s=median_s, sigma=sigma, ceiling=slots)
    run.errors = 0.04
    run.run(60.0)
    assert run.goodput(30.0, 60.0) >= 0.9 * slots / run.mean_s


@pytest.mark.parametrize("ceiling", [None, 200])
@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_refuses_above_a_number_and_at_random_is_used_up_to_it(seed: int, ceiling: int | None) -> None:
    run = simulation(median_s=0.2, seed=seed, ceiling=ceiling)
    run.refuses_above = 50
    run.errors = 0.03
    run.run(60.0)
    assert run.goodput(20.0, 60.0) >= 0.65 * 50 / run.mean_s
    assert all(limit < 75 for at, limit in run.limits if at > 20.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_loses_half_its_room_is_found_although_it_fails_at_random_too(seed: int) -> None:
    run = simulation(median_s=0.2, seed=seed, ceiling=100)
    run.refuses_above = 100
    run.errors = 0.04
    run.run(30.0)
    assert run.goodput(20.0, 30.0) >= 0.9 * 100 / run.mean_s
    run.refuses_above = 50
    run.run(60.0)
    assert all(limit < 75 for at, limit in run.limits if at > 40.0)
    assert run.goodput(40.0, 60.0) >= 0.85 * 50 / run.mean_s


@pytest.mark.parametrize("ceiling", [None, 200])
@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_refuses_above_a_number_is_used_up_to_it(seed: int, ceiling: int | None) -> None:
    run = simulation(median_s=0.2, seed=seed, ceiling=ceiling)
    run.refuses_above = 50
    run.run(40.0)
    assert run.goodput(10.0, 40.0) >= 0.9 * 50 / run.mean_s
    assert all(limit < 75 for at, limit in run.limits if at > 10.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_paced_provider_gets_its_rate_and_not_ever_more_slots(seed: int) -> None:
    run = simulation(median_s=0.2, seed=seed)
    run.rate = 200.0
    run.run(30.0)
    assert run.goodput(10.0, 30.0) >= 0.98 * 200
    assert run.concurrency.limit < 3 * 200 * run.mean_s


class Feed:
    """Tells a Concurrency, four times a second, of a provider with so many slots in use that answers within 100 ms."""

    def __init__(self, concurrency: Concurrency) -> None:
        self.concurrency = concurrency
        self.now = 0.0

    def tick(self, times: int = 1, *, lost: int = 0, busy: bool = True, paced: bool = False) -> None:
        for _ in range(times):
            self.now += TICK_S
            limit = self.concurrency.limit
            answered = round(limit * TICK_S / 0.1)
            self.concurrency.update(
                self.now,
                answered=answered,
                lost=lost,
                reply_s=answered * 0.1,
                in_flight=limit,
                busy=busy,
                paced=paced,
            )


def given_number(ceiling: int) -> Feed:
    return Feed(Concurrency(auto=False, ceiling=ceiling, now=0.0))


def test_a_burst_of_losses_shrinks_once() -> None:
    feed = given_number(100)
    feed.tick(8)
    feed.tick(2, lost=40)  # the second comes within what was in flight at the first
    assert feed.concurrency.limit == 70
    feed.tick(2, lost=40)
    assert feed.concurrency.limit == 49


def test_losses_never_shrink_below_the_floor() -> None:
    feed = Feed(Concurrency(auto=False, ceiling=100, floor=3, now=0.0))
    feed.tick(100, lost=40)
    assert feed.concurrency.limit == 3


def test_a_number_that_was_given_comes_back_after_losses_and_is_never_exceeded() -> None:
    feed = given_number(100)
    feed.tick(8)
    feed.tick(lost=40)
    assert feed.concurrency.limit == 70
    feed.tick(12)
    assert feed.concurrency.limit >= 93
    feed.tick(60)
    assert feed.concurrency.limit == 100


def test_nothing_grows_while_the_slots_are_not_what_limits() -> None:
    feed = given_number(100)
    feed.tick(8)
    feed.tick(lost=40)
    feed.tick(100, busy=False)
    feed.tick(100, busy=False, paced=True)
    assert feed.concurrency.limit == 70


@pytest.mark.parametrize("paced", [False, True])
def test_the_search_takes_no_step_while_the_slots_are_not_in_use(paced: bool) -> None:
    feed = Feed(Concurrency(auto=True, ceiling=100, now=0.0))
    feed.tick(200, busy=False, paced=paced)
    assert feed.concurrency.limit == 8


def test_headroom_is_added_where_rate_and_slots_bind_in_turn_but_not_without_end() -> None:
    feed = Feed(Concurrency(auto=True, ceiling=1000, now=0.0))
    for tick in range(400):
        feed.tick(busy=tick % 2 == 0, paced=tick % 2 == 1)
    assert feed.concurrency.limit == 12


# Gradual release


def test_a_release_doubles_from_little_back_to_the_limit() -> None:
    concurrency = Concurrency(auto=False, ceiling=160, now=0.0)
    concurrency.pause(10.0)
    assert repr(concurrency) == "<160 of 160: slow start>"
    concurrency.restart(20.0, over_s=4.0)
    assert repr(concurrency) == "<10 of 160: ramp>"
    seen = [concurrency.limit]
    for tick in range(1, 17):
        concurrency.update(20.0 + tick / 4, answered=9, lost=0, reply_s=1.0, in_flight=seen[-1], busy=True, paced=False)
        seen.append(concurrency.limit)
    assert seen[::4] == [10, 20, 40, 80, 160]
    assert seen == sorted(seen)


def test_a_pause_of_milliseconds_has_no_ramp() -> None:
    concurrency = Concurrency(auto=False, ceiling=160, now=0.0)
    concurrency.restart(1.0, over_s=0.2)
    assert concurrency.limit == 160


def test_losses_during_a_release_end_it_where_it_is() -> None:
    feed = given_number(160)
    feed.tick(4)
    feed.concurrency.restart(feed.now, over_s=4.0)
    feed.tick(8)
    reached = feed.concurrency.limit
    assert reached < 80
    feed.tick(lost=60)
    assert feed.concurrency.limit < reached
    feed.tick(40)
    assert feed.concurrency.limit >= 148


def test_nothing_is_concluded_from_a_release() -> None:
    run = simulation(median_s=0.2)
    run.queueing = Queueing(50)
    run.run(20.0)
    found = run.concurrency.limit
    for start in range(20, 32, 4):
        run.concurrency.restart(float(start), over_s=4.0)
        run.run(start + 4.0)
    assert run.concurrency.limit == pytest.approx(found, rel=0.3)


# Ceilings


def test_a_given_number_follows_its_ceiling() -> None:
    concurrency = Concurrency(auto=False, ceiling=100, now=0.0)
    concurrency.set_ceiling(10)
    assert concurrency.limit == 10
    concurrency.set_ceiling(100)
    assert concurrency.limit == 100


def test_a_found_number_stays_below_a_lowered_ceiling() -> None:
    run = simulation(median_s=0.2)
    run.queueing = Queueing(50)
    run.run(10.0)
    run.concurrency.set_ceiling(20)
    run.run(20.0)
    assert all(limit <= 20 for at, limit in run.limits if at > 10.0)
    assert run.concurrency.limit >= 16


updates = st.tuples(
    st.just("update"), st.integers(0, 500), st.integers(0, 100), st.floats(0.001, 5.0), st.booleans(), st.booleans()
)
pauses = st.tuples(st.just("pause"))
restarts = st.tuples(st.just("restart"), st.floats(0, 10))
ceilings = st.tuples(st.just("ceiling"), st.integers(1, 2000))


@given(auto=st.booleans(), floor=st.integers(1, 20), calls=st.lists(updates | pauses | restarts | ceilings))
def test_whatever_is_told_the_limit_stays_between_its_bounds(
    auto: bool, floor: int, calls: list[tuple[object, ...]]
) -> None:
    ceiling = 1000
    concurrency = Concurrency(auto=auto, ceiling=ceiling, floor=floor, now=0.0)
    now = 0.0
    for call in calls:
        now += TICK_S
        match call:
            case ("update", int(answered), int(lost), float(mean_s), bool(busy), bool(paced)):
                concurrency.update(
                    now,
                    answered=answered,
                    lost=lost,
                    reply_s=answered * mean_s,
                    in_flight=concurrency.limit,
                    busy=busy,
                    paced=paced,
                )
            case ("pause",):
                concurrency.pause(now)
            case ("restart", float(over_s)):
                concurrency.restart(now, over_s)
            case ("ceiling", int(changed)):
                ceiling = changed
                concurrency.set_ceiling(ceiling)
        assert min(floor, 2) <= concurrency.limit <= max(floor, ceiling)
