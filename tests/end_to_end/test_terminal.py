"""On a terminal: a live display while the run goes on, a summary at its end."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable

from tests.end_to_end.conftest import Place, Witness


def test_a_terminal_gets_a_live_display(place: Place, simulator: Callable[..., Witness]) -> None:
    place.configure(simulator(latency_ms=60).url)
    place.write_rows(1000)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rowmill", "run", "config.toml"]
    environ = {**place.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen(
        command, cwd=place.folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = bytearray()
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # the other side has closed
            pass
        os.close(ours)
        assert process.stdout is not None
        assert process.stdout.read() == b""
    text = shown.decode()
    assert process.returncode == 0, text
    assert text.count("in flight") >= 3
    assert "/32" in text
    assert "\x1b[" in text
    assert "━" in text
    assert "worker 0" in text
    assert "worker 1" in text
    assert "Done: 1,000 rows" in text
    # The summary stands below the display, not inside it, and the cursor is there.
    assert text.rindex("Done: 1,000 rows") > text.rindex("\x1b[")
    assert text.count("\x1b[?25l") <= text.count("\x1b[?25h")
