"""How a row, or a provider, comes to a bad end: failed for good, refused, closed, or met by a defect of this program.

Where another provider or a smaller pack may do better, it is no end yet. Nothing here awaits.
"""

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from rowmill.core.counts import Counters
from rowmill.core.errors import InvalidRow
from rowmill.core.wire import Failure
from rowmill.ipc.messages import Closed, ToSupervisor
from rowmill.transport import faults
from rowmill.worker import packs
from rowmill.worker.defects import Defects
from rowmill.worker.failures import failure_of, may_be_one_row
from rowmill.worker.job import Fallback, Job
from rowmill.worker.live.backlog import Backlog
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.router import Router
from rowmill.worker.outcome_writer import OutcomeWriter

if TYPE_CHECKING:
    from rowmill.worker.finish_rules import FinishRules
    from rowmill.worker.live.finishes import Finishes  # only where the configuration names reasons
    from rowmill.worker.live.reservations import Reservations  # only where there is a budget


def _finishes(
    rules: "FinishRules", writer: OutcomeWriter, endings: "Endings", tell: Callable[[ToSupervisor], None]
) -> "Finishes":
    from rowmill.worker.live.finishes import Finishes

    return Finishes(rules, writer=writer, endings=endings, tell=tell)


class Endings:
    """The bad ends of one worker's rows."""

    def __init__(
        self,
        *,
        router: Router,
        backlog: Backlog,
        writer: OutcomeWriter,
        counters: Counters,
        tell: Callable[[ToSupervisor], None],
        on_less: Callable[[], None],
        streak: int,
        defects: Defects,
        rules: "FinishRules | None" = None,
        reservations: "Reservations | None" = None,
    ) -> None:
        """`tell` reaches the supervisor; `on_less` is called when a provider allows less than before.

        `streak`: see `Dispatcher`.
        """
        self._router = router
        self._backlog = backlog
        self._writer = writer
        self._counters = counters
        self._tell = tell
        self._on_less = on_less
        self._streak = streak
        self._defects = defects
        self._reservations = reservations
        self.finishes = None if rules is None else _finishes(rules, writer, self, tell)

    def doubt(self, job: Job, provider: Provider, failure: Failure, now: float) -> None:
        """Settle a refusal that may be the row's or the provider's, by what became of other rows."""
        single = len(self._router.providers) == 1
        assert job.request is not None
        whole = faults.is_of_all(failure)
        match provider.doubted(job.index, job.request, failure, now, whole=whole, single=single):
            case "row" if job.fallback is not None:
                self._give_up(job)
            case "row":
                self.fail(job, provider, failure, now)
            case "again":
                job.put_off = True  # no retry: it is the provider that is tried
                self._backlog.retry(job, now + provider.standing.doubt_s(job.index), put_off=True)
            case "provider":
                self.refused(job, provider, failure)
        self._on_less()

    def refused(self, job: Job, provider: Provider, failure: Failure) -> None:
        """Close a provider that refuses everything. The row has no outcome by it, unless it may go nowhere else."""
        self._close(provider, failure)
        if job.fallback is not None:
            self._give_up(job)
        else:
            self._backlog.put_back(job)

    def _close(self, provider: Provider, failure: Failure) -> None:
        """Send nothing more to a provider in this session. Rows that were to go there only have failed for good."""
        if provider.closed:
            return
        provider.close()
        self._on_less()
        for _ in range(len(self._backlog.bound.get(provider.number, ()))):
            self._give_up(self._backlog.unbind(provider.number))
        self._tell(Closed(provider.number, provider.standing.reason(failure)))

    def fail(self, job: Job, provider: Provider, failure: Failure, now: float) -> None:
        """Record a row's failure, unless a smaller pack or another model may do better, or an earlier reply has."""
        if job.members is not None and len(job.members) > 1 and may_be_one_row(failure):
            self.split(job)
            return
        if job.second is not None and self.finishes is not None and self.finishes.stands(job, now):
            return
        if failure.fault.name in provider.fallback_on:
            options = tuple(provider.fallback) if job.fallback is None else job.fallback.options
            target = next((number for number in options if not self._router.providers[number].closed), None)
            if target is not None:
                job.fallback = Fallback(failure, options[options.index(target) + 1 :])
                job.provider = self._router.providers[target]
                self._backlog.bind(job)
                return
        self._failed(job, failure, now)
        provider.standing.refused(failure)
        if faults.may_be_of_all(failure):
            self._same_error(provider, failure, failure.status)

    def send_again(self, jobs: list[Job]) -> None:
        """Put rows first in line that are asked anew. No retries: the provider is well, so no budget holds them."""
        for job in reversed(jobs):
            self._counters.reasked += 1
            job.put_off = True
            self._backlog.put_back(job)

    def split(self, pack: Job) -> None:
        """Ask the rows of a pack again in two halves: as it is, nobody takes it."""
        assert pack.members is not None
        halves = packs.repacked(pack, pack.members, (len(pack.members) + 1) // 2)
        halves[0].requests = pack.requests
        for half in halves:
            half.attempts = pack.attempts // 2  # a pack that fails for being a pack must not have them all again
        self.send_again(halves)

    def defect(
        self, job: Job, provider: Provider, error: Exception, *, sent: bool = True, counted: bool = False
    ) -> None:
        """Fail a row whose reply could not be settled, or that was not sent; raises what is of the run, not of a row.

        counted: what the reply has cost is in the figures.
        Whatever was done before it was raised stays: a row that is recorded, or waits for another try, goes its way.
        """
        failure = self._defects.failure(error, job.index, sent=sent)
        if job.state != "in flight":
            return
        now = monotonic()
        if job.members is not None:
            job.members = [member for member in job.members if member.state != "done"]
            if not job.members:
                job.become("done")
                return
        self._count(failure)
        if sent and not counted:
            provider.doubtful(job.request)  # type: ignore[arg-type]  # it was sent
        if self._reservations is not None and self._reservations.settled is not job:
            self._reservations.failed(job, failure)
        job.attempts += 1
        self.fail(job, provider, failure, now)
        self._same_error(provider, failure, None)

    def unbuilt(self, job: Job, error: Exception) -> None:
        """Fail a row of which no request could be made; raises what is of the run, not of a row."""
        if isinstance(error, InvalidRow):
            self._writer.failure(job, failure_of(error), monotonic())
            return
        failure = self._defects.failure(error, job.index)
        self._count(failure)
        if job.state != "done":
            self._writer.failure(job, failure, monotonic())
        for provider in self._router.providers:
            self._same_error(provider, failure, None)

    def _count(self, failure: Failure) -> None:
        seen = self._counters.faults
        seen[failure.fault.name] = seen.get(failure.fault.name, 0) + 1

    def _same_error(self, provider: Provider, failure: Failure, status: int | None) -> None:
        """Close a provider where row after row meets the same: so would all others."""
        rows = provider.standing.same_error((failure.fault.name, failure.code, status))
        if rows >= self._streak:
            message = f"the same error on {rows} rows, one after the other: {failure.message}"
            self._close(provider, msgspec.structs.replace(failure, message=message))

    def _give_up(self, job: Job) -> None:
        """Record the failure that a row had where it went first: there is nobody left to ask instead."""
        assert job.fallback is not None
        self._failed(job, job.fallback.failure, monotonic())

    def _failed(self, job: Job, failure: Failure, now: float) -> None:
        self._router.ended(job.index, answered=False)
        self._writer.failure(job, failure, now)
