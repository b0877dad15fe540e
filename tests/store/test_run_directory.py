"""The run directory: whose it is and who may write in it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rowmill.core.errors import RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.store import durable
from rowmill.store.manifest import save_plan
from rowmill.store.run_directory import RunDirectory

Start = Callable[..., "subprocess.Popen[str]"]
MakeShard = Callable[..., Shard]

SUPERVISOR = """
import sys
from pathlib import Path
from rowmill.store.run_directory import RunDirectory
run = RunDirectory.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""
WORKER = """
import os, sys
from pathlib import Path
from rowmill.core.errors import RunDirectoryError
from rowmill.store.run_directory import RunDirectory
try:
    RunDirectory(Path(sys.argv[1])).hold_worker_lock(supervisor=int(sys.argv[2]) if len(sys.argv) > 2 else None)
    print("held", flush=True)
except RunDirectoryError as error:
    print(error, flush=True)
sys.stdin.read()
"""


def started(child: Start, program: str, *arguments: object) -> "tuple[subprocess.Popen[str], str]":
    process = child(program, *arguments)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def everything(path: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in path.rglob("*")}


def test_a_new_directory_gets_its_layout(tmp_path: Path, shard: MakeShard) -> None:
    place = tmp_path / "runs" / "a"
    with RunDirectory.open(place) as run:
        assert sorted(path.name for path in place.iterdir()) == ["boards", "checkpoints", "lock", "sealed", "spool"]
        part = shard(10, number=12)
        assert run.checkpoint_path(part) == place / "checkpoints" / "000012.checkpoint"
        assert run.sealed_path(part) == place / "sealed" / "000012.sealed"
        assert (run.manifest, run.plan) == (place / "manifest.json", place / "plan")
        assert (run.report, run.log) == (place / "report.json", place / "run.log")
        for worker in (11, 2):
            run.board_path(worker).write_bytes(b"")
        assert run.boards() == [run.board_path(2), run.board_path(11)]


def test_a_second_supervisor_is_refused_with_who_holds_it(tmp_path: Path, child: Start) -> None:
    process, said = started(child, SUPERVISOR, tmp_path / "run")
    assert said == "open"
    with pytest.raises(RunDirectoryError, match=f"being worked on by process {process.pid} on {os.uname().nodename} "):
        RunDirectory.open(tmp_path / "run")
    holder = RunDirectory(tmp_path / "run").holder()
    assert holder is not None
    assert holder.pid == process.pid
    process.kill()
    process.wait()
    assert RunDirectory(tmp_path / "run").holder() is None
    RunDirectory.open(tmp_path / "run").close()


def test_a_supervisor_is_not_refused_because_somebody_looks_whether_one_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunDirectory.open(tmp_path / "run").close()
    glance = os.open(tmp_path / "run" / "lock", os.O_RDONLY)
    assert durable.lock_descriptor(glance, exclusive=False)
    tried: list[int] = []
    lock_file = durable.lock_file

    def looked_away(path: Path, *, exclusive: bool, announce: bool = True) -> int:
        try:
            return lock_file(path, exclusive=exclusive, announce=announce)
        except durable.Locked:
            if not tried:
                os.close(glance)
            tried.append(1)
            raise

    monkeypatch.setattr(durable, "lock_file", looked_away)
    RunDirectory.open(tmp_path / "run").close()
    assert tried == [1]


@pytest.mark.parametrize("name", ["", "lock", "checkpoints"])
def test_what_another_user_may_not_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run = RunDirectory.open(tmp_path / "run")
    run.close()
    run.refuse_unreadable()
    access = os.access
    closed = run.path / name
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))  # root may everything
    with pytest.raises(RunDirectoryError, match=f"{closed} may not be read by this user"):
        run.refuse_unreadable()
    RunDirectory(tmp_path / "absent").refuse_unreadable()


def test_nobody_holds_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path / "absent").holder() is None
    assert not (tmp_path / "absent").exists()


def test_the_lock_ends_with_the_block(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "run"), pytest.raises(RunDirectoryError):
        RunDirectory.open(tmp_path / "run")
    RunDirectory.open(tmp_path / "run").close()


@pytest.mark.parametrize("foreign", ["notes.txt", "checkpoints/000000.checkpoint", "sealed/x", "data/x", ".manifest.x"])
def test_a_directory_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path, foreign: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / "run" / foreign).write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(RunDirectoryError, match="is no run directory"):
        RunDirectory.open(tmp_path / "run")
    assert everything(tmp_path) == before


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunDirectoryError, match="is no directory"):
        RunDirectory.open(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_a_start_that_was_killed_before_its_manifest_can_be_repeated(tmp_path: Path, shard: MakeShard) -> None:
    with RunDirectory.open(tmp_path / "run") as run:
        save_plan(run.plan, [shard(3)])
        (tmp_path / "run" / ".manifest.json.123.tmp").write_bytes(b"half")
    RunDirectory.open(tmp_path / "run").close()


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    RunDirectory.open(tmp_path).close()


def test_a_directory_with_a_manifest_keeps_what_the_user_put_beside_it(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "run") as run:
        run.manifest.write_text("{}")
        (tmp_path / "run" / "notes.txt").write_text("mine")
    RunDirectory.open(tmp_path / "run").close()
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_new_supervisor_waits_for_workers_of_a_killed_one(tmp_path: Path, child: Start) -> None:
    with RunDirectory.open(tmp_path / "run") as run:
        run.wait_for_orphans(0.0)
        workers = [started(child, WORKER, tmp_path / "run", os.getpid()) for _ in range(2)]
        assert [said for _, said in workers] == ["held", "held"]
        now = 0.0

        def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds

        with pytest.raises(RunDirectoryError, match="were still at work after 5 s: end them"):
            run.wait_for_orphans(5.0, clock=lambda: now, sleep=sleep)
        for worker, _ in workers:
            worker.kill()
        run.wait_for_orphans(20.0)


def test_a_worker_whose_supervisor_is_gone_does_not_begin(tmp_path: Path, child: Start) -> None:
    with RunDirectory.open(tmp_path / "run"):
        _, said = started(child, WORKER, tmp_path / "run", 2**22 + 1)  # above any process id
        assert "the supervisor of the run in" in said
        assert "is gone" in said
