"""In programs that people sit before: the completion of a zsh, the display in a tmux. Each where it is installed."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Place, Witness, until

ZSH, TMUX = shutil.which("zsh"), shutil.which("tmux")
ROWS = 20_000


@pytest.mark.skipif(ZSH is None, reason="no zsh is installed")
def test_zsh_completes_commands_flags_recipes_and_files(place: Place) -> None:
    place.write_rows(1)
    (place.folder / "results.jsonl.run").mkdir()
    script = subprocess.run(
        [sys.executable, "-m", "rowmill", "completion", "zsh"],
        cwd=place.folder, env=place.environ, capture_output=True, check=True,
    )  # fmt: skip
    (place.folder / "_rowmill").write_bytes(script.stdout)
    (place.folder / ".zshrc").write_text(
        f"fpath=({place.folder} $fpath); autoload -Uz compinit; compinit -u -D; PS1='ready> '\n"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [str(ZSH), "-i"], cwd=place.folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**place.environ, "TERM": "xterm", "COLUMNS": "300", "ZDOTDIR": str(place.folder)},
    ) as shell:  # fmt: skip
        os.close(theirs)
        try:
            typed(ours, "", "ready")
            for line, whole in (
                ("rowmill comp", "rowmill completion"),
                ("rowmill map --sch", "--schema"),
                ("rowmill run --fr", "--fresh"),
                ("rowmill init --recipe lab", "labelling"),
                ("rowmill map in", "in.jsonl"),
                ("rowmill clean res", "results.jsonl.run"),
            ):
                typed(ours, f"\x15{line}\t", whole)  # ^U: another line
        finally:
            shell.kill()
            os.close(ours)


def typed(terminal: int, keys: str, awaited: str) -> None:
    """Type keys, and wait until the terminal shows some words."""
    os.write(terminal, keys.encode())
    shown = ""
    while awaited not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown):
        assert select.select([terminal], [], [], 30)[0], shown
        shown += os.read(terminal, 65536).decode(errors="replace")


class Pane:
    """A window of a tmux with one command."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def tmux(self, *words: str) -> str:
        done = subprocess.run(
            [str(TMUX), "-f", "/dev/null", "-S", str(self._socket), *words],
            capture_output=True, text=True, check=True, timeout=60,
            env={**os.environ, "SHELL": "/bin/sh"},  # which runs the command: a user of a service may have none
        )  # fmt: skip
        return done.stdout

    def lines(self) -> list[str]:
        """Return what stands there."""
        return self.tmux("capture-pane", "-p").rstrip("\n").split("\n")


@contextmanager
def pane(place: Place, command: str, width: int, height: int) -> Iterator[Pane]:
    folder = Path(tempfile.mkdtemp(prefix="tmux-", dir="/tmp"))  # a socket's path must be short, TMPDIR may be long
    window = Pane(folder / "socket")
    environ = [word for name, value in place.environ.items() for word in ("-e", f"{name}={value}")]
    window.tmux(
        "new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(place.folder), *environ, "cat",
        ";", "set-option", "-g", "remain-on-exit", "on",
        ";", "respawn-pane", "-k", "-c", str(place.folder), *environ, command,
    )  # fmt: skip
    try:
        yield window
    finally:
        window.tmux("kill-server")
        shutil.rmtree(folder)


@pytest.mark.skipif(TMUX is None, reason="no tmux is installed")
def test_in_tmux_the_display_stands_once_follows_the_window_and_ends_by_an_interrupt(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    place.configure(simulator(latency_ms=100).url)
    place.write_rows(ROWS)
    code = place.folder / "code"  # tmux itself now and then does not tell it
    command = f"env -u COLUMNS -u LINES {sys.executable} -m rowmill run config.toml"
    with pane(place, f"trap : INT; {command}; echo $? > code.new; mv code.new code", 100, 30) as window:

        def stands(width: int) -> bool:
            lines = window.lines()
            bars = [len(line) for line in lines if line.startswith(("━", "─", "╸"))]
            once = all(sum(word in line for line in lines) == 1 for word in ("worker 0", "worker 1", "elapsed "))
            return once and len(bars) == 1 and width - 5 < bars[0] <= width

        until(lambda: stands(100), "the display")
        for width, height in ((60, 20), (120, 40)):
            window.tmux("resize-window", "-x", str(width), "-y", str(height))
            until(partial(stands, width), f"the display in {width} columns")
        window.tmux("send-keys", "C-c")
        until(code.exists, "the end of the command")
        assert code.read_text() == "130\n"
        until(lambda: "to resume: rowmill run config.toml" in "".join(window.lines()), "the summary")
        text = "\n".join(window.lines())
        assert "Stopped: interrupted" in text
        assert "worker 0" not in text, "the display is gone"
