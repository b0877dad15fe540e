"""What no code foresaw costs the row that has met it: it fails with the place, and the worker goes on."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from rowmill.core.errors import MachineError
from tests.worker.live.conftest import Start, Wire, reply, run

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
