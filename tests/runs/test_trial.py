"""A trial's places lie beside the full run's, and are never the same."""

from pathlib import Path
from typing import Any

import pytest

from rowmill.core import config as configuration
from rowmill.core.errors import RunDirectoryError
from rowmill.core.reports import Observer
from rowmill.runs.preparation import prepare
from rowmill.runs.trial import run_trial, trial

TREE: dict[str, Any] = {"input": {"path": "in.jsonl"}, "task": {"model": "m", "prompt": "{text}"}}


@pytest.mark.parametrize(
    ("output", "number", "expected"),
    [
        ("out.jsonl", 1, "out.trial.jsonl"),
        ("out.jsonl", 2, "out.trial-2.jsonl"),
        ("deep/v1.2/out.csv", 1, "deep/v1.2/out.trial.csv"),
        ("v1.2/out", 2, "v1.2/out-trial-2"),
        ("vectors/", 1, "vectors-trial/"),
        ("vectors.parquet/", 1, "vectors.trial.parquet/"),
        ("s3://bucket/out.parquet", 3, "s3://bucket/out.trial-3.parquet"),
    ],
)
def test_a_trial_has_places_of_its_own(output: str, number: int, expected: str) -> None:
    config = configuration.parse({**TREE, "output": {"path": output}}, "test")
    own = trial(config, number)
    assert own.output.path == expected
    assert own.run_dir != config.run_dir
    assert own.errors_path != config.errors_path
    assert (own.input, own.task) == (config.input, config.task)


def test_places_that_the_configuration_names_get_the_mark_too() -> None:
    tree = {**TREE, "output": {"path": "out.jsonl", "errors": "bad.jsonl"}, "checkpoint": {"dir": "runs/v1.2"}}
    own = trial(configuration.parse(tree, "test"))
    assert own.output.errors == "bad.trial.jsonl"
    assert own.checkpoint.dir == "runs/v1.2-trial"


def test_nobody_is_told_of_a_trial() -> None:
    tree = {**TREE, "output": {"path": "out.jsonl"}, "notify": {"command": ["tell"]}, "metrics": {"linger_s": 9}}
    own = trial(configuration.parse(tree, "test"))
    assert not own.notify.used
    assert not own.metrics.linger_s


class Silence(Observer):
    def show(self, snapshot: object) -> None:
        pass

    def log(self, line: str) -> None:
        pass


def test_a_trial_that_is_at_work_is_not_begun_a_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_bytes(b'{"text":"a"}\n{"text":"b"}\n')
    tree = {**TREE, "output": {"path": "out.jsonl"}, "provider": [{"base_url": "http://127.0.0.1:1/v1"}]}
    config = configuration.parse(tree, "test")
    with (
        prepare(trial(config), {}, limit=1).directory,
        pytest.raises(RunDirectoryError, match=r"out\.trial\.jsonl\.run is being worked on by process"),
    ):
        run_trial(config, {}, Silence(), limit=1)
    assert not trial(config, 2).run_dir.exists(), "its rows would be paid for twice"
