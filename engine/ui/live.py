"""The live display: a few lines at the foot of the terminal, redrawn in place by every snapshot.

Everything is text of the run's own words; colour only repeats what the text says. Lines are broken between figures,
never inside one, so that 60 columns lose nothing.
"""

from collections.abc import Iterator
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from engine.records import Snapshot, WorkerView
from engine.ui import figures
from engine.ui.progress import eta, rows_done, waiting

_GAP = "  "
_LEAST_WORKER_LINES = 2  # even on a terminal of few lines: one worker and the sum of the others


class _TerminalConsole(Console):
    """A console whose terminal may go away."""

    def on_broken_pipe(self) -> None:
        """Fall silent. rich's own way is to end the process, and with it the run."""
        self.quiet = True


def terminal(stream: TextIO) -> Console:
    """Return rich's view of this terminal."""
    return _TerminalConsole(file=stream, markup=False, emoji=False, highlight=False)


class LiveProgress:
    """Keeps a `Frame` at the foot of the terminal and event lines above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # transient: the summary that follows says what the last frame said.
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._silent = False

    def show(self, snapshot: Snapshot) -> None:
        """Redraw the display."""
        if self._silent:
            return
        try:
            if not self._live.is_started:
                self._live.start()
                # rich hides the cursor; a run that is killed could never bring it back.
                self._console.show_cursor(show=True)
            self._live.update(Frame(snapshot), refresh=True)
        except (OSError, ValueError):  # the terminal is gone
            self._silent = True

    def log(self, line: str) -> None:
        """Print an event above the display."""
        if self._silent:
            return
        try:
            self._console.print(Text(figures.one_line(line)))
        except (OSError, ValueError):
            self._silent = True

    def close(self) -> None:
        """Take the display away; event lines stay."""
        if self._silent:
            return
        self._silent = True
        try:
            self._live.stop()
        except (OSError, ValueError):
            return


class Frame:
    """One snapshot as lines for a terminal of any width. A rich renderable: it asks for the size when it is drawn."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        bar = _bar(self._snapshot, width, ascii_only=options.ascii_only)
        run = [line for row in _run_figures(self._snapshot) for line in _broken(row, width)]
        # One line stays free below: a display as high as the terminal scrolls at every redraw.
        room = max(console.height - 2 - len(run), _LEAST_WORKER_LINES)
        workers = [line for row in _worker_figures(self._snapshot, room) for line in _broken(row, width)]
        yield Text("\n", no_wrap=True, overflow="ellipsis").join([bar, *run, *workers])


def _bar(snapshot: Snapshot, width: int, *, ascii_only: bool) -> Text:
    rows, failed, total = snapshot.totals.rows, snapshot.totals.failed, snapshot.total_rows
    label = "counting" if total is None else figures.share(rows, total)
    cells = max(width - len(_GAP) - len(label), 0)
    recorded = 0 if not total else min(cells * rows // total, cells)
    # A single failed row among millions still shows one cell.
    bad = min(-(-recorded * failed // rows), recorded) if rows else 0
    done_mark, bad_mark, open_mark = ("#", "!", "-") if ascii_only else ("━", "━", "─")
    return Text.assemble(
        (done_mark * (recorded - bad), "green"),
        (bad_mark * bad, "red"),
        (open_mark * (cells - recorded), "dim"),
        _GAP,
        (label, "bold"),
    )


def _run_figures(snapshot: Snapshot) -> Iterator[list[Text]]:
    totals, counters = snapshot.totals, snapshot.counters
    failed = Text(f"failed {totals.failed:,}", "red" if totals.failed else "")
    yield [Text(rows_done(snapshot)), failed, Text(figures.rate(snapshot.rows_per_s)), Text(eta(snapshot))]
    yield [
        Text(f"in flight {snapshot.in_flight:,}/{snapshot.allowed:,}"),
        *(Text(text, "yellow") for text in waiting(snapshot)),
        Text(f"elapsed {figures.clock(snapshot.elapsed_s)}"),
    ]
    yield [
        Text(f"requests {counters.requests:,}"),
        Text(f"retries {counters.retries:,}"),
        *(Text(text, "yellow") for text in figures.counted(counters.faults)),
    ]
    tokens = f"tokens {figures.compact(totals.prompt_tokens)} in, {figures.compact(totals.completion_tokens)} out"
    yield [Text(tokens), Text(f"shards {snapshot.shards_sealed:,} sealed, {snapshot.shards_merged:,} merged")]
    if snapshot.deaths:
        yield [Text(f"worker deaths {snapshot.deaths:,}", "red")]
    if snapshot.draining:
        yield [Text("draining: finishing what is in flight", "yellow"), Text("Ctrl-C to stop at once", "yellow")]


def _worker_figures(snapshot: Snapshot, room: int) -> Iterator[list[Text]]:
    workers = snapshot.workers
    shown = workers if len(workers) <= room else workers[: room - 1]
    columns = [_worker_columns(worker) for worker in shown]
    widths = [max(len(cell) for cell in cells) for cells in zip(*columns, strict=True)]
    for worker, cells in zip(shown, columns, strict=True):
        line = [Text(cell.ljust(width)) for cell, width in zip(cells, widths, strict=True)]
        yield line if worker.state == "working" else [*line, Text(worker.state, "yellow")]
    if rest := workers[len(shown) :]:
        yield [
            Text(f"{len(rest)} more"),
            Text(f"in flight {sum(worker.in_flight for worker in rest):,}"),
            Text(f"RSS {figures.memory(sum(worker.rss_bytes for worker in rest))}"),
            Text(f"CPU {sum(worker.cpu_share for worker in rest):.0%}"),
        ]


def _worker_columns(worker: WorkerView) -> list[str]:
    return [
        f"worker {worker.number}",
        f"pid {worker.pid}",
        f"in flight {worker.in_flight:,}",
        f"RSS {figures.memory(worker.rss_bytes)}",
        f"CPU {worker.cpu_share:.0%}",
    ]


def _broken(pieces: list[Text], width: int) -> Iterator[Text]:
    """Join the pieces into as few lines as hold them."""
    line = Text()
    for piece in pieces:
        if line and line.cell_len + len(_GAP) + piece.cell_len > width:
            yield line
            line = Text()
        line = Text.assemble(line, _GAP, piece) if line else piece
    yield line
