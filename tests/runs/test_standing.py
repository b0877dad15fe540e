"""Where a run stands: what an earlier session told, clocks that differ, and what is not there, tell nothing wrong."""

import os
import socket
import time
from pathlib import Path

import msgspec
import pytest

from rowmill.core.errors import RunDirectoryError
from rowmill.core.reports import Status
from rowmill.runs.standing import standing, still
from rowmill.store import durable
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Manifest
from rowmill.store.run_directory import RunDirectory
from tests.interface.ui.snapshots import BUSY, COST


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    """Return a run that has begun and is not at work."""
    with RunDirectory.open(tmp_path / "a.run") as run:
        manifest = Manifest(run_id="a", created="", fingerprint={}, input=[], shard_bytes=1, shard_rows=1)
        manifests.save(run.manifest, manifest)
    return run


def tell(directory: RunDirectory, at: float) -> None:
    directory.status.write_bytes(
        msgspec.json.encode(Status(at=at, session="s", snapshot=msgspec.structs.replace(BUSY, cost=COST)))
    )


def held_by(directory: RunDirectory, host: str) -> None:
    (directory.path / "lock").write_bytes(msgspec.json.encode(durable.LockHolder(1, host, "2026-01-01T00:00:00+00:00")))


def test_what_an_earlier_session_has_told_is_nothing_of_the_one_at_work(directory: RunDirectory) -> None:
    tell(directory, time.time() - 3600)
    assert standing(directory.path).status is not None
    with RunDirectory.open(directory.path):
        found = standing(directory.path)
        assert (found.run.state, found.status, found.told_s) == ("at work", None, None)
        tell(directory, time.time())
        again = still(directory.path, found)
        assert (again.run, again.supervisor) == (found.run, found.supervisor)
        assert again.status is not None
    ended = still(directory.path, again)
    assert (ended.run.state, ended.supervisor) == ("stopped", None)


def test_rows_of_several_sessions_that_were_killed_count(directory: RunDirectory) -> None:
    tell(directory, time.time())
    run = standing(directory.path).run
    assert (run.rows, run.failed, run.of) == (BUSY.totals.rows, BUSY.totals.failed, BUSY.total_rows)
    assert run.usd == COST.usd
    more = {"session": {"id": "s2", "rows": BUSY.totals.rows + 7}}  # told a moment later
    directory.spending.write_bytes(msgspec.json.encode(more))
    run = standing(directory.path).run
    assert (run.rows, run.of) == (BUSY.totals.rows + 7, BUSY.total_rows)


@pytest.mark.parametrize(
    ("host", "ago", "state"),
    [
        ("elsewhere", 1.0, "at work"),
        ("elsewhere", 60.0, "stopped"),
        ("elsewhere", -60.0, "stopped"),  # its clock is ahead, or ours was set back
        (socket.gethostname(), 1.0, "stopped"),
    ],
)
def test_a_lock_that_is_not_seen_here_is_of_one_at_work_where_it_was_just_told(
    directory: RunDirectory, host: str, ago: float, state: str
) -> None:
    held_by(directory, host)
    tell(directory, time.time() - ago)
    assert standing(directory.path).run.state == state


def test_a_run_without_a_lock_is_told_of(directory: RunDirectory) -> None:
    (directory.path / "lock").unlink()
    tell(directory, time.time())
    found = standing(directory.path)
    assert (found.run.state, found.supervisor) == ("stopped", None)


def test_a_name_of_any_bytes_can_be_written_down(directory: RunDirectory) -> None:
    odd = Path(os.fsdecode(bytes(directory.path.parent) + b"/b\xff.run"))
    directory.path.rename(odd)
    assert b"b\\\\xff.run" in msgspec.json.encode(standing(odd))


@pytest.mark.parametrize("path", ["", "nothing"])
def test_where_no_run_is_that_is_said(tmp_path: Path, path: str) -> None:
    with pytest.raises(RunDirectoryError, match="holds no run"):
        standing(tmp_path / path)
