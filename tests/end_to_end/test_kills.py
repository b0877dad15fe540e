"""Runs that are killed or interrupted: the same command goes on, the bytes are the same, nothing is paid for again."""

import signal
import threading
import time
from collections.abc import Callable
from random import Random

import psutil
import pytest

from scripts.proving.runs import gone
from tests.end_to_end.conftest import Arrival, Done, Place, Server, Started, Witness, until

FAULTS = {
    "500": 0.003,
    "429-ms": 0.003,
    "503": 0.002,
    "reset": 0.002,
    "reset-body": 0.001,
    "hang": 0.001,
    "truncated": 0.001,
    "empty": 0.001,
    "html": 0.001,
    "502": 0.001,
}
ROWS = 1000


def quiet(done: Done) -> bool:
    return done.out == "" and "Traceback" not in done.err


def enough(found: list[psutil.Process], number: int) -> list[psutil.Process] | None:
    """Return the processes once they are so many: requests may come from the first while others are being started."""
    return found if len(found) >= number else None


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_and_faults_leave_no_mark_on_the_output(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes], workers: int
) -> None:
    witness = simulator(faults=FAULTS, latency_ms=5, seed=workers)
    place.configure(witness.url)
    place.write_rows(ROWS)
    done = place.run("--set", f"workers.count={workers}", "--set", "provider.timeout_s=1")
    assert done.code == 0, done.err
    assert quiet(done), done.err
    assert place.output.read_bytes() == reference(ROWS)
    stats = witness.stats()
    (session,) = place.report["sessions"]
    assert (session["workers"], session["deaths"]) == (workers, 0)
    counters = session["counters"]
    late = counters["faults"].get("timeout", 0) - stats["by_fault"].get("hang", 0)  # by a busy machine
    failed = sum(stats["by_fault"].values()) + late
    assert failed > late >= 0
    assert ROWS + failed - late <= stats["requests"] <= ROWS + failed
    assert stats["repeated_after_success"] <= late
    assert counters["retries"] == failed == sum(counters["faults"].values())


@pytest.mark.timed
def test_a_supervisor_killed_again_and_again(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(faults=FAULTS, latency_ms=40)
    place.configure(witness.url)
    place.write_rows(ROWS)
    random = Random(5)
    lifetimes = []
    for kill in range(4):
        started = place.start("--set", f"workers.count={1 + kill % 3}", "--set", "provider.timeout_s=2")
        threshold = random.randint(kill * 200 + 50, kill * 200 + 200)
        witness.hold(threshold)
        until(lambda: witness.stats()["requests"] >= threshold, "requests")  # noqa: B023 - used at once
        children = until(lambda: enough(started.children(), 1 + kill % 3), "all workers")  # noqa: B023 - used at once
        started.signal(signal.SIGKILL)
        killed = time.monotonic()
        witness.go_on()
        until(lambda: all(map(gone, children)), "the end of the orphans", 10)  # noqa: B023 - used at once
        lifetimes.append(time.monotonic() - killed)
        assert started.wait().code == -signal.SIGKILL
        assert not place.output.exists()
    print("orphans lived for", ", ".join(f"{seconds:.1f} s" for seconds in lifetimes))  # noqa: T201 - shown by -s and where the test fails
    done = place.run("--set", "provider.timeout_s=2")
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(ROWS)
    # Orphans brought home what was in flight: every request but the failed ones made a row, and no row was made twice.
    stats = witness.stats()
    timeouts = sum(session["counters"]["faults"].get("timeout", 0) for session in place.report["sessions"])
    late = max(0, timeouts - stats["by_fault"].get("hang", 0))  # at most, by a busy machine
    assert stats["repeated_after_success"] <= late
    assert ROWS <= stats["requests"] - sum(stats["by_fault"].values()) <= ROWS + late
    assert place.report["totals"]["rows"] == ROWS


def test_workers_killed_again_and_again(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(faults={"500": 0.02}, latency_ms=40)  # and no 429, which would slow all of it down
    place.configure(witness.url)
    place.write_rows(ROWS)
    random = Random(6)
    started = place.start("--set", "checkpoint.commit_ms=200")
    killed: set[int] = set()
    for kill in range(5):
        threshold = kill * 160 + random.randint(50, 160)
        witness.hold(threshold)
        until(lambda: witness.stats()["requests"] >= threshold, "requests")  # noqa: B023 - used at once
        alive = until(lambda: [each for each in started.workers() if each.pid not in killed], "a worker")
        victim = random.choice(alive)
        killed.add(victim.pid)  # on a busy machine its end takes a while
        victim.send_signal(signal.SIGKILL)
    witness.go_on()
    done = started.wait()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(ROWS)
    stats = witness.stats()
    failed = sum(stats["by_fault"].values())
    # A killed worker takes its 16 requests with it, and the replies whose group was not on the disk: of 200 ms and of
    # a sync, at 40 ms a reply and with as much again to spare.
    assert stats["requests"] <= ROWS + failed + 5 * (16 + 2 * 16 * 5)
    session = place.report["sessions"][-1]
    assert session["deaths"] == 5
    # The report says what may have been paid for twice: an upper bound of what the server knows was, even without the
    # retries of what had failed.
    of_deaths = session["billed_twice_max"] - session["counters"]["maybe_billed_twice"]
    assert stats["repeated_after_success"] <= of_deaths
    assert "killed by signal 9" in place.log


def test_no_row_on_the_disk_is_asked_for_again(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes]
) -> None:
    witness = server(lambda _: time.sleep(0.01))
    place.configure(witness.url)
    place.write_rows(600)
    recorded: set[int] = set()
    for threshold in (150, 400):
        witness.hold(threshold)
        started = place.start()
        until(lambda: len(witness.arrivals) >= threshold, "requests")  # noqa: B023 - used at once
        started.kill_all()  # nobody is left to bring anything home
        with witness.lock:
            killed = len(witness.arrivals)
        recorded |= place.recorded()
        witness.hold(killed + 20)
        again = place.start()
        until(lambda: len(witness.arrivals) > killed + 20, "requests")  # noqa: B023 - used at once
        again.kill_all()
        asked = {arrival.row for arrival in witness.arrivals[killed:]}
        assert asked
        assert not asked & recorded
        recorded |= place.recorded()
    killed = len(witness.arrivals)
    witness.go_on()
    done = place.run()
    assert done.code == 0, done.err
    assert {arrival.row for arrival in witness.arrivals[killed:]} == set(range(600)) - recorded
    assert place.output.read_bytes() == reference(600)


@pytest.mark.timed
def test_interrupts_lose_nothing(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(latency_ms=40)
    place.configure(witness.url)
    place.write_rows(ROWS)
    for number, threshold in ((signal.SIGINT, 200), (signal.SIGTERM, 500), (signal.SIGHUP, 800)):
        witness.hold(threshold)
        started = place.start()
        until(lambda: witness.stats()["requests"] >= threshold, "requests")  # noqa: B023 - used at once
        _to_the_group(started, number)
        until(lambda: number.name in place.log, "the signal heard")  # noqa: B023 - used at once
        witness.go_on()
        done = started.wait(10)
        assert (done.code, quiet(done)) == (130, True), done.err
        assert number.name in done.err
        assert "run the same command again to resume" in done.err
        stats = witness.stats()
        assert stats["in_flight"] == 0
        assert place.recorded() == set(range(ROWS)) & place.recorded()
        assert len(place.recorded()) == stats["requests"] == place.report["totals"]["rows"]
        assert not place.output.exists()
    assert [session["exit_code"] for session in place.report["sessions"]] == [130] * 3
    assert [session["deaths"] for session in place.report["sessions"]] == [0] * 3
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(ROWS)
    assert witness.stats()["requests"] == ROWS
    assert sum(session["rows"] for session in place.report["sessions"]) == ROWS


@pytest.mark.quiet
def test_a_second_interrupt_stops_at_once(place: Place, server: Callable[..., Server]) -> None:
    release = threading.Event()

    def decide(_: Arrival) -> None:
        release.wait(60)

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(200)
    try:
        started = place.start("--set", "provider.timeout_s=60")
        until(lambda: len(witness.arrivals) >= 10, "requests")
        children = started.children()
        started.signal(signal.SIGINT)
        until(lambda: "SIGINT" in place.log, "the first interrupt")
        assert started.process.poll() is None
        started.signal(signal.SIGINT)
        interrupted = time.monotonic()
        done = started.wait(5)
        assert time.monotonic() - interrupted < 2
        assert (done.code, quiet(done)) == (130, True), done.err
        until(lambda: all(map(gone, children)), "the end of the workers", 2)
    finally:
        release.set()


@pytest.mark.timed
def test_control_c_while_everything_starts(place: Place, simulator: Callable[..., Witness]) -> None:
    """A terminal sends its Ctrl-C to the whole process group: also to children that have not got ready for it."""
    witness = simulator()
    place.configure(witness.url)
    place.write_rows(300)

    def heard(number: signal.Signals) -> int:
        return place.log.count(number.name) if (place.run_dir / "run.log").exists() else 0

    for number, children in ((signal.SIGINT, 1), (signal.SIGHUP, 2), (signal.SIGTERM, 2), (signal.SIGINT, 2)):
        witness.hold(0)  # however soon it is at work
        before = heard(number)
        started = place.start()
        until(lambda: len(started.children()) >= children, "processes")  # noqa: B023 - used at once
        _to_the_group(started, number)
        until(lambda: started.process.poll() is not None or heard(number) > before, "the signal heard")  # noqa: B023
        witness.go_on()
        done = started.wait(15)
        assert (done.code, quiet(done)) == (130, True), done.err
    assert place.run().code == 0
    assert len(place.lines) == 300


def _to_the_group(started: Started, number: signal.Signals) -> None:
    for process in [*started.children(), psutil.Process(started.pid)]:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


@pytest.mark.timed
def test_the_embedded_simulator_ends_with_its_supervisor(place: Place) -> None:
    place.configure("simulator")
    place.write_rows(500)
    started = place.start("--set", "simulator.latency_ms=200")
    until(started.workers, "a worker at work")
    children = until(lambda: enough(started.children(), 3), "two workers and the simulator")
    started.signal(signal.SIGKILL)
    started.wait()
    until(lambda: all(map(gone, children)), "the end of the orphans", 10)
    assert place.run("--set", "simulator.latency_ms=5").code == 0
    assert len(place.lines) == 500
