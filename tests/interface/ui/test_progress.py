"""Which display a stream gets, and what arrives there."""

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
from pathlib import Path
from typing import Self

import msgspec

from rowmill.core.counts import Totals
from rowmill.interface.ui.lines import progress_line
from rowmill.interface.ui.progress import open_progress
from tests.interface.ui.snapshots import BUSY


def test_importing_the_progress_does_not_import_rich() -> None:
    code = "import sys, rowmill.interface.ui.progress, rowmill.interface.ui.report; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DRIVE = """
import sys
import msgspec
from rowmill.core.reports import Snapshot
from rowmill.interface.ui.progress import open_progress

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

    def do(self, verb: str, rest: str = "", *, until: str = "") -> str:
        """Have the command do one thing; return what it wrote to the terminal, at least up to that text."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{verb} {rest}\n")
        self.process.stdin.flush()
        seen = ""
        deadline = time.monotonic() + 20
        # What has been written is read until nothing is left.
        answered = False
        while time.monotonic() < deadline:
            answers = self.process.stdout.fileno()
            ready, _, _ = select.select([self._reading, answers], [], [], 0 if answered and until in seen else 1)
            if self._reading in ready:
                seen += os.read(self._reading, 65_536).decode()
            elif answers in ready and not answered:
                assert self.process.stdout.readline().strip() == verb
                answered = True
            elif answered and until in seen:
                break
        assert answered, f"the command did not answer: {seen!r}"
        assert until in seen
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
        first = command.do("show", msgspec.json.encode(BUSY).decode(), until="CPU 100%")
        assert "rows 12,345/60,000" in first
        later = msgspec.structs.replace(BUSY, elapsed_s=10.25, totals=Totals(rows=20_000))
        second = command.do("show", msgspec.json.encode(later).decode(), until="CPU 100%")
        assert "\x1b[1A" in second, "the second frame is drawn over the first"
        assert "rows 20,000/60,000" in second
        command.do("log", "worker 7 died", until="worker 7 died")
        end = command.do("close")
        assert "\x1b[2K" in end, "the display is wiped at the end"
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", command.screen)
        assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 60


def test_the_cursor_stays_visible_so_that_a_killed_run_leaves_a_usable_terminal() -> None:
    with Terminal(80) as command:
        command.do("show", msgspec.json.encode(BUSY).decode(), until="CPU 100%")
        assert command.screen.rfind("\x1b[?25h") > command.screen.rfind("\x1b[?25l")


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines() -> None:
    with Terminal(80, term="dumb") as command:
        command.do("show", msgspec.json.encode(BUSY).decode(), until="workers 2")
        assert command.screen.rstrip("\r\n") == progress_line(BUSY)


def test_a_stream_in_memory_gets_plain_lines_in_order() -> None:
    stream = io.StringIO()
    progress = open_progress(stream)
    progress.log("first")
    progress.show(BUSY)
    progress.log("last")
    progress.close()
    assert stream.getvalue().splitlines() == ["first", progress_line(BUSY), "last"]


def test_a_file_gets_plain_lines_and_what_its_encoding_lacks_is_spelled_out(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as stream:
        progress = open_progress(stream)
        progress.show(BUSY)
        progress.log("não")
        progress.close()
        stream.write("after\n")
    assert (tmp_path / "log").read_text().splitlines() == [progress_line(BUSY), "n\\xe3o", "after"]
