"""On a terminal: a live display while the run goes on, a summary at its end."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.end_to_end.conftest import Place, Witness

COLOURED = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7])[0-9;]*m")


def test_a_terminal_gets_a_live_display(place: Place, simulator: Callable[..., Witness]) -> None:
    place.configure(simulator(latency_ms=60).url)
    place.write_rows(1000)
    code, text = on_a_terminal(place)
    assert code == 0, text
    assert text.count("in flight") >= 3
    assert "/32" in text
    assert "\x1b[" in text
    assert COLOURED.search(text)
    assert "━" in text
    assert "worker 0" in text
    assert "worker 1" in text
    assert "Done: 1,000 rows" in text
    # The summary stands below the display, not inside it, and the cursor is there.
    assert text.rindex("Done: 1,000 rows") > text.rindex("\x1b[")
    assert text.count("\x1b[?25l") <= text.count("\x1b[?25h")


@pytest.mark.parametrize(
    ("arguments", "environ", "shown"),
    [
        ([], {"NO_COLOR": "1"}, ["in flight", "\x1b[", "Done: 300 rows"]),
        (["-v"], {}, ["ended with exit code 0", "Done: 300 rows"]),
        (["-q"], {}, []),
    ],
)
def test_who_wants_less_on_a_terminal_gets_less(
    place: Place, simulator: Callable[..., Witness], arguments: list[str], environ: dict[str, str], shown: list[str]
) -> None:
    place.configure(simulator(latency_ms=20).url)
    place.write_rows(300)
    code, text = on_a_terminal(place, *arguments, **environ)
    assert code == 0, text
    assert [words for words in shown if words not in text] == []
    assert not COLOURED.search(text)
    if arguments == ["-v"]:
        assert "\x1b[" not in text
    if arguments == ["-q"]:
        assert text == ""


def on_a_terminal(place: Place, *arguments: str, **more: str) -> tuple[int, str]:
    """Run the command with a terminal as its stderr; give back its exit code and what that has shown."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rowmill", "run", "config.toml", *arguments]
    environ = {**place.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **more}
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
    return process.returncode, shown.decode()
