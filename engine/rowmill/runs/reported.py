"""The report of a run: what all its sessions come to, and what is known of those that were killed."""

from collections.abc import Sequence

import msgspec

from rowmill.core.config import Config
from rowmill.core.errors import ExitCode, RowmillError
from rowmill.core.reports import RunReport, SessionReport
from rowmill.files.input.streams import shown
from rowmill.supervisor.loop import Supervisor
from rowmill.supervisor.prepared import Prepared
from rowmill.supervisor.spending import SpendingTracker


def summed_up(
    prepared: Prepared, asked: Config, supervisor: Supervisor, sessions: Sequence[SessionReport]
) -> RunReport:
    """Sum up the run as it is after these sessions, of which the supervisor has seen the last."""
    totals, finished = supervisor.totals, supervisor.finished
    done = finished and sessions[-1].exit_code != ExitCode.MACHINE  # the upload was its last step
    errors = str(asked.errors_path) if prepared.delivery is None else shown(prepared.delivery.errors)
    report = RunReport(
        run=prepared.manifest.run_id,
        finished=done,
        input=prepared.input.where,
        output=shown(asked.output.path),
        errors=errors if totals.failed and done else None,
        rows=supervisor.rows,
        totals=totals,
        failures=supervisor.failures,
        cost=supervisor.cost,
        sessions=[*sessions],
        steps=supervisor.steps,
    )
    return with_win_rates(prepared, report) if finished else report


def with_win_rates(prepared: Prepared, report: RunReport) -> RunReport:
    """Return the report of a run whose rows all have their outcome with who wins, where its steps compare answers."""
    if not any(step.compares for step in prepared.config.step):
        return report
    from rowmill.runs import judged  # who compares nothing need not load it

    if judged.are_told(prepared.config, report):
        return report
    try:
        return msgspec.structs.replace(report, win_rates=judged.win_rates(prepared.config, prepared.directory))
    except (RowmillError, OSError, msgspec.MsgspecError):
        return report  # files that are gone or damaged: the output is whole all the same


def none_answered(report: RunReport) -> bool:
    """Whether a finished run is none: its provider had no answer for any row."""
    return report.sessions[-1].exit_code == ExitCode.PROVIDER and report.totals.failed == report.totals.rows


def ended_the_output(prepared: Prepared, killed: SessionReport) -> bool:
    """Tell whether it was in this session that the output came to its end: then the report is of before."""
    finished = prepared.manifest.finished
    return finished is not None and finished.at >= killed.started


def with_killed(prepared: Prepared, report: RunReport, killed: Sequence[SessionReport]) -> RunReport:
    """Return the report with sessions that were killed, and with what they have cost."""
    spending = SpendingTracker(prepared, mode="live", workers=1)
    cost = spending.final(report.totals, report.rows)
    return msgspec.structs.replace(report, cost=cost, sessions=[*report.sessions, *killed])


def as_it_was(report: RunReport, finished: RunReport) -> RunReport:
    """Return the report of a retry that was broken off: the output is what it was, and so are its failed rows."""
    return msgspec.structs.replace(
        report,
        rows=finished.rows,
        totals=finished.totals,
        failures=finished.failures,
        errors=finished.errors,
        steps=finished.steps,
        win_rates=finished.win_rates,
    )
