"""Whole runs under a cap: workers with real credit, a real allocator, and between them messages with delays.

Messages keep their order in each direction. Workers idle, die and have successors; rows cost what nobody knows before.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rowmill.budget.allocator import BudgetAllocator
from rowmill.budget.cost_estimate import CostEstimate
from rowmill.budget.credit import Credit
from rowmill.core.amounts import NOTHING, Amount, each, limited
from tests.lives import examples

TICK_S = 0.25
PROMPT = 20  # tokens, where rows are estimated by what was learned
ROUNDING = 1e-9
FREE = Amount(math.inf, math.inf, math.inf)


@dataclass
class Habits:
    """What happens in a world, in means of seconds, and what its rows cost."""

    reply_s: float = 1.0
    life_s: float = math.inf
    idle_every_s: float = math.inf
    idle_s: float = 3.0
    slow_message: float = 0.02  # share of the messages that take up to 0.4 s instead of some milliseconds
    size: Callable[[Random], float] = lambda _: 100.0  # tokens of a row, as estimated
    error: Callable[[Random], float] = lambda _: 1.0  # of the estimate: what the row really takes; its mean is 1
    most_output: int = 0  # rows are estimated by what was learned; before that they are reserved at so much
    unbilled: float = 0.0  # share of requests that fail and cost nothing
    stops_short: bool = False  # a worker that is short sends nothing before it is answered, whatever settlements free


@dataclass
class Row:
    tokens: float
    used: float


@dataclass
class Life:
    """One worker process."""

    number: int
    slots: int
    credit: Credit = field(default_factory=Credit)
    estimate: CostEstimate = field(default_factory=CostEstimate)
    alive: bool = True
    idle: bool = False
    waiting: bool = False  # a Short is unanswered
    in_flight: dict[int, tuple[Row, float]] = field(default_factory=dict)  # and what was reserved
    to_worker: float = 0.0  # when the last message arrives
    to_supervisor: float = 0.0
    errors: float = 0.0  # by which what was in flight when it last sent may pass its reservations


class World:
    """A supervisor and its workers. A token costs a ten thousandth of a dollar."""

    def __init__(
        self, seed: int, cap: Amount, habits: Habits, *, workers: int, slots: int, rows: int, spent: Amount = NOTHING
    ) -> None:
        self.random = Random(seed)
        self.habits, self.cap, self.before = habits, cap, spent
        self.workers, self.slots = workers, slots
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.rows = deque(self.row() for _ in range(rows))
        self.allocator = BudgetAllocator(cap, spent, workers=workers)
        self.lives: dict[int, Life] = {}
        self.born = 0
        self.dead: list[Life] = []
        self.sent = self.done = self.messages = self.ticks = 0
        self.rows_left = rows
        self.billed = NOTHING
        self.debts = NOTHING  # of those that are gone, as the supervisor knew them
        self.reserved = NOTHING  # all that was ever reserved, corrected by settlements
        self.largest = NOTHING
        self.over = False
        self.freed = 0.0  # tokens that settlements gave back after the end, or so late that they were not reported
        for _ in range(workers):
            self.birth()
        self.at(0.0, self.tick)

    def row(self) -> Row:
        tokens = self.habits.size(self.random)
        used = tokens * self.habits.error(self.random)
        return Row(tokens, float(PROMPT + int(used)) if self.habits.most_output else used)

    # The clock

    def at(self, time: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (time, next(self.order), what))

    def after(self, mean: float, what: Callable[[], None]) -> None:
        if math.isfinite(mean):
            self.at(self.now + self.random.expovariate(1 / mean), what)

    def delay(self) -> float:
        if self.random.random() < self.habits.slow_message:
            return self.random.uniform(0.0, 0.4)
        return self.random.expovariate(1 / 0.003)

    def run(self, until: float = 100_000.0) -> None:
        """Run to the end: all rows are done, or the budget is exhausted and what was in flight is settled."""
        while not self.over:
            self.now, _, what = heapq.heappop(self.events)
            assert self.now < until, "the run does not end"
            what()
        while any(life.in_flight for life in self.lives.values()):
            self.now, _, what = heapq.heappop(self.events)
            what()
        for number in [*self.lives]:
            self.tidy_end(self.lives[number])
        self.check()

    # The supervisor

    def tick(self) -> None:
        self.ticks += 1
        self.grant()
        self.at(self.now + TICK_S, self.tick)

    def grant(self) -> None:
        for number, amount in self.allocator.grants(self.now):
            self.messages += 1
            life = self.lives[number]
            life.to_worker = max(life.to_worker, self.now + self.delay())
            self.at(life.to_worker, lambda life=life, amount=amount: self.deliver(life, amount))  # type: ignore[misc]
        self.check()
        if self.allocator.exhausted is not None and not self.over:
            self.over = True
            known = self.allocator._accounts
            late = (known[number].spent - life.credit.spent for number, life in self.lives.items())
            self.freed = sum(max(0.0, amount.tokens) for amount in late)

    def check(self) -> None:
        """Hold the promise, as the supervisor sees it (only debts are too much), and as the bill does."""
        known = self.allocator
        debts = sum((account.debt for account in known._accounts.values()), self.debts)
        there = known.spent + known.outstanding
        assert all(math.isfinite(value) for value in figures(there))
        assert within(limited(self.cap, there - debts), self.cap)
        assert within(self.before + self.billed, self.cap + self.errors())

    # The workers

    def birth(self) -> None:
        life = Life(self.born, self.slots)
        self.born += 1
        self.lives[life.number] = life
        self.allocator.join(life.number, self.now)
        self.at(self.now + self.random.uniform(0.0, TICK_S), lambda: self.beat(life))
        self.after(self.habits.life_s, lambda: self.death(life))
        self.after(self.habits.idle_every_s, lambda: self.pause(life))
        self.at(self.now, lambda: self.send(life))

    def death(self, life: Life) -> None:
        if self.over:
            return
        life.alive = False
        for row, _ in life.in_flight.values():
            self.bill(row.used)  # it was sent, and nobody hears of it
            self.rows.append(row)
        life.to_supervisor = max(life.to_supervisor, self.now + self.random.uniform(0.0, 0.05))

        def noticed() -> None:
            if self.over:
                return
            self.leave(life)
            self.birth()

        self.at(life.to_supervisor, noticed)
        life.in_flight.clear()

    def tidy_end(self, life: Life) -> None:
        left = life.credit.give_back()
        self.allocator.short(life.number, left, NOTHING)
        self.allocator.report(life.number, life.credit.spent, life.credit.reserved)
        self.leave(life)

    def leave(self, life: Life) -> None:
        self.debts += self.allocator._accounts[life.number].debt
        self.allocator.leave(life.number)
        self.dead.append(self.lives.pop(life.number))

    def pause(self, life: Life) -> None:
        life.idle = True

        def go_on() -> None:
            life.idle = False
            self.send(life)
            self.after(self.habits.idle_every_s, lambda: self.pause(life))

        self.at(self.now + self.random.expovariate(1 / self.habits.idle_s), go_on)

    def tell(self, life: Life, what: Callable[[], None], *, counts: bool = True) -> None:
        self.messages += counts
        life.to_supervisor = max(life.to_supervisor, self.now + self.delay())
        self.at(life.to_supervisor, what)

    def beat(self, life: Life) -> None:
        if not life.alive or life.number not in self.lives:
            return
        spent, reserved = life.credit.spent, life.credit.reserved
        self.tell(life, lambda: self.allocator.report(life.number, spent, reserved), counts=False)
        self.at(self.now + TICK_S, lambda: self.beat(life))

    def deliver(self, life: Life, amount: Amount | None) -> None:
        if not life.alive:
            return
        if amount is None:
            self.short(life)
            return
        life.credit.allow(amount)
        life.waiting = False
        self.send(life)

    def short(self, life: Life, tokens: float = 0.0, usd: float = 0.0) -> None:
        left = life.credit.give_back()
        need = life.credit.need(tokens, usd) if tokens else NOTHING
        self.largest = each(max, self.largest, need)

        def told() -> None:
            self.allocator.short(life.number, left, need)
            self.grant()

        self.tell(life, told)

    def send(self, life: Life) -> None:
        while life.alive and not life.idle and not self.over and self.rows and len(life.in_flight) < life.slots:
            if life.waiting and self.habits.stops_short:
                return
            row = self.rows[0]
            tokens = self.expected(life, row)
            usd = tokens * 1e-4
            if not life.credit.covers(tokens, usd):
                if not life.waiting:
                    life.waiting = True
                    self.short(life, tokens, usd)
                return
            self.rows.popleft()
            life.credit.reserve(tokens, usd)
            self.sent += 1
            self.reserved += Amount(1.0, tokens, usd)
            life.in_flight[self.sent] = row, tokens
            life.errors = sum(max(0.0, row.used - held) for row, held in life.in_flight.values())
            assert within(self.before + self.reserved, self.cap + self.errors()), "the cap holds at every moment"
            number = self.sent
            self.at(self.now + self.random.expovariate(1 / self.habits.reply_s), lambda n=number: self.reply(life, n))  # type: ignore[misc]

    def expected(self, life: Life, row: Row) -> float:
        if not self.habits.most_output:
            return row.tokens
        return sum(life.estimate.expect(PROMPT, self.habits.most_output))

    def reply(self, life: Life, number: int) -> None:
        if number not in life.in_flight:
            return
        row, held = life.in_flight.pop(number)
        used = row.used
        if self.random.random() < self.habits.unbilled:
            used = 0.0
            self.rows.append(row)
        else:
            self.done += 1
            if self.habits.most_output:
                life.estimate.learn(PROMPT, PROMPT, int(row.used) - PROMPT)
        life.credit.settle(held, held * 1e-4, used, used * 1e-4)
        self.freed += max(0.0, held - used) * self.over
        self.reserved += Amount(0.0, used - held, (used - held) * 1e-4)
        self.bill(used)
        self.over = self.over or self.done == self.rows_left
        self.send(life)

    def bill(self, tokens: float) -> None:
        self.billed += Amount(1.0, tokens, tokens * 1e-4)

    # What a test asks

    def errors(self) -> Amount:
        """By how much settlements may pass what was covered: of each worker, what was in flight when it last sent."""
        tokens = sum(life.errors for life in [*self.lives.values(), *self.dead])
        return Amount(0.0, tokens, tokens * 1e-4)

    def used(self) -> float:
        """Return which part of the cap was billed, of the limit that is nearest to its end."""
        parts = zip(figures(self.before + self.billed), figures(self.cap), strict=True)
        return max(billed / most for billed, most in parts)


def figures(amount: Amount) -> tuple[float, float, float]:
    return amount.requests, amount.tokens, amount.usd


def within(amount: Amount, cap: Amount) -> bool:
    return all(
        value <= most * (1 + ROUNDING) + ROUNDING for value, most in zip(figures(amount), figures(cap), strict=True)
    )


def lognormal(sigma: float) -> Callable[[Random], float]:
    """Return factors of mean 1."""
    return lambda random: random.lognormvariate(-sigma * sigma / 2, sigma)


# Nothing is shrunk: a smaller seed is no simpler world, and looking for one takes minutes.
@settings(deadline=None, max_examples=examples(25), phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 6),
    slots=st.sampled_from([1, 7, 64]),
    cap=st.tuples(*[st.sampled_from([1.0, 0.9, 0.3, 0.02, 0.001, math.inf])] * 3),
    before=st.sampled_from([0.0, 0.0, 0.5]),
    spread=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
    size=st.sampled_from([0.0, 0.5, 1.5]),
    habits=st.builds(
        Habits,
        reply_s=st.sampled_from([0.05, 1.0, 10.0]),
        life_s=st.sampled_from([math.inf, math.inf, 3.0]),
        idle_every_s=st.sampled_from([math.inf, 4.0]),
        slow_message=st.sampled_from([0.02, 0.5]),
        most_output=st.sampled_from([0, 0, 1000]),
        unbilled=st.sampled_from([0.0, 0.2]),
        stops_short=st.booleans(),
    ),
)
def test_no_life_passes_the_cap_and_every_run_ends(
    *,
    seed: int,
    workers: int,
    slots: int,
    cap: tuple[float, float, float],
    before: float,
    spread: float,
    size: float,
    habits: Habits,
) -> None:
    """The caps are parts of what all rows need. That they hold is asserted inside, at every sending and grant."""
    rows = 600
    habits = replace(habits, error=lognormal(spread), size=lambda random: 100 * lognormal(size)(random))
    most = Amount(rows * cap[0], rows * 100.0 * cap[1], rows * 0.01 * cap[2])
    spent = each(lambda value: before * value if math.isfinite(value) else 7.0, most)
    world = World(seed, most, habits, workers=workers, slots=slots, rows=rows, spent=spent)
    world.run()
    known = world.allocator
    assert known.outstanding == NOTHING
    if known.exhausted is None:
        assert world.done == rows
    else:
        left = most - known.spent
        freed = Amount(0.0, world.freed, world.freed * 1e-4)
        lacking = [
            there < workers * need + free + ROUNDING
            for there, need, free in zip(figures(left), figures(world.largest), figures(freed), strict=True)
        ]
        assert any(lacking), "it goes on as long as anything is covered"
    assert world.messages <= 2 * (world.sent + workers * world.ticks) + 4 * world.born


@pytest.mark.parametrize("limit", ["requests", "tokens", "usd"])
@pytest.mark.parametrize("life_s", [math.inf, 20.0])
def test_of_many_small_requests_hardly_a_part_of_the_cap_is_left(limit: str, life_s: float) -> None:
    cap = replace_one(FREE, limit, {"requests": 6000.0, "tokens": 600_000.0, "usd": 60.0}[limit])
    world = World(5, cap, Habits(life_s=life_s, idle_every_s=4.0), workers=4, slots=128, rows=20_000)
    world.run()
    assert f"max_{limit}" in (world.allocator.exhausted or "")
    lost = dict(zip(("requests", "tokens", "usd"), figures(world.allocator.lost), strict=True))[limit]
    assert world.used() + lost / getattr(cap, limit) >= 0.995
    assert world.used() <= 1 + ROUNDING
    assert world.messages < 0.1 * world.sent, "credit goes out for many requests at a time"


@pytest.mark.parametrize("stops_short", [False, True])
def test_with_estimates_that_are_right_on_average_the_bill_comes_near_the_cap(stops_short: bool) -> None:
    """512 in flight and replies of all lengths: what those differ by is some 20 requests."""
    habits = Habits(error=lognormal(0.8), most_output=4096, stops_short=stops_short)
    world = World(3, replace_one(FREE, "tokens", 800_000.0), habits, workers=4, slots=128, rows=20_000)
    world.run()
    assert 0.99 <= world.used() <= 1.01


@pytest.mark.parametrize("stops_short", [False, True])
def test_upper_bounds_of_the_first_requests_do_not_end_a_run_that_has_hardly_spent(stops_short: bool) -> None:
    """The cap covers 15 requests at their upper bound, all in flight at once, and 600 at what they really cost."""
    habits = Habits(reply_s=10.0, error=lognormal(0.3), most_output=4096, stops_short=stops_short)
    world = World(1, replace_one(FREE, "tokens", 60_000.0), habits, workers=4, slots=128, rows=2000)
    world.run()
    assert 0.9 <= world.used() <= 1.05


def test_a_cap_above_what_is_needed_is_no_hindrance() -> None:
    free = World(2, FREE, Habits(), workers=4, slots=64, rows=3000)
    capped = World(2, Amount(3300.0, 330_000.0, 33.0), Habits(), workers=4, slots=64, rows=3000)
    for world in (free, capped):
        world.run()
        assert world.done == 3000
    assert capped.now <= free.now + 2.0


def replace_one(amount: Amount, name: str, value: float) -> Amount:
    return msgspec.structs.replace(amount, **{name: value})
