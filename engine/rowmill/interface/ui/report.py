"""The end of a run: the summary for a person, and `report.json` for a program."""

import re
from pathlib import Path
from typing import NamedTuple

from rowmill.core.errors import ExitCode
from rowmill.core.plain_text import one_line
from rowmill.core.reports import ProviderFigures, RunReport, SessionReport
from rowmill.interface.ui import arranged, batches, figures, money, win_lines

_RESUME = "run the same command again to resume"
_NEXT = {
    ExitCode.PROVIDER: f"put right what is named above (credit, key, model, a server that is down), then {_RESUME}",
    ExitCode.MACHINE: f"put right what this machine lacks, then {_RESUME}",
}
_MANY_LIMITED = 0.001  # of the requests; fewer 429s are what pacing by a limit of a server's own making costs
_CAP = re.compile(r"(budget\.max_\w+=)[^\s']+")  # as it was set by --set
_NOTICES = 10  # as many as are read; the report has them all
_KEPT = "\0"  # a space at which no line is broken
_COMMAND_WIDTH = 60  # of a terminal, from which on commands stay whole
_STEP_TITLES = ("step", "rows", "failed", "left out", "requests", "tokens", "cost")
_COLUMNS: tuple[str, ...] = ("provider", "requests", "answered", "429s", "tokens", "reply", "state")


class Again(NamedTuple):
    """Commands that go on with a run, that ask its failed rows again, and that start it anew; all as for a shell."""

    run: str
    retry: str
    fresh: str


def of_config(words: str) -> Again:
    """Return the commands for a configuration and its options, as they stand behind a command."""
    return Again(f"rowmill run {words}", f"rowmill retry {words}", f"rowmill run {words} --fresh")


def summary(
    report: RunReport,
    session: SessionReport,
    *,
    again: Again | None = None,
    page: Path | None = None,
    width: int = 0,
) -> str:
    """Return the run's end in several short lines, without a final line break, none wider than `width` but for words.

    `again`: what goes on with this run; None where nothing does. page: where the report lies as a page; None where it
    does not. width: 0 for no limit.

    `session` is the one that just ended; rows and tokens are those of the whole run, speed and requests its own.
    """
    lines = [_headline(report, session)]
    if report.totals.failed:
        classes = ", ".join(figures.counted(report.failures))
        where = f"; listed in {report.errors}" if report.errors and report.finished else ""
        lines.append(arranged.line("failed", f"{report.totals.failed:,}{f': {classes}' if classes else ''}{where}"))
    written = report.finished or report.output == "stdout"  # which has what there is
    place = f"{report.output}{_without(report)}" if written else f"{report.output} (not yet written)"
    lines.append(arranged.line("output", place))
    lines.append(
        arranged.line(
            "tokens",
            f"{figures.compact(report.totals.prompt_tokens)} in, "
            f"{figures.compact(report.totals.completion_tokens)} out",
        )
    )
    lines.append(arranged.line("requests", _requests(report, session)))
    lines += [f"  {line}" for line in _steps(report)]
    for rates in report.win_rates or ():
        lines += arranged.block("wins", win_lines.told(rates))
    if saved := _saved(session):
        lines.append(arranged.line("saved", saved))
    lines += arranged.block("cost", money.summed_up(report.cost))
    lines += [f"  {line}" for line in money.table(report.cost)]
    lines += arranged.block("budget", [text] if (text := money.budget(report.cost)) else [])
    lines += _providers(session)
    lines += arranged.block("nodes", _nodes(session))
    if deaths := _deaths(session):
        lines.append(arranged.line("workers", deaths))
    if peaks := [f"{figures.memory(size)} {name}" for name, size in session.rss_max_bytes.items()]:
        lines.append(arranged.line("memory", f"peak {', '.join(peaks)}"))
    lines += _notices(session)
    if page is not None:
        lines.append(arranged.line("report", one_line(str(page))))
    if not report.finished:
        lines += arranged.block("batches", batches.left_behind(session.batches))
        lines.append(arranged.line("next", _advice(report, session, again)))
    elif again and session.exit_code == ExitCode.PROVIDER:
        lines.append(arranged.line("next", _anew(again)))
    elif report.totals.failed and again:
        lines.append(arranged.line("next", f"{_whole(again.retry)}: asks again for the failed rows"))
    pieces = (piece for line in lines for piece in line.split("\n"))
    return "\n".join(narrow for piece in pieces for narrow in _wrapped(piece, width)).replace(_KEPT, " ")


def _without(report: RunReport) -> str:
    """Say how many rows are not in the output, as conditions of steps have it."""
    left_out = sum(step.left_out for step in report.steps or ())
    if not left_out:
        return ""
    return f": {report.totals.rows - left_out:,} of {report.totals.rows:,} rows; {left_out:,} are left out"


def _steps(report: RunReport) -> list[str]:
    """Return a line for each of several steps under a line of titles."""
    if not report.steps:
        return []
    rows: list[tuple[str, ...]] = [_STEP_TITLES]
    for step in report.steps:
        usd = None if report.cost is None else report.cost.usd_of_step(step.name)
        rows.append(
            (
                step.name,
                f"{step.rows:,}",
                f"{step.failed:,}",
                f"{step.left_out:,}",
                f"{step.requests:,}",
                f"{figures.compact(step.prompt_tokens)}+{figures.compact(step.completion_tokens)}",
                "unknown" if usd is None else figures.money(usd),
            )
        )
    return ["  ".join(cells).rstrip() for cells in arranged.columns(rows, right=range(1, len(_STEP_TITLES)))]


def _nodes(session: SessionReport) -> list[str]:
    """Return a line for each machine of a cluster."""
    lines = []
    for node in session.nodes:
        workers = f"{node.workers} {'worker' if node.workers == 1 else 'workers'}"
        left = "" if node.left_s is None else f", left after {figures.duration(node.left_s)}: {node.why}"
        lines.append(f"{node.node}: {node.rows:,} rows by {workers}{left}")
    return lines


def _headline(report: RunReport, session: SessionReport) -> str:
    rows = f"{report.totals.rows:,}{'' if report.finished or report.rows is None else f' of {report.rows:,}'}"
    own = f", {session.rows:,} of them in this session," if len(report.sessions) > 1 else ""
    done = f"{rows} rows{own} in {figures.duration(session.elapsed_s)} ({figures.rate(session.rows_per_s)})"
    if report.finished and not 0 < report.totals.failed == report.totals.rows:
        return f"Done: {done}"
    if report.finished:
        why = session.stopped_by or f"no row was answered: {_all(report.totals.failed)} failed"
        return f"{one_line(why[0].upper() + why[1:])}\n" + arranged.line("done", done)
    why = f": {one_line(session.stopped_by)}" if session.stopped_by else ""
    return f"Stopped{why}\n" + arranged.line("done", done)


def _wrapped(line: str, width: int) -> list[str]:
    """Break a line between words, and put the rest below the text of its label; rows of tables stay as they are.

    So does a command, where the terminal is as wide as most: it is to be copied.
    """
    if width < _COMMAND_WIDTH:
        line = line.replace(_KEPT, " ")
    if not 0 < width < len(line):
        return [line]
    below = arranged.LABEL if line.startswith("  ") else 2
    indent = " " * min(below, width // 3)
    if line.startswith("  ") and "  " in line[arranged.LABEL :].strip():  # a row of a table
        end = line.rfind("  ", arranged.LABEL, width + 2)
        if end < 0:
            return [line]
        head, line = line[:end].rstrip(), line[end:].strip()
        return [head, *arranged.words(line, width, indent, indent)]
    return arranged.words(line, width, "", indent)


def _advice(report: RunReport, session: SessionReport, again: Again | None) -> str:
    if again and session.exit_code in (ExitCode.OK, ExitCode.ROWS_FAILED):
        left = "" if report.rows is None else f"{report.rows - report.totals.rows:,} "
        return f"{_whole(again.run)}: asks for the {left}rows that were not asked yet"
    if again and session.exit_code == ExitCode.PROVIDER and "invalid_request (" in (session.stopped_by or ""):
        # What is to be changed makes it another run, which the directory of this one would not take.
        return _anew(again)
    if session.exit_code == ExitCode.BUDGET:
        advice = f"raise {money.cap(session.stopped_by)}, then {_RESUME}"
        if again:  # with the cap that it has reached it would stop at once
            again = again._replace(run=_CAP.sub(r"\1MORE", again.run))
    else:
        known = session.exit_code in set(ExitCode)
        advice = _NEXT.get(ExitCode(session.exit_code), _RESUME) if known else _RESUME
    return f"{advice}: {_whole(again.run)}" if again else advice


def _all(rows: int) -> str:
    return f"all {rows:,}" if rows > 1 else "the only one"


def _anew(again: Again) -> str:
    """Return what goes on where the cause may be at the provider, or in what the configuration asks it for."""
    return (
        f"put right what is named above, then {_whole(again.run)}; where that changes the configuration it is "
        f"another run: {_whole(again.fresh)}"
    )


def _whole(command: str) -> str:
    """Return a command that is not broken at its spaces."""
    return command.replace(" ", _KEPT)


def _requests(report: RunReport, session: SessionReport) -> str:
    counters = session.counters
    how = " in batches" if session.mode == "batch" else ""
    parts = [
        f"{counters.requests:,}{how}",
        f"{counters.retries:,} {'retry' if counters.retries == 1 else 'retries'}",
        *figures.counted(counters.faults),
    ]
    if counters.reasked:
        parts.append(f"{counters.reasked:,} asked again for a valid answer")
    if twice := sum(each.billed_twice_max for each in report.sessions):
        parts.append(f"at most {twice:,} billed twice")
    return ", ".join(parts)


def _saved(session: SessionReport) -> str:
    counters = session.counters
    parts = []
    if counters.cached:
        parts.append(f"{counters.cached:,} rows from the cache")
    if counters.duplicates:
        parts.append(f"{counters.duplicates:,} duplicates")
    if counters.packed:
        less = f" (about {figures.compact(counters.tokens_saved)} tokens less)" if counters.tokens_saved else ""
        parts.append(f"{counters.packed:,} rows packed{less}")
    return ", ".join(parts)


def _providers(session: SessionReport) -> list[str]:
    """Tell what is unusual of a single provider; of several, tell all, as a table whose last column has no title."""
    if len(session.providers) < 2:  # noqa: PLR2004 - one provider's figures are those of the run
        return [arranged.line("provider", text) for each in session.providers.values() if (text := _oddities(each))]
    rows = [_COLUMNS, *(_cells(one_line(name), each) for name, each in session.providers.items())]
    rests = ["", *(", ".join([*_limits(each), *_incidents(each)]) for each in session.providers.values())]
    cells = arranged.columns(rows, right=range(1, len(_COLUMNS) - 1))
    return ["  ".join(["", *row, rest]).rstrip() for row, rest in zip(cells, rests, strict=True)]


def _cells(name: str, provider: ProviderFigures) -> tuple[str, ...]:
    return (
        name,
        f"{provider.requests:,}",
        figures.share(provider.answered, provider.requests) if provider.requests else "-",
        f"{provider.limited:,}",
        f"{figures.compact(provider.prompt_tokens)}+{figures.compact(provider.completion_tokens)}",
        "-" if provider.mean_reply_s is None else figures.duration(provider.mean_reply_s),
        provider.state,
    )


def _oddities(provider: ProviderFigures) -> str:
    parts = []
    if provider.limited > provider.requests * _MANY_LIMITED:
        parts.append(f"{provider.limited:,} 429s ({figures.share(provider.limited, provider.requests)})")
    parts += _incidents(provider)
    if provider.state != "open":
        parts.append(f"{provider.state} at the end")
    # A limit alone is nothing unusual: most often it is the configured one.
    return ", ".join([*parts, *_limits(provider)] if parts else [])


def _incidents(provider: ProviderFigures) -> list[str]:
    parts = []
    if provider.held_s > 0:
        parts.append(f"held {figures.duration(provider.held_s)}")
    if provider.opened:
        parts.append(f"breaker opened {figures.times(provider.opened)}")
    if provider.odd_headers:
        parts.append(f"odd limit headers {provider.odd_headers:,}")
    if provider.odd_usage:
        parts.append(f"odd usage {provider.odd_usage:,}, counted as estimated")
    return parts


def _limits(provider: ProviderFigures) -> list[str]:
    """Return ["limit 6,000 requests, 90k tokens a minute"], or nothing where there is none."""
    parts = []
    if provider.requests_per_minute is not None:
        parts.append(f"{figures.number(provider.requests_per_minute)} requests")
    if provider.tokens_per_minute is not None:
        parts.append(f"{figures.compact(provider.tokens_per_minute)} tokens")
    return [f"limit {', '.join(parts)} a minute"] if parts else []


def _notices(session: SessionReport) -> list[str]:
    shown = [one_line(notice) for notice in session.notices[:_NOTICES]]
    if rest := len(session.notices) - len(shown):
        shown.append(f"{rest:,} more in the report")
    return arranged.block("notices", shown)


def _deaths(session: SessionReport) -> str:
    if not session.deaths:
        return ""
    gave_up = f"; rows given up because of it: {session.quarantined:,}" if session.quarantined else ""
    return f"{session.deaths:,} died and were replaced{gave_up}"
