"""A report says what the run directory holds: its figures, its rows, what happened; and nothing that is a secret."""

import base64
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rowmill.core.amounts import Amount, Spent
from rowmill.core.counts import Counters, Totals
from rowmill.core.errors import RunDirectoryError
from rowmill.core.histograms import Distributions
from rowmill.core.moments import Moment, ProviderMoment
from rowmill.core.reports import Cost, CostLine, NodeFigures, ProviderFigures
from rowmill.interface.ui.report_page import page
from rowmill.runs.report import recorded
from rowmill.runs.report.document import RunDocument
from rowmill.runs.report.made import encoded, run_document
from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.store.framing import framed
from rowmill.store.run_directory import RunDirectory
from tests.interface.ui.shells import shell_of
from tests.runs.report.written import STARTED, configured, line_of, record_of, session, tell, write_run


def moment(second: int, name: str = "s1", **figures: Any) -> Moment:
    return Moment(at=STARTED + second, seconds=1.0, session=name, **figures)


def labelled(rows: int) -> list[bytes]:
    return [line_of(row, {"label": ("a", "b")[row % 2], "n": row}) for row in range(rows)]


def made(path: Path, config: Any = None, *, whole: bool = True) -> RunDocument:
    """Make the document, and read it back as a page does."""
    return msgspec.json.decode(encoded(run_document(path, config, whole=whole)), type=RunDocument)


def test_a_finished_run(tmp_path: Path) -> None:
    config = configured(tmp_path)
    lines = labelled(40)
    lines[3] = line_of(3, fault="timeout", message="too slow")
    spent = Spent(40, 240, 0, 80)
    cost = Cost(
        usd=0.5,
        tokens=320,
        requests=40,
        max_usd=2.0,
        lines=(CostLine(provider="main", model="mini", mode="live", spent=spent, usd=0.5),),
    )
    figures = ProviderFigures(requests=41, answered=39, failed=2, mean_reply_s=0.5, requests_per_minute=600)
    moments = [
        moment(
            second, rows=20, failed=1 - second % 2, requests=21, retries=1, usd=0.25, faults={"timeout": 1},
            providers={"main": ProviderMoment(requests=21, answered=20, prompt_tokens=120, completion_tokens=40)},
            spread=Distributions(latency_ms={20: 10, 40: 10}),
        )
        for second in (1, 2)
    ]  # fmt: skip
    counters = Counters(rows=40, requests=42, retries=2, faults={"timeout": 2})
    one = session("s1", 40, exit_code=1, counters=counters, providers={"main": figures}, notices=["disk nearly full"])
    write_run(config, lines, sessions=[one], moments=moments, failures={"timeout": 1}, cost=cost)

    document = made(config.run_dir, config)
    assert (document.kind, document.live, document.problems) == ("report", False, [])
    run, totals = document.run, document.totals
    assert (run.id, run.state, run.words) == ("r1", "finished", "finished, with failed rows")
    assert (run.started, run.ended, run.notices) == (STARTED, STARTED + 60, ["disk nearly full"])
    assert run.next == "`rowmill retry` asks again for the failed rows"
    assert (totals.rows, totals.done, totals.failed, totals.requests, totals.retries) == (40, 40, 1, 42, 2)
    assert (totals.prompt_tokens, totals.completion_tokens, totals.elapsed_s) == (240, 80, 60.0)
    timeline = document.timeline
    assert sum(timeline.rows) == totals.done
    assert sum(timeline.requests) == totals.requests
    assert sum(timeline.prompt_tokens) == totals.prompt_tokens
    assert document.cost is not None
    assert sum(timeline.usd) == sum(timeline.usd_by["mini"]) == document.cost.usd
    assert (timeline.faults, timeline.session) == ({"timeout": [1, 1]}, [0, 0])
    assert timeline.providers[0].answered == [20, 20]
    assert [(each.kind, each.at) for each in document.marks] == [("start", STARTED), ("end", STARTED + 60)]
    (latency,) = document.distributions
    assert (latency.name, latency.count, latency.p50) == ("latency", 40, 20.0)
    assert latency.buckets == [(20, 21, 20), (48, 50, 20)]
    (failure,) = document.failures
    assert (failure.name, failure.rows, failure.meaning) == ("timeout", 1, "No whole reply came within timeout_s")
    (example,) = failure.examples
    assert (example.index, example.id, example.message) == (3, "id-3", "too slow")
    assert (example.input, example.prompt) == ('{"id":"id-3","text":"row 3"}', "user\nSort: row 3")
    assert document.more_failures == (0, 0)
    assert [(each.name, each.requests) for each in document.faults] == [("timeout", 2)]
    assert document.fields is not None
    assert (document.fields.looked_at, document.fields.of) == (39, 39)
    assert [(each.name, each.rows) for each in document.fields.fields] == [("label", 39), ("n", 39)]
    assert [each.index for each in document.replies[:5]] == [0, 2, 5, 7, 9]
    assert len(document.replies) == 20
    reply = document.replies[1]
    assert (reply.output, reply.prompt, reply.tokens) == ('{"label":"a","n":2}', "user\nSort: row 2", (6, 2))
    (provider,) = document.providers
    assert (provider.base_url, provider.model, provider.usd) == ("http://127.0.0.1:1/v1", "mini", 0.5)
    assert (provider.requests, provider.mean_reply_s, provider.requests_per_minute) == (41, 0.5, 600)
    assert [(each.state, each.rows, each.exit_code) for each in document.sessions] == [("finished", 40, 1)]
    assert ("task.prompt", "Sort: {text}") in document.configuration


def test_at_its_end_the_same_is_made_of_some_rows_from_all_over(tmp_path: Path) -> None:
    config = configured(tmp_path)
    lines = [line_of(row, {"label": ("a", "b")[row % 2], "text": f"{row} " * 300}) for row in range(16_000)]
    for row in range(0, 16_000, 10):
        lines[row] = line_of(row, fault="timeout")
    write_run(config, lines, failures={"timeout": 1_600})
    some, whole = made(config.run_dir, config, whole=False), made(config.run_dir, config)
    assert some.fields is not None
    assert whole.fields is not None
    assert (whole.fields.looked_at, whole.fields.of) == (14_400, 14_400)
    assert 1_000 < some.fields.looked_at < 8_000
    assert some.fields.of == 14_400
    label = some.fields.fields[0]
    assert {name for name, _ in label.values} == {"a", "b"}
    assert [(each.name, each.rows, len(each.examples)) for each in some.failures] == [("timeout", 1_600, 3)]
    assert len(some.replies) == 20
    assert some.replies[-1].index > 12_000, "they are from all over"
    assert some.replies[-1].prompt is not None or any(each.prompt for each in some.replies)
    assert sum(each.prompt is not None for each in whole.replies) == 20


def test_rows_that_are_longer_than_what_is_read_of_a_place_are_read_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in {"_ALL_BYTES": 1_000, "_BLOCK": 100, "_LARGEST_BLOCK": 100, "_SEARCHED": 4_000}.items():
        monkeypatch.setattr(recorded, name, size)
    config = configured(tmp_path)
    write_run(config, [line_of(row, {"a": "x" * 1_000}) for row in range(30)])
    document = made(config.run_dir, config, whole=False)
    assert document.fields is not None
    assert (document.fields.looked_at, document.fields.of) == (4, 30)


def test_rows_that_were_retried_are_no_examples_of_failures_where_some_rows_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path)
    lines = [line_of(row, fault="timeout") if row < 50 else line_of(row, {"a": "x" * 100}) for row in range(100)]
    again = [framed(b'{"retry":50}'), *(record_of(row, line_of(row, {"a": "y" * 100})) for row in range(45))]
    again += [record_of(row, line_of(row, fault="auth")) for row in range(45, 50)]
    again += [record_of(99, line_of(99, {"a": "z" * 400}))] * 4  # so that what comes before lies in no last block
    write_run(config, lines, records=again, failures={"auth": 5})
    for name, size in {"_ALL_BYTES": 10_000, "_BLOCK": 2_000}.items():
        monkeypatch.setattr(recorded, name, size)
    document = made(config.run_dir, config, whole=False)
    (failure,) = document.failures
    assert (failure.name, failure.rows) == ("auth", 5)
    assert {each.index for each in failure.examples} <= set(range(45, 50))
    assert not any(each.failed and each.index < 45 for each in document.replies)
    monkeypatch.setattr(recorded, "_SEARCHED", 0)
    (failure,) = made(config.run_dir, config, whole=False).failures
    assert (failure.rows, failure.examples) == (5, []), "what cannot be told is not shown"


def test_rows_that_were_retried_count_once_and_as_they_are_now(tmp_path: Path) -> None:
    config = configured(tmp_path)
    lines = [line_of(0, {"a": 1}), line_of(1, fault="timeout"), line_of(2, fault="auth"), line_of(3, {"a": 1})]
    again = [framed(b'{"retry":2}'), record_of(1, line_of(1, {"a": 2})), record_of(2, line_of(2, fault="timeout"))]
    again.append(record_of(3, line_of(3, {"a": 99})))  # a second record of a row that has one
    write_run(config, lines, records=[*again, b"torn"])
    document = made(config.run_dir, config)
    assert document.fields is not None
    assert sorted(document.fields.fields[0].values) == [("1", 2), ("2", 1)]
    assert [(each.name, each.rows) for each in document.failures] == [("timeout", 1)]


def test_a_run_at_work_and_one_that_was_killed(tmp_path: Path) -> None:
    config = configured(tmp_path)
    directory = write_run(config, labelled(30), finished=False, sessions=[session("s1", 10, exit_code=137)])
    now = session("s2", 12, start=600)
    spending = {"session": msgspec.to_builtins(now)}
    directory.spending.write_bytes(msgspec.json.encode(spending))
    tell(directory, "s2", Totals(rows=27, failed=2), time.time())
    with RunDirectory.open(config.run_dir):
        document = made(config.run_dir, config)
        live = run_document(config.run_dir, config, whole=False, live=True)
        assert live.live
        assert (document.run.state, document.run.next, document.run.ended) == ("running", None, None)
        assert document.run.words.startswith("at work: process ")
        assert (document.totals.done, document.totals.failed) == (30, 0), "more than was told a second ago"
        assert [each.state for each in document.sessions] == ["killed", "running"]
    document = made(config.run_dir, config)
    assert not run_document(config.run_dir, config, whole=False, live=True).live
    assert (document.run.state, document.run.next) == ("killed", "`rowmill run` goes on with it")
    assert document.run.words == "killed, or its machine failed"
    assert [each.state for each in document.sessions] == ["killed", "killed"]
    assert [(each.kind, each.at - STARTED) for each in document.marks] == [
        ("start", 0), ("kill", 60), ("resume", 600), ("kill", 660),
    ]  # fmt: skip


def test_what_happened_is_marked(tmp_path: Path) -> None:
    config = configured(tmp_path)
    states = ["open"] * 3 + ["holding"] * 2 + ["open"] * 30 + ["failing", "recovering"] + ["open"] * 20 + ["closed"] * 5
    moments = [
        moment(second, providers={"main": ProviderMoment(state=state)}) for second, state in enumerate(states, 1)
    ]
    capped = session("s1", 5, exit_code=3, stopped_by="budget.max_usd: 1 of 1 is spent")
    stopped = session("s2", 5, start=120, exit_code=4, stopped_by="auth (HTTP 401)")
    directory = write_run(config, labelled(10), finished=False, sessions=[capped, stopped], moments=moments)
    directory.log.write_text(
        "2026-11-29T10:00:05Z rowmill run r1: rows.jsonl\n"
        "2026-11-29T10:00:07Z provider main: learned a limit\nno line of ours\n"
        "2026-11-29T10:00:09Z stopping: budget\n2026-11-29T10:00:09Z ended with exit code 3\n",
        encoding="utf-8",
    )
    document = made(config.run_dir, config)
    told = [
        (each.kind, each.at - STARTED, None if each.until is None else each.until - STARTED) for each in document.marks
    ]
    assert told == [
        ("start", 0, None),
        ("hold", 3, 5),
        ("note", 7, None),
        ("outage", 35, 37),
        ("closed", 57, 62),
        ("cap", 60, None),
        ("resume", 120, None),
        ("stop", 180, None),
    ]
    assert document.marks[1].words == "main asked for silence"
    assert document.marks[-1].words == "auth (HTTP 401)"
    assert (document.run.state, document.run.words) == ("stopped", "stopped: auth (HTTP 401)")


def test_batches_and_nodes_are_told(tmp_path: Path) -> None:
    config = configured(tmp_path)
    node = NodeFigures(node="east-1", joined_s=1.0, workers=2, rows=3, left_s=9.0, why="gone")
    directory = write_run(config, labelled(4), sessions=[session("s1", 4, mode="batch", nodes=[node])])
    journal = BatchJournal.open(directory.journal, "r1")
    for number in (1, 2):
        one = Try(
            part=0, number=number, first_row=0, end_row=4, requests=4, rows=4, size=9, crc=1, tokens=9,
            reserved=Amount(), asked_to=4, counted_from=1, since=STARTED,
        )  # fmt: skip
        journal.built(one)
        journal.uploading(one, STARTED + 1)
        journal.uploaded(one, "file", STARTED + 2)
        journal.creating(one, STARTED + 3)
        journal.created(one, f"batch_{number}", STARTED + 10 * number, STARTED + 4)
        if number == 1:
            journal.ended(one, "completed", "out", None, STARTED + 15)
            journal.collected(one, Spent(), Spent(), answered=3, failed=0, left=1, now=STARTED + 16)
    document = made(config.run_dir, config)
    first, second = document.batches
    assert (first.batch, first.status, first.created, first.ended) == (
        "batch_1", "completed", STARTED + 10, STARTED + 16,
    )  # fmt: skip
    assert (first.answered, first.left, second.status, second.ended) == (3, 1, "created", None)
    assert [(each.node, each.session, each.rows, each.why) for each in document.nodes] == [("east-1", 0, 3, "gone")]
    assert [each.mode for each in document.sessions] == ["batch"]


def test_whatever_a_run_has_the_document_stays_small(tmp_path: Path) -> None:
    config = configured(tmp_path)
    fields = {f"field {place} {'x' * 500}": "<&>" * 200 for place in range(500)}
    lines = [line_of(row, fields, input={"text": "<" * 50_000}) for row in range(30)]
    lines += [line_of(row, fault=f"class {row} {'y' * 2_000}", message="&" * 20_000) for row in range(30, 200)]
    names = [f"provider {place} {'z' * 300}" for place in range(10_000)]
    counters = Counters(rows=200, requests=200, faults={f"fault {place}": place for place in range(5_000)})
    figures = {name: ProviderFigures(requests=place) for place, name in enumerate(names)}
    nodes = [NodeFigures(node=name, joined_s=0.0, workers=1) for name in names[:1_000]]
    sessions = [session(f"s{place}", 1, start=place * 70) for place in range(299)]
    sessions.append(session("last", 1, start=30_000, counters=counters, providers=figures, nodes=nodes))
    moments = [
        moment(
            second, name=f"s{second % 1_900}",
            providers={name: ProviderMoment(requests=1) for name in names[second % 100 : second % 100 + 10]},
            faults={f"fault {second % 900}": 1}, usd=1.0, usd_by={f"model {second % 700}": 1.0},
        )
        for second in range(2_000)
    ]  # fmt: skip
    cost = Cost(
        usd=1.0,
        lines=tuple(CostLine(provider=name, model=name, mode="live", spent=Spent(), usd=None) for name in names),
        unpriced=tuple(names),
    )
    directory = write_run(config, lines, sessions=sessions, moments=moments, cost=cost)
    directory.log.write_text(
        "".join(f"2026-11-29T10:00:05Z {'n' * 5_000} {at}\n" for at in range(2_000)), encoding="utf-8"
    )
    data = encoded(run_document(config.run_dir, config, whole=True))
    assert len(data) < 2_000_000
    document = msgspec.json.decode(data, type=RunDocument)
    assert len(document.timeline.at) <= 1_500
    assert sum(document.timeline.usd) == pytest.approx(2_000)
    assert sum(map(sum, document.timeline.usd_by.values())) == pytest.approx(2_000)
    assert sum(map(sum, document.timeline.faults.values())) == 2_000
    assert (len(document.providers), document.more_providers) == (48, 9_952)
    assert (len(document.failures), document.more_failures[0]) == (40, 130)
    assert len(document.failures) + document.more_failures[1] == 170
    assert (len(document.sessions), document.more_sessions) == (100, 200)
    assert document.cost is not None
    assert document.cost.more_lines == 9_940
    assert document.fields is not None
    assert document.fields.more == 440
    assert len(document.marks) <= 240
    assert document.timeline.more_providers > 0


@pytest.mark.parametrize(("letter", "fit"), [("<", 10), ("🙂", 20)])
def test_long_rows_make_place_where_they_would_make_it_too_long(tmp_path: Path, letter: str, fit: int) -> None:
    config = configured(tmp_path)
    lines = [line_of(row, letter * 4_000) for row in range(20)]
    lines += [line_of(row, fault=f"class {row // 3}", message=letter * 900) for row in range(20, 140)]
    rows = [b'{"id":"id-%d","text":"%b"}\n' % (row, letter.encode() * 3_000) for row in range(140)]
    write_run(config, lines, rows=rows)
    data = encoded(run_document(config.run_dir, config, whole=True))
    assert len(page(data, shell_of(tmp_path))) < 2_000_000
    document = msgspec.json.decode(data, type=RunDocument)
    assert 5 <= len(document.replies) <= fit
    assert sum(each.rows for each in document.failures) + document.more_failures[1] == 120
    document = run_document(config.run_dir, config, whole=True)
    assert [len(each.examples) for each in document.failures if each.rows == 3] == [3] * 39


def test_no_secret_stands_in_it(tmp_path: Path) -> None:
    secret = "sk-VerySecret123"
    config = configured(
        tmp_path,
        provider=[
            {
                "name": "main",
                "base_url": f"https://h.example/v1?api-key={secret}&region=eu",
                "headers": {"x-team": f"data-{secret}"},
                "headers_env": {"x-key": "NAME_OF_IT"},
            }
        ],
        task={"params": {"api_key": secret, "extra": {"token": [secret]}, "temperature": 0}},
        cluster={"runtime_env": {"env_vars": {"X": secret}}},
    )
    write_run(config, [line_of(0, "fine"), line_of(1, fault="auth", message="no")])
    for own in (config, None):
        data = encoded(run_document(config.run_dir, own, whole=True))
        assert secret not in data.decode()
        assert b"hidden " not in data, "a digest is of no use to anybody but who guesses"
    shown = dict(made(config.run_dir, config).configuration)
    assert shown["provider.base_url"] == "https://h.example/v1"
    assert (shown["provider.headers.x-team"], shown["task.params.temperature"]) == ("(hidden)", "0")


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "\u2028\u2029", "\x00\x1b[31m", "\u202eabc", "a\ud800b", "🙂" * 900]
)
def test_texts_of_rows_stay_what_they_are(tmp_path: Path, text: str) -> None:
    config = configured(tmp_path)
    loose = json.dumps({"output": {"field": text}})[1:-1].encode()
    line = line_of(0, "x").replace(b'"output":"x"', loose)
    failed = line_of(1, fault="timeout", message="m").replace(b'"m"', json.dumps(text).encode())
    rows = [b'{"id":1,"text":%b}\n' % json.dumps(text.replace("\ud800", "?")).encode(), b'{"id":2,"text":""}\n']
    write_run(config, [line, failed], rows=rows)
    document = made(config.run_dir, config)
    wanted = text.replace("\ud800", "?")[:100]
    assert document.fields is not None
    assert document.fields.fields[0].values[0][0][:100] == wanted
    assert document.failures[0].examples[0].message[:100] == wanted
    assert document.replies[0].prompt is not None
    assert document.replies[0].prompt.startswith(f"user\nSort: {wanted[:90]}")


def test_vectors_are_told_by_their_length_without_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tmp_path, task={"api": "embeddings"})
    coded = base64.b64encode(struct.pack("<4f", 0.5, -1, 2, 3)).decode()
    write_run(config, [line_of(0, coded), line_of(1, "no base64!"), line_of(2, None), line_of(3, [1, 2])])
    monkeypatch.setitem(sys.modules, "numpy", None)
    document = made(config.run_dir)
    assert document.fields is None
    assert [each.output for each in document.replies] == ["4 numbers: 0.5, -1, 2, …", "no base64!", "null", "[1,2]"]


def test_what_is_missing_is_missing_and_said(tmp_path: Path) -> None:
    config = configured(tmp_path)
    directory = write_run(config, labelled(3), moments=[moment(1, rows=3)])
    directory.series.write_bytes(b"no json\n\xff\xfe\n")
    config.input_path.unlink()
    document = made(config.run_dir, config)
    assert document.timeline.at == []
    assert document.problems == ["the time series cannot be read: no line of it is one of this version"]
    assert [each.prompt for each in document.replies] == [None] * 3
    directory.series.unlink()
    directory.plan.unlink()
    directory.report.unlink()
    config.output_path.unlink()
    document = made(config.run_dir, None)
    assert (document.replies, document.failures, document.sessions, document.cost) == ([], [], [], None)
    for path in directory.checkpoints.iterdir():
        path.unlink()
    with pytest.raises(RunDirectoryError, match="holds no run"):
        run_document(tmp_path / "nothing", None, whole=True)


@pytest.mark.parametrize(("left", "shown"), [(None, 0), (0, 0), (600, 2)])
def test_rows_whose_records_are_damaged_or_gone_are_missing_and_said(
    tmp_path: Path, left: int | None, shown: int
) -> None:
    config = configured(tmp_path)
    lines = [line_of(0, "a"), line_of(1, fault="timeout"), *(line_of(row, "a") for row in range(2, 6))]
    lines.append(line_of(6, fault="timeout"))
    directory = write_run(config, lines, failures={"timeout": 2})
    (path,) = directory.checkpoints.iterdir()
    if left is None:
        path.write_bytes(b"\xff" * path.stat().st_size)
    else:
        os.truncate(path, left)
    document = made(config.run_dir, config)
    assert (document.totals.done, document.totals.failed, len(document.replies)) == (7, 2, shown)
    assert [(each.name, each.rows) for each in document.failures] == [("timeout", 2)], "what the merge has counted"
    assert document.problems == [
        (
            f"{7 - shown} of 7 rows have no record that can be read: what is told of fields, and the rows that are "
            "shown, are without them"
        )
    ]


def test_a_run_that_was_cleaned_is_told_by_its_output(tmp_path: Path) -> None:
    config = configured(tmp_path)
    lines = labelled(9)
    lines[4] = line_of(4, fault="timeout")
    directory = write_run(config, lines, failures={"timeout": 1})
    for path in directory.checkpoints.iterdir():
        path.unlink()
    document = made(config.run_dir, config)
    assert document.fields is not None
    assert (document.fields.looked_at, len(document.replies), document.problems) == (8, 9, [])
    assert [(each.name, each.rows) for each in document.failures] == [("timeout", 1)]
    config.output_path.unlink()
    document = made(config.run_dir, config)
    assert (document.replies, document.fields) == ([], None)
    assert document.problems == ["the answers were removed by rowmill clean: no row can be shown"]
    assert [(each.name, each.rows) for each in document.failures] == [("timeout", 1)]
