"""Rows under a budget: what is not covered waits, unsent and not forgotten, and nobody is asked for it twice."""

import json
from math import inf

import pytest

from rowmill.budget.credit import Credit
from rowmill.core.amounts import Amount, Price
from rowmill.transport import faults
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.reservations import Reservations
from tests.worker.live.conftest import Result, Start, Wire, Work, failure, reply, run
from tests.worker.live.test_second_asks import Model, answers, results, task

CONTEXT = json.dumps({"error": {"message": "too long", "code": "context_length_exceeded"}}).encode()
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


class Budget:
    """Reservations, and a supervisor that hands out what the test says. told: what came with each `Short`."""

    def __init__(self, *prices: Price | None) -> None:
        self.told: list[tuple[Amount, Amount]] = []
        self.reservations = Reservations(Credit(), prices or (None,), lambda left, need: self.told.append((left, need)))

    @property
    def sent(self) -> int:
        return round(self.reservations.credit.spent.requests)

    @property
    def settled(self) -> bool:
        return self.reservations.credit.reserved == Amount()


def requests(number: int) -> Amount:
    return Amount(float(number), inf, inf)


async def hand_out(at: Work, budget: Budget, amount: Amount) -> None:
    """Cover more, and wait until the worker is short of it again."""
    before = len(budget.told)
    at.dispatcher.allow(amount)
    await at.until(lambda: len(budget.told) > before)
    await at.settled()


def test_nothing_is_sent_before_it_is_covered_and_the_supervisor_is_asked_once(work: Start) -> None:
    async def story() -> None:
        budget = Budget()
        async with work(50, concurrency=8, reservations=budget.reservations) as at:
            at.feed()
            await at.settled()
            assert (at.wire.sent, at.in_flight_rows()) == ([], [])
            assert budget.told == [(Amount(), Amount(1.0, budget.told[0][1].tokens, 0.0))]
            for _ in range(5):  # whatever wakes the slots
                at.synced()
                at.lease(8)
                await at.settled()
            assert (len(budget.told), at.wire.sent) == (1, [])

    run(story())


def test_each_allowance_sends_what_it_covers_and_every_row_once(work: Start) -> None:
    async def story() -> None:
        budget = Budget()
        async with work(10, Wire(lambda row, nth: reply()), reservations=budget.reservations) as at:
            at.feed()
            await at.until(lambda: budget.told)
            for sent in (3, 6, 9):
                await hand_out(at, budget, requests(3))
                await at.until(lambda: budget.settled)
                assert (len(at.wire.sent), at.recorded) == (sent, sent)
            assert len(budget.told) == 4
            at.dispatcher.allow(requests(3))
            await at.done()
            await at.settled()
            assert sorted(at.wire.rows) == list(range(10))
            assert len(budget.told) == 4, "nobody asks without a row"

    run(story())


def test_replies_that_come_while_it_is_short_neither_send_nor_ask(work: Start) -> None:
    """A settlement below its estimate frees some, but the supervisor answers before anything goes on."""

    async def story() -> None:
        budget = Budget()
        async with work(200, concurrency=16, reservations=budget.reservations) as at:
            at.dispatcher.allow(requests(16))
            at.feed()
            await at.until(lambda: at.wire.in_flight == 16)
            at.wire.answer(0)
            await at.until(lambda: budget.told)
            for row in range(1, 16):
                at.wire.answer(row)
                await at.settled()
            assert (len(at.wire.sent), at.recorded, len(budget.told)) == (16, 16, 1)
            assert budget.settled

    run(story())


def test_a_retry_that_is_not_covered_waits_too(work: Start) -> None:
    async def story() -> None:
        budget = Budget()

        def rule(row: int, nth: int) -> Result:
            return failure(faults.TIMEOUT, maybe_billed=True) if (row, nth) == (1, 1) else reply()

        async with work(3, Wire(rule), concurrency=1, reservations=budget.reservations) as at:
            at.feed()
            await at.until(lambda: budget.told)
            await hand_out(at, budget, requests(3))
            assert (budget.sent, at.recorded) == (3, 2)
            at.dispatcher.allow(requests(5))
            await at.done()
            assert at.wire.tries == {0: 1, 1: 2, 2: 1}
            assert {record["line"]["error"] for record in (await at.outcomes()).values()} == {None}

    run(story())


def test_rows_that_are_left_with_one_provider_are_not_lost(work: Start) -> None:
    async def story() -> None:
        budget = Budget(None, None)
        spare = Wire(lambda row, nth: reply())

        def providers(wire: Wire) -> list[Provider]:
            return [
                Provider(0, "main", wire, fallback=[1], fallback_on=["context_length"]),
                Provider(1, "spare", spare, weight=0.0),
            ]

        async with work(6, providers=providers, concurrency=6, reservations=budget.reservations) as at:
            at.dispatcher.allow(requests(6))
            at.feed()
            await at.until(lambda: at.wire.in_flight == 6)
            for row in range(6):
                at.wire.answer(row, reply(400, CONTEXT))
            await at.until(lambda: budget.told)
            await at.settled()
            assert (at.dispatcher.backlog.bound_rows, spare.sent) == (6, [])
            for sent in (2, 4):
                await hand_out(at, budget, requests(2))
                assert len(spare.sent) == sent
                assert at.in_flight_rows() == []
            at.dispatcher.allow(requests(2))
            await at.done()
            assert sorted(spare.rows) == list(range(6))
            assert at.dispatcher.backlog.bound_rows == 0
            assert len(budget.told) == 3

    run(story())


def test_a_pack_that_is_not_covered_keeps_its_rows_and_is_built_once(work: Start) -> None:
    async def story() -> None:
        budget = Budget()
        model = Model(lambda rows, nth: answers(rows))
        async with work(8, model, task=task(schema=SCHEMA, rows_per_request=4), reservations=budget.reservations) as at:
            at.feed()
            await at.until(lambda: budget.told)
            assert (model.asked, at.in_flight_rows()) == ([], [])
            await hand_out(at, budget, requests(1))
            await at.until(lambda: budget.settled)
            assert model.asked == [[0, 1, 2, 3]]
            at.dispatcher.allow(requests(1))
            await at.done()
            assert model.asked == [[0, 1, 2, 3], [4, 5, 6, 7]]
            assert await results(at) == {row: {"n": row} for row in range(8)}
            assert budget.reservations.credit.spent.tokens == 2 * 17

    run(story())


def test_what_packs_and_second_asks_take_is_settled_request_by_request(work: Start) -> None:
    """A pack with one damaged answer is asked again in a smaller one, and that row a third time."""

    async def story() -> None:
        budget = Budget(Price(1.0, 1.0, 1.0))
        spoilt = {
            "answers": [{"id": "1", "answer": {"n": 0}}, {"id": "2", "answer": {"n": "x"}}],
        }
        model = Model(lambda rows, nth: spoilt if rows == [0, 1] else "no" if nth == 2 else answers(rows))
        budget.reservations.allow(Amount(inf, inf, 1.0))
        async with work(2, model, task=task(schema=SCHEMA, rows_per_request=2), reservations=budget.reservations) as at:
            at.feed()
            await at.done()
            assert model.asked == [[0, 1], [1], [1]]
            assert budget.settled
            spent = budget.reservations.credit.spent
            assert (spent.requests, spent.tokens) == (3, 51)
            assert spent.usd == pytest.approx(51e-6)
            report = at.providers[0].report
            assert (report.prompt_tokens + report.completion_tokens, report.wasted.tokens > 0) == (51, True)

    run(story())


def test_a_suspect_that_is_not_covered_is_still_sent_alone(work: Start) -> None:
    async def story() -> None:
        budget = Budget()
        async with work(4, suspects=(2,), concurrency=4, reservations=budget.reservations) as at:
            at.feed()
            await at.until(lambda: budget.told)
            at.dispatcher.allow(requests(3))
            await at.until(lambda: at.wire.in_flight == 3)
            for row in (0, 1, 3):
                at.wire.answer(row)
            await at.until(lambda: len(budget.told) == 2)
            assert at.wire.in_flight == 0
            at.dispatcher.allow(requests(1))
            await at.until(lambda: at.wire.in_flight == 1)
            assert at.in_flight_rows() == [2]
            at.wire.answer(2)
            await at.done()
            assert at.wire.seen_beside[2] == 1

    run(story())


def test_what_is_given_up_at_the_end_stays_reserved(work: Start) -> None:
    async def story() -> None:
        budget = Budget()
        async with work(3, concurrency=3, reservations=budget.reservations) as at:
            at.dispatcher.allow(Amount(3.0, 10_000.0, inf))
            at.feed()
            await at.until(lambda: at.wire.in_flight == 3)
            at.wire.answer(0)
            await at.until(lambda: at.recorded == 1)
            assert await at.dispatcher.drained(0.0) == 2
            assert budget.reservations.credit.reserved.requests == 2
            budget.reservations.recalled()
            left = budget.told[-1][0]
            assert left.tokens == pytest.approx(10_000 - budget.reservations.credit.spent.tokens)

    run(story())
