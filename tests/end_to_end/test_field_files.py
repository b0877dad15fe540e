"""Files that are not what they should be: short versions of the proofs of `scripts/prove`, and odd paths and places."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import ROOT, Place, Witness


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT / "engine"), str(ROOT))))
    return lambda name: importlib.import_module(f"scripts.proving.{name}")


def test_a_spoilt_run_directory_comes_out_right_or_is_told_in_one_line(
    proofs: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holds = proofs("corruption").proved(tmp_path, 7, seed=1, workers=2, only="claims")
    assert holds, capsys.readouterr().out


def test_configurations_that_nobody_would_write_are_refused_in_one_line(
    proofs: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz = proofs("config_fuzz")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"id":"a","text":"one"}\n')
    wrong = fuzz._several(str(tmp_path), 1, 0, 300)[1]
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([b"output.path=o\xff.jsonl"], "output.path: 'o\\\\xff.jsonl' is no UTF-8 text"),
        ([b"task.prompt=\xff{text}"], "task.prompt: '\\\\xff{text}' is no UTF-8 text"),
        ([b"output.path=" + b"x" * 300], "output.path: a name in it has more than 235 bytes"),
        ([b"checkpoint.dir=" + b"a/" * 3000 + b"b"], "checkpoint.dir: has more than 4000 bytes"),
        ([b"task.params.n=1" + b"0" * 30], "task.params.n: a whole number must have at most 64 bits"),
        ([b"task.params.n=" + b"[" * 20_000 + b"]" * 20_000], "deep; write it flatter"),
    ],
)
def test_what_no_path_or_value_can_be_is_refused_by_its_key(place: Place, changes: list[bytes], told: str) -> None:
    place.configure("http://127.0.0.1:9/v1")
    place.write_rows(1)
    (place.folder / "more.toml").write_bytes((place.folder / "config.toml").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "rowmill", "run", *(word for change in changes for word in (b"--set", change))],
        cwd=place.folder,
        env=place.environ,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert told in line
    assert not place.run_dir.exists()


def test_a_directory_of_any_name_is_a_place_to_run_in(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    url = simulator(latency_ms=1).url
    odd = Place(Path(os.fsdecode(os.fsencode(place.folder) + b"/d\xff\nx\x1b[31m")))
    odd.folder.mkdir()
    odd.configure(url)
    odd.write_rows(20)
    done = odd.run()
    assert (done.code, "Traceback" in done.err) == (0, False), done.err
    assert odd.output.read_bytes() == reference(20)
    done = odd.run()
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "this run has finished" in done.err
