import asyncio
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from sys import executable
from time import monotonic
from typing import Any

import pytest

from rowmill.core.errors import MachineError
from rowmill.core.wire import Answer, Failure, Request
from rowmill.store.cache.claims import Claims, begin_session, forget
from rowmill.store.cache.kept_replies import Replies, prepare
from rowmill.transport import faults
from rowmill.worker.job import Job
from rowmill.worker.live import dedup as module
from rowmill.worker.live.dedup import Dedup

FAILURE = Failure(fault=faults.CONTENT_FILTER, message="no")


def answer(text: str) -> Answer:
    return Answer(b'"%b"' % text.encode(), b'"stop"', b'"m"', b"{}", 3, 1)


class Worker:
    """One worker's rows: what is to be sent, and what was recorded without being sent."""

    def __init__(self, place: Path, incarnation: int, store: Path | None = None) -> None:
        self.claims = Claims(place, incarnation)
        self.replies = Replies(store, 10) if store else None
        self.lost: list[str] = []
        self.dedup = Dedup(
            salt=b"salt",
            claims=self.claims,
            replies=self.replies,
            record=self.record,
            send=self.lead,
            note=self.lost.append,
        )
        self.leads: dict[int, Job] = {}
        self.recorded: dict[int, Answer | Failure] = {}

    def record(self, job: Job, end: Answer | Failure, now: float) -> None:
        assert job.index not in self.recorded
        assert not job.key
        assert job.state == "following"
        self.recorded[job.index] = end

    def lead(self, jobs: list[Job]) -> None:
        assert all(job.key for job in jobs)
        assert {job.state for job in jobs} <= {"ready"}
        self.leads.update({job.index: job for job in jobs})

    def take(self, *rows: tuple[int, str]) -> list[int]:
        """Take rows (index, what they ask); returns those that lead."""
        shard: Any = None
        leaders = self.dedup.take(
            [
                Job(index, b"line", 4, shard, request=Request(b"%b?" % text.encode(), b"null", 1))
                for index, text in rows
            ],
            0.0,
        )
        self.lead(leaders)
        return [job.index for job in leaders]

    def poll(self) -> list[int]:
        leaders = self.dedup.poll(0.0)
        self.lead(leaders)
        return [job.index for job in leaders]

    def answer(self, index: int, text: str) -> None:
        self.dedup.answered(self.leads.pop(index), answer(text), 0.0)

    def fail(self, index: int) -> None:
        self.dedup.failed(self.leads.pop(index), FAILURE, 0.0)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    begin_session(tmp_path / "claims")
    return tmp_path / "claims"


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def make(store: Path | None = None) -> Worker:
        started.append(Worker(place, len(started), store))
        return started[-1]

    yield make
    for worker in started:
        worker.claims.close()
        if worker.replies is not None:
            worker.replies.close()


def test_of_equal_rows_one_is_sent_and_all_end_with_its_answer(start: Callable[[], Worker]) -> None:
    worker = start()
    assert worker.take((0, "a"), (1, "b"), (2, "a")) == [0, 1]
    assert worker.take((3, "a"), (4, "c")) == [4]
    assert repr(worker.dedup) == "<3 led, 0 asked elsewhere, 0 unclaimed>"
    worker.answer(0, "A")
    assert worker.recorded == {2: answer("A"), 3: answer("A")}
    assert repr(worker.dedup) == "<2 led, 0 asked elsewhere, 0 unclaimed>"
    worker.fail(1)
    assert worker.take((5, "a"), (6, "b")) == []
    assert worker.recorded == {2: answer("A"), 3: answer("A"), 5: answer("A"), 6: FAILURE}
    assert (worker.dedup.duplicates, worker.dedup.hits, worker.dedup.rows) == (4, 0, 0)


def test_rows_of_other_workers_wait_and_end_with_it_too(start: Callable[[], Worker]) -> None:
    one, other = start(), start()
    assert one.take((0, "a"), (1, "b")) == [0, 1]
    assert other.take((10, "a"), (11, "b"), (12, "a"), (13, "c")) == [13]
    assert other.poll() == []
    assert other.dedup.rows == 3
    one.answer(0, "A")
    one.fail(1)
    assert other.poll() == []
    assert other.recorded == {}  # not told yet
    one.poll()
    other.poll()
    assert other.recorded == {10: answer("A"), 11: FAILURE, 12: answer("A")}
    assert (other.dedup.rows, other.dedup.bytes) == (0, 0)


def test_rows_that_come_after_the_end_never_wait(start: Callable[[], Worker]) -> None:
    one, other = start(), start()
    one.take((0, "a"))
    one.answer(0, "A")
    one.poll()
    assert other.take((10, "a")) == []
    assert other.recorded == {10: answer("A")}


def test_when_a_worker_dies_one_of_the_rows_that_waited_for_it_is_sent(
    place: Path, start: Callable[[], Worker]
) -> None:
    dead, one, other = start(), start(), start()
    dead.take((0, "a"), (1, "b"))
    dead.answer(1, "B")
    dead.poll()
    one.take((10, "a"), (11, "a"))
    other.take((20, "a"))
    forget(place, 0)
    assert one.poll() == [10]
    assert other.poll() == []
    one.answer(10, "A")
    one.poll()
    other.poll()
    assert one.recorded == {11: answer("A")}
    assert other.recorded == {20: answer("A")}
    assert other.take((21, "b")) == []  # what the dead one had told still counts


def test_a_row_that_will_not_be_sent_hands_over_to_the_next(start: Callable[[], Worker]) -> None:
    one, other = start(), start()
    one.take((0, "a"), (1, "a"), (2, "a"))
    other.take((10, "a"))
    for released, follower in ((0, 1), (1, 2)):
        one.dedup.release(one.leads.pop(released))
        assert list(one.leads) == [follower]
    one.dedup.release(one.leads.pop(2))
    assert other.poll() == []
    one.poll()
    assert other.poll() == [10]
    assert one.take((3, "a")) == []
    other.answer(10, "A")
    other.poll()
    one.poll()
    assert one.recorded == {3: answer("A")}
    assert one.dedup.rows == other.dedup.rows == 0


def test_a_missed_lock_is_made_up_for(start: Callable[[], Worker]) -> None:
    one, other = start(), start()
    assert other.claims.try_lock()
    assert one.take((0, "a"), (1, "b"), (2, "a")) == []
    assert one.take((3, "a")) == []
    assert one.dedup.rows == 4
    other.claims.unlock()
    assert one.poll() == [0, 1]
    one.answer(0, "A")
    assert one.recorded == {2: answer("A"), 3: answer("A")}


def test_more_rows_than_are_looked_up_at_a_time_are_all_found(
    start: Callable[[], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOKS", 7)
    one, other = start(), start()
    rows = [(index, f"{index}") for index in range(50)]
    one.take(*rows)
    other.take(*rows)
    for index, text in rows[::2]:
        one.answer(index, text)
    one.poll()
    for _ in range(16):
        other.poll()
    assert set(other.recorded) == set(range(0, 50, 2))


def test_waiting_rows_are_bounded_and_room_comes_back(
    start: Callable[[], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stays_full(worker: Worker) -> bool:
        try:
            async with asyncio.timeout(0):
                await worker.dedup.room()
        except TimeoutError:
            return True
        return False

    monkeypatch.setattr(module, "_ROWS", 3)
    worker = start()
    worker.take((0, "a"), (1, "a"), (2, "a"))
    assert not asyncio.run(stays_full(worker))
    worker.take((3, "a"))
    assert asyncio.run(stays_full(worker))
    worker.answer(0, "A")
    assert not asyncio.run(stays_full(worker))


def test_a_later_run_sends_nothing(start: Callable[..., Worker], place: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    rows = [(index, f"{index % 30}") for index in range(50)]
    for later in (False, True):
        begin_session(place, prepare(store))
        worker = start(store)
        assert len(worker.take(*rows)) == (0 if later else 30)
        for index in list(worker.leads):
            worker.answer(index, f"{index}")
        asyncio.run(worker.dedup.flush())
        expected = {index: answer(f"{index % 30}") for index in range(0 if later else 30, 50)}
        assert worker.recorded == expected
        assert (worker.dedup.hits, worker.dedup.duplicates) == ((50, 0) if later else (0, 20))


def test_what_this_run_has_put_into_the_store_counts_as_duplicates(
    start: Callable[..., Worker], place: Path, tmp_path: Path
) -> None:
    begin_session(place, prepare(tmp_path / "store"))
    one, other = start(tmp_path / "store"), start(tmp_path / "store")
    one.take((0, "a"))
    one.answer(0, "A")
    asyncio.run(one.dedup.flush())
    assert other.take((10, "a")) == []
    assert (other.dedup.hits, other.dedup.duplicates) == (0, 1)


def test_failures_are_not_kept_for_later_runs(start: Callable[..., Worker], place: Path, tmp_path: Path) -> None:
    begin_session(place, prepare(tmp_path / "store"))
    one = start(tmp_path / "store")
    one.take((0, "a"))
    one.fail(0)
    asyncio.run(one.dedup.flush())
    begin_session(place, prepare(tmp_path / "store"))
    assert start(tmp_path / "store").take((0, "a")) == [0]


def test_a_store_that_cannot_be_written_is_told_once_and_the_run_goes_on(
    start: Callable[..., Worker], place: Path, tmp_path: Path
) -> None:
    begin_session(place, prepare(tmp_path / "store"))
    with closing(sqlite3.connect(tmp_path / "store" / "replies.sqlite")) as connection:
        connection.execute("DROP TABLE replies")
    worker = start(tmp_path / "store")
    for index in range(3):
        assert worker.take((index, f"{index}")) == [index]
        worker.answer(index, "A")
        asyncio.run(worker.dedup.flush())
    assert len(worker.lost) == 1
    assert "is not used any more: no such table" in worker.lost[0]


def test_time_alone_brings_waiting_rows_to_their_ends(place: Path, start: Callable[[], Worker]) -> None:
    """`run` publishes and looks up by itself, makes up for a missed lock, and hands over what a dead worker had."""

    async def scenario() -> None:
        one, other = start(), start()
        running = [asyncio.create_task(worker.dedup.run()) for worker in (one, other)]
        assert one.claims.try_lock()
        other.take((10, "a"))
        one.claims.unlock()
        await reached(lambda: 10 in other.leads)
        one.take((0, "a"), (1, "b"))
        other.answer(10, "A")
        await reached(lambda: 0 in one.recorded)
        other.take((11, "b"))
        forget(place, 0)
        await reached(lambda: 11 in other.leads)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    within(scenario())


def test_a_machine_that_refuses_ends_run_with_a_line(place: Path, start: Callable[[], Worker]) -> None:
    async def scenario() -> None:
        worker = start()
        worker.take((0, "a"))
        worker.answer(0, "A")
        os.close(worker.claims._own_results)
        worker.claims._files.remove(worker.claims._own_results)
        with pytest.raises(MachineError, match=r"cannot use .*claims: Bad file descriptor"):
            await worker.dedup.run()

    within(scenario())


def within(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario

    asyncio.run(bounded())


async def reached(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.002)


WORKER = """
import asyncio, os, sys
from pathlib import Path
from rowmill.store.cache.claims import Claims
from rowmill.worker.live.dedup import Dedup
from rowmill.worker.job import Job
from rowmill.core.wire import Answer, Request

place, incarnation, rows, distinct = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
sent = os.open(place.parent / "sent", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
done = os.open(place.parent / "done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
backlog = []

def record(job, answer, now):
    os.write(done, b"%d %b\\n" % (job.index, answer.output))

async def main():
    dedup = Dedup(
        salt=b"salt", claims=Claims(place, incarnation), replies=None, record=record, send=backlog.extend, note=print
    )
    running = asyncio.create_task(dedup.run())
    left = [int(row) for row in rows.split(",") if row]
    while left or backlog or dedup.rows:
        assert not running.done()
        block, left = left[:100], left[100:]
        backlog.extend(dedup.take(
            [Job(row, b"", 0, None, request=Request(b"%d" % (row % distinct), b"", 1)) for row in block], 0.0))
        some, backlog[:] = backlog[:20], backlog[20:]
        for job in some:
            os.write(sent, b"%d %d\\n" % (incarnation, job.index % distinct))
        await asyncio.sleep(0.004)
        for job in some:
            answer = Answer(b"%d" % (job.index % distinct), b"", b"", b"", 1, 1)
            dedup.answered(job, answer, 0.0)
            os.write(done, b"%d %b\\n" % (job.index, answer.output))
    dedup.poll(0.0)
    running.cancel()

asyncio.run(main())
"""
ROWS, DISTINCT, WORKERS = 5000, 3000, 4


@pytest.mark.parametrize("kills", [0, 3])
def test_four_processes_ask_once_for_what_none_of_them_died_asking(place: Path, kills: int) -> None:
    """40% of the rows are duplicates. A worker that is killed is followed by another for what it has not recorded."""

    def launch(incarnation: int, rows: list[int]) -> "tuple[Popen[bytes], list[int]]":
        command = [executable, "-c", WORKER, str(place), f"{incarnation}", ",".join(map(str, rows)), f"{DISTINCT}"]
        return Popen(command), rows

    def lines(name: str) -> list[tuple[int, int]]:
        path = place.parent / name
        if not path.exists():
            return []
        pairs = [line.split() for line in path.read_text().splitlines()]
        return [(int(first), int(second)) for first, second in pairs]

    running = {number: launch(number, list(range(number, ROWS, WORKERS))) for number in range(WORKERS)}
    started, signals = WORKERS, 0
    killed: set[int] = set()
    deadline = monotonic() + 50
    while running:
        assert monotonic() < deadline
        if signals < kills and len(lines("sent")) > DISTINCT * (signals + 1) // (kills + 1):
            running[min(running)][0].send_signal(signal.SIGKILL)
            signals += 1
        for number, (process, rows) in list(running.items()):
            with suppress(TimeoutExpired):
                process.wait(0.01)
            if process.returncode is None:
                continue
            del running[number]
            if process.returncode == 0:
                continue
            assert process.returncode == -signal.SIGKILL
            killed.add(number)
            forget(place, number)
            recorded = {row for row, _ in lines("done")}
            running[started] = launch(started, [row for row in rows if row not in recorded])
            started += 1
    done = lines("done")
    assert {row for row, _ in done} == set(range(ROWS))
    assert all(content == row % DISTINCT for row, content in done)
    assert bool(killed) == bool(kills)
    sent = lines("sent")
    assert {content for _, content in sent} == set(range(DISTINCT))
    by_the_living = Counter(content for who, content in sent if who not in killed)
    assert max(by_the_living.values()) == 1
    assert len(sent) <= DISTINCT + 600 * kills  # what a dead worker had asked for and not yet told


def test_a_leader_whose_end_cannot_be_told_leaves_nobody_waiting(
    start: Callable[[], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start()
    assert worker.take((0, "a"), (1, "a"), (2, "a")) == [0]

    def broken(_: Any) -> bytes:
        raise KeyError("x")

    with monkeypatch.context() as patch:
        patch.setattr("rowmill.worker.live.dedup.encode", broken)
        with pytest.raises(KeyError):
            worker.answer(0, "for a")
    assert list(worker.leads) == [1], "the next one asks"
    worker.answer(1, "for a")
    assert set(worker.recorded) == {2}


def test_a_row_that_has_no_key_fails_and_the_others_are_taken(start: Callable[[], Worker]) -> None:
    worker = start()
    key_of = worker.dedup._key

    def broken(body: bytes) -> bytes:
        if body == b"b?":
            raise KeyError("x")
        return key_of(body)

    worker.dedup._key = broken
    assert worker.take((0, "a"), (1, "b"), (2, "c")) == [0, 2]
    assert set(worker.recorded) == {1}
