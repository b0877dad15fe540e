"""What is told of a run: its facts at that time, and a line of them for people."""

import os
import time
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec

from rowmill.core.plain_text import clipped, one_line
from rowmill.core.reports import Cost, RunReport, SessionReport, Snapshot


class ToldRun(NamedTuple):
    """Which run it is of."""

    run: str  # its id
    input: str
    output: str
    run_dir: str


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What is told. As JSON it is what a command reads, and as `ROWMILL_*` it is in the command's environment."""

    event: str  # "end", "stop", "budget", "trouble"
    text: str  # all of it in a line
    run: str
    input: str
    output: str
    errors: str | None = None  # the file with the failed rows, once there is one
    run_dir: str
    host: str
    at: str  # ISO 8601, UTC
    exit_code: int | None = None  # of "end" and "stop"
    why: str | None = None  # "stop": it ended before its time; "budget": which cap; "trouble": which provider, and what
    rows: int  # that have their outcome, in all sessions of the run
    total_rows: int | None  # None where they are not counted yet
    failed: int
    elapsed_s: float  # of this session
    usd: float | None = None  # what the run has cost, in all sessions; None where a price is not known
    tokens: int | None = None
    requests: int | None = None


def of_end(subject: ToldRun, report: RunReport, session: SessionReport) -> News:
    """Return the news of a session that has ended."""
    rows = f"{report.totals.rows:,} rows" if report.finished else _done(report.totals.rows, report.rows)
    if report.finished:
        took = timedelta(seconds=round(session.elapsed_s))
        text = f"{subject.output} is done: {rows}, {report.totals.failed:,} of them failed; {took}{_paid(report.cost)}"
        if session.stopped_by:
            text += f"; {session.stopped_by}"
    else:
        text = (
            f"{subject.output} stopped with exit code {session.exit_code}: {session.stopped_by or 'before its end'}; "
            f"{rows}{_paid(report.cost)}"
        )
    return _news(
        subject,
        "end" if report.finished else "stop",
        text,
        report.cost,
        errors=report.errors,
        exit_code=session.exit_code,
        why=session.stopped_by,
        rows=report.totals.rows,
        total_rows=report.rows,
        failed=report.totals.failed,
        elapsed_s=session.elapsed_s,
    )


def of_snapshot(subject: ToldRun, event: str, why: str, snapshot: Snapshot) -> News:
    """Return news of a run that goes on."""
    return _news(
        subject,
        event,
        f"{subject.output}: {why}; {_done(snapshot.totals.rows, snapshot.total_rows)}",
        snapshot.cost,
        why=why,
        rows=snapshot.totals.rows,
        total_rows=snapshot.total_rows,
        failed=snapshot.totals.failed,
        elapsed_s=snapshot.elapsed_s,
    )


def _news(subject: ToldRun, event: str, text: str, cost: Cost | None, *, elapsed_s: float, **facts: Any) -> News:
    told = News(
        event=event,
        text=clipped(f"Rowmill: {text}"),
        **subject._asdict(),
        host=os.uname().nodename,
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        elapsed_s=round(elapsed_s, 1),
        usd=None if cost is None or cost.usd is None else round(cost.usd, 6),
        tokens=None if cost is None else cost.tokens,
        requests=None if cost is None else cost.requests,
        **facts,
    )
    # A file's name and a server's words can hold anything.
    texts = {name: value for name, value in msgspec.structs.asdict(told).items() if isinstance(value, str)}
    sayable = {name: one_line(text.encode("utf-8", "backslashreplace").decode()) for name, text in texts.items()}
    return msgspec.structs.replace(told, **sayable)


def _done(rows: int, total: int | None) -> str:
    return f"{rows:,}{'' if total is None else f' of {total:,}'} rows are done"


def _paid(cost: Cost | None) -> str:
    return "" if cost is None or cost.usd is None else f"; ${cost.usd:,.2f}"
