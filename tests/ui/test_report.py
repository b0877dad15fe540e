"""What a person and a program read at the end of a run."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ExitCode, RunDirectoryError
from engine.records import Counters, RunReport, SessionReport, Totals
from engine.ui.report import from_json, summary, to_json

SESSION = SessionReport(
    started="2026-01-02T03:04:05Z",
    ended="2026-01-02T03:04:53Z",
    exit_code=ExitCode.ROWS_FAILED,
    stopped_by=None,
    elapsed_s=48.4,
    rows=60_000,
    rows_per_s=1_239.7,
    counters=Counters(requests=60_012, replies=60_000, retries=12, faults={"timeout": 4, "server_error": 8}),
    in_flight_max=128,
    allowed=128,
    workers=2,
    deaths=0,
    quarantined=0,
    billed_twice_max=4,
    cpu_s=40.0,
    rss_max_bytes={"supervisor": 45 * 2**20, "worker": 61 * 2**20},
)
DONE = RunReport(
    run="a1b2",
    finished=True,
    input="in.jsonl",
    output="out.jsonl",
    errors="out.errors.jsonl",
    rows=60_000,
    totals=Totals(rows=60_000, failed=3, prompt_tokens=1_200_000, completion_tokens=400_000, requests=60_012),
    failures={"server_error": 1, "content_filter": 2},
    sessions=[SESSION],
)


def stopped(code: ExitCode, why: str | None = None) -> tuple[RunReport, SessionReport]:
    session = msgspec.structs.replace(SESSION, exit_code=code, stopped_by=why, rows=12_345, elapsed_s=10.0)
    totals = Totals(rows=12_345, failed=0, prompt_tokens=10, completion_tokens=5, requests=12_345)
    return msgspec.structs.replace(DONE, finished=False, totals=totals, failures={}, sessions=[session]), session


def test_a_finished_run_in_short_lines() -> None:
    assert summary(DONE, SESSION).splitlines() == [
        "Done: 60,000 rows in 48s (1,240 rows/s)",
        "  failed   3: content_filter 2, server_error 1; listed in out.errors.jsonl",
        "  output   out.jsonl",
        "  tokens   1.2M in, 400k out",
        "  requests 60,012, 12 retries, server_error 8, timeout 4, at most 4 billed twice",
        "  memory   peak 45 MiB supervisor, 61 MiB worker",
    ]


def test_a_run_without_failures_does_not_speak_of_failures_or_double_billing() -> None:
    session = msgspec.structs.replace(SESSION, counters=Counters(requests=60_000), billed_twice_max=0)
    report = msgspec.structs.replace(DONE, totals=Totals(rows=60_000), failures={}, sessions=[session])
    text = summary(report, session)
    assert "failed" not in text
    assert "billed" not in text
    assert "next" not in text


def test_an_interrupted_run_says_how_far_it_came_and_how_to_go_on() -> None:
    text = summary(*stopped(ExitCode.INTERRUPTED, "interrupted"))
    assert text.splitlines()[:2] == [
        "Stopped: interrupted",
        "  done     12,345 of 60,000 rows in 10s (1,240 rows/s)",
    ]
    assert "out.jsonl (not yet written)" in text
    assert text.splitlines()[-1] == "  next     run the same command again to resume"


@pytest.mark.parametrize(
    ("code", "text"),
    [(ExitCode.PROVIDER, "credit, key or model"), (ExitCode.MACHINE, "machine"), (ExitCode.BUDGET, "budget")],
)
def test_what_stopped_the_run_decides_what_to_do_next(code: ExitCode, text: str) -> None:
    last = summary(*stopped(code, "why")).splitlines()[-1]
    assert text in last
    assert "run the same command again to resume" in last


@pytest.mark.parametrize("code", [99, *ExitCode])
def test_every_exit_code_of_an_unfinished_run_can_be_told(code: int) -> None:
    report, session = stopped(ExitCode.OK)
    session = msgspec.structs.replace(session, exit_code=code)
    assert "run the same command again to resume" in summary(report, session)


def test_an_input_that_was_not_counted_to_its_end_names_no_total() -> None:
    report, session = stopped(ExitCode.INTERRUPTED)
    text = summary(msgspec.structs.replace(report, rows=None), session)
    assert "12,345 rows in 10s" in text
    assert "None" not in text


def test_a_resumed_run_tells_its_own_rows_from_the_whole_and_adds_up_double_billing() -> None:
    again = msgspec.structs.replace(SESSION, rows=5, billed_twice_max=2)
    report = msgspec.structs.replace(DONE, sessions=[SESSION, again])
    text = summary(report, again)
    assert text.startswith("Done: 60,000 rows, 5 of them in this session, in 48s")
    assert "at most 6 billed twice" in text


def test_dead_workers_and_rows_given_up_are_told() -> None:
    session = msgspec.structs.replace(SESSION, deaths=3, quarantined=1)
    assert "  workers  3 died and were replaced; rows given up because of it: 1" in summary(DONE, session).splitlines()


def test_a_server_cannot_steer_the_terminal_through_the_summary() -> None:
    assert summary(*stopped(ExitCode.PROVIDER, "no\x1b[2J\ncredit")).splitlines()[0] == "Stopped: no [2J credit"


counts = st.integers(0, 2**53)
totals = st.builds(Totals, rows=counts, failed=counts, prompt_tokens=counts, completion_tokens=counts, requests=counts)


@settings(deadline=None)
@given(totals=totals, failures=st.dictionaries(st.text(), counts), rows=st.none() | counts, text=st.text())
def test_a_report_reads_back_as_it_was_written(
    totals: Totals, failures: dict[str, int], rows: int | None, text: str
) -> None:
    session = msgspec.structs.replace(SESSION, stopped_by=text)
    report = msgspec.structs.replace(
        DONE, totals=totals, failures=failures, rows=rows, input=text, sessions=[SESSION, session]
    )
    assert from_json(to_json(report)) == report


def test_the_json_is_indented_and_ends_its_line() -> None:
    data = to_json(DONE)
    assert data.startswith(b'{\n  "run": "a1b2",')
    assert data.endswith(b"}\n")


def test_a_report_of_a_later_version_is_read() -> None:
    assert from_json(to_json(DONE).replace(b'"run":', b'"later": [1],\n  "run":', 1)) == DONE


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"run": 1}', b'{"run": "a"', b'{"run": "\xff"}'])
def test_what_is_no_report_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(RunDirectoryError, match="report cannot be read") as caught:
        from_json(data)
    assert "\n" not in str(caught.value)
