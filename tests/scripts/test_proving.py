"""The large checks: which there are, and how far they take a run by batches to be, where they strike at it."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rowmill.core.amounts import Amount, Spent
from rowmill.store.batch_journal import BatchJournal, Try

ROOT = Path(__file__).parents[2]
MONEY_ITEMS = ("plan", "cap", "batches", "batch-memory", "deadline")
PARTS = 3


def proving(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "scripts.proving", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_and_the_page_about_benchmarks_name_all_items() -> None:
    done = proving("--help")
    assert done.returncode == 0
    named = re.findall(r"[a-z-]+", done.stdout.partition("some of: ")[2].partition("\n  --")[0])
    assert {"lives", *MONEY_ITEMS} <= set(named)
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    table = page.partition("## The promises at full size")[2]
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == named


@pytest.mark.parametrize(("said", "examples"), [(None, 2), ("all", 8)])
def test_whole_lives_are_tried_by_a_quarter_here_and_all_by_their_item(
    monkeypatch: pytest.MonkeyPatch, said: str | None, examples: int
) -> None:
    monkeypatch.delenv("ROWMILL_LIVES", raising=False)
    if said is not None:
        monkeypatch.setenv("ROWMILL_LIVES", said)
    assert runpy.run_path(str(ROOT / "tests" / "lives.py"))["examples"](8) == examples


@pytest.mark.parametrize(("code", "holds"), [(0, True), (1, False)])
def test_lives_are_tried_whole_and_hold_where_their_tests_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, code: int, holds: bool
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    item = importlib.import_module("scripts.proving.lives")
    ran: list[tuple[list[str], Any]] = []

    def run(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        ran.append((command, options))
        return subprocess.CompletedProcess(command, code, "...\n17 passed in 60.00s\n")

    monkeypatch.setattr(item.subprocess, "run", run)
    assert item.lives(tmp_path) is holds
    ((command, options),) = ran
    assert options["env"]["ROWMILL_LIVES"] == "all"
    assert all((options["cwd"] / test).exists() for test in command[3:])
    using = {
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if "tests.lives" in path.read_text()
    }
    assert set(command[3:]) == using - {"tests/scripts/test_proving.py"}
    assert "17 passed in 60.00s" in capsys.readouterr().out


def test_an_item_that_is_not_there_is_refused_before_anything_is_done() -> None:
    done = proving("--only", "plan,plans")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("unknown: plans\n")


_TWO_ITEMS = """
import subprocess, sys
from scripts.proving import __main__ as proving

def good(folder):
    print("a figure")
    subprocess.run(["sh", "-c", "echo of a process; echo of its errors >&2"], check=True)
    return True

def bad(folder):
    raise KeyError("nothing there")

proving.ITEMS = {"good": good, "bad": bad}
sys.exit(proving.main())
"""


@pytest.mark.parametrize("named", [True, False])
def test_all_that_an_item_prints_is_kept_in_its_file(tmp_path: Path, *, named: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _TWO_ITEMS, *(["--log", str(tmp_path / "new" / "logs")] if named else [])],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    first, *rest = done.stdout.splitlines(keepends=True)
    logs = Path(first.strip().removeprefix("what is printed is kept in "))
    assert (logs == tmp_path / "new" / "logs") if named else (logs.parent == tmp_path)
    good, bad = (logs / "good.txt").read_text(), (logs / "bad.txt").read_text()
    assert good == "good:\na figure\nof a process\nof its errors\ngood: PASS (0 s)\n\n"
    assert "KeyError: 'nothing there'" in bad
    assert "".join(rest) == f"\n{good}{bad}failed: bad; see {logs}\n"


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("scripts.proving.stages")


def built(journal: BatchJournal, part: int) -> Try:
    t = Try(
        part=part,
        number=1,
        first_row=part * 10,
        end_row=part * 10 + 10,
        requests=10,
        rows=10,
        size=100,
        crc=0,
        tokens=1,
        reserved=Amount(),
        asked_to=part * 10 + 10,
        counted_from=1,
        since=0.0,
    )
    return journal.built(t)


def test_the_stage_of_a_part_follows_its_journal_and_what_is_downloaded(tmp_path: Path, stages: Any) -> None:
    folder = tmp_path / "batches"
    folder.mkdir()
    found, stage = stages.Stages(tmp_path, PARTS), stages.Stage
    assert found.look() == [stage.BUILD] * PARTS
    assert (found.reached(stage.BUILD, 0), found.reached(stage.BUILD, 1)) == (True, False)
    journal = BatchJournal.open(folder / "journal", "run")
    t = built(journal, 0)
    seen = [found.look()[0]]
    assert (found.reached(stage.BUILD, 1), found.passed(stage.BUILD, 0)) == (True, True)
    steps: list[Callable[[], object]] = [
        lambda: journal.uploading(t, 1.0),
        lambda: journal.uploaded(t, "file", 2.0),
        lambda: journal.creating(t, 3.0),
        lambda: journal.created(t, "batch", 3.0, 4.0),
        lambda: journal.ended(t, "completed", "output", "errors", 5.0),
        (folder / "rowmill-run-part-00000-try-1.jsonl.output").touch,
        (folder / ".rowmill-run-part-00000-try-1.jsonl.errors.tmp").touch,
        (folder / "rowmill-run-part-00000-try-1.jsonl.errors").touch,
        lambda: journal.collected(t, Spent(), Spent(), 10, 0, 0, 6.0),
    ]
    for step in steps:
        step()
        seen.append(found.look()[0])
    assert [each.name for each in seen] == [
        *("UPLOAD", "UPLOAD", "CREATE", "CREATE", "POLL", "DOWNLOAD", "DOWNLOAD", "DOWNLOAD", "COLLECT", "DONE"),
    ]
    assert found.now[1:] == [stage.BUILD] * (PARTS - 1)


def test_merging_begins_once_all_parts_are_done(tmp_path: Path, stages: Any) -> None:
    (tmp_path / "batches").mkdir()
    journal = BatchJournal.open(tmp_path / "batches" / "journal", "run")
    found, merge = stages.Stages(tmp_path, PARTS), stages.Stage.MERGE
    for part in range(PARTS):
        found.look()
        assert not found.reached(merge, part)
        t = built(journal, part)
        journal.uploading(t, 1.0)
        journal.uploaded(t, "file", 2.0)
        journal.creating(t, 3.0)
        journal.created(t, "batch", 3.0, 4.0)
        journal.ended(t, "completed", None, None, 5.0)
        journal.collected(t, Spent(), Spent(), 10, 0, 0, 6.0)
    found.look()
    assert found.reached(merge, 0)
    assert not found.passed(merge, 0)


def test_what_grows_is_told_from_what_moments_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    grown = importlib.import_module("scripts.proving.footprint").grown
    # It warms up for a fifth of the time, and then holds 500 to 900 as it happens, or one more each second.
    held = [(float(at), min(at, 200) * 2.5 + (at * 7919 % 401 if at % 10 else 0)) for at in range(1000)]
    assert grown(held) == pytest.approx(0.0, abs=1.0)
    assert grown([(at, value + at) for at, value in held]) == pytest.approx(760, abs=40)
    assert grown(held[:1]) == 0.0


def test_each_end_that_a_request_of_a_soak_may_have_is_counted_in_all_lives_of_its_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    fates = importlib.import_module("scripts.proving.fates")
    for _ in range(2):
        seen = fates.Seen(tmp_path / "seen", 3)
        seen.rows[2] += 1
        for name in ("begun", fates.USUAL, *(fates.fate(place / 10_000) for place in range(10_000))):
            seen.count(name)
    assert list(seen.rows) == [0, 0, 2]
    counts = seen.by_name()
    assert counts["begun"] == 2
    assert all(counts[fate.name] == pytest.approx(20_000 * fate.share, abs=2) for fate in fates.FATES)
    assert sum(seen.by_end().values()) == 20_002
