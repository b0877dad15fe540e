"""Runs that lie about, as a table."""

from collections.abc import Sequence

from rowmill.core.known_runs import KnownRun
from rowmill.core.plain_text import one_line
from rowmill.interface.ui import figures

_TITLES = ("run directory", "state", "rows", "failed", "cost", "size", "started")
_RIGHT = frozenset({"rows", "failed", "cost", "size"})


def table(runs: Sequence[KnownRun]) -> str:
    """Return the table, a line a run; what is wrong with one stands below it."""
    rows = [_TITLES, *map(_cells, runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    lines = []
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if title in _RIGHT else cell.ljust(width)
            for cell, width, title in zip(row, widths, _TITLES, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
        if number and (problem := runs[number - 1].problem):
            lines.append(f"    {one_line(problem)}")
    return "\n".join(lines)


def _cells(run: KnownRun) -> tuple[str, ...]:
    if run.state == "damaged":
        return one_line(run.run_dir), run.state, "-", "-", "-", figures.volume(run.size), "-"
    of = "" if run.of in (None, run.rows) else f"/{run.of:,}"
    return (
        one_line(run.run_dir),
        run.state,
        f"{run.rows:,}{of}",
        f"{run.failed:,}",
        "-" if run.usd is None else figures.money(run.usd),
        figures.volume(run.size),
        run.created.replace("T", " ").rstrip("Z"),
    )
