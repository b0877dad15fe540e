"""The breaker: its moves one by one, and a simulated outage."""

import heapq
from random import Random

import pytest

from rowmill.flow.breaker import Breaker

TICK_S = 0.25


class Feed:
    """Tells a breaker four times a second what came back."""

    def __init__(self) -> None:
        self.breaker = Breaker(0.0)
        self.now = 0.0

    @property
    def state(self) -> str:
        return self.breaker.state

    @property
    def cap(self) -> int | None:
        return self.breaker.cap(self.now)

    def tick(
        self, times: int = 1, *, answered: int = 0, unhealthy: int = 0, tripped: bool = False, in_flight: int = 0
    ) -> None:
        for _ in range(times):
            self.now += TICK_S
            self.breaker.update(self.now, answered=answered, unhealthy=unhealthy, tripped=tripped, in_flight=in_flight)

    def opened(self, in_flight: int = 0) -> "Feed":
        self.tick(answered=100, in_flight=100)
        self.tick(tripped=True, in_flight=in_flight)
        assert self.state == "open"
        return self

    def probing(self) -> "Feed":
        self.opened().tick(4)
        assert self.state == "probing"
        return self

    def half_open(self) -> "Feed":
        self.probing().tick(3, answered=1)
        assert self.state == "half-open"
        return self


# When it opens


@pytest.mark.parametrize(
    ("answered", "unhealthy", "opens"),
    [
        (0, 19, False),
        (0, 20, True),
        (1, 40, False),
        (19, 30, False),
        (20, 30, True),
        (21, 30, False),
        (400, 599, False),
    ],
)
def test_it_opens_when_most_of_enough_results_are_unhealthy(answered: int, unhealthy: int, opens: bool) -> None:
    feed = Feed()
    feed.tick(answered=answered, unhealthy=unhealthy)
    assert (feed.state == "open") is opens
    assert feed.breaker.opened == opens


def test_results_of_more_than_five_seconds_ago_count_no_more() -> None:
    feed = Feed()
    feed.tick(answered=200)
    feed.tick(19)
    feed.tick(unhealthy=60)
    assert feed.state == "closed"
    feed.tick(2)
    assert feed.state == "open"


def test_a_worker_that_tripped_opens_it_at_once() -> None:
    feed = Feed()
    assert repr(feed.breaker) == "<closed, opened 0 times, 0 hanging>"
    feed.tick(answered=1000, tripped=True)
    assert repr(feed.breaker) == "<open, opened 1 times, 0 hanging>"
    assert feed.cap == 0


def test_a_worker_that_still_says_that_it_tripped_does_not_open_it_again() -> None:
    feed = Feed()
    feed.tick(answered=100, in_flight=1)
    feed.tick(5, tripped=True)
    feed.tick(3, answered=1, tripped=True)
    feed.tick(2, answered=4, tripped=True)
    assert feed.state == "closed"
    feed.tick(8, answered=10, tripped=True)
    assert feed.breaker.opened == 1


# Open and probing


def test_nothing_is_sent_during_the_cooldown_and_then_one_probe() -> None:
    feed = Feed().opened()
    feed.tick(3)
    assert feed.cap == 0
    feed.tick()
    assert feed.state == "probing"
    assert feed.cap == 1


def test_valid_replies_from_before_the_opening_are_no_probes() -> None:
    feed = Feed().opened(in_flight=40)
    for left in range(35, 0, -5):
        feed.tick(answered=5, in_flight=left)
        assert feed.cap == 0
    feed.tick(answered=5, in_flight=0)
    assert feed.state == "probing"
    assert feed.cap == 1


def test_failures_from_before_the_opening_are_no_unhealthy_probes() -> None:
    feed = Feed().opened(in_flight=40)
    for left in range(35, -1, -5):
        feed.tick(unhealthy=5, in_flight=left)
    assert feed.breaker.opened == 1
    assert feed.state == "probing"
    assert feed.cap == 1
    feed.tick(unhealthy=1)
    assert feed.state == "open"


def test_requests_that_hang_do_not_hold_up_the_probes_and_do_not_count_when_they_end() -> None:
    feed = Feed().opened(in_flight=40)
    feed.tick(4, in_flight=40)
    assert feed.state == "probing"
    assert feed.cap == 41
    feed.tick(unhealthy=10, in_flight=31)  # ten deadlines; the probe is on its way
    assert feed.state == "probing"
    assert feed.cap == 31
    feed.tick(answered=1, in_flight=30)
    feed.tick(answered=2, in_flight=30)
    assert feed.state == "half-open"
    assert feed.cap == 34


def test_an_unhealthy_probe_lengthens_the_cooldown_up_to_its_limit() -> None:
    feed = Feed().probing()
    cooldowns = []
    for _ in range(6):
        feed.tick(unhealthy=1)
        assert feed.cap == 0
        start = feed.now
        while feed.state == "open":
            feed.tick()
        cooldowns.append(feed.now - start)
    assert cooldowns == [1.5, 2.25, 3.5, 4.0, 4.0, 4.0]


def test_three_valid_replies_in_a_row_end_the_probing() -> None:
    feed = Feed().probing()
    feed.tick(2, answered=1)
    assert feed.state == "probing"
    feed.tick(answered=1)
    assert feed.state == "half-open"


def test_a_probe_that_hangs_is_followed_by_another_one() -> None:
    feed = Feed().probing()
    feed.tick(16, in_flight=1)
    assert feed.cap == 2
    feed.tick(3, answered=1, in_flight=1)
    assert feed.state == "half-open"


# Half-open


def test_the_number_in_flight_doubles_every_half_second_until_it_is_what_it_was() -> None:
    feed = Feed().half_open()
    caps = []
    while feed.state == "half-open":
        caps.append(feed.cap)
        feed.tick(answered=5)
    assert caps == [4, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64]
    assert feed.cap is None


def test_nothing_doubles_before_the_first_valid_reply() -> None:
    feed = Feed().half_open()
    feed.tick(20, in_flight=4)
    assert feed.cap == 4


def test_too_many_unhealthy_results_open_it_again_for_longer() -> None:
    feed = Feed().half_open()
    feed.tick(answered=11)
    feed.tick(unhealthy=3)
    assert feed.state == "open"
    assert feed.breaker.opened == 2
    feed.tick(5)
    assert feed.state == "open"
    feed.tick()
    assert feed.state == "probing"


def test_a_few_random_faults_are_no_relapse() -> None:
    feed = Feed().half_open()
    feed.tick(answered=2, unhealthy=2)
    feed.tick(40, answered=20, unhealthy=1)
    assert feed.state == "closed"
    assert feed.breaker.opened == 1


def test_what_was_in_flight_before_may_be_set() -> None:
    feed = Feed().half_open()
    feed.breaker.healthy = 6
    feed.tick(2, answered=4)
    assert feed.cap == 4
    feed.tick(answered=4)
    assert feed.state == "closed"


# Closed again


@pytest.mark.parametrize(("well_s", "cooldown_s"), [(2.0, 1.5), (12.0, 1.0)])
def test_a_relapse_soon_after_closing_goes_on_from_the_last_cooldown(well_s: float, cooldown_s: float) -> None:
    feed = Feed().half_open()
    while feed.state != "closed":
        feed.tick(answered=5)
    feed.tick(int(well_s / TICK_S), answered=5)
    feed.tick(unhealthy=400)
    start = feed.now
    while feed.state == "open":
        feed.tick()
    assert feed.now - start == cooldown_s


def test_moves_that_the_table_does_not_have_raise() -> None:
    breaker = Breaker(0.0)
    with pytest.raises(ValueError, match="closed does not become half-open"):
        breaker._move("half-open", 1.0)


# An outage


class Outage:
    """Rows without end to a provider that is down between two times; the breaker is told four times a second.

    Four workers trip by themselves as the real ones do, after 20 unhealthy results in a row, and go on when the breaker
    has seen it. While it is not closed, one unhealthy result is enough to make them wait for the next lease.
    """

    SLOTS = 40

    def __init__(
        self, *, reply_s: float, down: tuple[float, float], failure_s: float, faults: float, seed: int
    ) -> None:
        self.reply_s, self.failure_s = reply_s, failure_s
        self.start, self.end = down
        self.faults = faults
        self.rng = Random(seed)
        self.breaker = Breaker(0.0)
        self.sent: list[float] = []
        self.replies: list[float] = []
        self.states: list[tuple[float, str]] = []
        self.in_flight = 0
        self._serial = 0
        self._heap: list[tuple[float, int, str]] = [(TICK_S, 0, "tick")]
        self._answered = self._unhealthy = 0
        self._streaks = [0] * 4
        self._tripped = [False] * 4
        self._waiting = False
        self._limit = self.SLOTS

    def run(self, until: float) -> None:
        now = 0.0
        self._send(now)
        while self._heap[0][0] < until:
            now, _, kind = heapq.heappop(self._heap)
            if kind == "tick":
                self._tick(now)
            else:
                self._back(now, valid=kind == "valid")
            self._send(now)

    def rate(self, start: float, end: float) -> float:
        return sum(start <= at < end for at in self.replies) / (end - start)

    def _push(self, at: float, kind: str) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (at, self._serial, kind))

    def _send(self, now: float) -> None:
        while self.in_flight < self._limit and not all(self._tripped) and not self._waiting:
            self.in_flight += 1
            self.sent.append(now)
            if self.start <= now < self.end:
                self._push(now + self.failure_s, "unhealthy")
            elif self.rng.random() < self.faults:
                self._push(now + self.reply_s / 2, "unhealthy")
            else:
                self._push(now + self.rng.lognormvariate(0.0, 0.3) * self.reply_s, "valid")

    def _back(self, now: float, *, valid: bool) -> None:
        self.in_flight -= 1
        worker = self.rng.randrange(4)
        if valid:
            self._answered += 1
            self.replies.append(now)
            self._streaks[worker] = 0
        else:
            self._unhealthy += 1
            self._streaks[worker] += 1
            if self.breaker.state != "closed":
                self._waiting = True
            elif self._streaks[worker] >= 20:
                self._tripped[worker] = True

    def _tick(self, now: float) -> None:
        self.breaker.update(
            now,
            answered=self._answered,
            unhealthy=self._unhealthy,
            tripped=any(self._tripped),
            in_flight=self.in_flight,
        )
        self._answered = self._unhealthy = 0
        if self.breaker.state != "closed":
            self._tripped = [False] * 4
            self._streaks = [0] * 4
        self.states.append((now, self.breaker.state))
        cap = self.breaker.cap(now)
        self._limit = self.SLOTS if cap is None else min(self.SLOTS, cap)
        self._waiting = False
        self._push(now + TICK_S, "tick")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("reply_s", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("failure_s", [0.002, 0.3])
def test_an_outage_of_a_minute_costs_few_requests_and_ends_soon_after_it(
    reply_s: float, failure_s: float, seed: int
) -> None:
    outage = Outage(reply_s=reply_s, down=(20.0, 80.0), failure_s=failure_s, faults=0.01, seed=seed)
    outage.run(110.0)
    well = outage.rate(5.0, 20.0)
    assert sum(20.0 <= at < 30.0 for at in outage.sent) <= 12 * outage.SLOTS  # until it opens, and the first probes
    assert sum(30.0 <= at < 80.0 for at in outage.sent) <= 15
    back = next(at for at, state in outage.states if at > 30.0 and state == "half-open")
    assert back <= 80.0 + 4.0 + 3 * 1.5 * (reply_s + TICK_S) + 2 * TICK_S
    assert outage.rate(95.0, 110.0) >= 0.9 * well
    assert all(state == "closed" for at, state in outage.states if at >= 95.0)
    assert not [at for at, state in outage.states if at > back and state == "open"]
    assert outage.breaker.opened == 1


def test_a_provider_that_hangs_is_probed_although_nothing_comes_back() -> None:
    outage = Outage(reply_s=0.05, down=(20.0, 80.0), failure_s=30.0, faults=0.0, seed=0)
    outage.run(120.0)
    assert sum(20.0 <= at < 80.0 for at in outage.sent) <= 6 * outage.SLOTS
    assert outage.rate(95.0, 120.0) >= 0.9 * outage.rate(10.0, 20.0)
    assert outage.states[-1][1] == "closed"
