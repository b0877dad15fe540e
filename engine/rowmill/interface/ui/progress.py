"""ProgressDisplay while a run goes on: a live display on a terminal, plain lines anywhere else.

Both read `reports.Snapshot`s and nothing else. Neither can end or hold up a run: when the stream can no longer be
written to (the terminal was closed, the reader of the pipe is gone), they fall silent; when it takes nothing for a
while, they wait in a thread of their own (`screen`); and the rows go on.
"""

import io
from typing import TextIO

from rowmill.interface.ui.lines import LogLines
from rowmill.interface.ui.screen import PatientWriter, ProgressDisplay, Screen


def open_progress(stream: TextIO, *, plain: bool = False) -> ProgressDisplay:
    """Return the live display where the stream is a terminal that can move its cursor, else plain lines.

    plain: plain lines in any case. Nothing else may write to the stream until the progress is closed.
    """
    try:
        writer = PatientWriter(stream.fileno())
    except (OSError, ValueError):  # a stream in memory has no descriptor, and never makes anyone wait
        return Screen(_display(stream, plain=plain))
    own = io.TextIOWrapper(writer, stream.encoding, "backslashreplace", write_through=True)
    return Screen(_display(own, plain=plain), writer.give_up)


def _display(stream: TextIO, *, plain: bool) -> ProgressDisplay:
    if stream.isatty() and not plain:
        from rowmill.interface.ui.live import LiveProgress, terminal

        console = terminal(stream)
        if not console.is_dumb_terminal:
            return LiveProgress(console)
    return LogLines(stream)
