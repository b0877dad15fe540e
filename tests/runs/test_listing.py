"""The runs below a folder: each is told as it is found, and none keeps another from being told."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rowmill.core import config as configuration
from rowmill.core.errors import InputError
from rowmill.core.known_runs import KnownRun
from rowmill.interface.ui.runs_text import table
from rowmill.runs.listing import below
from rowmill.runs.preparation import prepare
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Finished


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_bytes(b'{"text":"a"}\n')
    return tmp_path


def begun(name: str, *, finished: bool = False) -> Path:
    tree = {
        "input": {"path": "in.jsonl"},
        "task": {"model": "m", "prompt": "Say {text}"},
        "output": {"path": f"{name}.jsonl"},
        "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
    }
    prepared = prepare(configuration.parse(tree, "test.toml"), {})
    prepared.directory.close()
    if finished:
        output = Path(f"{name}.jsonl").resolve()
        output.write_bytes(b"lines\n")
        prepared.manifest.finished = Finished(str(output), 6, None, 0, "2026-01-02T03:04:05Z")
        manifests.save(prepared.directory.manifest, prepared.manifest)
    return Path(f"{name}.jsonl.run")


def states() -> dict[str, str]:
    return {Path(each.run_dir).name.removesuffix(".jsonl.run"): each.state for each in below(Path())}


def test_each_state_is_told_and_nothing_is_written() -> None:
    begun("done", finished=True)
    begun("gone", finished=True)
    Path("gone.jsonl").write_bytes(b"of somebody\n")
    stopped = begun("stopped")
    (stopped / "report.json").write_bytes(b"{")
    damages: dict[str, Callable[[Path], object]] = {
        "cut": lambda path: (path / "manifest.json").write_bytes(b'{"format":2,'),
        "other": lambda path: (path / "manifest.json").write_bytes(b'{"format":99,"rowmill_version":"9"}'),
        "missing": lambda path: (path / "manifest.json").unlink(),
        "piped": lambda path: os.mkfifo(path / "plan"),
        "piped within": lambda path: os.mkfifo(path / "sealed" / "000000.sealed"),
    }
    for name, damage in damages.items():
        damage(begun(name))
    Path("pipe").mkdir()
    os.mkfifo("pipe/manifest.json")
    Path("web").mkdir()
    Path("web/manifest.json").write_text('{"name": "an app"}')
    held = prepare(
        configuration.parse(
            {
                "input": {"path": "in.jsonl"},
                "task": {"model": "m", "prompt": "{text}"},
                "output": {"path": "held.jsonl"},
                "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
            },
            "test.toml",
        ),
        {},
    )
    before = {path: path.lstat().st_mtime_ns for path in Path().rglob("*")}
    try:
        found = states()
    finally:
        held.directory.close()
    assert {path: path.lstat().st_mtime_ns for path in Path().rglob("*")} == before
    assert found == {
        "done": "finished",
        "gone": "stopped",
        "stopped": "stopped",
        "held": "at work",
        **dict.fromkeys(damages, "damaged"),
    }


def test_a_folder_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="gone: no such directory"):
        list(below(Path("gone")))
    assert list(below(Path())) == []


def test_the_table_has_what_is_wrong_below_its_run() -> None:
    runs = [
        KnownRun(
            run_dir="a.run", state="stopped", rows=1200, of=5000, failed=3, usd=1.5, size=34_000_000,
            created="2026-01-02T03:04:05Z",
        ),
        KnownRun(run_dir="b\x1b.run", state="damaged", problem="the plan\nis gone", size=10),
        KnownRun(run_dir="c.run", state="finished", rows=7, of=7, size=2_500_000_000, created="2026-01-02T03:04:05Z"),
    ]  # fmt: skip
    assert table(runs).splitlines() == [
        "run directory  state            rows  failed   cost    size  started",
        "a.run          stopped   1,200/5,000       3  $1.50   34 MB  2026-01-02 03:04:05",
        "b .run         damaged             -       -      -    1 kB  -",
        "    the plan is gone",
        "c.run          finished            7       0      -  2.5 GB  2026-01-02 03:04:05",
    ]
