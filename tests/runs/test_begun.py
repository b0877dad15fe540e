"""Runs that have begun go on as they began, whatever this version would make of the same files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rowmill.core import config as configuration
from rowmill.core.config import Config
from rowmill.core.errors import InputError, RunDirectoryError
from rowmill.files.input import inputs
from rowmill.runs.preparation import prepare
from rowmill.store import manifest as manifests
from rowmill.supervisor.prepared import Prepared

BEGUN = Path(__file__).parents[1] / "end_to_end" / "begun"


def _prepare(config: Config) -> Prepared:
    prepared = prepare(config, {})
    prepared.directory.close()
    return prepared


def _begin(config: Config, *, reading: int | None = manifests.READING) -> None:
    """Do what the first session of a run does, up to its plan. reading: what its manifest says."""
    prepared = _prepare(config)
    manifest = prepared.manifest
    spool = prepared.directory.spool
    shards = prepared.input.plan(spool, shard_bytes=manifest.shard_bytes, shard_rows=manifest.shard_rows)
    manifests.save_plan(prepared.directory.plan, list(shards))
    manifest.reading = reading
    manifests.save(prepared.directory.manifest, manifest)


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Make a configuration; arguments are of `[input]` and the prompt."""
    monkeypatch.chdir(tmp_path)

    def make(prompt: str = "Say {text}", **of_input: Any) -> Config:
        tree = {
            "input": {"path": "in.csv", **of_input},
            "task": {"model": "m", "prompt": prompt},
            "output": {"path": "out.jsonl"},
            "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
        }
        return configuration.parse(tree, "test.toml")

    return make


@pytest.mark.parametrize("state", ["untouched", "touched", "without a plan", "without its spool"])
@pytest.mark.parametrize("name", sorted(path.name for path in BEGUN.iterdir() if path.is_dir()))
def test_an_input_is_read_as_the_earlier_release_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, state: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(BEGUN / name, tmp_path, dirs_exist_ok=True)
    Path("config.toml").write_text(Path("config.toml").read_text().replace("{url}", "http://127.0.0.1:1/v1"))
    config = configuration.load(Path("config.toml"))
    run_dir = config.run_dir
    before = manifests.load(run_dir / "manifest.json")
    planned = manifests.load_plan(run_dir / "plan")
    assert before is not None
    assert planned is not None
    if state == "untouched":
        os.utime(config.input.path, ns=(before.input[0].mtime_ns,) * 2)
    elif state == "without a plan":
        (run_dir / "plan").unlink()
    elif state == "without its spool":
        shutil.rmtree(run_dir / "spool", ignore_errors=True)
    prepared = _prepare(config)
    assert prepared.resumed
    assert prepared.input.plain
    assert prepared.shards == (None if state == "without a plan" else planned)
    again = prepared.input.plan(prepared.directory.spool, shard_bytes=before.shard_bytes, shard_rows=before.shard_rows)
    assert list(again) == planned


def test_the_delimiter_that_was_meant_all_along_may_be_said(configured: Callable[..., Config]) -> None:
    Path("in.csv").write_text("id;text\n1;a\n2;b\n")
    _begin(configured())
    for same in (";", None):
        assert _prepare(configured(delimiter=same)).shards is not None
    with pytest.raises(RunDirectoryError, match=r'input\.delimiter: not set -> ",".*Put it back to resume'):
        _prepare(configured(prompt="Say {id;text}", delimiter=","))
    shutil.rmtree("out.jsonl.run")
    _begin(configured(delimiter=";"))
    for same in (";", None):
        assert _prepare(configured(delimiter=same)).shards is not None


def test_a_delimiter_is_said_for_a_run_of_an_earlier_release_too(configured: Callable[..., Config]) -> None:
    shutil.copytree(BEGUN / "semicolons", Path(), dirs_exist_ok=True)
    assert _prepare(configured(prompt="Say {id;text}", delimiter=",")).input.plain
    with pytest.raises(RunDirectoryError, match=r'input\.delimiter: not set -> ";"'):
        _prepare(configured(prompt="Say {id;text}", delimiter=";"))


@pytest.mark.parametrize(
    ("name", "content", "of_input"),
    [
        ("in.csv", "id;text\n1;a\n", {}),
        ("in.json", '[{"text": "a"},\n{"text": "b"}]\n', {}),
        ("in.jsonl", '{"text": "a"}\n\n\n', {}),
        ("in.jsonl", '{"text": "a"}\n', {"encoding": "cp1252"}),
    ],
)
def test_a_run_that_did_not_say_how_it_reads_and_read_as_now_goes_on_so(
    configured: Callable[..., Config], name: str, content: str, of_input: dict[str, str]
) -> None:
    """Versions between the releases wrote no number into the manifest."""
    Path(name).write_text(content)
    config = configured(path=name, **of_input)
    _begin(config, reading=None)
    os.utime(name)
    prepared = _prepare(config)
    assert not prepared.input.plain
    assert prepared.shards is not None


def test_a_new_run_is_read_by_what_its_rows_show(configured: Callable[..., Config]) -> None:
    shutil.copy(BEGUN / "one-column" / "in.csv", "in.csv")
    with pytest.raises(InputError, match="the header has one name"):
        _prepare(configured())
    assert inputs.find(configured().input, plain=True).first_rows(1) == [b'{"text":"row 0"}']


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["manifest.json", "plan"])
def test_a_named_pipe_in_a_files_place_is_refused_and_not_waited_for(
    configured: Callable[..., Config], name: str
) -> None:
    Path("in.csv").write_text("text\nA\nB\n")
    config = configured()
    _begin(config, reading=None)
    path = config.run_dir / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RunDirectoryError, match=rf"{name} is no file: move it away"):
        prepare(config, {})
