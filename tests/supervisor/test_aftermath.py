"""What killed sessions have left: counted once, whoever is killed while it is counted."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rowmill.budget import ledger
from rowmill.budget.ledger import Spending, SpendingLine
from rowmill.core import config as configuration
from rowmill.core import tallies
from rowmill.core.amounts import Amount, Spent
from rowmill.core.counts import Counters
from rowmill.core.reports import SessionReport
from rowmill.runs.preparation import prepare
from rowmill.store.in_flight import BoardHead, InflightBoard
from rowmill.supervisor import aftermath
from rowmill.supervisor.aftermath import take_in
from rowmill.supervisor.prepared import Prepared

NAMES = tallies.names(1, ["timeout"])
IN, OUT = 1.0, 4.0


class Killed(Exception):
    """The process that counts is killed."""


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Prepared]:
    (tmp_path / "in.jsonl").write_bytes(b'{"text":"a"}\n')
    tree: dict[str, Any] = {
        "input": {"path": str(tmp_path / "in.jsonl"), "format": "jsonl"},
        "task": {"model": "m", "prompt": "{text}"},
        "output": {"path": str(tmp_path / "out.jsonl")},
        "provider": [{"name": "main", "base_url": "http://127.0.0.1:1/v1"}],
        "prices": {"m": {"input": IN, "output": OUT}},
        "budget": {"max_tokens": 1000},
    }
    made = prepare(configuration.parse(tree, "test"), {})
    with made.directory:
        yield made


def session(requests: int, twice: int = 0) -> SessionReport:
    return SessionReport(
        id="s",
        started="2026-01-01T00:00:00Z",
        ended="2026-01-01T00:00:01Z",
        exit_code=0,
        stopped_by=None,
        elapsed_s=1.0,
        rows=0,
        rows_per_s=0.0,
        counters=Counters(requests=requests),
        in_flight_max=0,
        allowed=0,
        workers=1,
        deaths=0,
        quarantined=0,
        billed_twice_max=twice,
        cpu_s=0.0,
        rss_max_bytes={},
    )


def board(
    prepared: Prepared, number: int, in_flight: int, name: str | None = None, *, step: str = "", **counts: int
) -> dict[str, int]:
    """Leave a board; returns its counts."""
    figures = dict.fromkeys(NAMES, 0) | {
        "0.requests": counts.get("requests", 0),
        "0.prompt_tokens": counts.get("prompt", 0),
        ".rows": counts.get("rows", 0),
        ".fault.timeout": counts.get("timeouts", 0),
        ".maybe_billed_twice": counts.get("timeouts", 0),
    }
    head = BoardHead(name or f"s-{number}", 8, ["main"], NAMES, step or msgspec.UNSET)
    made = InflightBoard.create(prepared.directory.board_path(number), 8, head)
    for slot in range(in_flight):
        made.cells[slot] = slot + 1
    made.counts[:] = memoryview(array("q", figures.values()))
    made.leave()
    return figures


def write(prepared: Prepared, requests: int, tokens: int, counted: dict[str, dict[str, int]]) -> None:
    spent = Spent(requests, tokens)
    line = SpendingLine(provider="main", model="m", mode="live", spent=spent)
    spending = Spending(
        lines=[line], outstanding=Amount(0.0, 100.0), session=session(requests, twice=1), counted=counted
    )
    ledger.save(prepared.directory.spending, spending, sync=False)


def held(prepared: Prepared, requests: int, tokens: int, *, timeouts: int, billed: int, rows: int) -> None:
    """Hold that this is what is known of the killed session now, whatever is told of it again."""
    found = take_in(prepared, frozenset())
    (killed,) = found.sessions
    assert (killed.exit_code, killed.stopped_by) == (137, "killed, or its machine failed")
    assert (killed.counters.requests, killed.counters.faults.get("timeout", 0)) == (requests, timeouts)
    assert (killed.rows, killed.billed_twice_max) == (rows, 1 + timeouts + billed)
    assert found.billed == 0
    spending = ledger.load(prepared.directory.spending)
    (line,) = spending.lines
    assert (line.spent.requests, line.spent.prompt_tokens) == (requests, tokens)
    assert prepared.directory.boards() == []


def test_what_workers_counted_since_it_was_written_down_is_added(prepared: Prepared) -> None:
    first = board(prepared, 0, 2, requests=10, prompt=100, rows=7, timeouts=1)
    board(prepared, 1, 1, requests=4, prompt=30, rows=3)
    write(prepared, 6, 60, {"s-0": {**first, "0.requests": 6, "0.prompt_tokens": 60, ".fault.timeout": 1}})
    spending = ledger.load(prepared.directory.spending)
    assert spending.session is not None
    seen = aftermath.as_left(prepared.directory, spending, spending.session)
    assert (seen.exit_code, seen.rows, seen.counters.requests, seen.billed_twice_max) == (137, 3, 14, 4)
    assert len(prepared.directory.boards()) == 2, "who only looks leaves what there is"
    held(prepared, requests=6 + 4 + 4, tokens=60 + 40 + 30, timeouts=0, billed=3, rows=3)
    after = ledger.load(prepared.directory.spending)
    assert after.outstanding.tokens == 100 - 70, "that much of what was handed out is known to be spent"
    assert after.session is None
    held(prepared, requests=14, tokens=130, timeouts=0, billed=3, rows=3)
    assert take_in(prepared, frozenset({"s"})).sessions == [], "the report has it"


def test_rows_with_further_steps_to_go_are_none_of_the_session(prepared: Prepared) -> None:
    board(prepared, 0, 0, step="draft", requests=10, rows=7)
    board(prepared, 1, 0, step="title", requests=4, rows=3)
    write(prepared, 0, 0, {})
    spending = ledger.load(prepared.directory.spending)
    assert spending.session is not None
    seen = aftermath.as_left(prepared.directory, spending, spending.session, last="title")
    assert (seen.rows, seen.counters.rows, seen.counters.requests) == (3, 3, 14)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    requests=st.lists(st.integers(0, 50), min_size=1, max_size=3),
    in_flight=st.integers(0, 8),
    timeouts=st.integers(0, 5),
    known=st.integers(0, 20),  # of the requests of each
    kills=st.lists(st.sampled_from(("_save_killed", "ledger", "forget", "after")), max_size=4),
)
def test_whoever_is_killed_while_it_is_counted_counts_nothing_twice(  # noqa: PLR0917 - Hypothesis names them
    prepared: Prepared, requests: list[int], in_flight: int, timeouts: int, known: int, kills: list[str]
) -> None:
    for path in (prepared.directory.killed, prepared.directory.spending):
        path.unlink(missing_ok=True)
    counted = {}
    told = 0
    for number, sent in enumerate(requests):
        figures = board(prepared, number, in_flight, requests=sent, prompt=10 * sent, rows=sent, timeouts=timeouts)
        part = min(known, sent)
        told += part
        counted[f"s-{number}"] = {"0.requests": part, "0.prompt_tokens": 10 * part, ".rows": figures[".rows"]}
    write(prepared, told, 10 * told, counted)
    boards = len(prepared.directory.boards())
    for step in kills:
        with pytest.MonkeyPatch.context() as patch:
            _kill_at(patch, step)
            try:
                take_in(prepared, frozenset())
            except Killed:
                if step in ("_save_killed", "ledger") and "after" not in kills and "forget" not in kills:
                    assert len(prepared.directory.boards()) == boards, "until what they say is on the disk"
    workers = len(requests)
    whole = sum(requests)
    held(prepared, whole, 10 * whole, timeouts=workers * timeouts, billed=workers * in_flight, rows=0)


def _kill_at(patch: pytest.MonkeyPatch, step: str) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    def one_gone(directory: Any) -> None:
        for path in directory.boards()[:1]:
            path.unlink()
        raise Killed

    if step == "ledger":
        patch.setattr(ledger, "save", killed)
    elif step == "forget":
        patch.setattr(aftermath, "forget", one_gone)
    elif step == "_save_killed":
        patch.setattr(aftermath, "_save_killed", killed)


def test_boards_of_nobody_are_counted_once(prepared: Prepared) -> None:
    for number, rows in enumerate(([1, 2], [], [7])):  # as earlier versions have left them
        made = InflightBoard.create(prepared.directory.board_path(number), 4)
        for slot, row in enumerate(rows):
            made.cells[slot] = row + 1
    board(prepared, 5, 2, "another-0", requests=9, prompt=90)  # of a session that was never written down
    found = take_in(prepared, frozenset())
    assert (found.sessions, found.billed) == ([], 5)
    (line,) = ledger.load(prepared.directory.spending).lines
    assert (line.provider, line.model, line.spent.requests) == ("main", "m", 9)
    assert take_in(prepared, frozenset()) == aftermath.Aftermath([], 0)
    assert prepared.directory.boards() == []


def test_a_run_that_nothing_has_happened_to_is_left_as_it_is(prepared: Prepared) -> None:
    assert take_in(prepared, frozenset()) == aftermath.Aftermath([], 0)
    assert not prepared.directory.spending.exists()
    assert not prepared.directory.killed.exists()
