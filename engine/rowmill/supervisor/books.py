"""The supervisor's books, both of them: the ledger of rows and the costs, as the progress and the report show them."""

import resource
from collections.abc import Iterable, Sequence

import msgspec

from rowmill.core.reports import Cost, SessionReport, Snapshot
from rowmill.ipc.memory import peak_rss
from rowmill.ipc.messages import Heartbeat
from rowmill.supervisor.pool import Member, Pool
from rowmill.supervisor.prepared import Prepared
from rowmill.supervisor.progress import Progress
from rowmill.supervisor.providers import Providers
from rowmill.supervisor.shutdown import Shutdown
from rowmill.supervisor.spending import SpendingTracker


class Books:
    """What one session has done and spent."""

    def __init__(
        self,
        prepared: Prepared,
        pool: Pool,
        providers: Providers,
        *,
        mode: str,
        workers: int,
        now: float,
        notices: Sequence[str],
    ) -> None:
        """`mode`: "live" or "batch"; `notices`: what was found before the start."""
        self.progress = Progress(now, notices)
        self.spending = SpendingTracker(prepared, mode=mode, workers=workers)
        self._pool = pool
        self._providers = providers
        self._mode = mode

    def heartbeat(self, member: Member, heartbeat: Heartbeat) -> None:
        """Take in what a worker says of itself."""
        self.progress.heartbeat(member, heartbeat)
        self.spending.heartbeat(member, heartbeat)

    def ended(self, member: Member, billed: int) -> None:
        """Keep the figures of a worker that is gone; `billed` requests that may have been answered went with it."""
        self.progress.ended(member, billed)
        self.spending.leave(member, billed)

    def snapshot(self, now: float, *, draining: bool, notices: tuple[str, ...]) -> Snapshot:
        """Return where the run stands."""
        snapshot = self.progress.snapshot(self._pool, self._providers, now, draining=draining, notices=notices)
        return msgspec.structs.replace(
            snapshot,
            cost=self.spending.cost(snapshot.totals, snapshot.total_rows),
            batches=self.spending.batches,
            parts=self.spending.parts,
        )

    def report(self, now: float, shutdown: Shutdown, *, finished: bool, notices: Iterable[str]) -> SessionReport:
        """Sum the session up. `finished`: every row has its line in the output."""
        code, reason = shutdown.outcome(finished=finished, failed=self.progress.totals.failed)
        own = resource.getrusage(resource.RUSAGE_SELF)
        return self.progress.report(
            self._pool,
            self._providers,
            now,
            exit_code=code,
            stopped_by=reason,
            own_cpu_s=own.ru_utime + own.ru_stime,
            own_rss=peak_rss(),
            notices=notices,
            mode=self._mode,
            batches=self.spending.batches,
        )

    def cost(self) -> Cost:
        """Return what the run has cost, at the end of the session."""
        return self.spending.final(self.progress.totals, self.progress.total_rows)
