"""What a run directory tells of a run, whether it is at work, has ended, or was killed. Nothing is written."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from rowmill.budget import ledger
from rowmill.core.config.fingerprints import last_name
from rowmill.core.counts import Counters, Totals
from rowmill.core.errors import ExitCode, RowmillError
from rowmill.core.moments import Moment
from rowmill.core.reports import Cost, RunReport, SessionReport, Snapshot, StepFigures, report_at
from rowmill.core.rows import Shard
from rowmill.runs.standing import StandingRun, standing
from rowmill.store import manifest as manifests
from rowmill.store import series
from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.store.manifest import Manifest
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.aftermath import KILLED, as_left, killed_sessions

_LOG_BYTES = 256 << 10  # of the end of run.log: older lines are of no use beside a timeline


class RunSources:
    """All that stands in small files. What cannot be read is missing, and `problems` says so.

    sessions: those that have ended, and `current`, which no report has: it is at work, or was killed. snapshot: where
    `current` stood at last, or the last session; None where that is not known.
    """

    def __init__(self, path: Path) -> None:
        """Read them. Raises `RunDirectoryError` where there is no run, or another user's."""
        self.directory = RunDirectory(path)
        self.found: StandingRun = standing(path)
        manifest = manifests.load(self.directory.manifest)
        assert manifest is not None  # `standing` has refused it
        self.manifest: Manifest = manifest
        self.problems: list[str] = []
        self.report: RunReport | None = report_at(self.directory.report)
        known = {each.id for each in self.report.sessions} if self.report is not None else set()
        ended = [] if self.report is None else self.report.sessions
        killed = [each for each in killed_sessions(self.directory) if each.id not in known]
        self.current = self._current(known | {each.id for each in killed})
        self.sessions: list[SessionReport] = [*ended, *killed]
        self.sessions.sort(key=lambda session: seconds_of(session.started) or 0.0)
        if self.current is not None:
            self.sessions.append(self.current)
        status = self.found.status
        told = status is not None and (self.current is None or status.session == self.current.id)
        self.snapshot: Snapshot | None = status.snapshot if status is not None and told else None
        self.moments: list[Moment] = []
        with self._missing("the time series"):
            self.moments = series.read(self.directory.series)
            if not self.moments and self.directory.series.exists() and self.directory.series.stat().st_size:
                self.problems.append("the time series cannot be read: no line of it is one of this version")
        self.tries: list[Try] = []
        with self._missing("the batches"):
            self.tries = list(BatchJournal.read(self.directory.journal).tries.values())
        self.shards: list[Shard] = []
        with self._missing("the plan"):
            self.shards = manifests.load_plan(self.directory.plan) or []

    def _current(self, known: set[str]) -> SessionReport | None:
        try:
            spending = ledger.load(self.directory.spending)
        except (RowmillError, OSError):
            return None
        session = spending.session
        if session is None or session.id in known:
            return None
        if self.at_work:
            return session
        return as_left(self.directory, spending, session, last=last_name(self.manifest.fingerprint))

    def _missing(self, what: str) -> "_Noted":
        return _Noted(what, self.problems)

    @property
    def at_work(self) -> bool:
        """Whether its supervisor lives."""
        return self.found.run.state == "at work"

    @property
    def state(self) -> str:
        """One of "running", "finished", "stopped", "killed"."""
        if self.at_work:
            return "running"
        if self.found.run.state == "finished":
            return "finished"
        last = self.sessions[-1] if self.sessions else None
        return "killed" if last is not None and last.exit_code == KILLED else "stopped"

    @property
    def totals(self) -> Totals:
        """What recorded outcomes add up to."""
        told = None if self.report is None else self.report.totals
        if self.current is not None and self.snapshot is not None:
            later = self.snapshot.totals
            # While the input is counted, shards that are known are found again one after the other.
            return later if told is None or later.rows >= told.rows else told
        return told or (self.snapshot.totals if self.snapshot is not None else Totals(rows=self.found.run.rows))

    @property
    def rows(self) -> int | None:
        """Rows of the input; None where they were not counted."""
        if self.shards:
            return sum(shard.rows for shard in self.shards)
        return self.found.run.of

    @property
    def cost(self) -> Cost | None:
        """What it has cost, as far as anybody has written it down."""
        if self.current is not None and self.snapshot is not None and self.snapshot.cost is not None:
            return self.snapshot.cost
        if self.report is not None:
            return self.report.cost
        return None if self.snapshot is None else self.snapshot.cost

    @property
    def steps(self) -> Sequence[StepFigures]:
        """What each of several steps has come to; nothing of a run of one."""
        if self.current is not None and self.snapshot is not None:
            return self.snapshot.steps or ()
        return (self.report.steps or ()) if self.report is not None else ()

    @property
    def counters(self) -> Counters:
        """What all sessions have done."""
        ended = [session.counters for session in self.sessions if session is not self.current]
        now: list[Counters] = []
        if self.current is not None:
            fresh = self.snapshot.counters if self.snapshot is not None else Counters()
            own = self.current.counters
            now = [fresh if fresh.requests >= own.requests else own]
        return Counters.total([*ended, *now])

    def log_lines(self) -> list[tuple[float, str]]:
        """Return the last lines of its log, with their times."""
        lines: list[tuple[float, str]] = []
        with suppress(OSError), self.directory.log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_BYTES))
            for line in file.read(_LOG_BYTES).decode("utf-8", "replace").splitlines():
                time, _, text = line.partition(" ")
                at = seconds_of(time)
                if at is not None and text:
                    lines.append((at, text))
        return lines

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the run asks, as its manifest has it."""
        return self.manifest.fingerprint


class _Noted:
    """Notes what cannot be read, and goes on."""

    def __init__(self, what: str, problems: list[str]) -> None:
        self._what, self._problems = what, problems

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, RowmillError | OSError):
            return False
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        self._problems.append(f"{self._what} cannot be read: {why}")
        return True


def seconds_of(time: str) -> float | None:
    """Return a time as the run directory writes it in seconds since 1970; None where it is none."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError):
        return None


def state_of(session: SessionReport, *, at_work: bool) -> str:
    """Return how a session stands, in the words of a run's state."""
    if at_work:
        return "running"
    if session.exit_code == KILLED:
        return "killed"
    ended = session.exit_code in (ExitCode.OK, ExitCode.ROWS_FAILED) and not session.stopped_by
    return "finished" if ended else "stopped"
