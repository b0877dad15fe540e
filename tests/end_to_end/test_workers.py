"""Workers that die of a row, cannot start, or hang."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from rowmill.core import config
from rowmill.core.reports import Snapshot
from rowmill.runs.preparation import prepare
from rowmill.supervisor.loop import Supervisor
from rowmill.supervisor.session_parts import SessionParts
from tests.end_to_end.conftest import Arrival, Place, Server, Witness


def kill_sender(arrival: Arrival) -> None:
    """SIGKILL the process whose connection this request came by, as a crash in native code would."""
    for connection in psutil.net_connections("tcp4"):
        if connection.laddr and connection.laddr.port == arrival.port and connection.pid not in (None, os.getpid()):
            os.kill(connection.pid, signal.SIGKILL)


@pytest.mark.parametrize("poison", [{0}, {70, 160, 255}])
def test_a_row_that_kills_its_worker_is_given_up_and_the_rest_is_done(
    place: Place, server: Callable[..., Server], poison: set[int]
) -> None:
    def decide(arrival: Arrival) -> None:
        if arrival.row in poison:
            kill_sender(arrival)
        time.sleep(0.01)  # so that rows before it are on the disk when it comes

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(300)
    done = place.run("--set", "checkpoint.commit_ms=5")
    assert done.code == 1, done.err
    lines = place.lines
    assert [line["index"] for line in lines] == list(range(300))
    assert {line["index"] for line in lines if line["output"] is None} == poison
    assert {row["index"]: row["class"] for row in place.failed} == dict.fromkeys(poison, "poison_row")
    # Twice among others and once alone; again where a death by another row came in between.
    assert all(3 <= witness.counts[row] <= 2 + len(poison) for row in poison), witness.counts.most_common(4)
    (session,) = place.report["sessions"]
    assert session["quarantined"] == len(poison)
    assert session["deaths"] <= 4 * len(poison)
    assert place.report["failures"] == {"poison_row": len(poison)}


def test_workers_that_cannot_start_end_the_run(place: Place, simulator: Callable[..., Witness], tmp_path: Path) -> None:
    witness = simulator()
    place.configure(witness.url)
    place.write_rows(300)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "uvloop.py").write_text("raise ImportError('libuv.so: cannot open shared object file')\n")
    healthy = place.environ["PYTHONPATH"]
    place.environ["PYTHONPATH"] = f"{broken}{os.pathsep}{healthy}"
    done = place.run()
    assert (done.code, done.out) == (6, ""), done.err
    assert "workers keep dying without a row done (exit status 1)" in done.err
    assert "libuv.so: cannot open shared object file" in done.err
    assert not place.output.exists()
    assert witness.stats()["requests"] == 0
    (session,) = place.report["sessions"] if (place.run_dir / "report.json").exists() else ({"deaths": 6},)
    assert session["deaths"] <= 8
    place.environ["PYTHONPATH"] = healthy
    assert place.run().code == 0
    assert len(place.lines) == 300


class _Stopper:
    """Has the first worker that is seen with requests in flight hang, as a broken disk or a library of C would."""

    def __init__(self) -> None:
        self.stopped: int | None = None
        self.events: list[str] = []

    def show(self, snapshot: Snapshot) -> None:
        busy = [worker for worker in snapshot.workers if worker.in_flight]
        if self.stopped is None and snapshot.totals.rows and busy:
            self.stopped = busy[0].pid
            os.kill(self.stopped, signal.SIGUSR1)

    def log(self, line: str) -> None:
        self.events.append(line)


def test_a_worker_that_hangs_is_killed_and_its_shards_go_to_others(
    place: Place,
    simulator: Callable[..., Witness],
    reference: Callable[[int], bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The supervisor's clock runs ten times as fast: its thirty seconds of silence are three."""
    (tmp_path / "hangs").mkdir()
    (tmp_path / "hangs" / "sitecustomize.py").write_text(
        "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: time.sleep(1000))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hangs"), prepend=os.pathsep)
    witness = simulator(latency_ms=60)
    place.configure(witness.url)
    place.write_rows(1500)
    monkeypatch.chdir(place.folder)
    stopper = _Stopper()
    prepared = prepare(config.load(Path("config.toml")), {})
    with prepared.directory:
        parts = SessionParts(prepared, stopper, slots=16, clock=lambda: time.monotonic() * 10)
        report = Supervisor(parts).run()
    assert report.exit_code == 0, report
    assert place.output.read_bytes() == reference(1500)
    assert f"worker {0} (pid {stopper.stopped}) is silent; killed" in stopper.events or (
        f"worker {1} (pid {stopper.stopped}) is silent; killed" in stopper.events
    )
    assert report.deaths == 1
    assert not psutil.pid_exists(stopper.stopped or 0)
    # What it had in flight was asked for again, and is told.
    assert 1 <= report.billed_twice_max <= 16 + 48, "in flight, and the replies of a group that was open"
    assert witness.stats()["requests"] <= 1500 + 16 + 16
