"""Runs that lie about, as a table."""

from collections.abc import Sequence

from rowmill.core.known_runs import KnownRun
from rowmill.core.plain_text import one_line
from rowmill.interface.ui import arranged, figures

_TITLES = ("run directory", "state", "rows", "failed", "cost", "size", "started")
_RIGHT = frozenset(map(_TITLES.index, ("rows", "failed", "cost", "size")))


def table(runs: Sequence[KnownRun]) -> str:
    """Return the table, a line a run; what is wrong with one stands below it."""
    rows = arranged.columns([_TITLES, *map(_cells, runs)], _RIGHT)
    lines = []
    for number, cells in enumerate(rows):
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
