"""The command's own three streams, which may be closed, full, without a reader, or not able to say every letter.

None of it is a reason to end otherwise than the run did: what nobody can be told is not told, and the exit code stays.
"""

import contextlib
import errno
import io
import os
import shutil
import sys
from collections.abc import Iterable
from typing import NoReturn, TextIO

from rowmill.core.errors import ExitCode
from rowmill.core.plain_text import one_line

_lacking: set[int] = set()  # descriptors that the command was started without


def make_whole() -> None:
    """Give each stream that the command was started without a place where everything is lost.

    The next file that is opened would have its descriptor, and children that write to it would write into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _lacking.add(descriptor)
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # a program that calls `main` may have put something else there
        sys.stdout.reconfigure(errors="backslashreplace")


def is_lacking(descriptor: int) -> bool:
    """Tell whether the command was started without this stream: nobody sees what goes there."""
    return descriptor in _lacking


def width_of(stream: TextIO) -> int:
    """Return how wide the terminal is that a stream leads to; 0 where it leads to none."""
    return shutil.get_terminal_size().columns if stream.isatty() else 0


def is_coloured(stream: TextIO) -> bool:
    """Tell whether a stream leads to a terminal that has colours, and that nobody wants without."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def say(text: str) -> None:
    """Tell people, on stderr. What cannot be told is not."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _leave(sys.stderr)


def complain(text: str) -> None:
    """Tell people of an error, in one line."""
    # An address or a server's words can be in it: they must not steer the terminal.
    say(f"rowmill: {one_line(text)}")


def out(text: str | bytes) -> int:
    """Write data to stdout, text in the encoding of the terminal, bytes as they are.

    Returns the exit code that a command has whose only purpose it was. A reader that is gone has had enough.
    """
    return out_each([text])


def out_each(texts: Iterable[str | bytes]) -> int:
    """Write data to stdout as `out` does, one after the other; no more is asked for where nobody takes it."""
    try:
        for text in texts:
            _write(text)
    except _Untaken as untaken:
        return untaken.status
    return ExitCode.OK


class _Untaken(Exception):
    """What was to be written will not be; with the exit code of a command whose only purpose it was."""

    def __init__(self, status: ExitCode) -> None:
        super().__init__()
        self.status = status


def _write(text: str | bytes) -> None:
    try:
        if isinstance(text, str):
            sys.stdout.write(text)
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave(sys.stdout)
        raise _Untaken(ExitCode.OK) from None
    except (OSError, ValueError) as error:
        _leave(sys.stdout)
        complain(f"stdout cannot be written to: {getattr(error, 'strerror', None) or error}")
        raise _Untaken(ExitCode.MACHINE) from None


def end(status: int) -> NoReturn:
    """Exit. What a stream has still to say and nobody takes must not change the status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            _leave(stream)
            if stream is sys.stdout and getattr(error, "errno", None) not in {errno.EPIPE, None}:
                complain(f"stdout cannot be written to: {getattr(error, 'strerror', None) or error}")
    sys.exit(int(status))


def _leave(stream: object) -> None:
    """Let what a stream still holds go nowhere: the interpreter writes it when it ends, and would complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
        os.close(nowhere)
