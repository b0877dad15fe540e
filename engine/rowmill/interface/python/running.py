"""Having a run done for a program: where it shows how it stands, and what it raises where it is broken off."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rowmill.core.errors import (
    BudgetError,
    ConfigError,
    ExitCode,
    MachineError,
    ProviderError,
    RowmillError,
    RunDirectoryError,
)
from rowmill.core.reports import RunReport, SessionReport, Snapshot
from rowmill.interface.ui.lines import LogLines
from rowmill.interface.ui.progress import open_progress
from rowmill.interface.ui.screen import ProgressDisplay

_ENDS: dict[int, type[RowmillError]] = {
    each.exit_code: each for each in (ConfigError, BudgetError, ProviderError, RunDirectoryError, MachineError)
}
_terminal = threading.Lock()  # held by the call that draws on it: two would draw over each other


def raise_for_end(report: RunReport, session: SessionReport | None, again: str = "the same call") -> None:
    """Raise where the run has not come to its end."""
    if report.finished or session is None:
        return
    kept = f"{report.totals.rows:,} rows are done and kept; {again} goes on from there"
    if not report.totals.rows:
        kept = f"no row is done yet; {again} begins with the first"
    if session.exit_code == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt(kept)
    error = _ENDS.get(session.exit_code, RowmillError)(f"{session.stopped_by}; {kept}")
    error.exit_code = ExitCode(session.exit_code)
    raise error


@contextmanager
def shown(progress: bool | None) -> Iterator[ProgressDisplay]:
    """Give what shows the run, and close it after."""
    display: ProgressDisplay = _Quiet()
    alone = False
    # A notebook's stderr is no terminal, but a stream of the notebook's own: its descriptor leads elsewhere.
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if progress is not False and in_notebook():
        from rowmill.interface.ui.notebook import NotebookProgress

        display = NotebookProgress(sys.modules["IPython.display"].display)
    elif terminal and progress is not False:
        if alone := _terminal.acquire(blocking=False):
            display = open_progress(sys.stderr)
    elif progress and sys.stderr is not None:
        display = LogLines(sys.stderr)
    try:
        yield display
    finally:
        display.close()
        if alone:
            _terminal.release()


def in_notebook() -> bool:
    """Tell whether a notebook's kernel runs this, which shows more than text."""
    ipython = sys.modules.get("IPython")
    if ipython is None or "ipykernel" not in sys.modules or "IPython.display" not in sys.modules:
        return False
    return getattr(ipython.get_ipython(), "kernel", None) is not None


class _Quiet:
    def show(self, snapshot: Snapshot) -> None:
        pass

    def log(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass
