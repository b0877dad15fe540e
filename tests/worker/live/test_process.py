"""A real worker process, driven over its pipe as the supervisor drives it, against a real simulator."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rowmill.core import config as configuration
from rowmill.core import tallies
from rowmill.core.errors import ExitCode
from rowmill.core.leases import Lease, Share
from rowmill.core.rows import InputPart, Layout, Shard
from rowmill.core.simulator import SimulatorSettings
from rowmill.core.wire import Endpoint
from rowmill.files.input.jsonl import plan_blocks
from rowmill.ipc import messages, processes
from rowmill.ipc.messages import (
    Assign,
    Closed,
    Defective,
    Drain,
    Heartbeat,
    Leased,
    Leases,
    Note,
    RateLimited,
    Ready,
    Setup,
    ShardSealed,
    Stop,
    ToSupervisor,
    ToWorker,
    Tripped,
    Want,
)
from rowmill.store.in_flight import read_board
from rowmill.store.run_directory import RunDirectory
from rowmill.worker.live import process as workers
from tests.simulator_host import HostedSimulator, SimulatorHost

SECRET = "sk-very-secret"
M = TypeVar("M", bound=ToSupervisor)
WAIT_S = 30.0


class Driver:
    """The supervisor's side of one worker. Messages are kept until they are asked for."""

    def __init__(
        self,
        home: Path,
        url: str,
        rows: int,
        *,
        shard_bytes: int = 1 << 20,
        module: str = "rowmill.worker.live.process",
        **settings: Any,
    ) -> None:
        self.home = home
        data = b"".join(b'{"id":"r%d","text":"row %d"}\n' % (row, row) for row in range(rows))
        self.input = home / "in.jsonl"
        self.input.write_bytes(data)
        self.shards = list(plan_blocks([data], shard_bytes=shard_bytes, shard_rows=10_000))
        (home / "run").mkdir(exist_ok=True)
        (home / "run" / "manifest.json").touch()  # workers never read it; with it the folder is a run directory
        self.directory = RunDirectory.open(home / "run")
        self._url = url
        self._settings = settings
        self._serial = 0
        self._kept: list[ToSupervisor] = []
        self.beats: list[Heartbeat] = []
        self.child = processes.start(module, "test-worker")

    def tell(self, message: ToWorker) -> None:
        messages.send(self.child.pipe, message)

    def set_up(self, *, supervisor: int | None = None, salvage: bool = False, retry_failed: bool = False) -> None:
        tree: dict[str, Any] = {
            "input": {"path": str(self.input), "id": "id"},
            "task": {"model": "m", "prompt": "{text}"},
            "output": {"path": str(self.home / "out.jsonl")},
            "provider": [{"base_url": self._url, "timeout_s": self._settings.get("timeout_s", 20)}],
            "workers": {"concurrency": self._settings.get("concurrency", 8)},
            "checkpoint": {"commit_ms": self._settings.get("commit_ms", 5)},
        }
        slots = tree["workers"]["concurrency"]
        url = f"{self._url}/chat/completions"
        headers = (("content-type", "application/json"), ("authorization", f"Bearer {SECRET}"))
        self.tell(
            Setup(
                worker=0,
                config=configuration.parse(tree, "test"),
                parts=[InputPart(str(self.input), "lines")],
                layout=Layout(),
                endpoints=[
                    Endpoint(
                        provider="main",
                        base_url=self._url,
                        key=SECRET,
                        openai_account=False,
                        timeout_s=tree["provider"][0]["timeout_s"],
                        url=url,
                        headers=headers,
                        secrets=(SECRET,),
                    )
                ],
                slots=slots,
                workers=1,
                run_dir=str(self.directory.path),
                supervisor=os.getpid() if supervisor is None else supervisor,
                incarnation=0,
                claimant=0,
                salvage=salvage,
                retry_failed=retry_failed,
            )
        )
        self.lease(slots)

    def lease(self, in_flight: int, *, seconds: float = 1000.0, **more: Any) -> None:
        """Allow so many requests in flight for so long."""
        self._serial += 1
        self.tell(Leases([Lease(0, self._serial, time.monotonic() + seconds, in_flight, **more)]))

    def hear(self, kind: type[M]) -> M:
        """Return the next message of this kind; fail where none comes or the worker ends first."""
        end = time.monotonic() + WAIT_S
        while True:
            for message in self._kept:
                if isinstance(message, kind):
                    self._kept.remove(message)
                    return message
            assert self.child.pipe.poll(max(0.0, end - time.monotonic())), f"no {kind.__name__} within {WAIT_S} s"
            told = messages.receive_in_supervisor(self.child.pipe)
            assert told is not None, f"the worker ended before it said {kind.__name__}; it said {self._kept}"
            if isinstance(told, Heartbeat):
                self.beats.append(told)
            self._kept.append(told)

    def beat_until(self, condition: Callable[[Heartbeat], bool]) -> Heartbeat:
        while not condition(beat := self.hear(Heartbeat)):
            pass
        return beat

    def assign(self, number: int = 0, suspects: tuple[int, ...] = (), quarantined: tuple[int, ...] = ()) -> Shard:
        self.hear(Want)
        self.tell(Assign(self.shards[number], suspects, quarantined))
        return self.shards[number]

    def ended(self) -> tuple[int, list[ToSupervisor]]:
        """Wait for the end; return the exit status and everything that was not asked for, Beats aside."""
        while (told := messages.receive_in_supervisor(self.child.pipe)) is not None:
            if isinstance(told, Heartbeat):
                self.beats.append(told)
            self._kept.append(told)
        self.child.process.join(WAIT_S)
        assert self.child.process.exitcode is not None, "the pipe is closed and the process is still there"
        return self.child.process.exitcode, [
            message for message in self._kept if not isinstance(message, Heartbeat | Leased)
        ]

    def lines(self, number: int = 0) -> list[dict[str, Any]]:
        """Read the output lines of a sealed shard."""
        sealed = self.directory.sealed_path(self.shards[number]).read_bytes().splitlines()
        return [json.loads(line) for line in sealed[: self.shards[number].rows]]

    def close(self) -> None:
        self.child.process.kill()
        self.child.process.join()
        self.child.pipe.close()
        self.directory.close()


DRIVE = Callable[..., Driver]


@pytest.fixture
def simulate(simulators: SimulatorHost) -> Iterator[Callable[..., str]]:
    """Start a simulator; gives its base URL."""
    started: list[HostedSimulator] = []

    def start(**settings: Any) -> str:
        started.append(simulators.start(SimulatorSettings(**{"latency_ms": 1, **settings})))
        return started[-1].base_url

    yield start
    for simulator in started:
        simulator.stop()


@pytest.fixture(scope="module")
def fast_url(simulators: SimulatorHost) -> Iterator[str]:
    simulator = simulators.start(SimulatorSettings(latency_ms=1))
    yield simulator.base_url
    simulator.stop()


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[DRIVE]:
    drivers: list[Driver] = []

    def start(url: str, rows: int = 20, home: Path = tmp_path, **settings: Any) -> Driver:
        driver = Driver(home, url, rows, **settings)
        drivers.append(driver)
        return driver

    yield start
    for driver in drivers:
        driver.close()


def requests_seen(url: str) -> int:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats", timeout=10) as response:  # the simulator's own
        total: dict[str, Any] = json.loads(response.read())["total"]
    return int(total["requests"])


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# Work


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_last_group_waits_for_no_row_that_could_join_it(concurrency: int, drive: DRIVE, fast_url: str) -> None:
    driver = drive(fast_url, rows=40, shard_bytes=700, concurrency=concurrency, commit_ms=60_000)
    assert len(driver.shards) > 1
    driver.set_up()
    driver.hear(Ready)
    for number, shard in enumerate(driver.shards):
        driver.assign(number)
        assert driver.hear(ShardSealed).totals.rows == shard.rows


def test_a_worker_says_it_is_ready_asks_for_a_shard_and_seals_it(drive: DRIVE, fast_url: str) -> None:
    driver = drive(fast_url, rows=300)
    driver.set_up()
    driver.hear(Ready)
    driver.assign()
    sealed = driver.hear(ShardSealed)
    assert sealed.number == 0
    assert (sealed.totals.rows, sealed.totals.failed, sealed.totals.requests) == (300, 0, 300)
    lines = driver.lines()
    assert [line["index"] for line in lines] == list(range(300))
    assert [line["id"] for line in lines] == [f"r{row}" for row in range(300)]
    assert all(f"row {row} " in line["output"] for row, line in enumerate(lines))
    driver.hear(Want)
    driver.tell(Drain(0.0))
    assert driver.ended() == (0, [])
    last = driver.beats[-1]
    assert (last.counters.rows, last.counters.requests, last.counters.replies, last.in_flight) == (300, 300, 300, 0)
    assert last.in_flight_max == 8
    assert last.shards == {}
    assert last.rss_max > 10 << 20
    assert last.cpu_s > 0
    left = read_board(driver.directory.board_path(0))
    assert left.maybe_billed == 0, "nothing was in flight at its end"
    assert tallies.beyond(dict(left.counts), tallies.told(last.counters, last.providers)) == {}, "all of it is told"
    assert (left.counts["0.requests"], left.counts[".rows"], left.counts[".replies"]) == (300, 300, 300)


def test_a_beat_tells_of_every_open_shard_and_of_what_waits(drive: DRIVE, simulate: Callable[..., str]) -> None:
    driver = drive(simulate(script=("ok",) * 7 + ("429-long",), latency_ms=0), rows=8)  # all sent before the pause
    driver.set_up()
    driver.assign()
    beat = driver.beat_until(lambda beat: beat.counters.rows == 7)
    assert beat.shards[0].rows == 7
    assert (beat.waiting, beat.in_flight) == (1, 0)
    assert beat.next_due_s is not None
    assert 590 < beat.next_due_s < 751
    assert beat.counters.faults == {"rate_limited": 1}


def test_the_next_shard_is_begun_while_a_row_of_the_first_is_out(drive: DRIVE, simulate: Callable[..., str]) -> None:
    driver = drive(simulate(script=("hang",)), rows=40, shard_bytes=500)
    driver.set_up()
    driver.assign(0)
    driver.assign(1)
    assert driver.hear(ShardSealed).number == 1
    driver.beat_until(
        lambda beat: beat.in_flight == 1 and 0 in beat.shards and beat.shards[0].rows == driver.shards[0].rows - 1
    )
    (out,) = read_board(driver.directory.board_path(0)).in_flight
    assert out < driver.shards[0].rows, "whichever request came first; eight are sent at once"


def test_a_worker_with_work_for_a_long_while_leaves_the_next_shard_to_others(
    drive: DRIVE, simulate: Callable[..., str]
) -> None:
    """Rows that wait on a busy worker while others idle are what pulling by shard is to avoid."""
    driver = drive(simulate(faults={"hang": 1.0}), rows=400, shard_bytes=2000, concurrency=4)
    driver.set_up()
    driver.assign(0)
    for _ in range(3):
        driver.beat_until(lambda beat: beat.in_flight == 4)
    assert not any(isinstance(message, Want) for message in driver._kept)


def test_a_shard_that_is_all_on_disk_is_sealed_without_a_request(drive: DRIVE, fast_url: str, tmp_path: Path) -> None:
    first = drive(fast_url, rows=50)
    first.set_up()
    shard = first.assign()
    first.hear(ShardSealed)
    first.close()
    before = requests_seen(fast_url)
    first.directory.sealed_path(shard).unlink()
    second = drive(fast_url, rows=50)
    second.set_up()
    second.assign()
    assert second.hear(ShardSealed).totals.rows == 50
    assert len(second.lines()) == 50
    assert requests_seen(fast_url) == before


def test_a_killed_worker_leaves_its_rows_to_the_next_which_asks_for_no_finished_one_again(
    drive: DRIVE, simulate: Callable[..., str]
) -> None:
    url = simulate(latency_ms=5)
    rows = 1600  # of two seconds: it is killed long before their end
    first = drive(url, rows=rows, concurrency=4)
    first.set_up()
    first.assign()
    beat = first.beat_until(lambda beat: beat.shards[0].rows > 20 if 0 in beat.shards else False)
    os.kill(first.child.process.pid or 0, signal.SIGKILL)
    assert first.ended()[0] == -signal.SIGKILL
    left = read_board(first.directory.board_path(0))
    assert 1 <= len(left.in_flight) <= 4
    first.close()
    second = drive(url, rows=rows, concurrency=32)
    second.set_up()
    second.assign()
    assert second.hear(ShardSealed).totals.rows == rows
    assert [line["index"] for line in second.lines()] == list(range(rows))
    # What was not on disk is done again: what was in flight, and the replies of an open group.
    assert requests_seen(url) <= rows + left.maybe_billed
    assert second.beats[-1].counters.requests <= rows - beat.shards[0].rows


def test_suspects_and_quarantined_rows_are_treated_as_told(drive: DRIVE, fast_url: str) -> None:
    driver = drive(fast_url, rows=10)
    driver.set_up()
    driver.assign(suspects=(3,), quarantined=(7,))
    totals = driver.hear(ShardSealed).totals
    assert (totals.rows, totals.failed, totals.requests) == (10, 1, 9)
    assert [line["error"] and line["error"]["class"] for line in driver.lines()] == [None] * 7 + ["poison_row"] + [
        None
    ] * 2


# Leases


def test_every_lease_is_acknowledged_with_the_credit_that_goes_back(drive: DRIVE, fast_url: str) -> None:
    driver = drive(fast_url)
    driver.set_up()
    assert driver.hear(Leased) == Leased(0, 1, (0.0, 0.0))
    driver.lease(2, requests=Share(10.0, 5.0, credit=3.0), tokens=Share(100.0, 50.0, credit=-20.0))
    assert driver.hear(Leased) == Leased(0, 2, (0.0, 0.0))
    driver.lease(2, requests=Share(0.0, 0.0), tokens=Share(0.0, 0.0))
    left = driver.hear(Leased)
    assert left.serial == 3
    assert 3.0 <= left.returned[0] <= 5.0
    assert left.returned[1] > -20.0, "a debt goes back less what was earned meanwhile"


def test_a_worker_sends_as_its_lease_says_and_reports_what_it_lacks(drive: DRIVE, simulate: Callable[..., str]) -> None:
    url = simulate(latency_ms=200, latency_sigma=0)
    driver = drive(url, rows=400)
    driver.set_up()
    driver.lease(3)
    driver.assign()
    beat = driver.beat_until(lambda beat: beat.in_flight == 3 and beat.providers[0].lease == 2)
    assert driver.beat_until(lambda beat: beat.providers[0].wants_slots).in_flight <= 3
    assert beat.in_flight_max <= 3
    driver.lease(8, requests=Share(20.0, 1.0))
    beat = driver.beat_until(lambda beat: beat.providers[0].wants_rate and not beat.providers[0].wants_slots)
    assert beat.in_flight < 8
    report = driver.beats[-1].providers[0]
    assert report.answered <= report.requests
    assert report.reply_s >= report.answered * 0.2
    assert report.prompt_tokens > 0


def test_a_worker_that_was_stopped_past_its_lease_sends_nothing_on_it(
    drive: DRIVE, simulate: Callable[..., str]
) -> None:
    url = simulate(latency_ms=5)
    driver = drive(url, rows=20_000)
    driver.set_up()
    driver.assign()
    driver.lease(2, seconds=1.0)  # now that the worker is up: on a busy machine that takes longer than such a lease
    driver.beat_until(lambda beat: beat.counters.rows > 20)
    pid = driver.child.process.pid or 0
    os.kill(pid, signal.SIGSTOP)
    try:
        expired = time.monotonic() + 1.1
        until(lambda: time.monotonic() > expired)
        before = requests_seen(url)
    finally:
        os.kill(pid, signal.SIGCONT)
    driver._kept.clear()
    for _ in range(4):  # a second at work
        driver.beat_until(lambda beat: beat.in_flight == 0)
    assert requests_seen(url) == before
    driver.lease(2)
    driver.beat_until(lambda beat: beat.providers[0].requests > before)


@pytest.mark.timed
def test_a_lease_that_is_not_renewed_ends_by_itself(drive: DRIVE, fast_url: str) -> None:
    driver = drive(fast_url, rows=100_000)
    driver.set_up()
    driver.assign()
    driver.lease(4, seconds=0.7)  # now that the worker is up: on a busy machine that takes longer than such a lease
    driver.beat_until(lambda beat: beat.counters.rows > 0)
    sent = [0]

    def still(beat: Heartbeat) -> bool:
        sent.append(beat.providers[0].requests)
        return beat.in_flight == 0 and sent[-1] == sent[-2] > 0

    began = time.monotonic()
    driver.beat_until(still)
    assert sent[-1] < 100_000
    assert time.monotonic() - began < 5


def test_a_supervisor_that_does_not_read_hears_everything_once_it_does(
    drive: DRIVE, simulate: Callable[..., str]
) -> None:
    """As one that is stopped: the pipe holds some 280 messages, and what does not go in it is kept."""
    url = simulate(faults={"429-bare": 1.0})
    driver = drive(url, rows=500, concurrency=400)
    driver.set_up()
    driver.assign()
    until(lambda: requests_seen(url) >= 400)
    driver.tell(Drain(0.5))
    code, told = driver.ended()
    assert code == ExitCode.OK
    assert sum(isinstance(each, RateLimited) for each in told) >= 400
    assert not [each for each in told if isinstance(each, Stop | Defective)]


def test_a_429_is_told_at_once_and_held_to(drive: DRIVE, simulate: Callable[..., str]) -> None:
    url = simulate(script=("429-long",), latency_ms=1)
    driver = drive(url, rows=50, concurrency=1)
    driver.set_up()
    driver.assign()
    assert driver.hear(RateLimited) == RateLimited(0, 600.0, False)
    driver.beat_until(lambda beat: beat.waiting == 1)
    for _ in range(2):
        driver.beat_until(lambda beat: beat.in_flight == 0)
    assert requests_seen(url) == 1


def test_a_provider_that_only_fails_is_told_at_once_and_probed_as_leases_say(
    drive: DRIVE, simulate: Callable[..., str]
) -> None:
    url = simulate(faults={"503": 1.0}, latency_ms=1)
    driver = drive(url, rows=500, concurrency=4)
    driver.set_up()
    driver.assign()
    tripped = driver.hear(Tripped)
    assert tripped.provider == 0
    assert tripped.reason.startswith("overloaded (HTTP 503")
    driver.beat_until(lambda beat: beat.in_flight == 0 and beat.providers[0].requests >= 20)
    before = requests_seen(url)
    assert before <= 20 + 4
    driver.lease(0, failing=True)
    driver.lease(1, failing=True)
    driver.beat_until(lambda beat: beat.in_flight == 0 and beat.providers[0].lease == 3)
    driver.beat_until(lambda beat: beat.providers[0].requests == before + 1)
    assert requests_seen(url) == before + 1


# Ends


def test_a_drain_brings_in_what_is_out_and_begins_nothing(drive: DRIVE, simulate: Callable[..., str]) -> None:
    url = simulate(latency_ms=300, latency_sigma=0)
    driver = drive(url, rows=100, concurrency=5)
    driver.set_up()
    driver.assign()
    driver.beat_until(lambda beat: beat.in_flight == 5)
    driver.tell(Drain(20.0))
    status, rest = driver.ended()
    assert (status, [message for message in rest if not isinstance(message, Ready | Want)]) == (0, [])
    last = driver.beats[-1]
    assert last.counters.requests == last.counters.replies == requests_seen(url)
    assert last.counters.rows == last.shards[0].rows == last.counters.replies
    assert last.counters.rows % 5 == 0, "whole rounds of five: what was admitted came home"
    assert last.counters.maybe_billed_twice == 0


def test_every_row_on_disk_is_counted_even_when_a_commit_was_under_way_at_the_end(
    drive: DRIVE, simulate: Callable[..., str]
) -> None:
    driver = drive(simulate(latency_ms=5), rows=20_000, concurrency=32, commit_ms=1)  # of three seconds
    driver.set_up()
    driver.assign()
    driver.beat_until(lambda beat: beat.counters.rows > 50)
    driver.tell(Drain(20.0))
    assert driver.ended()[0] == 0
    last = driver.beats[-1]
    assert last.counters.rows == last.shards[0].rows == last.counters.replies


def test_a_drain_without_time_gives_up_what_is_out_and_counts_it(drive: DRIVE, simulate: Callable[..., str]) -> None:
    driver = drive(simulate(faults={"hang": 1.0}), rows=20, concurrency=3)
    driver.set_up()
    driver.assign()
    driver.beat_until(lambda beat: beat.in_flight == 3)
    driver.tell(Drain(30.0))
    driver.beat_until(lambda beat: beat.in_flight == 3)  # it waits by now
    driver.tell(Drain(0.0))  # a second call can only shorten it
    assert driver.ended()[0] == 0
    assert driver.beats[-1].counters.maybe_billed_twice == 3


def test_a_worker_whose_supervisor_is_gone_drains_and_ends(
    drive: DRIVE, simulate: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workers._ORPHAN_DRAIN_S <= 8, "no worker outlives its supervisor by more than ten seconds"
    (tmp_path / "rowmill_test_hasty_worker.py").write_text(
        "from rowmill.worker.live import process\nprocess._ORPHAN_DRAIN_S = 0.5\nmain = process.main\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    driver = drive(simulate(script=("ok",) * 5 + ("hang",)), rows=20, concurrency=1, module="rowmill_test_hasty_worker")
    driver.set_up()
    shard = driver.assign()
    driver.beat_until(lambda beat: beat.counters.rows == 5 and beat.in_flight == 1)
    driver.child.pipe.close()
    driver.child.process.join(10)
    assert driver.child.process.exitcode == 0
    assert b'"row":4' in driver.directory.checkpoint_path(shard).read_bytes()
    assert read_board(driver.directory.board_path(0)).maybe_billed == 1, "the next session is to know of the hung one"


def test_a_worker_that_was_never_set_up_ends_with_its_supervisor(drive: DRIVE, fast_url: str) -> None:
    driver = drive(fast_url)
    driver.child.pipe.close()
    driver.child.process.join(10)
    assert driver.child.process.exitcode is not None


def test_a_worker_that_is_drained_before_it_was_set_up_has_done_as_it_was_told(drive: DRIVE, fast_url: str) -> None:
    """The supervisor counts any other status as a death: a run refused at its start would report dead workers."""
    driver = drive(fast_url)
    driver.tell(Drain(0.0))
    assert driver.ended() == (0, [])


def test_a_worker_of_another_supervisor_touches_nothing(
    drive: DRIVE, fast_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    driver = drive(fast_url)
    driver.set_up(supervisor=1)
    status, said = driver.ended()
    assert status == 0
    assert [message.exit_code for message in said if isinstance(message, Stop)] == [ExitCode.RUN_DIRECTORY]
    assert not any(isinstance(message, Ready | Want) for message in said)
    assert driver.directory.boards() == []
    assert "Traceback" not in capfd.readouterr().err


# What stops every worker


def test_a_refused_key_stops_the_run_with_a_reason_that_does_not_show_it(
    drive: DRIVE, simulate: Callable[..., str]
) -> None:
    url = simulate(faults={"401": 1.0})
    driver = drive(url, rows=50, concurrency=4)
    driver.set_up()
    shard = driver.assign()
    closed = driver.hear(Closed)
    assert closed.provider == 0
    assert closed.reason.startswith("auth (HTTP 401")
    assert SECRET not in closed.reason
    driver.tell(Drain(5.0))
    assert driver.ended()[0] == 0
    assert requests_seen(url) <= 8, "as many rows as it takes to tell a wrong key from refused rows"
    assert b'"row":' not in driver.directory.checkpoint_path(shard).read_bytes(), "no row has failed"


def test_a_full_disk_stops_the_run_as_this_machines_fault(drive: DRIVE, fast_url: str, small_disk: Path) -> None:
    driver = drive(fast_url, rows=3000, home=small_disk, concurrency=16)
    driver.set_up()
    shard = driver.assign()
    stop = driver.hear(Stop)
    assert stop.exit_code == ExitCode.MACHINE
    assert str(driver.directory.checkpoint_path(shard)) in stop.reason
    assert driver.ended()[0] == 0, "it has said why, and is not to be taken for dead"


def test_a_shard_that_cannot_be_sealed_ends_the_worker_instead_of_waiting_for_ever(drive: DRIVE, fast_url: str) -> None:
    driver = drive(fast_url, rows=20)
    driver.directory.sealed.rmdir()
    driver.set_up()
    driver.assign()
    status, said = driver.ended()
    assert status == 1 or any(isinstance(message, Stop) for message in said)


def test_a_damaged_checkpoint_is_refused_and_salvaged_on_request(drive: DRIVE, fast_url: str) -> None:
    first = drive(fast_url, rows=50)
    first.set_up()
    shard = first.assign()
    first.hear(ShardSealed)
    first.close()
    path = first.directory.checkpoint_path(shard)
    data = bytearray(path.read_bytes())
    data[data.index(b'"row":25,') + 2] ^= 4
    path.write_bytes(data)

    second = drive(fast_url, rows=50)
    second.set_up()
    second.assign()
    stop = second.hear(Stop)
    assert stop.exit_code == ExitCode.RUN_DIRECTORY
    assert "salvage" in stop.reason
    assert second.ended()[0] == 0
    second.close()

    third = drive(fast_url, rows=50)
    third.set_up(salvage=True)
    third.assign()
    assert third.hear(ShardSealed).totals.rows == 50
    assert third.beat_until(lambda beat: beat.counters.rows > 0).counters.requests == 1


def test_a_torn_group_is_cut_and_told(drive: DRIVE, simulate: Callable[..., str]) -> None:
    url = simulate(script=("ok",) * 10 + ("hang",) * 5)
    first = drive(url, rows=15, concurrency=5)
    first.set_up()
    shard = first.assign()
    first.beat_until(lambda beat: beat.counters.rows == 10)
    first.close()
    path = first.directory.checkpoint_path(shard)
    path.write_bytes(path.read_bytes() + b"0badc0de {")
    second = drive(url, rows=15)
    second.set_up()
    second.assign()
    assert second.hear(Note).text == f"{path.name}: cut 10 bytes of a torn group; its rows are redone"
    assert second.hear(ShardSealed).totals.rows == 15


def test_an_input_that_changes_under_the_run_stops_it(drive: DRIVE, fast_url: str) -> None:
    driver = drive(fast_url, rows=50)
    driver.input.write_bytes(driver.input.read_bytes().replace(b"row 7", b"Row 7"))
    driver.set_up()
    driver.assign()
    stop = driver.hear(Stop)
    assert stop.exit_code == ExitCode.RUN_DIRECTORY
    assert "rows 0 to 49 changed while the run was going on" in stop.reason
    assert driver.ended()[0] == 0


def test_a_worker_imports_what_it_needs_and_no_more() -> None:
    code = (
        "import rowmill.worker.live.process, rowmill.transport.direct, sys; "
        "print('openai' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False False\n"
