"""A run from the beginning: the one before is kept aside, whole, or nothing is moved."""

from pathlib import Path

import msgspec
import pytest

from rowmill.core import config as configuration
from rowmill.core.amounts import Amount
from rowmill.core.config import Config
from rowmill.core.errors import ExitCode, RowmillError
from rowmill.runs.fresh import set_aside
from rowmill.runs.preparation import already_finished, prepare
from rowmill.runs.trial import marked
from rowmill.store import manifest as manifests
from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.store.manifest import Finished

TREE = {
    "input": {"path": "in.jsonl"},
    "task": {"model": "m", "prompt": "Say {text}"},
    "output": {"path": "out.jsonl"},
    "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_bytes(b'{"text":"a"}\n')
    return configuration.parse(TREE, "test.toml")


def finish(config: Config) -> None:
    """Leave a run as a finished one leaves it."""
    prepared = prepare(config, {})
    prepared.directory.close()
    Path("out.jsonl").write_bytes(b"lines\n")
    Path("out.errors.jsonl").write_bytes(b"failed\n")
    place = Path.cwd().resolve()
    prepared.manifest.finished = Finished(
        f"{place}/out.jsonl", 6, f"{place}/out.errors.jsonl", 7, "2026-01-02T03:04:05Z"
    )
    manifests.save(prepared.directory.manifest, prepared.manifest)


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_what_a_finished_run_has_made_is_a_run_where_it_lies_now(config: Config) -> None:
    assert set_aside(config, {}) is None
    finish(config)
    for mark in ("old", "old-2"):
        aside = set_aside(config, {})
        assert aside == (Path(f"out.{mark}.jsonl"), Path(f"out.{mark}.jsonl.run"))
        own = marked(config, mark)
        manifest = manifests.load(own.run_dir / "manifest.json")
        assert manifest is not None
        assert already_finished(own, manifest)
        assert own.errors_path.read_bytes() == b"failed\n"
        finish(config)
    assert [name for name in names() if "old" not in name] == [
        "in.jsonl",
        "out.errors.jsonl",
        "out.jsonl",
        "out.jsonl.run",
    ]


def test_a_directory_with_all_of_a_run_goes_aside_as_one(config: Config) -> None:
    whole = Path("kept")
    output = msgspec.structs.replace(config.output, path="kept/out.jsonl")
    checkpoint = msgspec.structs.replace(config.checkpoint, dir="kept/run")
    config = msgspec.structs.replace(config, output=output, checkpoint=checkpoint)
    assert set_aside(config, {}, whole) is None
    for name in ("kept.old", "kept.old-2"):
        whole.mkdir()
        prepared = prepare(config, {})
        prepared.directory.close()
        Path("kept/out.jsonl").write_bytes(b"lines\n")
        prepared.manifest.finished = Finished(
            f"{whole.resolve()}/out.jsonl", 6, f"{whole.resolve()}/out.errors.jsonl", 0, "2026-01-02T03:04:05Z"
        )
        manifests.save(prepared.directory.manifest, prepared.manifest)
        assert set_aside(config, {}, whole) == (Path(name, "out.jsonl"), Path(name, "run"))
        own = msgspec.structs.replace(config, output=msgspec.structs.replace(output, path=f"{name}/out.jsonl"))
        manifest = manifests.load(Path(name, "run", "manifest.json"))
        assert manifest is not None
        assert already_finished(own, manifest)
    assert names() == ["in.jsonl", "kept.old", "kept.old-2"]


def test_a_run_that_has_not_finished_has_no_output_to_keep(config: Config) -> None:
    prepare(config, {}).directory.close()
    assert set_aside(config, {}) == (None, Path("out.old.jsonl.run"))
    prepare(config, {}).directory.close()


def test_an_output_of_somebody_else_stays_where_it_is(config: Config) -> None:
    finish(config)
    Path("out.errors.jsonl").unlink()
    manifest = manifests.load(config.run_dir / "manifest.json")
    assert manifest is not None
    manifest.finished = None
    manifests.save(config.run_dir / "manifest.json", manifest)
    assert set_aside(config, {}) == (None, Path("out.old.jsonl.run"))
    assert Path("out.jsonl").read_bytes() == b"lines\n"


def refused(config: Config) -> str:
    before = names()
    with pytest.raises(RowmillError) as error:
        set_aside(config, {})
    assert names() == before
    return str(error.value)


def test_a_mistake_moves_nothing(config: Config) -> None:
    finish(config)
    assert "no column 'texte'" in refused(
        configuration.parse({**TREE, "task": {"model": "m", "prompt": "{texte}"}}, "test.toml")
    )
    for section, said in (
        ({"provider": [{}]}, "no API key"),
        ({"budget": {"max_usd": 1.0}}, 'the price of model "m" at provider "default" is not known'),
        ({"output": {"path": "nowhere/out.jsonl"}, "checkpoint": {"dir": "out.jsonl.run"}}, "nowhere does not exist"),
        ({"task": {"prompt": "{text}", "per_row": {"model": "text"}, "mode": "batch"}}, "needs one model for all rows"),
        ({"simulator": {"queue": 2}, "provider": [{"base_url": "simulator"}]}, "queue needs parallel"),
    ):
        assert said in refused(configuration.parse({**TREE, **section}, "test.toml"))
    held = prepare(config, {})
    try:
        assert "is being worked on by process" in refused(config)
    finally:
        held.directory.close()
    Path("in.jsonl").unlink()
    assert "in.jsonl: no such file" in refused(config)


def test_batches_that_would_be_paid_for_are_to_be_ended_first(config: Config) -> None:
    prepared = prepare(config, {})
    journal = BatchJournal.open(prepared.directory.journal, prepared.manifest.run_id)
    t = journal.built(
        Try(
            part=0, number=1, first_row=0, end_row=1, requests=1, rows=1, size=9, crc=1, tokens=1,
            reserved=Amount(1.0, 1.0, 0.0), asked_to=1, counted_from=1, since=1.0,
        )
    )  # fmt: skip
    journal.uploading(t, 2.0)
    journal.uploaded(t, "file-1", 2.0)
    journal.creating(t, 3.0)
    journal.close()
    prepared.directory.close()
    assert "has batches at the provider, which would be paid for all the same: end them by rowmill cancel" in refused(
        config
    )


def test_a_refusal_has_the_exit_code_of_a_run_directory(config: Config) -> None:
    Path("out.jsonl.run").write_text("a file")
    with pytest.raises(RowmillError) as error:
        set_aside(config, {})
    assert error.value.exit_code == ExitCode.RUN_DIRECTORY
