"""Which row is sent when: all slots are used and no more, a row in backoff holds none, and the rate is kept."""

import asyncio
from itertools import combinations
from random import Random

import pytest

from rowmill.core.leases import Share
from rowmill.transport import faults
from tests.worker.live.conftest import Result, Start, Wire, failure, reply, run

# Slots


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_all_slots_are_used_and_never_more(work: Start, concurrency: int) -> None:
    async def story() -> None:
        async with work(40, concurrency=concurrency) as at:
            at.feed()
            rng = Random(concurrency)
            for _ in range(at.rows - concurrency):
                await at.until(lambda: at.wire.in_flight == concurrency)
                await at.settled()
                assert at.dispatcher.in_flight == at.wire.in_flight == concurrency
                at.wire.answer(rng.choice(list(at.wire.open)))
            await at.until(lambda: at.wire.in_flight == concurrency)
            for row in list(at.wire.open):
                at.wire.answer(row)
            await at.done()
            assert at.wire.in_flight_max == at.dispatcher.in_flight_max == concurrency
            assert sorted(at.wire.rows) == list(range(40))

    run(story())


def test_a_dispatcher_tells_where_it_and_its_rows_stand(work: Start) -> None:
    async def story() -> None:
        async with work(10, concurrency=3, suspects=(9,), scale=1e6) as at:
            assert repr(at.dispatcher) == "<0 of 3 in flight; backlog <empty>>"
            at.feed()
            await at.until(lambda: at.wire.in_flight == 3)
            assert repr(at.dispatcher) == "<3 of 3 in flight; backlog <6 ready, 1 aside>>"
            at.wire.answer(0, failure(faults.TIMEOUT))
            await at.until(lambda: at.wire.in_flight == 3)
            assert repr(at.dispatcher.backlog) == "<5 ready, 1 waiting, 1 aside>"
            assert repr(at.providers[0]) == "<main: 3 of 3 in flight>"
            at.wire.answer(1, reply(402, b'{"error": {"code": "insufficient_quota"}}'))
            await at.until(lambda: at.told.closed)
            await at.settled()
            assert repr(at.providers[0]) == "<main: 2 of 0 in flight, closed>"
            assert repr(at.dispatcher) == "<2 of 0 in flight; backlog <6 ready, 1 waiting, 1 aside>>"

    run(story())


def test_a_slot_that_found_an_empty_queue_is_not_lost(work: Start) -> None:
    """A permit that is taken on an empty queue and never given back lets concurrency decay."""

    async def story() -> None:
        async with work(200, concurrency=8) as at:
            for first in range(0, 200, 10):
                at.feed(first, 10)
                await at.until(lambda: at.wire.in_flight == 8)
                for _ in range(10):
                    at.wire.answer(next(iter(at.wire.open)))
                    await at.settled()
                assert at.wire.in_flight == 0
            assert at.recorded == 200

    run(story())


def test_rows_that_come_one_by_one_use_all_slots_too(work: Start) -> None:
    async def story() -> None:
        async with work(8, concurrency=8) as at:
            for row in range(8):
                at.feed(row, 1)
                await at.until(lambda row=row: at.wire.in_flight == row + 1)  # type: ignore[misc]  # bound for the loop

    run(story())


def test_rows_are_no_tasks_of_their_own(work: Start) -> None:
    async def story() -> None:
        async with work(5000, concurrency=4) as at:
            before = len(asyncio.all_tasks())
            at.feed()
            await at.until(lambda: at.wire.in_flight == 4)
            assert len(asyncio.all_tasks()) == before

    run(story())


def test_rows_in_flight_stand_on_the_board_and_no_others(work: Start) -> None:
    async def story() -> None:
        async with work(6, concurrency=3) as at:
            assert at.in_flight_rows() == []
            at.feed()
            await at.until(lambda: at.wire.in_flight == 3)
            assert at.in_flight_rows() == [0, 1, 2]
            at.wire.answer(1)
            await at.until(lambda: 3 in at.wire.open)
            assert at.in_flight_rows() == [0, 2, 3]
            at.wire.answer(0, failure(faults.TIMEOUT))
            await at.until(lambda: at.wire.tries[0] == 2 or 4 in at.wire.open)
            while at.recorded < 6:
                for row in list(at.wire.open):
                    at.wire.answer(row)
                await at.until(lambda: at.wire.open or at.recorded == 6)
            await at.settled()
            assert at.in_flight_rows() == []

    run(story())


# Backoff


def test_a_row_that_waits_holds_no_slot(work: Start) -> None:
    async def story() -> None:
        async with work(10, concurrency=1, scale=1000.0) as at:
            at.feed()
            await at.until(lambda: at.wire.open)
            at.wire.answer(0, failure(faults.TIMEOUT))
            for row in range(1, 10):
                await at.until(lambda row=row: row in at.wire.open)  # type: ignore[misc]  # bound for the loop
                at.wire.answer(row)
            await at.until(lambda: at.recorded == 9)
            assert at.dispatcher.backlog.waiting == 1
            assert at.dispatcher.next_due_s is not None
            assert 900 < at.dispatcher.next_due_s <= 1250
            assert at.in_flight_rows() == []

    run(story())


def test_a_row_whose_time_has_come_goes_before_new_ones(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            return failure(faults.TIMEOUT) if row in (0, 4) and nth < 3 else reply()

        async with work(10, Wire(rule), concurrency=1, scale=0.0) as at:
            at.feed()
            await at.done()
            assert at.wire.rows == [0, 0, 0, 1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 9]
            assert at.dispatcher.backlog.waiting == 0
            assert at.dispatcher.next_due_s is None

    run(story())


def test_a_row_is_not_tried_again_before_its_time(work: Start) -> None:
    async def story() -> None:
        def rule(_row: int, nth: int) -> Result:
            return reply(429, b"{}", retry_after_ms="150") if nth == 1 else reply()

        async with work(4, Wire(rule), concurrency=2, scale=1.0) as at:
            at.feed()
            await at.done()
            for row in range(4):
                first, second = (time for sent, time in zip(at.wire.rows, at.wire.times, strict=True) if sent == row)
                assert second - first >= 0.149
            assert all(wait >= 0.15 for wait in at.retry.waits)

    run(story())


def test_when_too_many_rows_wait_no_new_ones_are_admitted(work: Start) -> None:
    """Every new row of a provider that is down would only join them: memory must not grow with the outage."""

    def rule(row: int, _nth: int) -> Result:
        return reply(429, b"") if row else reply()  # one that never answered would be asked now and then

    async def story() -> None:
        async with work(500, Wire(rule), concurrency=2, scale=1000.0) as at:
            at.feed()
            await at.until(lambda: at.dispatcher.backlog.waiting >= 64)
            await at.settled()
            assert at.dispatcher.backlog.waiting <= 64 + 2

    run(story())


# The rate


@pytest.mark.alone
def test_the_rate_is_kept_at_the_moment_of_sending(work: Start) -> None:
    """Neither a full bucket at the start, nor slots that come free together, may open with a burst."""

    async def story() -> list[float]:
        async def slow(row: int, _nth: int) -> Result:
            await asyncio.sleep(0.15 if row < 20 else 0)  # the first ones hold all slots and come free together
            return reply()

        async with work(60, Wire(slow), concurrency=20, requests=Share(100.0, 25.0)) as at:
            at.feed()
            await at.done()
            return at.wire.times

    times = run(story())
    burst = 100 * 0.25
    for i, j in combinations(range(len(times)), 2):
        assert j - i + 1 <= burst + 100 * (times[j] - times[i]) + 1.01
    assert times[9] - times[0] >= 0.08, "the bucket starts empty"


@pytest.mark.quiet
def test_the_rate_is_used(work: Start) -> None:
    async def story() -> float:
        async with work(50, Wire(lambda *_: reply()), concurrency=4, requests=Share(200.0, 50.0)) as at:
            at.feed()
            await at.done()
            return at.wire.times[-1] - at.wire.times[0]

    assert run(story()) == pytest.approx(49 / 200, abs=0.1)


@pytest.mark.quiet
def test_tokens_are_paced_too_and_corrected_by_what_was_used(work: Start) -> None:
    async def story() -> float:
        async with work(20, Wire(lambda *_: reply()), concurrency=4, tokens=Share(2000.0, 500.0)) as at:
            at.feed(padding=320)  # estimated at about 100 tokens each, used 5
            await at.done()
            return at.wire.times[-1] - at.wire.times[0]

    assert run(story()) < 0.5, "at the estimate it would have taken a second"


def test_a_retry_spends_the_rate_like_any_request(work: Start) -> None:
    async def story() -> float:
        def rule(_row: int, nth: int) -> Result:
            return failure(faults.TIMEOUT) if nth < 3 else reply()

        async with work(10, Wire(rule), concurrency=4, scale=0.0, requests=Share(100.0, 25.0)) as at:
            at.feed()
            await at.done()
            assert len(at.wire.sent) == 30
            return at.wire.times[-1] - at.wire.times[0]

    assert run(story()) >= 0.25
