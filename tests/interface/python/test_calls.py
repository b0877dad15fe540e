"""What `rowmill.run` and `rowmill.map` make of their arguments. Whole runs are tested end to end."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pydantic
import pytest

import rowmill
from rowmill.core import config as configuration
from rowmill.core.config.sections import ModelSchema
from rowmill.core.config.steps import columns_of
from rowmill.core.counts import Counters, Totals
from rowmill.core.errors import ExitCode
from rowmill.core.reports import RunReport, SessionReport
from rowmill.interface.python import asked_config, running
from rowmill.interface.python import calls as api
from rowmill.interface.python.place import MapPlace

TREE: dict[str, Any] = {
    "input": {"path": Path("in.jsonl")},
    "task": {"model": "m", "prompt": "{text}"},
    "output": {"path": "out.jsonl"},
}
FILE = '[input]\npath = "in.jsonl"\n[task]\nmodel = "m"\nprompt = "{text}"\n[output]\npath = "out.jsonl"\n'


class Verdict(pydantic.BaseModel):
    x: int
    why: str = pydantic.Field("", alias="the why")


def ended(code: int, *, finished: bool = False, stopped_by: str | None = None) -> tuple[RunReport, SessionReport]:
    session = SessionReport(
        started="2026-01-02T03:04:05Z", ended="2026-01-02T03:04:06Z", exit_code=code, stopped_by=stopped_by,
        elapsed_s=1.0, rows=3, rows_per_s=3.0, counters=Counters(), in_flight_max=1, allowed=1, workers=1, deaths=0,
        quarantined=0, billed_twice_max=0, cpu_s=0.1, rss_max_bytes={},
    )  # fmt: skip
    report = RunReport(
        run="r", finished=finished, input="in.jsonl", output="out.jsonl", errors=None, rows=5,
        totals=Totals(rows=3), failures={}, sessions=[session],
    )  # fmt: skip
    return report, session


def test_importing_the_package_imports_nothing_of_it() -> None:
    program = "import sys, rowmill; print([name for name in sys.modules if name.startswith('rowmill.')])"
    root = Path(rowmill.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"


def test_everything_that_the_package_offers_is_there() -> None:
    assert set(rowmill.__all__) <= set(dir(rowmill))
    assert {each for each in rowmill.__all__ if getattr(rowmill, each) is not getattr(api, each)} == set()
    assert callable(rowmill.run)
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        _ = rowmill.walk  # type: ignore[attr-defined]  # that is the point


def test_a_file_and_a_mapping_and_a_config_are_the_same_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(FILE)
    overrides = {
        "workers.count": 2,
        "task.prompt": 'A "quoted"\n\\{text}\x7f',
        "task.params": {"stop": ["\t", "é"], "temperature": 0.5, "a b": {"c": True}},
        "output.include": ["input"],
        "checkpoint.dir": tmp_path / "run",
        "provider.timeout_s": 7,
    }
    configs = [
        asked_config.read(source, overrides)
        for source in (path, str(path), TREE, configuration.parse(asked_config.plain(TREE), "test"))
    ]
    assert configs[0] == configs[1] == configs[2] == configs[3]
    assert configs[0].task.prompt == overrides["task.prompt"]
    assert configs[0].task.params == overrides["task.params"]
    assert configs[0].run_dir == tmp_path / "run"
    assert configs[0].provider[0].timeout_s == 7
    assert TREE["task"]["prompt"] == "{text}", "what was handed in stays as it was"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"workers.cuont": 2}, "did you mean workers.count"),
        ({"workers": 2}, "section.key"),
        ({"workers.count": None}, "workers.count: a NoneType is no value"),
    ],
)
def test_an_override_that_cannot_be_is_refused(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(rowmill.ConfigError, match=said):
        rowmill.run(TREE, overrides)


def test_what_is_wrong_with_a_configuration_is_told_of_the_call_that_it_was_handed_to() -> None:
    with pytest.raises(rowmill.ConfigError, match=r"^rowmill\.run: unknown key task\.prmpt"):
        rowmill.run({**TREE, "task": {"prmpt": "{text}", "model": "m"}})
    with pytest.raises(rowmill.ConfigError, match=r"^rowmill\.map: unknown key workers\.cuont"):
        rowmill.map(["x"], model="m", workers={"cuont": 1})  # type: ignore[call-overload]  # that is the point


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 1, "sample": 1}, "not both"),
        ({"limit": 0}, "limit: must be a number of rows, 1 or more, not 0"),
        ({"sample": "3"}, "sample: must be a number of rows"),
        ({"limit": 1, "fresh": True}, "fresh is of a whole run"),
        ({"retry_failed": True, "fresh": True}, "fresh is of a whole run"),
    ],
)
def test_what_a_run_cannot_do_at_once_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(rowmill.ConfigError, match=said):
        rowmill.run(TREE, **options)


def test_a_retry_of_a_trial_is_of_one_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(rowmill.RunDirectoryError, match="there is no trial of these rows to retry"):
        rowmill.run({**TREE, "output": {"path": tmp_path / "o.jsonl"}}, limit=1, retry_failed=True)


def test_what_is_no_configuration_is_told(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text\na\n")
    with pytest.raises(rowmill.ConfigError, match=r"holds rows, .*rowmill\.map\(pathlib\.Path\("):
        rowmill.run(rows)
    with pytest.raises(rowmill.ConfigError, match=r"pass the path of a config\.toml, .*not a NoneType"):
        rowmill.run(None)  # type: ignore[arg-type]  # that is the point


def test_a_section_may_be_overridden_as_the_configuration_has_it() -> None:
    read = asked_config.read(TREE, {"workers": {"count": 2}, "task": {"params": {"temperature": 0}}})
    assert (read.workers.count, read.task.params, read.task.prompt) == (2, {"temperature": 0}, "{text}")


def test_a_type_may_be_the_schema_of_a_step(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'{FILE}[[step]]\nname = "a"\n[[step]]\nname = "b"\nprompt = "{{a.x}}"\n')
    steps = [{"name": "a", "schema": Verdict}, {"name": "b", "prompt": "{a.x}"}]
    written = asked_config.read({**TREE, "step": steps}, {})
    (first, second), task = written.step, written.task
    assert isinstance(first.schema, ModelSchema)
    assert [*columns_of(first), second.schema, task.schema] == ["a.x", "a.the why", None, None], (
        "as replies call its members"
    )
    assert asked_config.read(path, {"step.a.schema": Verdict}).step[0] == first
    again = asked_config.read(written, {"workers.count": 2})
    assert (again.step, again.workers.count) == (written.step, 2)
    with pytest.raises(rowmill.ConfigError, match=r"schema: each step has its own; pass it as .*step\.a\.schema"):
        asked_config.read(path, {"task.schema": Verdict})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temprature": 0}, r'unknown option temprature; did you mean params=\{"temperature": \.\.\.\}'),
        ({"provider": [{"name": "a"}], "timeout_s": 5}, "put timeout_s into each"),
        ({"checkpoint": {"dir": "x"}}, "run_dir"),
        ({"workers": {"count": 0}}, "workers.count: must be 1"),
        ({"include": "reasoning"}, "include: 'reasoning': must be a list"),
        ({"include": ["message", "input"]}, "include: 'input': must be a list of any of reasoning, "),
        ({"params": {"temperature": object()}}, "none that TOML has"),
    ],
)
def test_an_option_of_a_map_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(rowmill.ConfigError, match=said):
        rowmill.map(["x"], model="m", **options)


def test_options_of_a_map_find_their_sections() -> None:
    place = MapPlace(Path("kept"), kept=True)
    options = {"params": {"temperature": 0}, "timeout_s": 5, "workers": {"count": 2}, "checkpoint": {"commit_ms": 20}}
    more = {"model": "m", "prompt": "{a}", "base_url": "simulator", "id": "a"}
    config = asked_config.of_map({**options, **more}, None, place)
    assert (config.task.params, config.provider[0].timeout_s, config.workers.count) == ({"temperature": 0}, 5, 2)
    assert (config.input.path, config.input.id, config.output.path) == ("kept/rows.jsonl", "a", "kept/results.jsonl")
    assert (str(config.run_dir), config.checkpoint.commit_ms) == ("kept/run", 20)


def test_no_rows_need_no_run() -> None:
    assert rowmill.map([], model="m") == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (ExitCode.PROVIDER, rowmill.ProviderError),
        (ExitCode.MACHINE, rowmill.MachineError),
        (ExitCode.RUN_DIRECTORY, rowmill.RunDirectoryError),
        (ExitCode.USAGE, rowmill.ConfigError),
        (ExitCode.BUDGET, rowmill.RowmillError),
    ],
)
def test_a_run_that_was_stopped_raises_what_stopped_it(code: ExitCode, error: type[rowmill.RowmillError]) -> None:
    with pytest.raises(error, match="no credit; 3 rows are done and kept; the same call goes on") as raised:
        running.raise_for_end(*ended(code, stopped_by="no credit"))
    assert raised.value.exit_code == code


def test_an_interrupted_run_is_a_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt, match="3 rows are done and kept"):
        running.raise_for_end(*ended(ExitCode.INTERRUPTED, stopped_by="interrupted"))


def test_a_finished_run_raises_nothing_and_shows_its_summary() -> None:
    report, session = ended(ExitCode.ROWS_FAILED, finished=True)
    running.raise_for_end(report, session)
    own = rowmill.Report.of(report)
    assert repr(own).startswith("Done: 3 rows in 1")
    assert own.ok
