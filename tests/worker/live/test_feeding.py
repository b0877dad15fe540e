"""What makes a dispatcher ask for rows, what stops it, and how it ends."""

import asyncio
import json

import pytest

from rowmill.store.in_flight import read_board
from rowmill.transport import faults
from rowmill.worker import outcome_writer as writers
from rowmill.worker.live import admission as pipelines
from tests.worker.live.conftest import Result, Start, Wire, failure, reply, run

# Feeding


def test_the_pipeline_is_hungry_until_it_has_rows_for_a_while(work: Start) -> None:
    async def story() -> None:
        async with work(4000, concurrency=8) as at:
            await asyncio.wait_for(at.dispatcher.backlog.hungry(), 5)
            at.feed(0, 20)
            await asyncio.wait_for(at.dispatcher.backlog.hungry(), 5)
            at.feed(20, 200)
            hungry = asyncio.ensure_future(at.dispatcher.backlog.hungry())
            while not hungry.done():
                assert at.recorded < 220
                await at.until(lambda: at.wire.open)
                for row in list(at.wire.open):
                    at.wire.answer(row)
                await at.settled()
            left = 220 - at.recorded
            assert 0 < left < 50, "it asks before it is empty, and not long before: an idle worker could have the rows"

    run(story())


def test_the_faster_the_rows_go_the_earlier_it_asks_for_more(work: Start) -> None:
    async def story() -> None:
        async with work(4000, Wire(lambda *_: reply()), concurrency=8) as at:
            at.feed(0, 1000)
            await at.until(lambda: at.recorded == 1000)
            at.dispatcher.backlog.look_ahead(1.0)  # a thousand a second: a hundred are to be ready
            at.feed(1000, 99)
            assert at.dispatcher.backlog._hungry.is_set()
            await at.until(lambda: at.recorded == 1099)
            at.dispatcher.close()
            at.feed(1099, 101)
            assert not at.dispatcher.backlog._hungry.is_set()

    run(story())


def test_long_rows_fill_it_by_their_bytes(work: Start) -> None:
    async def story() -> None:
        async with work(40, concurrency=2) as at:
            at.feed(0, 10, padding=1 << 20)
            hungry = asyncio.ensure_future(at.dispatcher.backlog.hungry())
            await at.settled()
            assert not hungry.done(), "ten megabytes are enough"
            while not hungry.done():
                await at.until(lambda: at.wire.open)
                at.wire.answer(next(iter(at.wire.open)))
                await at.settled()
            assert at.recorded >= 1

    run(story())


def test_rows_with_an_outcome_are_passed_over(work: Start) -> None:
    async def story() -> None:
        async with work(10, Wire(lambda *_: reply())) as at:
            at.feed(0, 4)
            await at.until(lambda: at.recorded == 4)
            at.feed()
            await at.done()
            assert sorted(at.wire.rows) == list(range(10))
        async with work(10, Wire(lambda *_: reply())) as again:
            again.feed()
            await again.settled()
            assert again.wire.rows == []
            assert again.recorded == 10

    run(story())


# The disk


def test_a_slow_disk_stops_admission_until_it_has_caught_up(work: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "_PENDING_BYTES", 2000)

    async def story() -> None:
        async with work(200, Wire(lambda *_: reply()), concurrency=3) as at:
            at.feed()
            await at.until(lambda: at.wire.in_flight == 0 and at.writer.pending_bytes > 2000)
            for _ in range(100):
                stopped = at.recorded
                await at.settled()
                assert at.recorded == stopped
                assert at.writer.pending_bytes < 2000 + 4 * 500, "what was in flight, and no more"
                if stopped == 200:
                    break
                at.synced()
                await at.until(lambda: at.recorded == 200 or at.writer.pending_bytes > 2000)
                await at.until(lambda: at.wire.in_flight == 0)
            assert at.recorded == 200

    run(story())


def test_the_committer_is_called_for_the_first_record_and_for_a_full_group(
    work: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "GROUP_BYTES", 3000)

    async def story() -> None:
        async with work(60, Wire(lambda *_: reply())) as at:
            at.feed(0, 5)
            await at.until(lambda: at.recorded == 5)
            assert at.calls == [False]
            at.feed(5, 30)
            await at.until(lambda: at.recorded == 35)
            assert at.calls == [False, True]
            at.synced()
            assert at.writer.pending_bytes == 0
            at.feed(35, 1)
            await at.until(lambda: at.recorded == 36)
            assert at.calls == [False, True, False]

    run(story())


# The end


def test_a_closed_pipeline_admits_nothing_and_brings_home_what_is_out(work: Start) -> None:
    async def story() -> None:
        async with work(10, concurrency=2) as at:
            at.feed()
            await at.until(lambda: at.wire.in_flight == 2)
            draining = asyncio.ensure_future(at.dispatcher.drained(20.0))
            await at.settled()
            at.wire.answer(0)
            await at.settled()
            assert not draining.done()
            at.wire.answer(1)
            assert await draining == 0
            assert sorted(await at.outcomes()) == [0, 1]
            assert at.wire.rows == [0, 1]

    run(story())


@pytest.mark.timed
def test_draining_takes_no_longer_than_it_is_given_and_counts_what_it_gives_up(work: Start) -> None:
    async def story() -> None:
        async with work(10, concurrency=3) as at:
            at.feed()
            await at.until(lambda: at.wire.in_flight == 3)
            at.wire.answer(1)
            await at.until(lambda: 3 in at.wire.open)
            began = asyncio.get_running_loop().time()
            assert await at.dispatcher.drained(0.05) == 3
            assert asyncio.get_running_loop().time() - began < 5
            assert (at.dispatcher.in_flight, at.wire.in_flight) == (0, 0)
            assert at.in_flight_rows() == []
            assert list(await at.outcomes()) == [1]

    run(story())


def test_a_row_in_backoff_is_not_waited_for(work: Start) -> None:
    async def story() -> None:
        async with work(1, Wire(lambda *_: failure(faults.TIMEOUT)), scale=1000.0) as at:
            at.feed()
            await at.until(lambda: at.dispatcher.backlog.waiting == 1)
            assert await asyncio.wait_for(at.dispatcher.drained(60.0), 5) == 0
            assert await at.outcomes() == {}

    run(story())


def test_a_defect_of_the_transport_ends_its_slot_where_it_is_seen(work: Start) -> None:
    async def story() -> None:
        def broken(_row: int, _nth: int) -> Result:
            raise ZeroDivisionError

        async with work(1, Wire(broken), concurrency=1) as at:
            at.feed()
            slot = await asyncio.wait_for(asyncio.shield(at.dispatcher.ended), 5)
            assert isinstance(slot.exception(), ZeroDivisionError)
            assert at.in_flight_rows() == []

    with pytest.raises(AssertionError, match="a slot has ended"):
        run(story())


def test_what_is_sent_is_the_tasks_request(work: Start) -> None:
    async def story() -> None:
        async with work(1, Wire(lambda *_: reply())) as at:
            at.feed()
            await at.done()
            assert json.loads(at.wire.sent[0][1]) == {"model": "m", "messages": [{"role": "user", "content": "row 0 "}]}
            assert read_board(at.board).in_flight == []

    run(story())
