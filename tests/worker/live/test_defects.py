"""What no code foresaw costs the row that has met it: it fails with the place, and the worker goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rowmill.core.errors import MachineError
from rowmill.transport import faults
from tests.worker.live.conftest import Start, Wire, at_work, failure, reply, run
from tests.worker.live.test_second_asks import SCHEMA, Model, answers, results, task

BAD = 3
ERRORS = [
    KeyError("usage"),
    RecursionError("too deep"),
    MemoryError(),
    AssertionError(),
    ValueError("no \x1b[31m number"),
]


def failing(function: Callable[..., Any], error: Exception, when: Callable[..., bool]) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            raise error
        return function(*arguments, **named)

    return called


def of_bad(*arguments: Any) -> bool:
    """Whether a call is about the bad row: by its line, its job, or a reply to it."""
    return any(
        getattr(each, "index", None) == BAD or (isinstance(each, bytes) and b"row %d" % BAD in each)
        for each in arguments
    )


PLACES = {
    "build": lambda at: at.dispatcher._task,
    "parse": lambda at: at.dispatcher._task,
    "result": lambda at: at.writer,
    "_fail": lambda at: at.dispatcher._settler,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_anywhere_is_the_failure_of_its_row(
    work: Start, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    async def story() -> None:
        def rule(row: int, _nth: int) -> Any:
            if place == "_fail" and row == BAD:
                return reply(500, b"")
            return reply(body=reply().body.replace(b"done", b"row %d" % row))

        async with work(8, Wire(rule), concurrency=2) as at:
            holder = PLACES[place](at)
            monkeypatch.setattr(holder, place, failing(getattr(holder, place), error, of_bad))
            at.feed()
            await at.done()
            records = await at.outcomes()
            assert [row for row, record in records.items() if record["failed"]] == [BAD]
            failure = json.loads(json.dumps(records[BAD]))
            text = json.dumps(failure)
            assert "internal_error" in text
            assert type(error).__name__ in text
            assert "test_defects.py" in text, "the place"
            assert "\\u001b" not in text
            assert at.in_flight_rows() == []
            assert at.dispatcher.in_flight == 0

    run(story())


def test_a_failed_row_that_cannot_be_shown_has_its_line_and_the_log_says_why_once(
    work: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with work(3, Wire(lambda _row, _nth: failure(faults.INVALID_REQUEST)), include=("input",)) as at:
            monkeypatch.setattr(
                at.dispatcher._task, "input_of", failing(bytes, KeyError("of the test"), lambda _: True)
            )
            at.feed()
            await at.done()
            records = await at.outcomes()
            assert [record["failed"] for record in records.values()] == [True] * 3
            assert "invalid_request" in json.dumps(records[0])
            [note] = at.notes
            assert "KeyError at test_defects.py:" in note

    run(story())


def test_what_is_of_the_run_and_no_rows_still_ends_the_worker_and_the_board_names_the_row(
    work: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with work(1, Wire(lambda *_: reply())) as at:
            error = MachineError("the disk is gone")
            monkeypatch.setattr(at.writer, "result", failing(at.writer.result, error, lambda *_: True))
            at.feed()
            await at.until(at.dispatcher.ended.done)
            assert at.dispatcher.ended.result().exception() is error
            assert at.in_flight_rows() == [0]
            at.dispatcher.ended = at.dispatcher._loop.create_future()

    run(story())


@pytest.mark.parametrize("place", ["build", "parse"])
def test_a_defect_that_every_row_meets_stops_the_run_soon(
    work: Start, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    async def story() -> None:
        async with work(500, Wire(lambda *_: reply()), streak=20) as at:
            task = at.dispatcher._task
            monkeypatch.setattr(task, place, failing(getattr(task, place), KeyError("x"), lambda *_: True))
            at.feed()
            await at.until(lambda: at.told.closed)
            await at.settled()
            assert at.recorded < 60
            assert "the same error on 20 rows" in at.told.closed[0].reason

    run(story())


def test_a_pack_that_a_defect_meets_in_one_row_costs_that_row(work: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        model = Model(lambda rows, _nth: answers(rows))
        async with work(8, model, task=task(schema=SCHEMA, rows_per_request=4)) as at:
            of_three = failing(at.dispatcher._task.unpack, KeyError("x"), lambda body, _: b'\\"n\\": 3' in body)
            monkeypatch.setattr(at.dispatcher._task, "unpack", of_three)
            at.feed()
            await at.done()
            assert await results(at) == {row: "internal_error" if row == BAD else {"n": row} for row in range(8)}
            assert at.in_flight_rows() == []

    run(story())


def test_a_pack_that_is_recorded_by_half_is_asked_for_its_other_half_and_counted_once(
    work: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        model = Model(lambda rows, _nth: answers(rows))
        async with work(4, model, task=task(schema=SCHEMA, rows_per_request=4), concurrency=1) as at:
            once = iter([True])
            broken = failing(at.writer.result, KeyError("x"), lambda job, *_: job.index == 2 and next(once, False))
            monkeypatch.setattr(at.writer, "result", broken)
            at.feed()
            await at.done()
            assert await results(at) == {row: {"n": row} for row in range(4)}
            assert model.asked == [[0, 1, 2, 3], [2], [3]]
            report = at.providers[0].report
            assert (report.answered, report.prompt_tokens, report.doubtful.requests) == (3, 30, 0)

    run(story())


@pytest.mark.parametrize("place", ["again", "result", "reply"])
def test_a_defect_after_a_reply_was_counted_counts_it_no_second_time(
    work: Start, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    async def story() -> None:
        say = "no" if place != "result" else {"n": BAD}
        model = Model(lambda rows, _nth: say if rows == [BAD] else answers(rows))
        async with work(6, model, task=task(schema=SCHEMA)) as at:
            holder = at.dispatcher._task if place == "again" else at.writer
            broken = failing(getattr(holder, place), KeyError("x"), lambda *all_: place == "again" or of_bad(*all_))
            monkeypatch.setattr(holder, place, broken)
            at.feed()
            await at.done()
            assert await results(at) == {row: "internal_error" if row == BAD else {"n": row} for row in range(6)}
            report = at.providers[0].report
            assert (report.answered, report.prompt_tokens, report.doubtful.requests) == (6, 60, 0)

    run(story())


def test_a_body_that_cannot_be_made_a_providers_own_fails_its_row_unsent(work: Start) -> None:
    async def story() -> None:
        wire = Wire(lambda *_: reply())
        async with work(6, wire) as at:
            at.providers[0].rewrite = failing(bytes, KeyError("model"), lambda body: b"row %d" % BAD in body)
            at.feed()
            await at.done()
            records = await at.outcomes()
            assert [row for row, record in records.items() if record["failed"]] == [BAD]
            assert BAD not in {row for row, _ in wire.sent}
            assert at.providers[0].report.doubtful.requests == 0
            assert at.dispatcher.in_flight == 0

    run(story())


def test_a_defect_in_what_was_stored_of_a_row_fails_that_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def killed() -> None:
        hanging = Model(lambda rows, nth: "no" if nth == 1 else failure(faults.RATE_LIMITED, retry_after=500.0))
        async with at_work(tmp_path)(1, hanging, task=task(schema=SCHEMA)) as at:
            at.feed()
            await at.until(lambda: len(hanging.asked) == 2)
            await at.shard.checkpoint.commit()

    async def resumed() -> None:
        async with at_work(tmp_path)(1, Model(lambda rows, _nth: answers(rows)), task=task(schema=SCHEMA)) as at:
            broken = failing(len, KeyError("x"), lambda *_: True)
            monkeypatch.setattr("rowmill.worker.live.feeder.invalid_output", broken)
            at.feed()
            await at.done()
            assert await results(at) == {0: "internal_error"}
            assert (await at.outcomes())[0]["usage"] == [10, 7]

    run(killed())
    run(resumed())
