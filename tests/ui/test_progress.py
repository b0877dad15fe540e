"""What a person sees while a run goes on: on terminals of several widths, and in a log."""

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import Any, Self

import msgspec
import pytest
from rich.console import Console

from engine.records import Counters, Snapshot, Totals, WorkerView
from engine.ui import figures
from engine.ui.live import Frame, LiveProgress, terminal
from engine.ui.progress import LogLines, open_progress, progress_line

BUSY = Snapshot(
    elapsed_s=10.0,
    total_rows=60_000,
    totals=Totals(rows=12_345, failed=3, prompt_tokens=1_200_000, completion_tokens=400_000, requests=12_360),
    session_rows=12_345,
    rows_per_s=1_234.4,
    eta_s=38.2,
    in_flight=127,
    allowed=128,
    waiting=0,
    next_due_s=None,
    counters=Counters(requests=12_490, replies=12_360, retries=12, faults={"rate_limited": 4, "server_error": 11}),
    shards_sealed=24,
    shards_merged=20,
    workers=(
        WorkerView(number=0, pid=4242, state="working", in_flight=64, rss_bytes=45 * 2**20, cpu_share=0.93),
        WorkerView(number=1, pid=4243, state="working", in_flight=63, rss_bytes=44 * 2**20, cpu_share=1.0),
    ),
    deaths=0,
    draining=False,
)
LONG_WAIT = msgspec.structs.replace(BUSY, in_flight=0, waiting=12, next_due_s=598.0, rows_per_s=0.0, eta_s=None)
COUNTING = msgspec.structs.replace(BUSY, total_rows=None, eta_s=None)
HUGE = msgspec.structs.replace(
    BUSY,
    total_rows=1_000_000_000,
    totals=Totals(rows=999_999_999, failed=12_345_678, prompt_tokens=10**12, completion_tokens=10**11),
    rows_per_s=123_456.0,
    eta_s=400_000.0,
    in_flight=1_048_576,
    allowed=1_048_576,
    waiting=1_048_576,
    next_due_s=86_400.0,
    counters=Counters(requests=10**9, retries=10**8, faults=dict.fromkeys(("rate_limited", "timeout", "bad_reply"), 9)),
    deaths=17,
    draining=True,
)


def drawn(snapshot: Snapshot, width: int, height: int = 24) -> list[str]:
    """Render one frame as a terminal of this size shows it, colours removed."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, height=height, color_system="truecolor")
    console.print(Frame(snapshot))
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_every_figure_is_visible_at_every_width(width: int) -> None:
    screen = drawn(BUSY, width)
    for text in (
        "20.6%", "rows 12,345/60,000 (20.6%)", "failed 3", "1,234 rows/s", "ETA 0:38",
        "in flight 127/128", "elapsed 0:10", "requests 12,490", "retries 12", "rate_limited 4", "server_error 11",
        "tokens 1.2M in, 400k out", "shards 24 sealed, 20 merged",
        "worker 0", "pid 4242", "in flight 64", "RSS 45 MiB", "CPU 93%", "worker 1", "pid 4243", "CPU 100%",
    ):  # fmt: skip
        assert any(text in line for line in screen), f"{text!r} is not whole on one line of {screen}"


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("snapshot", [BUSY, LONG_WAIT, COUNTING, HUGE], ids=["busy", "waiting", "counting", "huge"])
def test_no_line_is_wider_than_the_terminal_or_cut_short(snapshot: Snapshot, width: int) -> None:
    screen = drawn(snapshot, width)
    assert max(len(line) for line in screen) <= width
    assert not any("…" in line for line in screen)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_long_retry_after_is_visible_with_the_time_of_the_next_try(width: int) -> None:
    assert any("waiting 12, next in 9m58s" in line for line in drawn(LONG_WAIT, width))
    assert not any("waiting" in line for line in drawn(BUSY, width))


def test_an_input_that_is_still_being_counted_has_no_percentage_and_no_eta() -> None:
    screen = "\n".join(drawn(COUNTING, 80))
    assert "rows 12,345 (counting)" in screen
    assert "ETA -" in screen
    assert "20.6%" not in screen


def test_the_bar_shows_done_and_failed_and_never_looks_full_before_the_end() -> None:
    def bar(rows: int, failed: int) -> str:
        state = msgspec.structs.replace(BUSY, total_rows=1_000_000, totals=Totals(rows=rows, failed=failed))
        stream = io.StringIO()
        Console(file=stream, force_terminal=True, width=80, color_system="standard").print(Frame(state))
        return stream.getvalue().splitlines()[0]

    assert "\x1b[31m" not in bar(500_000, 0)
    assert "\x1b[31m━\x1b[0m" in bar(500_000, 1), "one failed row among many still shows"
    assert "─" in bar(999_999, 0)
    assert "99.9%" in bar(999_999, 0)
    assert "─" not in bar(1_000_000, 0)
    assert "100.0%" in bar(1_000_000, 0)


def test_an_empty_input_is_drawn() -> None:
    empty = msgspec.structs.replace(BUSY, total_rows=0, totals=Totals(), workers=())
    assert any("rows 0/0" in line for line in drawn(empty, 80))
    assert "rows 0/0" in progress_line(empty)


def test_deaths_and_draining_are_visible_only_when_they_happened() -> None:
    state = msgspec.structs.replace(BUSY, deaths=2, draining=True)
    for text in ("worker deaths 2", "draining"):
        assert any(text in line for line in drawn(state, 60))
        assert not any(text in line for line in drawn(BUSY, 60))


def test_more_workers_than_lines_are_summed_up_and_the_display_fits_the_terminal() -> None:
    many = tuple(
        WorkerView(number=n, pid=1000 + n, state="working", in_flight=10, rss_bytes=2**30, cpu_share=0.5)
        for n in range(256)
    )
    screen = drawn(msgspec.structs.replace(BUSY, workers=many), 80, height=20)
    assert len(screen) < 20
    shown = sum("pid" in line for line in screen)
    assert shown >= 2
    assert any(f"{256 - shown} more  in flight {10 * (256 - shown):,}" in line for line in screen)


def test_a_worker_that_is_not_working_says_so() -> None:
    starting = msgspec.structs.replace(BUSY.workers[0], state="starting")
    screen = drawn(msgspec.structs.replace(BUSY, workers=(starting, BUSY.workers[1])), 80)
    assert any("pid 4242" in line and "starting" in line for line in screen)
    assert not any("pid 4243" in line and "working" in line for line in screen)


def test_a_terminal_without_unicode_gets_a_plain_bar() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(file=stream, force_terminal=True, width=80).print(Frame(msgspec.structs.replace(BUSY, deaths=1)))
    stream.flush()
    assert raw.getvalue().isascii()
    assert b"#" in raw.getvalue()


class Recorder(io.StringIO):
    """A stream that is no terminal and remembers its flushed lines."""

    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


def test_the_log_line_is_short_and_complete() -> None:
    assert progress_line(BUSY) == (
        "rows 12,345/60,000 (20.6%) failed 3  1,234 rows/s  ETA 0:38  in flight 127/128  retries 12  "
        "tokens 1.2M+400k  workers 2"
    )
    assert progress_line(LONG_WAIT).endswith("workers 2  waiting 12, next in 9m58s")
    assert progress_line(COUNTING).startswith("rows 12,345 (counting) failed 3  ")


def test_log_lines_come_at_the_start_and_every_ten_seconds_of_the_snapshots_own_time() -> None:
    stream = Recorder()
    progress = open_progress(stream)
    for quarter in range(4 * 60):
        progress.show(msgspec.structs.replace(BUSY, elapsed_s=quarter / 4))
    assert len(stream.lines()) == 6


@pytest.mark.parametrize(
    ("change", "text"), [({"deaths": 1}, "worker deaths 1"), ({"draining": True}, "draining")], ids=["death", "drain"]
)
def test_a_change_that_matters_is_written_at_once_and_once(change: dict[str, Any], text: str) -> None:
    stream = Recorder()
    progress = open_progress(stream)
    progress.show(BUSY)
    changed = msgspec.structs.replace(BUSY, elapsed_s=10.25, **change)
    progress.show(changed)
    progress.show(msgspec.structs.replace(changed, elapsed_s=10.5))
    assert len(stream.lines()) == 2
    assert text in stream.lines()[1]


def test_a_pipe_gets_plain_text_without_control_codes() -> None:
    stream = Recorder()
    progress = open_progress(stream)
    progress.show(BUSY)
    progress.log("worker 1 died: \x1b[2Jsignal 9\r\nnext line")
    progress.close()
    progress.close()
    assert stream.lines()[1] == "worker 1 died:  [2Jsignal 9  next line"
    assert all(line.isprintable() for line in stream.lines())


def test_a_reader_that_went_away_silences_the_lines_and_not_the_run() -> None:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", buffering=1)
    progress = LogLines(stream)
    progress.show(BUSY)
    os.close(reading)
    progress.log("nobody reads this")
    progress.show(msgspec.structs.replace(BUSY, elapsed_s=100.0))
    progress.close()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_closed_stream_silences_the_lines() -> None:
    stream = io.StringIO()
    progress = LogLines(stream)
    stream.close()
    progress.show(BUSY)


def test_a_terminal_that_went_away_silences_the_display_and_not_the_run() -> None:
    reading, writing = pty.openpty()
    stream = os.fdopen(writing, "w", encoding="utf-8")
    progress = LiveProgress(terminal(stream))
    progress.show(BUSY)
    os.close(reading)
    progress.show(BUSY)
    progress.log("nobody reads this")
    progress.close()
    with contextlib.suppress(OSError):  # what could not be written is still in the stream's buffer
        stream.close()


def test_importing_the_progress_does_not_import_rich() -> None:
    code = "import sys, engine.ui.progress, engine.ui.report; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DRIVE = """
import sys
import msgspec
from engine.records import Snapshot
from engine.ui.progress import open_progress

progress = open_progress(sys.stderr)
for line in sys.stdin:
    verb, _, rest = line.rstrip("\\n").partition(" ")
    if verb == "show":
        progress.show(msgspec.json.decode(rest, type=Snapshot))
    elif verb == "log":
        progress.log(rest)
    else:
        progress.close()
    print(verb, flush=True)
"""


class Terminal:
    """A command whose stderr is a real terminal of that size; `screen` is what arrived there."""

    def __init__(self, columns: int, *, term: str = "xterm-256color") -> None:
        self._reading, terminal_fd = pty.openpty()
        fcntl.ioctl(terminal_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}}
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=terminal_fd,
            env=environment | {"TERM": term},
            text=True,
        )
        os.close(terminal_fd)
        self.screen = ""

    def do(self, verb: str, rest: str = "") -> str:
        """Have the command do one thing; return what it wrote to the terminal meanwhile."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{verb} {rest}\n")
        self.process.stdin.flush()
        seen = ""
        deadline = time.monotonic() + 20
        # The answer on stdout says that all is written; what is written is read until nothing is left.
        answered = False
        while time.monotonic() < deadline:
            answers = self.process.stdout.fileno()
            ready, _, _ = select.select([self._reading, answers], [], [], 0 if answered else 1)
            if self._reading in ready:
                seen += os.read(self._reading, 65_536).decode()
            elif answers in ready and not answered:
                assert self.process.stdout.readline().strip() == verb
                answered = True
            elif answered:
                break
        assert answered, f"the command did not answer: {seen!r}"
        self.screen += seen
        return seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        self.process.stdout.close()
        os.close(self._reading)


def test_a_terminal_gets_a_live_display_with_events_above_it() -> None:
    with Terminal(60) as command:
        first = command.do("show", msgspec.json.encode(BUSY).decode())
        assert "rows 12,345/60,000" in first
        later = msgspec.structs.replace(BUSY, elapsed_s=10.25, totals=Totals(rows=20_000))
        second = command.do("show", msgspec.json.encode(later).decode())
        assert "\x1b[1A" in second, "the second frame is drawn over the first"
        assert "rows 20,000/60,000" in second
        assert "worker 7 died" in command.do("log", "worker 7 died")
        end = command.do("close")
        assert "\x1b[2K" in end, "the display is wiped at the end"
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", command.screen)
        assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 60


def test_the_cursor_stays_visible_so_that_a_killed_run_leaves_a_usable_terminal() -> None:
    with Terminal(80) as command:
        command.do("show", msgspec.json.encode(BUSY).decode())
        assert command.screen.rfind("\x1b[?25h") > command.screen.rfind("\x1b[?25l")


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines() -> None:
    with Terminal(80, term="dumb") as command:
        command.do("show", msgspec.json.encode(BUSY).decode())
        assert command.screen.rstrip("\r\n") == progress_line(BUSY)


@pytest.mark.parametrize(
    ("seconds", "long", "as_clock"),
    [
        (0.0, "0.0s", "0:00"), (0.44, "0.4s", "0:00"), (38.2, "38s", "0:38"), (59.9, "1m00s", "1:00"),
        (598.0, "9m58s", "9:58"), (7500.0, "2h05m", "2:05:00"), (3723.0, "1h02m", "1:02:03"),
        (273_600.0, "3d04h", "3d04h"), (-1.0, "0.0s", "0:00"),
    ],
)  # fmt: skip
def test_spans_of_time_are_short_and_right(seconds: float, long: str, as_clock: str) -> None:
    assert figures.duration(seconds) == long
    assert figures.clock(seconds) == as_clock


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (950, "950"), (999, "999"), (1000, "1.0k"), (1234, "1.2k"), (9_960, "10k"), (45_400, "45k"),
        (999_499, "999k"), (999_999, "1.0M"), (1_200_000, "1.2M"), (3_400_000_000, "3.4G"), (10**13, "10.0T"),
    ],
)  # fmt: skip
def test_large_counts_are_short_and_right(number: int, text: str) -> None:
    assert figures.compact(number) == text
