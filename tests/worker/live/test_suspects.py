"""Rows that workers died on: sent alone, or not at all."""

import asyncio

from rowmill.core.leases import Share
from rowmill.transport import faults
from tests.worker.live.conftest import Result, Start, Wire, failure, reply, run

# Suspects


def test_a_suspect_is_sent_alone(work: Start) -> None:
    async def story() -> None:
        async with work(20, concurrency=4, suspects=(3, 5)) as at:
            at.feed()
            while at.recorded < 20:
                await at.until(lambda: at.wire.open or at.recorded == 20)
                await at.settled()
                if {3, 5} & at.wire.open.keys():
                    assert at.in_flight_rows() in ([3], [5])
                for row in list(at.wire.open):
                    at.wire.answer(row)
            assert at.wire.seen_beside[3] == at.wire.seen_beside[5] == 1
            assert at.wire.in_flight_max == 4, "the others go together"

    run(story())


def test_nothing_joins_a_suspect_in_flight(work: Start) -> None:
    async def story() -> None:
        async with work(20, concurrency=4, suspects=(0,)) as at:
            at.feed(0, 1)
            await at.until(lambda: 0 in at.wire.open)
            at.feed(1, 19)
            at.dispatcher.synced()
            await at.settled()
            assert list(at.wire.open) == [0]
            at.wire.answer(0)
            await at.until(lambda: at.wire.in_flight == 4)

    run(story())


def test_a_suspect_is_alone_at_every_try(work: Start) -> None:
    """Its first try failed for a reason of the provider's. The second is as dangerous as the first."""

    async def story() -> None:
        async def rule(row: int, nth: int) -> Result:
            await asyncio.sleep(0.002)
            return reply(503, b"") if row == 0 and nth < 4 else reply()

        async with work(300, Wire(rule), concurrency=4, suspects=(0,)) as at:
            at.feed(0, 1)
            await at.until(lambda: at.wire.tries[0] == 1)
            at.feed(1, 299)
            await at.done()
            assert at.wire.tries[0] == 4
            assert at.wire.seen_beside[0] == 1

    run(story())


def test_several_suspects_go_one_after_the_other_through_their_retries(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            return failure(faults.TIMEOUT) if nth == 1 else reply()

        async with work(12, Wire(rule), concurrency=4, suspects=(2, 3, 4, 11)) as at:
            at.feed()
            await at.done()
            assert [at.wire.seen_beside[row] for row in (2, 3, 4, 11)] == [1, 1, 1, 1]

    run(story())


def test_a_suspect_waits_for_the_rate_alone_as_well(work: Start) -> None:
    async def story() -> None:
        async with work(
            30, Wire(lambda *_: reply()), concurrency=4, suspects=(0, 7), requests=Share(300.0, 75.0)
        ) as at:
            at.feed()
            await at.done()
            assert at.wire.seen_beside[0] == at.wire.seen_beside[7] == 1

    run(story())


def test_a_quarantined_row_is_recorded_and_never_sent(work: Start) -> None:
    async def story() -> None:
        async with work(5, Wire(lambda *_: reply()), quarantined=(2,), suspects=(3,)) as at:
            at.feed()
            await at.done()
            record = (await at.outcomes())[2]
            assert 2 not in at.wire.rows
            assert record["failed"]
            assert record["requests"] == 0
            assert record["line"]["error"]["class"] == "poison_row"
            assert record["line"]["id"] == "r2"

    run(story())
