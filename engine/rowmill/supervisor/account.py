"""What a session tells of itself: how it stands, several times a second, and its report."""

import resource

import msgspec

from rowmill.core.errors import ExitCode
from rowmill.core.reports import SessionReport, Snapshot
from rowmill.ipc.memory import peak_rss
from rowmill.supervisor.bottleneck import slowed_by
from rowmill.supervisor.machine.monitor import Condition
from rowmill.supervisor.session_parts import SessionParts


class SessionAccount:
    """Puts together what the parts of a session know."""

    def __init__(self, parts: SessionParts) -> None:
        self._parts = parts

    def snapshot(self, now: float, condition: Condition) -> Snapshot:
        """Return where the session stands, on a machine in this condition."""
        parts = self._parts
        cluster = () if parts.cluster is None else parts.cluster.notices()
        snapshot = parts.progress.snapshot(
            parts.pool,
            parts.providers,
            now,
            draining=parts.shutdown.draining,
            notices=(*parts.shards.notices(), *condition.notices, *cluster, *parts.pool.notices()),
            cost=parts.spending.cost(parts.progress.work, parts.progress.total_work),
            batches=parts.spending.batches,
            parts=parts.spending.parts,
            machine=parts.monitor.view,
        )
        told = [(member.heartbeat, member.step) for member in parts.pool.members if member.heartbeat is not None]
        heartbeats = [heartbeat for heartbeat, _ in told]
        steps = parts.prepared.steps
        asked = [steps[step].providers for _, step in told] if len(steps) > 1 else None
        auto = parts.config.workers.concurrency == "auto"
        if parts.mode == "batch" or parts.shutdown.begun:
            return snapshot  # the provider's pace, or the end's
        found = slowed_by(condition, snapshot.providers, snapshot.workers, heartbeats, auto=auto, asked=asked)
        if not found.cause:
            return snapshot
        return msgspec.structs.replace(snapshot, slowed_by=found.words, slowed_cause=found.cause)

    def report(self) -> SessionReport:
        """Return the report of the session as it stands."""
        parts = self._parts
        code, reason = parts.shutdown.outcome(finished=parts.shards.finished, failed=parts.progress.totals.failed)
        if code == ExitCode.ROWS_FAILED and parts.shards.finished:
            reason = parts.progress.none_answered(parts.shards.failures)
            code = code if reason is None else ExitCode.PROVIDER
        own = resource.getrusage(resource.RUSAGE_SELF)
        return parts.progress.report(
            parts.pool,
            parts.providers,
            parts.clock(),
            exit_code=code,
            stopped_by=reason,
            own_cpu_s=own.ru_utime + own.ru_stime,
            own_rss=peak_rss(),
            notices=(*parts.forms.notices, *parts.monitor.summary()),
            mode=parts.mode,
            batches=parts.spending.batches,
            nodes=[] if parts.cluster is None else parts.cluster.figures(parts.progress.rows_on(parts.pool)),
        )
