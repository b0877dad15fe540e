"""Progress while a run goes on: a live display on a terminal, plain lines anywhere else.

Both read `records.Snapshot`s and nothing else. Neither can end a run: when the stream can no longer be written to
(the terminal was closed, the reader of the pipe is gone), they fall silent and the rows go on.
"""

from typing import Protocol, TextIO

from engine.records import Snapshot
from engine.ui import figures

_LINE_EVERY_S = 10.0  # of the snapshots' own elapsed time: 360 lines an hour, which a log can hold


class Progress(Protocol):
    """Where a run's progress goes."""

    def show(self, snapshot: Snapshot) -> None:
        """Show where the run stands now."""

    def log(self, line: str) -> None:
        """Tell of one event."""

    def close(self) -> None:
        """Leave the stream ready for other output. May be called twice."""


def open_progress(stream: TextIO) -> Progress:
    """Return the live display where the stream is a terminal that can move its cursor, else plain lines."""
    if stream.isatty():
        from engine.ui.live import LiveProgress, terminal

        console = terminal(stream)
        if not console.is_dumb_terminal:
            return LiveProgress(console)
    return LogLines(stream)


class LogLines:
    """One short line at the start, at changes that matter, and every ten seconds between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._shown: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Write a line if one is due."""
        if self._is_due(snapshot):
            self._shown = snapshot
            self._write(progress_line(snapshot))

    def log(self, line: str) -> None:
        """Write the event as a line of its own."""
        self._write(figures.one_line(line))

    def close(self) -> None:
        """Write no more."""
        self._stream = None

    def _is_due(self, snapshot: Snapshot) -> bool:
        last = self._shown
        if last is None:
            return True
        return (
            snapshot.elapsed_s - last.elapsed_s >= _LINE_EVERY_S
            or snapshot.deaths != last.deaths
            or snapshot.draining != last.draining
        )

    def _write(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError is what a closed stream raises
            self._stream = None


def progress_line(snapshot: Snapshot) -> str:
    """Return where the run stands in one line; two spaces stand between its parts."""
    totals, counters = snapshot.totals, snapshot.counters
    return "  ".join(
        [
            rows_done(snapshot) + f" failed {totals.failed:,}",
            figures.rate(snapshot.rows_per_s),
            eta(snapshot),
            f"in flight {snapshot.in_flight:,}/{snapshot.allowed:,}",
            f"retries {counters.retries:,}",
            f"tokens {figures.compact(totals.prompt_tokens)}+{figures.compact(totals.completion_tokens)}",
            f"workers {len(living(snapshot))}",
            *waiting(snapshot),
            *([f"worker deaths {snapshot.deaths:,}"] if snapshot.deaths else []),
            *(["draining"] if snapshot.draining else []),
        ]
    )


def rows_done(snapshot: Snapshot) -> str:
    """Return "rows 12,345/60,000 (20.6%)"; "rows 12,345 (counting)" while the input is still being counted."""
    rows, total = snapshot.totals.rows, snapshot.total_rows
    if total is None:
        return f"rows {rows:,} (counting)"
    return f"rows {rows:,}/{total:,} ({figures.share(rows, total)})"


def eta(snapshot: Snapshot) -> str:
    """Return "ETA 0:38", or "ETA -" where it cannot be told."""
    return "ETA -" if snapshot.eta_s is None else f"ETA {figures.clock(snapshot.eta_s)}"


def waiting(snapshot: Snapshot) -> list[str]:
    """Return ["waiting 12, next in 9m58s"], or nothing where no row waits out a backoff."""
    if not snapshot.waiting:
        return []
    due = "" if snapshot.next_due_s is None else f", next in {figures.duration(snapshot.next_due_s)}"
    return [f"waiting {snapshot.waiting:,}{due}"]


def living(snapshot: Snapshot) -> list[int]:
    """Return the numbers of the workers that are there."""
    return [worker.number for worker in snapshot.workers if worker.state != "gone"]
