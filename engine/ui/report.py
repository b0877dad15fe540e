"""The end of a run: the summary for a person, and `report.json` for a program."""

import msgspec

from engine.errors import ExitCode, RunDirectoryError
from engine.records import RunReport, SessionReport
from engine.ui import figures

_RESUME = "run the same command again to resume"
_NEXT = {
    ExitCode.BUDGET: f"raise the budget, then {_RESUME}",
    ExitCode.PROVIDER: f"put right what the provider refused (credit, key or model), then {_RESUME}",
    ExitCode.MACHINE: f"put right what this machine lacks, then {_RESUME}",
}


def summary(report: RunReport, session: SessionReport) -> str:
    """Return the run's end in several short lines, without a final line break.

    `session` is the one that just ended; rows and tokens are those of the whole run, speed and requests its own.
    """
    lines = [_headline(report, session)]
    if report.totals.failed:
        classes = ", ".join(figures.counted(report.failures))
        where = f"; listed in {report.errors}" if report.errors and report.finished else ""
        lines.append(_line("failed", f"{report.totals.failed:,}{f': {classes}' if classes else ''}{where}"))
    lines.append(_line("output", report.output if report.finished else f"{report.output} (not yet written)"))
    lines.append(
        _line(
            "tokens",
            f"{figures.compact(report.totals.prompt_tokens)} in, "
            f"{figures.compact(report.totals.completion_tokens)} out",
        )
    )
    lines.append(_line("requests", _requests(report, session)))
    if deaths := _deaths(session):
        lines.append(_line("workers", deaths))
    if peaks := [f"{figures.memory(size)} {name}" for name, size in session.rss_max_bytes.items()]:
        lines.append(_line("memory", f"peak {', '.join(peaks)}"))
    if not report.finished:
        code = session.exit_code
        advice = _NEXT.get(ExitCode(code), _RESUME) if code in set(ExitCode) else _RESUME
        lines.append(_line("next", advice))
    return "\n".join(lines)


def to_json(report: RunReport) -> bytes:
    """Return the report as indented JSON with a final line break."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def from_json(data: bytes) -> RunReport:
    """Read back what `to_json` wrote. Members that a later version added are passed over.

    Raises `RunDirectoryError` where it is no report.
    """
    try:
        return msgspec.json.decode(data, type=RunReport)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunDirectoryError(f"the report cannot be read: {error}; move it away and run again") from None


def _headline(report: RunReport, session: SessionReport) -> str:
    rows = f"{report.totals.rows:,}{'' if report.finished or report.rows is None else f' of {report.rows:,}'}"
    own = f", {session.rows:,} of them in this session," if len(report.sessions) > 1 else ""
    done = f"{rows} rows{own} in {figures.duration(session.elapsed_s)} ({figures.rate(session.rows_per_s)})"
    if report.finished:
        return f"Done: {done}"
    why = f": {figures.one_line(session.stopped_by)}" if session.stopped_by else ""
    return f"Stopped{why}\n" + _line("done", done)


def _requests(report: RunReport, session: SessionReport) -> str:
    counters = session.counters
    parts = [f"{counters.requests:,}", f"{counters.retries:,} retries", *figures.counted(counters.faults)]
    if twice := sum(each.billed_twice_max for each in report.sessions):
        parts.append(f"at most {twice:,} billed twice")
    return ", ".join(parts)


def _deaths(session: SessionReport) -> str:
    if not session.deaths:
        return ""
    gave_up = f"; rows given up because of it: {session.quarantined:,}" if session.quarantined else ""
    return f"{session.deaths:,} died and were replaced{gave_up}"


def _line(label: str, text: str) -> str:
    return f"  {label:<9}{text}"
