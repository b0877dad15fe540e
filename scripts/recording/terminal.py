"""A terminal with a shell in it, read as a person reads it: by what its screen shows."""

import codecs
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple, Self

import pyte

_SHELL = ("bash", "--norc", "--noprofile", "-i")
_PATIENCE_S = 120.0  # for what is waited for; a run of the recording takes a tenth of that
_STILL_S = 0.05  # so long nothing arrives once a screen is whole: the display draws a frame by one write
# The emulator knows no faint text; "bright black" is what most terminals show it as.
_FAINT, _GREY = "\x1b[2m", "\x1b[90m"


class Run(NamedTuple):
    """Characters of one look that stand beside each other in a line."""

    column: int
    text: str
    colour: str  # as the emulator names it: "default", "green", "brown" for yellow, "brightblack" for faint
    bold: bool


class Screen(NamedTuple):
    """What stands on a terminal at one moment: its lines, and where the cursor is."""

    lines: tuple[tuple[Run, ...], ...]
    cursor: tuple[int, int]  # column and line


class Terminal:
    """A shell on a terminal of that size, in that directory."""

    def __init__(self, columns: int, lines: int, directory: Path, environ: dict[str, str]) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self._screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._child, self._ours = pty.fork()
        if self._child == 0:
            os.chdir(directory)
            os.execvpe(_SHELL[0], _SHELL, environ)  # noqa: S606 - a shell is what is wanted
        ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._child, signal.SIGHUP)
        os.close(self._ours)
        os.waitpid(self._child, 0)

    def press(self, keys: str) -> None:
        """Send what a keyboard sends."""
        os.write(self._ours, keys.encode())

    def shows(self, what: Callable[[str], bool]) -> Screen:
        """Wait until the screen, as text of lines, is as `what` says, and whole. TimeoutError where it never is."""
        end = time.monotonic() + _PATIENCE_S
        while not what("\n".join(self._screen.display)):
            if not self._read(end - time.monotonic()):
                raise TimeoutError("the screen never showed what was waited for:\n" + "\n".join(self._screen.display))
        while self._read(_STILL_S):
            pass
        cursor = self._screen.cursor
        return Screen(tuple(self._runs(line) for line in range(self._screen.lines)), (cursor.x, cursor.y))

    def _read(self, within_s: float) -> bool:
        """Take in what arrives; False where nothing does in that time."""
        if not select.select([self._ours], [], [], max(within_s, 0.0))[0]:
            return False
        self._stream.feed(self._decoder.decode(os.read(self._ours, 65_536)).replace(_FAINT, _GREY))
        return True

    def _runs(self, line: int) -> tuple[Run, ...]:
        cells, runs = self._screen.buffer[line], list[Run]()
        for column in range(len(self._screen.display[line].rstrip())):
            cell = cells[column]
            if runs and (runs[-1].colour, runs[-1].bold) == (cell.fg, cell.bold):
                runs[-1] = runs[-1]._replace(text=runs[-1].text + cell.data)
            else:
                runs.append(Run(column, cell.data, cell.fg, cell.bold))
        return tuple(runs)
