"""What a person and a program read at the end of a run."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.amounts import Spent
from rowmill.core.counts import BatchView, Counters, Totals
from rowmill.core.errors import ExitCode, RunDirectoryError
from rowmill.core.reports import (
    Cost,
    CostLine,
    ProviderFigures,
    RunReport,
    SessionReport,
    StepFigures,
    from_json,
    to_json,
)
from rowmill.interface.ui.report import of_config, summary
from tests.interface.ui.snapshots import BATCHES

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


PLAIN = ProviderFigures(
    requests=60_012,
    answered=60_000,
    limited=4,
    failed=12,
    retries=12,
    prompt_tokens=1_200_000,
    completion_tokens=400_000,
    mean_reply_s=0.84,
    in_flight_max=128,
    requests_per_minute=90_000.0,
)


def with_providers(**providers: ProviderFigures) -> list[str]:
    return summary(DONE, msgspec.structs.replace(SESSION, providers=providers)).splitlines()


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


def test_rows_that_steps_have_left_out_are_not_in_the_output() -> None:
    figures = {"rows": 60_000, "failed": 0, "requests": 60_000, "prompt_tokens": 900, "completion_tokens": 40}
    steps = tuple(StepFigures(name=name, left_out=out, **figures) for name, out in (("draft", 0), ("judge", 1_000)))
    lines = summary(msgspec.structs.replace(DONE, steps=steps), SESSION).splitlines()
    assert "  output   out.jsonl: 59,000 of 60,000 rows; 1,000 are left out" in lines
    assert [" ".join(line.split()) for line in lines[5:8]] == [
        "step rows failed left out requests tokens cost",
        "draft 60,000 0 0 60,000 900+40 unknown",
        "judge 60,000 0 1,000 60,000 900+40 unknown",
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
    [(ExitCode.PROVIDER, "credit, key, model"), (ExitCode.MACHINE, "machine"), (ExitCode.BUDGET, "budget")],
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


def test_one_provider_with_nothing_unusual_adds_nothing() -> None:
    assert with_providers(main=PLAIN) == summary(DONE, SESSION).splitlines()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"limited": 3000}, "3,000 429s (5.0%), limit 90,000 requests a minute"),
        ({"held_s": 598.0}, "held 9m58s, limit 90,000 requests a minute"),
        ({"opened": 1, "requests_per_minute": None}, "breaker opened once"),
        ({"opened": 12, "requests_per_minute": None}, "breaker opened 12 times"),
        ({"odd_headers": 1234, "requests_per_minute": None}, "odd limit headers 1,234"),
        ({"odd_usage": 1, "requests_per_minute": None}, "odd usage 1, counted as estimated"),
        ({"state": "closed", "requests_per_minute": None}, "closed at the end"),
        (
            {"held_s": 2.0, "requests_per_minute": 0.5, "tokens_per_minute": 90_000.0},
            "held 2.0s, limit 0.5 requests, 90k tokens a minute",
        ),
    ],
    ids=str,
)
def test_what_is_unusual_of_one_provider_is_told(change: dict[str, Any], text: str) -> None:
    lines = with_providers(main=msgspec.structs.replace(PLAIN, **change))
    assert f"  provider {text}" in lines
    assert len(lines) == len(summary(DONE, SESSION).splitlines()) + 1


def test_several_providers_have_a_line_each() -> None:
    spare = ProviderFigures(state="closed", held_s=598.0, opened=2, odd_headers=1, tokens_per_minute=1.2e6)
    lines = with_providers(main=PLAIN, spare=spare)
    at = next(place for place, line in enumerate(lines) if line.startswith("  provider"))
    assert lines[at - 1].startswith("  requests")
    assert lines[at : at + 3] == [
        "  provider  requests  answered  429s     tokens  reply  state",
        "  main        60,012     99.9%     4  1.2M+400k   0.8s  open    limit 90,000 requests a minute",
        (
            "  spare            0         -     0        0+0      -  closed  limit 1.2M tokens a minute, held 9m58s, "
            "breaker opened 2 times, odd limit headers 1"
        ),
    ]


def test_what_does_not_fit_beside_a_provider_stands_below_it() -> None:
    spare = ProviderFigures(state="closed", held_s=598.0, opened=2, tokens_per_minute=1.2e6)
    session = msgspec.structs.replace(SESSION, providers={"main": PLAIN, "spare": spare})
    lines = summary(DONE, session, width=70).splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("  main"))
    assert lines[at : at + 4] == [
        "  main        60,012     99.9%     4  1.2M+400k   0.8s  open",
        "           limit 90,000 requests a minute",
        "  spare            0         -     0        0+0      -  closed",
        "           limit 1.2M tokens a minute, held 9m58s, breaker opened 2",
    ]


def test_the_notices_of_the_session_are_listed_and_many_are_cut() -> None:
    session = msgspec.structs.replace(SESSION, notices=["disk nearly full, paused", "open files raised\x1b to 65,536"])
    lines = summary(DONE, session).splitlines()
    assert lines[-2:] == ["  notices  disk nearly full, paused", "           open files raised  to 65,536"]
    many = summary(DONE, msgspec.structs.replace(SESSION, notices=[f"notice {n}" for n in range(50)]))
    assert len(many.splitlines()) == len(lines) + 9
    assert many.endswith("40 more in the report")


def test_what_to_do_next_stays_the_last_line() -> None:
    report, session = stopped(ExitCode.PROVIDER, "why")
    session = msgspec.structs.replace(session, notices=["held"], providers={"a": PLAIN, "b": PLAIN})
    assert summary(report, session).splitlines()[-1].startswith("  next")


def costing(*lines: tuple[str, str, float | None], **more: Any) -> Cost:
    spent = Spent(60_012, 1_200_000, 300_000, 400_000)
    return Cost(
        usd=None if any(usd is None for _, _, usd in lines) else sum(usd or 0.0 for _, _, usd in lines),
        tokens=1_600_000,
        requests=60_012,
        lines=tuple(
            CostLine(provider="main", model=model, mode=mode, spent=spent, usd=usd) for model, mode, usd in lines
        ),
        **more,
    )


def test_the_cost_stands_below_the_requests_with_all_that_belongs_to_it() -> None:
    cost = costing(
        ("gpt-small", "live", 1.23),
        ("gpt-small", "batch", 0.4),
        retries_usd=0.02,
        lost_usd=0.03,
        lost=Spent(3, 10_000, 0, 500),
        spared_usd=0.5,
        packed_usd=0.1,
        batch_usd=0.4,
        max_usd=5.0,
    )
    plain = summary(DONE, SESSION).splitlines()
    lines = summary(msgspec.structs.replace(DONE, cost=cost), SESSION).splitlines()
    assert lines == [
        *plain[:-1],
        "  cost     $1.63: $1.23 live, $0.40 batch",
        "           retries $0.02; saved: cache $0.50, packing $0.10, batch $0.40",
        "           at most $0.03 more may have been billed (3 requests without a reply)",
        "  model      mode   requests  tokens in (cached)   out   cost",
        "  gpt-small  live     60,012         1.2M (300k)  400k  $1.23",
        "  gpt-small  batch    60,012         1.2M (300k)  400k  $0.40",
        "  budget   $5.00: 33.2% used",
        plain[-1],
    ]
    assert max(map(len, lines)) <= 80


def test_a_model_without_a_price_is_named_with_what_to_do() -> None:
    lines = summary(msgspec.structs.replace(DONE, cost=costing(("m", "live", None), unpriced=("m",))), SESSION)
    assert '  cost     unknown for model "m" (add it to [prices])' in lines.splitlines()


def test_one_retry_is_one() -> None:
    session = msgspec.structs.replace(SESSION, counters=Counters(requests=5, retries=1))
    assert "  requests 5, 1 retry, at most 4 billed twice" in summary(DONE, session).splitlines()


def test_a_run_stopped_by_a_cap_says_which_to_raise() -> None:
    report, session = stopped(ExitCode.BUDGET, "budget.max_usd is spent: $4.99 of $5.00")
    cost = costing(("m", "live", 4.985), max_usd=5.0)
    lines = summary(msgspec.structs.replace(report, cost=cost), session).splitlines()
    assert "  budget   $5.00: 99.7% used" in lines
    assert lines[-1] == "  next     raise budget.max_usd, then run the same command again to resume"
    again = of_config("c.toml --set budget.max_usd=5.0 --set 'task.prompt=a b'")
    assert summary(report, session, again=again).endswith(
        ": rowmill run c.toml --set budget.max_usd=MORE --set 'task.prompt=a b'"
    )


def test_batches_that_go_on_are_told_with_how_to_pick_them_up_and_how_to_end_them() -> None:
    report, session = stopped(ExitCode.INTERRUPTED, "interrupted")
    session = msgspec.structs.replace(session, mode="batch", batches=list(BATCHES))
    lines = summary(report, session).splitlines()
    assert lines[-3:] == [
        "  batches  3 go on at the provider, 1 is over there and not collected",
        "           run the same command again to pick them up, or rowmill cancel",
        "  next     run the same command again to resume",
    ]
    assert any(line.startswith("  requests 60,012 in batches, ") for line in lines)
    assert "batches" not in summary(DONE, SESSION)


# As the version before wrote them: its sessions know neither providers nor notices.
OLD_REPORT = b"""{
  "run": "a1b2", "finished": true, "input": "in.jsonl", "output": "out.jsonl", "errors": null, "rows": 5,
  "totals": {"rows": 5, "failed": 0, "prompt_tokens": 50, "completion_tokens": 20, "requests": 5},
  "failures": {},
  "sessions": [{
    "started": "2026-01-02T03:04:05Z", "ended": "2026-01-02T03:04:53Z", "exit_code": 0, "stopped_by": null,
    "elapsed_s": 0.4, "rows": 5, "rows_per_s": 12.5,
    "counters": {"rows": 5, "requests": 5, "replies": 5, "retries": 0, "maybe_billed_twice": 0, "faults": {}},
    "in_flight_max": 5, "allowed": 128, "workers": 2, "deaths": 0, "quarantined": 0, "billed_twice_max": 0,
    "cpu_s": 1.2, "rss_max_bytes": {"supervisor": 47185920, "worker": 63963136}
  }]
}
"""


def test_a_report_of_the_version_before_is_read_and_summed_up() -> None:
    report = from_json(OLD_REPORT)
    assert report.sessions[0].providers == {}
    assert report.sessions[0].notices == []
    assert report.sessions[0].batches == []
    assert report.cost is None
    assert summary(report, report.sessions[0]).startswith("Done: 5 rows")


counts = st.integers(0, 2**53)
spans = st.floats(0, 10**7)
provider_figures = st.builds(
    ProviderFigures,
    state=st.sampled_from(["open", "holding", "failing", "recovering", "closed"]),
    requests=counts,
    answered=counts,
    limited=counts,
    failed=counts,
    retries=counts,
    prompt_tokens=counts,
    completion_tokens=counts,
    mean_reply_s=st.none() | spans,
    held_s=spans,
    opened=counts,
    in_flight_max=counts,
    odd_headers=counts,
    odd_usage=counts,
    requests_per_minute=st.none() | st.floats(0, 10**9),
    tokens_per_minute=st.none() | st.floats(0, 10**12),
)
spent = st.builds(Spent, counts, counts, counts, counts)
dollars = st.none() | st.floats(0, 10**9)
costs = st.builds(
    Cost,
    usd=dollars,
    tokens=counts,
    requests=counts,
    lines=st.lists(
        st.builds(
            CostLine,
            provider=st.text(max_size=40),
            model=st.text(max_size=80),
            mode=st.sampled_from(["live", "batch"]),
            spent=spent,
            usd=dollars,
        ),
        max_size=9,
    ).map(tuple),
    retries_usd=dollars,
    lost_usd=dollars,
    lost=spent,
    spared_usd=dollars,
    packed_usd=dollars,
    batch_usd=dollars,
    projected_usd=dollars,
    max_usd=dollars,
    max_tokens=st.none() | st.floats(0, 10**12),
    max_requests=st.none() | st.floats(0, 10**12),
    unpriced=st.lists(st.text(max_size=80), max_size=5).map(tuple),
)
batch_views = st.lists(
    st.builds(BatchView, counts, counts, st.text(max_size=9), st.text(max_size=40), counts, counts, counts), max_size=5
)
totals = st.builds(Totals, rows=counts, failed=counts, prompt_tokens=counts, completion_tokens=counts, requests=counts)


@settings(deadline=None)
@given(
    totals=totals,
    failures=st.dictionaries(st.text(), counts),
    rows=st.none() | counts,
    text=st.text(),
    providers=st.dictionaries(st.text(), provider_figures, max_size=3),
    cost=st.none() | costs,
    batches=batch_views,
)
def test_a_report_reads_back_as_it_was_written(  # noqa: PLR0917 - all that varies
    totals: Totals,
    failures: dict[str, int],
    rows: int | None,
    text: str,
    providers: dict[str, ProviderFigures],
    cost: Cost | None,
    batches: list[BatchView],
) -> None:
    session = msgspec.structs.replace(SESSION, stopped_by=text, providers=providers, notices=[text], batches=batches)
    report = msgspec.structs.replace(
        DONE, totals=totals, failures=failures, rows=rows, input=text, cost=cost, sessions=[SESSION, session]
    )
    assert from_json(to_json(report)) == report


@settings(deadline=None)
@given(
    providers=st.dictionaries(st.text(), provider_figures, max_size=5),
    notices=st.lists(st.text(), max_size=12),
    cost=st.none() | costs,
    batches=batch_views,
    code=st.sampled_from(ExitCode),
)
def test_any_session_can_be_summed_up_in_printable_lines(
    providers: dict[str, ProviderFigures],
    notices: list[str],
    cost: Cost | None,
    batches: list[BatchView],
    code: ExitCode,
) -> None:
    report, session = stopped(code, "why")
    session = msgspec.structs.replace(session, providers=providers, notices=notices, batches=batches)
    text = summary(msgspec.structs.replace(report, cost=cost), session)
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.splitlines()[-1].startswith("  next")


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


def test_the_last_line_is_a_command_that_goes_on() -> None:
    again = "config.toml --set 'task.prompt=\"a b\"'"
    assert summary(DONE, SESSION, again=of_config(again)).splitlines()[-1] == (
        f"  next     rowmill retry {again}: asks again for the failed rows"
    )
    stopped = msgspec.structs.replace(
        SESSION,
        exit_code=ExitCode.PROVIDER,
        stopped_by="provider 'a': invalid_request (HTTP 400, the same error on 25)",
    )
    unfinished = msgspec.structs.replace(DONE, finished=False, sessions=[stopped])
    last = summary(unfinished, stopped, again=of_config(again)).splitlines()[-1]
    assert last.endswith(f"where that changes the configuration it is another run: rowmill run {again} --fresh")
    interrupted = msgspec.structs.replace(SESSION, exit_code=ExitCode.INTERRUPTED, stopped_by="interrupted")
    last = summary(unfinished, interrupted, again=of_config(again)).splitlines()[-1]
    assert last == f"  next     run the same command again to resume: rowmill run {again}"


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_lines_wrap_between_words(width: int) -> None:
    narrow = summary(DONE, SESSION, again=of_config("config.toml"), width=width)
    assert all(len(line) <= width or len(line.split()) <= 2 for line in narrow.splitlines())
    assert narrow.split() == summary(DONE, SESSION, again=of_config("config.toml")).split()


def test_a_run_in_which_no_row_was_answered_does_not_read_as_done() -> None:
    totals = Totals(rows=10, failed=10, requests=10)
    report = msgspec.structs.replace(DONE, rows=10, totals=totals, failures={"invalid_request": 10})
    why = "no row was answered: all 10 failed: invalid_request (HTTP 400, No connected db.)"
    session = msgspec.structs.replace(SESSION, exit_code=ExitCode.PROVIDER, stopped_by=why)
    lines = summary(report, session, again=of_config("c.toml")).splitlines()
    assert lines[0] == "N" + why[1:]
    assert lines[-1].endswith("it is another run: rowmill run c.toml --fresh")
    one = msgspec.structs.replace(report, totals=Totals(rows=1, failed=1, requests=1))
    lines = summary(one, SESSION, again=of_config("c.toml")).splitlines()
    assert lines[0] == "No row was answered: the only one failed"
    assert "rowmill retry c.toml" in lines[-1]


def test_a_command_stays_on_one_line_to_be_copied() -> None:
    again = "'a long directory of many words/and a configuration with a name as long.toml' --set 'output.path=\"a b\"'"
    narrow = summary(DONE, SESSION, again=of_config(again), width=80)
    assert any(f"rowmill retry {again}" in line for line in narrow.splitlines())
    assert "\0" not in narrow
