"""ProgressDisplay in a notebook: a terminal's live display as one output of the cell, drawn anew in its place.

No widgets are needed for it. What is sent goes to the notebook's front end by the kernel's own thread: nothing waits.
"""

import io
from collections import deque
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text

from rowmill.core.plain_text import one_line
from rowmill.core.reports import Snapshot
from rowmill.interface.ui.live import Frame

_WIDTH, _HEIGHT = 100, 30  # characters
_EVERY_S = 0.5  # of the snapshots' own elapsed time: a notebook is drawn by a browser
_LINES = 20  # events that stay to be seen; the run's log has them all
_PRE = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;margin:0">{code}</pre>'


class NotebookProgress:
    """Draws the latest snapshot, with the events above it. Its last picture stays."""

    def __init__(self, display: Callable[..., Any]) -> None:
        """display: IPython's own, which shows an output of several forms and returns what updates it."""
        self._display = display
        self._handle: Any = None
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._snapshot: Snapshot | None = None
        self._drawn_s: float | None = None
        self._closed = False

    def show(self, snapshot: Snapshot) -> None:
        """Draw a snapshot, where the one before is old enough."""
        self._snapshot = snapshot
        if self._drawn_s is None or snapshot.elapsed_s - self._drawn_s >= _EVERY_S or snapshot.draining:
            self._draw()

    def log(self, line: str) -> None:
        """Keep an event for the next picture."""
        self._lines.append(one_line(line))

    def close(self) -> None:
        """Draw where it all ended."""
        if not self._closed and self._snapshot is not None:
            self._draw()
        self._closed = True

    def _draw(self) -> None:
        if self._closed or self._snapshot is None:
            return
        self._drawn_s = self._snapshot.elapsed_s
        console = Console(file=io.StringIO(), width=_WIDTH, height=_HEIGHT, record=True, force_jupyter=False)
        for line in self._lines:
            console.print(Text(line, "dim"))
        console.print(Frame(self._snapshot))
        text = console.export_text(clear=False, styles=False)
        picture = {"text/plain": text, "text/html": console.export_html(inline_styles=True, code_format=_PRE)}
        try:
            if self._handle is None:
                self._handle = self._display(picture, raw=True, display_id=True)
            else:
                self._handle.update(picture, raw=True)
        except Exception:  # noqa: BLE001 - a front end that is gone, or a display of somebody's own, ends no run
            self._closed = True
