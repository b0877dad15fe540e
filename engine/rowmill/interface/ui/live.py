"""The live display: a few lines at the foot of the terminal, redrawn in place by every snapshot.

Everything is text of the run's own words; colour only repeats what the text says. Lines are broken between figures,
never inside one, so that 60 columns lose nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from rowmill.core.counts import BatchView
from rowmill.core.plain_text import one_line
from rowmill.core.reports import ProviderView, Snapshot, WorkerView
from rowmill.interface.ui import arranged, batches, figures, money, phrases

_GAP = "  "
_FURTHER = "  "  # before what goes on of the line above
_LEAST_LINES = (
    2  # of workers, of providers and of batches, even on a terminal of few lines: one and the sum of the others
)
_BATCHES = 8  # that have a line each
_STEPS = 6  # of which is told how far they are
_NOTICES = 4  # lines of them; the log has them all


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
        self._frame: Frame | None = None  # that stands there

    def show(self, snapshot: Snapshot) -> None:
        """Redraw the display."""
        if self._silent:
            return
        try:
            if not self._live.is_started:
                self._live.start()
                # rich hides the cursor; a run that is killed could never bring it back.
                self._console.show_cursor(show=True)
            self._clear_wrapped()
            self._frame = Frame(snapshot)
            self._live.update(self._frame, refresh=True)
        except (OSError, ValueError):  # the terminal is gone
            self._silent = True

    def log(self, line: str) -> None:
        """Print an event above the display."""
        if self._silent:
            return
        try:
            self._clear_wrapped()
            self._console.print(Text(one_line(line)))
        except (OSError, ValueError):
            self._silent = True

    def _clear_wrapped(self) -> None:
        """Take away what a terminal that has become narrower has wrapped: rich goes up as many lines as it drew."""
        width = max(self._console.width, 1)
        wrapped = 0 if self._frame is None else sum(max(cells - 1, 0) // width for cells in self._frame.cells)
        if wrapped and self._frame is not None:
            up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * wrapped
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *up))
            self._frame.cells = []

    def close(self) -> None:
        """Take the display away; event lines stay."""
        if self._silent:
            return
        self._silent = True
        try:
            self._clear_wrapped()
            self._live.stop()
        except (OSError, ValueError):
            return


class Frame:
    """One snapshot as lines for a terminal of any width. A rich renderable: it asks for the size when it is drawn."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.cells: list[int] = []  # of each line as it was drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        snapshot, width = self._snapshot, options.max_width
        lines = [_bar(snapshot, width, ascii_only=options.ascii_only)]
        lines += _joined(_laid_out(_run_figures(snapshot), width))
        lines += _notice_lines(snapshot, console, width)
        lines += [Text(line, "dim") for line in phrases.slowed_by(snapshot)]
        # One line stays free below: a display as high as the terminal scrolls at every redraw.
        room = console.height - 1
        if snapshot.batches:
            lines += _batch_lines(snapshot.batches, width, (room - len(lines)) // 2)
        if len(snapshot.providers) > 1:
            lines += _provider_lines(snapshot, width, (room - len(lines)) // 2)
        lines += _worker_lines(snapshot, width, room - len(lines))
        self.cells = [min(line.cell_len, width) for line in lines]
        yield Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


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
    totals = snapshot.totals
    batch = batches.in_use(snapshot)
    rows = [Text(phrases.rows_done(snapshot)), Text(f"failed {totals.failed:,}", "red" if totals.failed else "")]
    elapsed = Text(f"elapsed {figures.clock(snapshot.elapsed_s)}")
    faults = [Text(text, "yellow") for text in figures.counted(snapshot.counters.faults)]
    retries = Text(f"retries {snapshot.counters.retries:,}")
    waiting = [Text(text, "yellow") for text in phrases.waiting(snapshot)]
    if batch:
        yield [*rows, *([Text(phrases.eta(snapshot))] if batches.has_eta(snapshot) else []), elapsed]
        yield [Text(batches.parts_done(snapshot)), *map(Text, batches.by_status(snapshot.batches))]
        yield [*map(Text, batches.requests(snapshot)), *waiting, retries, *faults]
    else:
        yield [*rows, Text(figures.rate(snapshot.rows_per_s)), Text(phrases.eta(snapshot))]
        yield [Text(f"in flight {snapshot.in_flight:,}/{snapshot.allowed:,}"), *waiting, elapsed]
        yield [Text(f"requests {snapshot.counters.requests:,}"), retries, *faults]
    if told := phrases.steps(snapshot):
        more = [f"and {len(told) - _STEPS} more"] if len(told) > _STEPS else []
        yield [Text(text) for text in (*told[:_STEPS], *more)]
    tokens = f"tokens {figures.compact(totals.prompt_tokens)} in, {figures.compact(totals.completion_tokens)} out"
    yield [Text(tokens), Text(f"shards {snapshot.shards_sealed:,} sealed, {snapshot.shards_merged:,} merged")]
    if cost := money.so_far(snapshot.cost, batch=batch):
        yield [Text(text) for group in cost for text in group]
    if snapshot.deaths:
        yield [Text(f"worker deaths {snapshot.deaths:,}", "red")]
    if snapshot.draining:
        yield [Text(text, "yellow") for text in phrases.draining(snapshot)]


def _notice_lines(snapshot: Snapshot, console: Console, width: int) -> list[Text]:
    single = snapshot.providers[0] if len(snapshot.providers) == 1 else None
    texts = [phrases.standing(single)] if single is not None and single.state != phrases.OPEN else []
    # Wrapped and not cut: what a notice says last is often what there is to do.
    lines = [
        line for text in (*texts, *phrases.notices(snapshot)) for line in Text(text, "yellow").wrap(console, width)
    ]
    if len(lines) > _NOTICES:
        lines[_NOTICES - 1 :] = [Text("and more", "yellow")]
    return lines


def _batch_lines(views: Sequence[BatchView], width: int, room: int) -> list[Text]:
    # One more than is shown: where they do not all fit, a line goes to the sum of the others.
    rows = _laid_out(_batch_figures(views[: _BATCHES + 1]), width)
    shown = _fitting(rows, room)
    shown = min(shown, _BATCHES)
    if rest := views[shown:]:
        rows = [*rows[:shown], *_laid_out([[Text(text) for text in batches.more(rest)]], width)]
    return _joined(rows)


def _batch_figures(views: Sequence[BatchView]) -> Iterator[list[Text]]:
    for batch, row in zip(views, _aligned([batches.columns(batch) for batch in views]), strict=True):
        yield [*row, *([Text(f"failed {batch.failed:,}", "red")] if batch.failed else [])]


def _provider_lines(snapshot: Snapshot, width: int, room: int) -> list[Text]:
    rows = _laid_out(_provider_figures(snapshot.providers), width)
    shown = _fitting(rows, room)
    if shown == len(rows):
        return _joined(rows)
    # Those with something to tell stay.
    ranked = sorted(snapshot.providers, key=lambda provider: provider.state == phrases.OPEN)
    rest = ranked[shown:]
    others = [
        Text(f"{len(rest)} more"),
        Text(f"in flight {sum(each.in_flight for each in rest):,}/{sum(each.allowed for each in rest):,}"),
        Text(f"requests {sum(each.requests for each in rest):,}"),
    ]
    return _joined(_laid_out([*_provider_figures(ranked[:shown]), others], width))


def _provider_figures(providers: Sequence[ProviderView]) -> Iterator[list[Text]]:
    columns = [_provider_columns(provider) for provider in providers]
    for provider, row in zip(providers, _aligned(columns), strict=True):
        if provider.state != phrases.OPEN:
            row[1].stylize("yellow")
        limits = [figures.per_second(limit) for limit in (provider.requests_per_s,) if limit is not None]
        if provider.tokens_per_s is not None:
            limits.append(f"{figures.compact(provider.tokens_per_s)} tokens/s")
        limit = [Text(f"limit {', '.join(limits)}")] if limits else []
        held = [] if provider.held_s is None else [Text(f"held {figures.duration(provider.held_s)}", "yellow")]
        yield [*row, *limit, *held]


def _provider_columns(provider: ProviderView) -> list[str]:
    settled = provider.requests - provider.in_flight
    return [
        f"provider {one_line(provider.name)}",
        provider.state,
        f"in flight {provider.in_flight:,}/{provider.allowed:,}",
        f"requests {provider.requests:,}",
        f"answered {figures.share(provider.answered, settled) if settled > 0 else '-'}",
    ]


def _worker_lines(snapshot: Snapshot, width: int, room: int) -> list[Text]:
    workers = snapshot.workers
    batch = batches.in_use(snapshot)
    rows = _laid_out(_worker_figures(workers, batch=batch), width)
    shown = _fitting(rows, room)
    if rest := workers[shown:]:
        others = [
            Text(f"{len(rest)} more"),
            *([] if batch else [Text(f"in flight {sum(worker.in_flight for worker in rest):,}")]),
            Text(f"RSS {figures.memory(sum(worker.rss_bytes for worker in rest))}"),
            Text(f"CPU {sum(worker.cpu_share for worker in rest):.0%}"),
            *(Text(f"lag up to {lag}", "yellow") for lag in phrases.lag(max(worker.lag_ms for worker in rest))),
        ]
        rows = [*rows[:shown], *_laid_out([others], width)]
    return _joined(rows)


def _worker_figures(workers: Sequence[WorkerView], *, batch: bool) -> Iterator[list[Text]]:
    cells = [_worker_columns(worker, batch=batch) for worker in workers]
    for worker, row in zip(workers, _aligned(cells), strict=True):
        late = [Text(f"lag {lag}", "yellow") for lag in phrases.lag(worker.lag_ms)]
        state = [] if worker.state == "working" else [Text(worker.state, "yellow")]
        yield [*row, *late, *state]


def _worker_columns(worker: WorkerView, *, batch: bool) -> list[str]:
    return [
        f"worker {worker.number}",
        f"pid {worker.pid}",
        *([f"on {worker.node}"] if worker.node else []),
        *([] if batch else [f"in flight {worker.in_flight:,}"]),  # the requests are in flight at the provider
        f"RSS {figures.memory(worker.rss_bytes)}",
        f"CPU {worker.cpu_share:.0%}",
    ]


def _aligned(rows: list[list[str]]) -> Iterator[list[Text]]:
    """Pad the cells of every column to one width."""
    for row in arranged.columns(rows):
        yield [*map(Text, row)]


def _laid_out(rows: Iterable[list[Text]], width: int) -> list[list[Text]]:
    """Return the lines of each row."""
    return [list(_broken(row, width)) for row in rows]


def _joined(rows: Iterable[list[Text]]) -> list[Text]:
    return [line for row in rows for line in row]


def _fitting(rows: list[list[Text]], room: int) -> int:
    """Return how many rows to show: all, or as many as leave room for the sum of the others."""
    if sum(map(len, rows)) <= room:
        return len(rows)
    return min(max(room // max(map(len, rows), default=1), _LEAST_LINES) - 1, len(rows))


def _broken(pieces: list[Text], width: int) -> Iterator[Text]:
    """Join the pieces into as few lines as hold them; those behind the first are set in, if that costs nothing."""
    line = Text()
    for piece in pieces:
        if line and line.cell_len + len(_GAP) + piece.cell_len > width:
            yield line
            line = Text.assemble(_FURTHER, piece) if len(_FURTHER) + piece.cell_len <= width else piece
        else:
            line = Text.assemble(line, _GAP, piece) if line else piece
    yield line
