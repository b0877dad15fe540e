"""Rows that have an outcome, of any run: one that has none says why."""

from pathlib import Path

import pytest

from rowmill.core import config as configuration
from rowmill.core.errors import RunDirectoryError
from rowmill.runs.answered import Choice, answered
from rowmill.runs.preparation import prepare


def test_a_run_that_has_not_come_to_its_rows_says_whether_it_will(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"text":"a"}\n')
    tree = {
        "input": {"path": str(tmp_path / "in.jsonl")},
        "task": {"model": "m", "prompt": "Say {text}"},
        "output": {"path": str(tmp_path / "out.jsonl")},
        "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
    }
    prepared = prepare(configuration.parse(tree, "test.toml"), {})
    path = prepared.directory.path
    with pytest.raises(RunDirectoryError, match="still counts its input; look again in a while"):
        list(answered(path, Choice()))
    prepared.directory.close()
    with pytest.raises(RunDirectoryError, match="has not come to its rows: rowmill run goes on with it"):
        list(answered(path, Choice()))
