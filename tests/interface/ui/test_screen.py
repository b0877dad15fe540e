"""A stream that takes nothing for a while: the supervisor goes on, and nothing is lost or comes in another order."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from rowmill.core.reports import Snapshot
from rowmill.interface.ui.lines import progress_line
from rowmill.interface.ui.live import LiveProgress
from rowmill.interface.ui.progress import open_progress
from rowmill.interface.ui.screen import PatientWriter, Screen
from tests.interface.ui.snapshots import BUSY

_AT_ONCE_S = 1.0  # what must not wait takes microseconds; this much is the machine's, when it is busy


class Gate:
    """A display whose writing waits while the gate is shut, and that remembers what it was given."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.seen: list[str] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def show(self, snapshot: Snapshot) -> None:
        self._write(f"at {snapshot.elapsed_s:g}")

    def log(self, line: str) -> None:
        self._write(line)

    def close(self) -> None:
        self.seen.append("closed")

    def _write(self, text: str) -> None:
        self.entered.set()
        assert self.gate.wait(20)
        self.seen.append(text)


def at(elapsed_s: float) -> Snapshot:
    return msgspec.structs.replace(BUSY, elapsed_s=elapsed_s)


@contextmanager
def at_once(limit_s: float = _AT_ONCE_S) -> Iterator[None]:
    """Hold that what is done inside does not wait."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit_s


def ended(screen: Screen) -> bool:
    screen._thread.join(5)
    return not screen._thread.is_alive()


class FullPipe:
    """A pipe that takes nothing more until it is read."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        assert os.write(writing, b"-" * 4096) == 4096
        self.reader = os.fdopen(reading, "rb", buffering=0)
        self.stream = os.fdopen(writing, "w", encoding="utf-8")


@pytest.fixture
def pipe() -> Iterator[FullPipe]:
    pipe = FullPipe()
    with pipe.reader, pipe.stream:
        yield pipe


def test_everything_comes_in_order_and_nothing_is_missing_at_the_end() -> None:
    display = Gate()
    screen = Screen(display)
    for number in range(1000):
        screen.log(str(number))
    screen.show(at(1.0))
    screen.close()
    assert display.seen == [*map(str, range(1000)), "at 1", "closed"]
    assert ended(screen)


@pytest.mark.timed
def test_while_the_display_waits_only_the_latest_snapshot_is_kept_and_no_event_is_lost() -> None:
    display = Gate(is_open=False)
    screen = Screen(display)
    screen.log("taken")
    assert display.entered.wait(5)
    with at_once():
        screen.show(at(1.0))
        screen.log("first")
        screen.show(at(2.0))
        screen.show(at(3.0))
        screen.log("second")
    display.gate.set()
    screen.close()
    assert display.seen == ["taken", "first", "at 3", "second", "closed"]


@pytest.mark.timed
def test_events_beyond_ten_thousand_are_counted_where_they_are_missing() -> None:
    display = Gate(is_open=False)
    screen = Screen(display)
    screen.log("taken")
    assert display.entered.wait(5)
    with at_once(2.0):
        for number in range(10_123):
            screen.log(str(number))
        screen.show(at(1.0))
    display.gate.set()
    screen.close()
    assert display.seen[1:10_001] == [str(number) for number in range(10_000)]
    assert display.seen[10_001] == "at 1"
    assert display.seen[10_002].startswith("123 events not shown")
    assert display.seen[10_003:] == ["closed"]


def test_the_count_of_dropped_events_stands_before_the_events_that_follow() -> None:
    display = Gate(is_open=False)
    screen = Screen(display)
    screen.log("taken")
    assert display.entered.wait(5)
    for number in range(10_005):
        screen.log(str(number))
    with screen._changed:
        screen._after.popleft()  # as its thread does when the display goes on
        screen._after.popleft()
    screen.log("later")
    display.gate.set()
    screen.close()
    assert [text.partition(" ")[0] for text in display.seen[-4:]] == ["9999", "5", "later", "closed"]


def test_a_display_that_fails_fails_alone() -> None:
    class Broken(Gate):
        def log(self, line: str) -> None:
            if line == "bad":
                raise ZeroDivisionError
            super().log(line)

        def close(self) -> None:
            super().close()
            raise OSError("the terminal is gone")

    display = Broken()
    screen = Screen(display)
    for line in ("good", "bad", "better"):
        screen.log(line)
    screen.close()
    assert display.seen == ["good", "better", "closed"]
    assert ended(screen)


def test_what_comes_after_the_end_is_passed_over_and_the_end_may_come_twice() -> None:
    display = Gate()
    screen = Screen(display)
    screen.close()
    screen.close()
    screen.show(BUSY)
    screen.log("late")
    assert display.seen == ["closed"]


@pytest.mark.timed
def test_the_end_waits_no_longer_than_it_was_given() -> None:
    display = Gate(is_open=False)
    told = threading.Event()
    screen = Screen(display, told.set)
    screen.log("stuck")
    with at_once(0.2 + _AT_ONCE_S):
        screen.close(0.2)
    assert told.is_set()
    display.gate.set()
    assert ended(screen)


def test_the_runs_signals_are_left_to_the_thread_that_waits_for_them() -> None:
    blocked: set[signal.Signals | int] = set()

    class Looking(Gate):
        def log(self, line: str) -> None:
            blocked.update(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    screen = Screen(Looking())
    screen.log("look")
    screen.close()
    assert blocked >= {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@pytest.mark.timed
def test_a_full_pipe_that_nobody_reads_holds_nobody_up(pipe: FullPipe) -> None:
    progress = open_progress(pipe.stream)
    assert isinstance(progress, Screen)
    with at_once():
        for second in range(100):
            progress.show(at(second))
            progress.log(f"event {second}")
    with at_once(0.2 + _AT_ONCE_S):
        progress.close(0.2)
    assert ended(progress), "the thread gives up and ends"


def test_a_reader_that_wakes_up_gets_everything_in_order(pipe: FullPipe) -> None:
    progress = open_progress(pipe.stream)
    progress.log("first")
    for second in range(100):
        progress.show(at(second))
    progress.log("last")
    arrived: list[bytes] = []
    reader = threading.Thread(target=lambda: arrived.append(pipe.reader.readall()))
    reader.start()
    progress.close()
    pipe.stream.close()
    reader.join(10)
    lines = arrived[0].decode().lstrip("-").splitlines()
    assert lines[0] == "first"
    assert lines[-2:] == [progress_line(at(99)), "last"]


@pytest.mark.timed
def test_a_reader_that_goes_away_ends_the_writing(pipe: FullPipe) -> None:
    progress = open_progress(pipe.stream)
    assert isinstance(progress, Screen)
    progress.log("nobody reads this")
    pipe.reader.close()
    with at_once(2.0):
        progress.close(10.0)
    assert ended(progress)


@pytest.mark.parametrize("blocking", [True, False])
def test_more_than_a_pipe_holds_arrives_whole_through_either_kind_of_descriptor(*, blocking: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    data = os.urandom(1_000_000)
    arrived: list[bytes] = []
    with os.fdopen(reading, "rb") as file:
        reader = threading.Thread(target=lambda: arrived.append(file.read()))
        reader.start()
        assert PatientWriter(writing).write(data) == len(data)
        os.close(writing)
        reader.join(10)
    assert arrived == [data]


def test_those_who_share_a_descriptor_that_does_not_wait_lose_nothing() -> None:
    """Whoever has set a terminal so, has set it for all who share it; one may find the room gone to another."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    failed: list[OSError] = []
    letters = [b"a", b"b", b"c", b"d", b"e", b"f"]  # with two, the case hardly ever comes up

    def write(letter: bytes) -> None:
        try:
            PatientWriter(writing).write(letter * 100_000)
        except OSError as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in letters]
    for writer in writers:
        writer.start()
    arrived = bytearray()
    with os.fdopen(reading, "rb", buffering=0) as file:
        while len(arrived) < len(letters) * 100_000 and not failed:
            arrived += file.read(4096)
    for writer in writers:
        writer.join(10)
    os.close(writing)
    assert failed == []
    assert [arrived.count(letter) for letter in letters] == [100_000] * len(letters)


def test_what_fills_the_pipe_itself_can_be_given_up_too() -> None:
    reading, writing = os.pipe()
    writer = PatientWriter(writing)
    failed = threading.Event()

    def write() -> None:
        try:
            writer.write(b"-" * 1_000_000)
        except OSError:
            failed.set()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    assert not failed.wait(0.1)
    writer.give_up()
    assert failed.wait(5)
    thread.join()
    os.close(reading)
    os.close(writing)


class Stopped:
    """A terminal that was stopped by Ctrl-S."""

    def __init__(self) -> None:
        self.ours, theirs = pty.openpty()
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")
        termios.tcflow(theirs, termios.TCOOFF)

    def go_on(self) -> None:
        termios.tcflow(self.stream.fileno(), termios.TCOON)

    def read(self, until: str) -> str:
        seen = ""
        while until not in seen:
            seen += os.read(self.ours, 65_536).decode()
        return seen


@pytest.fixture
def stopped() -> Iterator[Stopped]:
    tty = Stopped()
    yield tty
    tty.go_on()
    os.close(tty.ours)
    tty.stream.close()


@pytest.mark.timed
def test_a_stopped_terminal_holds_nobody_up(stopped: Stopped) -> None:
    writer = PatientWriter(stopped.stream.fileno())
    progress = open_progress(stopped.stream)
    assert isinstance(progress, Screen)
    with at_once():
        for second in range(100):
            progress.show(at(second))
            progress.log(f"event {second}")
    with at_once(0.2 + _AT_ONCE_S):
        progress.close(0.2)
    assert ended(progress), "the thread gives up and ends"
    assert writer.isatty()


def test_a_terminal_that_goes_on_shows_all_events_and_the_latest_snapshot(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    progress = open_progress(stopped.stream)
    assert isinstance(progress, Screen)
    assert isinstance(progress._progress, LiveProgress)
    for second in range(100):
        progress.show(at(second))
        progress.log(f"event {second};")
    stopped.go_on()
    seen = stopped.read("event 99;")
    places = [seen.index(f"event {second};") for second in range(100)]
    assert places == sorted(places)
    assert "elapsed 1:39" in seen
    progress.close()
    assert ended(progress)


# The end of a whole process: an interpreter must not die of a thread that is still writing.

PROCESS = """
import os, sys, time
import msgspec
from rowmill.core.reports import Snapshot
from rowmill.interface.ui.progress import open_progress

snapshot = msgspec.json.decode(sys.stdin.read(), type=Snapshot)
progress = open_progress(sys.stderr)
for second in range(50):
    progress.show(msgspec.structs.replace(snapshot, elapsed_s=second * 20.0))
    progress.log(f"event {second}")
for _ in range(int(sys.argv[1])):
    progress.log("-" * 70)
began = time.monotonic()
progress.close(0.5)
print(time.monotonic() - began)
"""


def process(stderr: int, more_events: int = 0) -> tuple[float, bytes]:
    """Run it to its end; return how many seconds the display's end took, and what it wrote to a stderr of ours."""
    # Unbuffered streams have no lock: they would hide what is looked for.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", PROCESS, str(more_events)]
    state = msgspec.json.encode(BUSY)
    done = subprocess.run(
        command, input=state, stdout=subprocess.PIPE, stderr=stderr, env=environ, timeout=20, check=True
    )
    return float(done.stdout), done.stderr


def test_a_process_with_a_full_pipe_ends_in_time_and_well(pipe: FullPipe) -> None:
    assert 0.4 < process(pipe.stream.fileno())[0] < 0.5 + _AT_ONCE_S


def test_a_process_on_a_terminal_that_nobody_reads_ends_in_time_and_well() -> None:
    """Such a terminal has room until it is full: the last write waits in the kernel, where it cannot give up."""
    ours, theirs = pty.openpty()
    try:
        assert 0.4 < process(theirs, 3000)[0] < 0.5 + _AT_ONCE_S
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_process_with_an_ordinary_pipe_ends_when_all_has_arrived() -> None:
    _, shown = process(subprocess.PIPE)
    lines = shown.decode().splitlines()
    assert [line for line in lines if line.startswith("event")] == [f"event {number}" for number in range(50)]
    assert lines[-1] == "event 49"
