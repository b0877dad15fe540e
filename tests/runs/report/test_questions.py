"""What was asked about rows is told where the input is at hand, and nothing is waited for to have it."""

import os
from pathlib import Path
from typing import Any

import pytest

from rowmill.runs.report.questions import AskedRow, asked_of, prompt_text
from rowmill.runs.report.sources import RunSources
from tests.runs.report.written import configured, line_of, write_run

LINES = [{"index": 1}, {"index": 0}]


def test_rows_are_told_as_the_input_has_them_and_as_they_were_asked(tmp_path: Path) -> None:
    config = configured(tmp_path, task={"system": "Be brief."})
    write_run(config, [line_of(0), line_of(1)])
    asked = asked_of(RunSources(config.run_dir), config, LINES, thorough=False)
    assert asked[1] == AskedRow('{"id":"id-1","text":"row 1"}', "system\nBe brief.\n\nuser\nSort: row 1")
    assert sorted(asked) == [0, 1]
    assert asked_of(RunSources(config.run_dir), None, LINES, thorough=True) == {}


def test_an_input_or_a_prompt_that_is_another_one_by_now_is_said(tmp_path: Path) -> None:
    config = configured(tmp_path)
    write_run(config, [line_of(0), line_of(1)])
    sources = RunSources(config.run_dir)
    assert asked_of(sources, configured(tmp_path, task={"prompt": "Other {text}"}), LINES, thorough=True) == {}
    assert "is a run of something else: task.prompt" in sources.problems[0]
    config.input_path.write_bytes(config.input_path.read_bytes().replace(b"row 1", b"row 9"))
    sources = RunSources(config.run_dir)
    assert asked_of(sources, config, LINES, thorough=True) == {}
    assert "changed while the run was going on" in sources.problems[0]


def test_a_pipe_in_the_place_of_the_input_is_not_waited_for(tmp_path: Path) -> None:
    config = configured(tmp_path)
    write_run(config, [line_of(0)])
    config.input_path.unlink()
    os.mkfifo(config.input_path)
    assert asked_of(RunSources(config.run_dir), config, LINES, thorough=True) == {}


def test_at_a_runs_end_no_more_is_read_than_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowmill.runs.report.questions._BYTES", 100_000)
    config = configured(tmp_path)
    rows = [b'{"id":"id-%d","text":"%b"}\n' % (at, b"x" * 9_000) for at in range(40)]
    write_run(config, [line_of(at) for at in range(40)], rows=rows)
    sources = RunSources(config.run_dir)
    lines = [{"index": at} for at in range(40)]
    assert len(sources.shards) > 5
    assert 5 < len(asked_of(sources, config, lines, thorough=False)) < 20
    assert len(asked_of(sources, config, lines, thorough=True)) == 40
    workbook = configured(tmp_path, input={"format": "xlsx"})
    assert asked_of(sources, workbook, lines, thorough=False) == {}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "user\na"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
            "user\na\n(image_url)",
        ),
        ({"instructions": "be", "input": "b"}, "system\nbe\n\nb"),
        ({"input": ["a", "b"]}, "a\nb"),
        ({"prompt": "p"}, "p"),
        ({"model": "m"}, None),
        ("odd", None),
    ],
)
def test_a_request_is_told_by_what_it_asks(body: Any, text: str | None) -> None:
    assert prompt_text(body) == text
