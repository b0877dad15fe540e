"""The supervisor in this process, with real workers and a real simulator: what it does when they, or we, end early."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rowmill.budget import ledger
from rowmill.core import config as configuration
from rowmill.core.config import SIMULATOR, Config
from rowmill.core.errors import ExitCode, MachineError
from rowmill.core.reports import SessionReport, Snapshot
from rowmill.core.simulator import SimulatorSettings
from rowmill.core.wire import Endpoint
from rowmill.runs.preparation import prepare
from rowmill.store.in_flight import BoardReading, read_board
from rowmill.supervisor import aftermath, pool
from rowmill.supervisor import endpoints as startup
from rowmill.supervisor.endpoints import EmbeddedEndpoint
from rowmill.supervisor.incoming import Incoming
from rowmill.supervisor.loop import Supervisor
from rowmill.supervisor.pool import Member, Pool
from rowmill.supervisor.session_parts import SessionParts
from tests.simulator_host import HostedSimulator, SimulatorHost
from tests.watcher import Watcher

ROWS = 600


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = (json.dumps({"id": f"r{row}", "text": f"row {row} " + "x" * 400}) for row in range(ROWS))
    (tmp_path / "in.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.fixture
def simulate(simulators: SimulatorHost) -> Iterator[Callable[..., str]]:
    started: list[HostedSimulator] = []

    def start(**settings: Any) -> str:
        started.append(simulators.start(SimulatorSettings(**{"latency_ms": 5, **settings})))
        return started[-1].base_url

    yield start
    for simulator in started:
        simulator.stop()


def configured(url: str, *, count: int = 2, concurrency: int = 8, timeout_s: float = 20.0) -> Config:
    return configuration.parse(
        {
            "input": {"path": "in.jsonl", "id": "id"},
            "task": {"model": "m", "prompt": "{text}"},
            "output": {"path": "out.jsonl"},
            "provider": [{"base_url": url, "timeout_s": timeout_s}],
            "workers": {"count": count, "concurrency": concurrency},
            "checkpoint": {"commit_ms": 5},
        },
        "test.toml",
    )


def session(
    config: Config,
    watcher: Watcher,
    clock: Callable[[], float] = time.monotonic,
    embedded: EmbeddedEndpoint | None = None,
) -> SessionReport:
    """Run one session; when it returns nothing of it may be left."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    before = {child.pid for child in psutil.Process().children()}
    prepared = prepare(config, {})
    with prepared.directory:
        concurrency = config.workers.concurrency
        assert isinstance(concurrency, int)
        report = Supervisor(SessionParts(prepared, watcher, slots=concurrency, clock=clock, embedded=embedded)).run()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    left = {child.pid for child in psutil.Process().children()} - before
    assert left <= tracker_pids(), "a process of the session is still there"
    assert not list(Path().glob(".*rowmill-part"))
    return report


def tracker_pids() -> set[int]:
    """Find the resource tracker of multiprocessing: it stays for as long as this process lives."""
    return {
        child.pid
        for child in psutil.Process().children()
        if any("resource_tracker" in part for part in child.cmdline())
    }


def output() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("out.jsonl").read_bytes().splitlines()]


def assert_whole() -> None:
    lines = output()
    assert [line["index"] for line in lines] == list(range(ROWS))
    assert [line["id"] for line in lines] == [f"r{row}" for row in range(ROWS)]


def some_done(snapshot: Snapshot) -> bool:
    return 0 < snapshot.totals.rows < ROWS and snapshot.in_flight > 0


def test_a_run_goes_to_its_end(home: Path, simulate: Callable[..., str]) -> None:
    watcher = Watcher()
    report = session(configured(simulate()), watcher)
    assert_whole()
    assert (report.exit_code, report.stopped_by, report.deaths, report.quarantined) == (0, None, 0, 0)
    assert report.rows == report.counters.requests == report.counters.replies == ROWS
    assert report.workers == 2
    assert 1 <= report.in_flight_max <= report.allowed == 16
    assert report.billed_twice_max == 0
    assert report.cpu_s > 0
    assert all(size > 10 << 20 for size in report.rss_max_bytes.values())
    last = watcher.snapshots[-1]
    assert (last.totals.rows, last.total_rows, last.shards_sealed) == (ROWS, ROWS, last.shards_merged)
    assert not watcher.told("died")


def test_what_workers_tell_last_counts_for_providers_too(
    home: Path, simulate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output can be there before they have told it: as where it is small and they are held up."""
    hear = Incoming.hear

    def late(incoming: Incoming, member: Member) -> None:
        shards = incoming._parts.shards
        if not shards.finishing or shards.finished:
            hear(incoming, member)

    monkeypatch.setattr(Incoming, "hear", late)
    report = session(configured(simulate()), Watcher())
    (provider,) = report.providers.values()
    assert (provider.requests, provider.answered, provider.failed) == (ROWS, ROWS, 0)
    assert report.counters.requests == ROWS


def test_who_waits_for_the_processes_sees_the_run_at_once(
    home: Path, simulate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher()
    before: list[Snapshot] = []
    wait = startup.EndpointStart.wait

    def waited(start: startup.EndpointStart) -> list[Endpoint]:
        before.extend(watcher.snapshots)
        return wait(start)

    monkeypatch.setattr(startup.EndpointStart, "wait", waited)
    assert session(configured(simulate()), watcher).exit_code == 0
    assert [(each.totals.rows, len(each.workers)) for each in before] == [(0, 2)]


def test_who_wants_nothing_more_at_the_first_sight_ends_the_run_before_it_asks(
    home: Path, simulate: Callable[..., str]
) -> None:
    def refuse(_: Snapshot) -> bool:
        raise MachineError("no more, please")

    report = session(configured(simulate()), Watcher(refuse))
    assert (report.exit_code, report.stopped_by, report.rows) == (ExitCode.MACHINE, "no more, please", 0)
    assert report.counters.requests == 0


def test_that_no_row_was_answered_is_told_once(home: Path, simulate: Callable[..., str]) -> None:
    watcher = Watcher()
    (home / "in.jsonl").write_text("".join(f'{{"id": "r{row}", "text": "row {row}"}}\n' for row in range(10)))
    report = session(configured(simulate(faults={"400": 1.0})), watcher)
    assert report.exit_code == ExitCode.PROVIDER
    why = "no row was answered: all 10 failed: invalid_request (HTTP 400, Invalid value for a parameter.)"
    assert report.stopped_by == why
    assert watcher.told("no row was answered") == [why]


def test_a_killed_worker_is_replaced_and_the_run_goes_on(
    home: Path, simulate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    written: list[str] = []
    left: list[BoardReading] = []
    forget = Pool.forget_boards

    def forget_boards(workers: Pool) -> None:
        spending = ledger.load(home / "out.jsonl.run" / "spending.json")
        for board in workers.read:
            reading = read_board(board)
            if reading.name:
                assert spending.counted[reading.name] == aftermath.known(reading), "written before it is removed"
                written.append(reading.name)
                left.extend([reading] if reading.maybe_billed else [])
        forget(workers)

    monkeypatch.setattr(Pool, "forget_boards", forget_boards)

    def kill(snapshot: Snapshot) -> bool:
        victims = [worker.pid for worker in snapshot.workers if worker.in_flight]
        if not some_done(snapshot) or not victims:
            return False
        killed.append(victims[0])
        os.kill(victims[0], signal.SIGKILL)
        return True

    watcher = Watcher(kill)
    report = session(configured(simulate(latency_ms=40)), watcher)
    assert_whole()
    assert (report.exit_code, report.deaths) == (0, 1)
    assert report.rows <= ROWS
    (dead,) = left
    assert 1 <= len(dead.in_flight) <= 8
    assert report.billed_twice_max == dead.maybe_billed, "what was in flight, and the replies of an open group"
    assert len(watcher.told(f"(pid {killed[0]}) died: killed by signal 9")) == 1
    assert len(set(written)) == 3, "two workers, and a successor"
    assert not list((home / "out.jsonl.run" / "boards").iterdir())


def test_the_first_signal_drains_and_the_same_run_is_resumed(home: Path, simulate: Callable[..., str]) -> None:
    def interrupt(snapshot: Snapshot) -> bool:
        if some_done(snapshot):
            os.kill(os.getpid(), signal.SIGTERM)
            return True
        return False

    config = configured(simulate(latency_ms=40))
    watcher = Watcher(interrupt)
    first = session(config, watcher)
    assert (first.exit_code, first.stopped_by) == (ExitCode.INTERRUPTED, "interrupted")
    assert watcher.told("SIGTERM: finishing what is in flight; once more to stop at once")
    assert watcher.snapshots[-1].draining
    assert first.counters.requests == first.counters.replies, "what was out came home"
    assert (first.deaths, first.billed_twice_max) == (0, 0)
    assert not Path("out.jsonl").exists()

    second = session(config, Watcher())
    assert_whole()
    assert second.exit_code == 0
    assert first.counters.requests + second.counters.requests == ROWS, "no row was asked for twice"
    assert first.rows + second.rows == ROWS


@pytest.mark.timed
def test_the_second_signal_ends_it_at_once(home: Path, simulate: Callable[..., str]) -> None:
    out = 0

    def interrupt_twice(snapshot: Snapshot) -> bool:
        nonlocal out
        if snapshot.in_flight < 8:  # all of one worker's
            return False
        out = snapshot.in_flight
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    config = configured(simulate(faults={"hang": 1.0}))
    began = time.monotonic()
    report = session(config, Watcher(interrupt_twice))
    assert time.monotonic() - began < 10
    assert report.exit_code == ExitCode.INTERRUPTED
    assert out <= report.billed_twice_max <= 16, "what was in flight may have been done"


def test_what_would_fail_every_row_stops_the_run_and_fails_none(home: Path, simulate: Callable[..., str]) -> None:
    config = configured(simulate(script=("ok",) * 50 + ("429-quota",) * 5000))
    watcher = Watcher()
    report = session(config, watcher)
    assert report.exit_code == ExitCode.PROVIDER
    assert report.stopped_by is not None
    assert "provider 'default': quota_exhausted (HTTP 429" in report.stopped_by
    assert len(watcher.told("stopping: ")) == 1, "once, however many workers and replies say so"
    assert report.deaths == 0
    assert watcher.snapshots[-1].totals.failed == 0
    assert watcher.snapshots[-1].totals.rows == report.rows <= 50
    assert not Path("out.jsonl").exists()


def test_a_provider_that_never_answers_is_given_up_and_fails_no_row(home: Path, simulate: Callable[..., str]) -> None:
    """Once it is known to fail, the minute that it gets goes by twenty times as fast."""
    failing_at: float | None = None

    def notice(snapshot: Snapshot) -> bool:
        nonlocal failing_at
        if snapshot.providers[0].state == "failing":
            failing_at = time.monotonic()
        return failing_at is not None

    def clock() -> float:
        now = time.monotonic()
        return now if failing_at is None else now + 19 * (now - failing_at)

    watcher = Watcher(notice)
    report = session(configured("http://127.0.0.1:9/v1"), watcher, clock)
    assert report.exit_code == ExitCode.PROVIDER
    assert report.stopped_by is not None
    assert re.match(r"provider 'default': connection .*: no answer from http://127\.0\.0\.1:9/v1/", report.stopped_by)
    assert "Is the server running" in report.stopped_by
    assert watcher.told("provider default: failing; only probes are sent: ")
    # The first ones in flight; from there on probes, one at a time.
    assert report.counters.requests <= 5 + 10
    assert watcher.snapshots[-1].totals.rows == report.rows == 0
    assert report.providers["default"].state == "closed"
    assert not Path("out.jsonl").exists()

    assert session(configured(simulate()), Watcher()).exit_code == 0
    assert_whole()


def worker_module(home: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Let the workers of this test run another main."""
    (home / "rowmill_test_worker.py").write_text(source)
    monkeypatch.syspath_prepend(home)
    monkeypatch.setattr(pool, "WORKER_MODULE", "rowmill_test_worker")


def test_a_row_that_kills_its_worker_costs_one_row(
    home: Path, simulate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_module(
        home,
        monkeypatch,
        """
import os, signal
from rowmill.worker.live import process as worker
from rowmill.tasks.plain import PlainTask
build = PlainTask.build
def deadly(self, line):
    if b'"r33"' in line:
        os.kill(os.getpid(), signal.SIGKILL)
    return build(self, line)
PlainTask.build = deadly
main = worker.main
""",
    )
    watcher = Watcher()
    report = session(configured(simulate(), count=1), watcher)
    assert report.exit_code == ExitCode.ROWS_FAILED
    assert (report.deaths, report.quarantined) == (3, 1)
    assert_whole()
    assert [line["index"] for line in output() if line["error"]] == [33]
    (failed,) = Path("out.errors.jsonl").read_text().splitlines()
    assert json.loads(failed)["class"] == "poison_row"


def test_workers_that_cannot_work_end_the_run(
    home: Path, simulate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_module(home, monkeypatch, "def main(pipe):\n    return 9\n")
    watcher = Watcher()
    report = session(configured(simulate(), count=1), watcher)
    assert report.exit_code == ExitCode.MACHINE
    assert report.stopped_by is not None
    assert "workers keep dying without a row done (exit status 9)" in report.stopped_by
    assert report.deaths == 6


class Passing:
    """Stops the worker once some rows are done, and lets 40 s pass for the supervisor; then the worker may go on."""

    def __init__(self, *, asleep: bool = False) -> None:
        self.watcher = Watcher(self._stop)
        self.noticed = False
        self._asleep = asleep  # they pass in one go
        self._pid: int | None = None
        self._late = 0.0
        self._going_on = False

    def _stop(self, snapshot: Snapshot) -> bool:
        self.noticed = self.noticed or any("is stopped" in each for each in snapshot.notices)
        if self._pid is None and some_done(snapshot):
            self._pid = snapshot.workers[0].pid
            os.kill(self._pid, signal.SIGSTOP)
        return self._late >= 40.0 and (self.noticed or self._asleep)

    def __call__(self) -> float:
        if self._pid is not None and self._late < 40.0:
            self._late += 40.0 if self._asleep else 0.5
            if self._late >= 40.0 and self._asleep:
                os.kill(self._pid, signal.SIGCONT)
        if self.noticed and not self._going_on and self._pid is not None:
            self._going_on = True
            os.kill(self._pid, signal.SIGCONT)
        return time.monotonic() + self._late


def test_a_worker_that_was_stopped_is_waited_for(home: Path, simulate: Callable[..., str]) -> None:
    passing = Passing()
    report = session(configured(simulate(latency_ms=40), count=1), passing.watcher, clock=passing)
    assert_whole()
    assert (report.deaths, report.counters.retries) == (0, 0)
    assert passing.noticed


def test_a_supervisor_that_was_asleep_itself_calls_nobody_silent(home: Path, simulate: Callable[..., str]) -> None:
    passing = Passing(asleep=True)
    report = session(configured(simulate(latency_ms=40), count=1), passing.watcher, clock=passing)
    assert_whole()
    assert (report.deaths, report.counters.retries) == (0, 0)
    assert len(passing.watcher.told("asleep for 4")) == 1


class NeverUp:
    """A simulator that does not come up."""

    base_url = ""

    def start(self) -> None:
        pass

    def wait_ready(self, timeout: float) -> None:
        raise RuntimeError("the simulator did not start: of the test")

    def stop(self) -> None:
        pass


def test_a_simulator_that_does_not_come_up_is_told_and_no_worker_is_called_dead(home: Path) -> None:
    watcher = Watcher()
    report = session(configured(SIMULATOR), watcher, embedded=NeverUp())
    assert report.exit_code == ExitCode.MACHINE
    assert report.stopped_by == "the simulator did not start: of the test; run the same command again"
    assert (report.deaths, watcher.told("died")) == (0, [])


def test_a_session_over_finished_shards_asks_for_nothing(home: Path, simulate: Callable[..., str]) -> None:
    config = configured(simulate())
    session(config, Watcher())
    before = Path("out.jsonl").read_bytes()
    Path("out.jsonl").unlink()
    for sealed in Path("out.jsonl.run/sealed").iterdir():
        sealed.unlink()
    report = session(config, Watcher())
    assert Path("out.jsonl").read_bytes() == before
    assert report.counters.requests == 0
    assert report.exit_code == 0


def test_an_empty_input_is_a_finished_run(home: Path, simulate: Callable[..., str]) -> None:
    (home / "in.jsonl").write_bytes(b"")
    report = session(configured(simulate()), Watcher())
    assert report.exit_code == 0
    assert Path("out.jsonl").read_bytes() == b""
