"""What a slot sends now: the next row that may go, built, routed, covered by lease and credit, and booked.

Part of the hot path (see `dispatcher`). Nothing here awaits.
"""

from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from rowmill.core.tallies import REQUESTS, RETRIES
from rowmill.core.wire import Failure, Request
from rowmill.store.in_flight import InflightBoard
from rowmill.tasks import Task
from rowmill.transport import faults
from rowmill.worker.job import IN_FLIGHT, Job
from rowmill.worker.live.backlog import Backlog
from rowmill.worker.live.endings import Endings
from rowmill.worker.live.feeder import Feeder
from rowmill.worker.live.measured import Measured
from rowmill.worker.live.parking_lot import ParkingLot
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.router import Router
from rowmill.worker.outcome_writer import OutcomeWriter

if TYPE_CHECKING:
    from rowmill.worker.live.reservations import Reservations  # only where there is a budget

_PENDING_BYTES = 16 << 20  # of outcomes not yet on disk: a slow disk slows admission, memory does not grow


class Admission:
    """Admits rows to slots.

    in_flight, in_flight_max, allowed: requests on the wire, the most so far, and how many may be.
    alone: a suspect is in flight, and nothing else may be. open: anything may still be admitted.
    """

    def __init__(
        self,
        *,
        task: Task,
        router: Router,
        board: InflightBoard,
        backlog: Backlog,
        feeder: Feeder,
        writer: OutcomeWriter,
        endings: Endings,
        parking_lot: ParkingLot,
        on_less: Callable[[], None],
        measured: Measured,
        reservations: "Reservations | None" = None,
    ) -> None:
        """`on_less` is called when less may be sent than before."""
        self._task = task
        self._router = router
        self._cells = board.cells
        self._backlog = backlog
        self._feeder = feeder
        self._writer = writer
        self._endings = endings
        self._parking_lot = parking_lot
        self._parked = parking_lot.parked
        self._on_less = on_less
        self._measured = measured
        self._slot_waits = measured.slot_waits
        self._reservations = reservations
        self._paced_at = 0.0  # since then a row waits for the rate
        self.in_flight = 0
        self.in_flight_max = 0
        self.allowed = 0
        self.alone = False
        self.open = True

    def admit(self, number: int) -> Job | None:
        """Choose and prepare what this slot sends now; None when nothing may be sent now."""
        if self.in_flight >= self.allowed or not self.open or self.alone or self._writer.pending_bytes > _PENDING_BYTES:
            return None
        # Not the loop's time, which stands still within a turn: a process that was stopped in the middle of one must
        # see that its lease is over.
        now = monotonic()
        backlog = self._backlog
        while True:
            job = (self._next_bound(now) if backlog.bound_rows else None) or backlog.next(now, self.in_flight)
            if job is None:
                return None
            if job.alone and self.in_flight:
                backlog.set_aside(job)  # its next try is as dangerous as its first
                continue
            self._cells[number] = job.index + 1  # before the row is looked at: one that kills the process is found here
            request = job.request
            if request is None:
                try:
                    request = job.request = (
                        self._task.build(job.line) if job.members is None else self._pack(job, number)
                    )
                except Exception as error:  # noqa: BLE001 - it is this row's
                    self._endings.unbuilt(job, error)
                if request is None:
                    if self.allowed:
                        continue
                    return None  # row after row could not be built
            provider = (
                self._router.choose(request, job.provider, now)
                if job.fallback is None
                else self._fallback(job, request, now)
            )
            if provider is not None:
                break
            if self._waits(job, request, now):
                return None
        if self._reservations is not None and not self._reservations.reserve(job, provider):
            self._unpaid(job)
            return None
        # It goes out now.
        if job.requests:
            self._count_retry(job, provider)
        else:
            job.first = now
            self._slot_waits.append(now - job.started)
        if self._paced_at:
            self._waited(now)
        if provider.lease.limited:
            self._debit(job, provider, now)
        job.state = "in flight" if job.state == "ready" else IN_FLIGHT[job.state]
        job.provider = provider
        job.started = now
        job.requests += 1
        self.alone = job.alone
        provider.sent = provider.counts[REQUESTS] = provider.sent + 1
        provider.in_flight += 1
        if provider.in_flight >= provider.allowed:
            provider.full += 1
        in_flight = self.in_flight = self.in_flight + 1
        if in_flight > self.in_flight_max:  # noqa: PLR1730 - a call a row less
            self.in_flight_max = in_flight
        if self._parked and in_flight < self.allowed:
            self._parking_lot.wake()
        return job

    def _waits(self, job: Job, request: Request, now: float) -> bool:
        """Put a row away that nobody may send now; True where those behind it wait for the rate as well."""
        if job.fallback is not None:
            self._backlog.bind(job)
        elif not self._router.fits(request):
            self._too_large(job, request, now)
        else:
            self._backlog.pace(job)
            self._paced_at = self._paced_at or now
            self._wake_at(self._router.next_at)
            return True
        return False

    def _waited(self, now: float) -> None:
        """Measure how long the row that goes out now has waited for the rate."""
        self._measured.rate_waits.append(now - self._paced_at)
        self._paced_at = 0.0

    def _count_retry(self, job: Job, provider: Provider) -> None:
        self._backlog.retried += not job.put_off
        provider.sums.retries = provider.counts[RETRIES] = provider.sums.retries + 1
        job.debit = 0  # of the try before

    def _debit(self, job: Job, provider: Provider, now: float) -> None:
        """Debit what a request takes of the rate."""
        job.debit = provider.debit(job.request)  # type: ignore[arg-type]  # built by now
        provider.lease.spend(job.debit, now)
        provider.sums.tokens += job.debit

    def _too_large(self, job: Job, request: Request, now: float) -> None:
        """Fail a row that no provider's limit lets through, or ask the rows of a pack in smaller ones."""
        if job.members is not None and len(job.members) > 1:
            self._endings.split(job)
        else:
            self._writer.failure(job, _too_large(request.tokens), now)

    def _unpaid(self, job: Job) -> None:
        """Put a row back that the budget does not cover, and send nothing until the supervisor has answered."""
        if job.fallback is not None:
            self._backlog.bind(job)
        else:
            self._backlog.pace(job)
        self._on_less()

    def _pack(self, pack: Job, number: int) -> Request | None:
        def building(index: int) -> None:
            self._cells[number] = index + 1

        self._feeder.pack(pack, building=building)
        building(pack.index)
        if pack.request is None:
            pack.become("done")  # none of its rows can be sent
        return pack.request

    def _fallback(self, job: Job, request: Request, now: float) -> Provider | None:
        """Return the one provider that a row may still go to; None where that may not be asked now."""
        assert job.provider is not None
        provider = self._router.providers[job.provider.number]
        return provider if self._router.due(provider, request, now) <= now else None

    def _next_bound(self, now: float) -> Job | None:
        """Take a row that is left with one provider, if that one may send it."""
        for number, jobs in self._backlog.bound.items():
            provider = self._router.providers[number]
            if not jobs:
                continue
            request = jobs[0].request
            assert request is not None
            due = self._router.due(provider, request, now)
            if due <= now:
                return self._backlog.unbind(number)
            self._wake_at(due)
        return None

    def _wake_at(self, due: float) -> None:
        if due < inf:
            self._parking_lot.wake_at(due)


def _too_large(tokens: int) -> Failure:
    message = f"the request needs about {tokens} tokens, more than the provider's limit of tokens a minute lets through"
    return Failure(fault=faults.INVALID_REQUEST, message=message)
