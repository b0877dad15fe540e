"""The way of a row inside a worker: admitted to a slot, built, routed, paced, sent, judged, and recorded or retried.

A set of slot coroutines does the sending, as many as the leases allow requests in flight. What to do next is decided
without awaiting, by `_admit`, and what followed by `Settler.settle`; all state changes there. A slot that finds nothing
to do parks; whatever makes work possible (rows read, a row due, the rate, a lease) wakes one of the `ParkingLot`.

Rows that are not on their way are in the `Backlog`; where a row goes is the `Router`'s choice; what its reply means is
the `Settler`'s verdict.

This is the hot path: with 30,000 rows a second, a microsecond here is three in a hundred. Hence the local names, the
few calls, and the board written cell by cell.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import inf
from random import Random
from time import monotonic
from typing import TYPE_CHECKING

from rowmill.core.amounts import Amount
from rowmill.core.counts import Counters
from rowmill.core.leases import Lease
from rowmill.core.tallies import REQUESTS, RETRIES
from rowmill.core.wire import Failure, Request
from rowmill.flow.retry import RetryBudget, RetryPolicy
from rowmill.ipc.messages import ToSupervisor
from rowmill.store.in_flight import InflightBoard
from rowmill.tasks import Task
from rowmill.transport import faults
from rowmill.worker.defects import Defects
from rowmill.worker.job import IN_FLIGHT, Job
from rowmill.worker.live.backlog import Backlog
from rowmill.worker.live.feeder import Feeder
from rowmill.worker.live.gaps import Gaps
from rowmill.worker.live.parking_lot import ParkingLot
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.router import Router
from rowmill.worker.live.settler import Settler
from rowmill.worker.outcome_writer import OutcomeWriter

if TYPE_CHECKING:
    from rowmill.worker.live.reservations import Reservations  # only where there is a budget
    from rowmill.worker.live.tally import Tally

_PENDING_BYTES = 16 << 20  # of outcomes not yet on disk: a slow disk slows admission, memory does not grow
_CANCEL_S = 0.1  # a cancelled slot ends in the next turn of the loop
_FEELING_S = 0.5  # a server that is no such server, or none, has said so by then


class Dispatcher:
    """Turns rows into recorded outcomes."""

    def __init__(
        self,
        *,
        task: Task,
        providers: Sequence[Provider],
        retry: RetryPolicy,
        budget: RetryBudget,
        board: InflightBoard,
        slots: int,
        streak: int,
        asks: int,
        writer: OutcomeWriter,
        tell: Callable[[ToSupervisor], None],
        rng: Random,
        note: Callable[[str], None] = lambda _: None,
        reservations: "Reservations | None" = None,
        feeling: int | None = None,
    ) -> None:
        """`slots`: the most that leases ever allow; `streak`: of rows with one error, so many close a provider.

        `asks`: how often a row is asked until its reply is a valid answer. `note`: is told of defects that rows
        have met. `reservations`: where the run has a budget.
        `feeling`: requests in flight of the first moment, until there is an answer; None: as many as leases allow.
        """
        self._task = task
        self._router = Router(providers)
        self._board = board
        self._writer = writer
        self._most_slots = slots
        self._reservations = reservations

        self.counters = Counters()
        self.in_flight = 0
        self.in_flight_max = 0
        self._allowed = 0
        self._alone = False  # a suspect is in flight, and nothing else may be
        self._open = True
        self._parking_lot = ParkingLot()
        self._parked = self._parking_lot.parked
        self.backlog = Backlog(self._parking_lot, budget, slots, sent=self._router.sent)
        self.feeder = Feeder(task=task, backlog=self.backlog, writer=writer, parking_lot=self._parking_lot, asks=asks)
        self.gaps = Gaps()
        self._settler = Settler(
            task=task,
            router=self._router,
            backlog=self.backlog,
            writer=writer,
            retry=retry,
            counters=self.counters,
            tell=tell,
            on_less=self._allow,
            streak=streak,
            asks=asks,
            rng=rng,
            defects=Defects(note),
            gaps=self.gaps,
            reservations=reservations,
        )
        self.feeder.on_unbuilt = self._settler.unbuilt
        self._feeling = feeling
        self._idle: asyncio.Future[None] | None = None  # somebody waits for the last reply
        self._loop = asyncio.get_running_loop()
        self._slots: list[asyncio.Task[None]] = []
        # Done when a slot ends, which only a defect or a cancel brings about.
        self.ended: asyncio.Future[asyncio.Task[None]] = self._loop.create_future()

    def __repr__(self) -> str:
        words = " alone" * self._alone + ", closed" * (not self._open)
        return f"<{self.in_flight} of {self._allowed} in flight{words}; backlog {self.backlog}>"

    # What the worker's other parts ask for

    @property
    def next_due_s(self) -> float | None:
        """Seconds until the soonest row in backoff is due; None when none waits."""
        due = self.backlog.next_due
        return None if due is None else max(0.0, due - monotonic())

    def count(self) -> Counters:
        """Return the counters as they stand."""
        self.counters.requests = self._router.sent()
        self.counters.cached, self.counters.duplicates, self.counters.spared = self.feeder.shared
        self.counters.retries = sum(provider.report.retries for provider in self._router.providers)
        return self.counters

    def keep(self, tally: "Tally") -> None:
        """Write down what is counted as it happens."""
        self._settler.tally = tally

    def apply(self, leases: Iterable[Lease]) -> list[tuple[Lease, tuple[float, float]]]:
        """Put leases in force; returns each with the credit that went back (requests, tokens)."""
        now = monotonic()
        if self._feeling is not None:
            for provider in self._router.providers:
                provider.feel(self._feeling, self._allow)
            self._loop.call_later(_FEELING_S, self._felt)
            self._feeling = None
        returned = [(lease, self._router.providers[lease.provider].apply(lease, now)) for lease in leases]
        self._allow()
        return returned

    def allow(self, amount: Amount) -> None:
        """Take what the supervisor allows of the budget."""
        assert self._reservations is not None
        self._reservations.allow(amount)
        self._allow()

    def _felt(self) -> None:
        for provider in self._router.providers:
            provider.felt()

    def _allow(self) -> None:
        """Take in what the leases now allow: start the slots that this takes, and look for work."""
        self._allowed = min(self._router.allowed, self._most_slots)
        if self._reservations is not None and self._reservations.short:
            self._allowed = 0
        for number in range(len(self._slots), self._allowed):
            slot = self._loop.create_task(self._slot(number))
            slot.add_done_callback(self._slot_ended)
            self._slots.append(slot)
        self.backlog.slots = self._allowed
        self._parking_lot.wake()

    def halt(self) -> None:
        """Send nothing more under the leases in force: the supervisor is stopped. The next ones are for after that."""
        for provider in self._router.providers:
            provider.halt()
        self._allow()

    def synced(self) -> None:
        """Look again: what was recorded is on disk, and no longer holds up admission."""
        self._parking_lot.wake()

    def close(self) -> None:
        """Admit nothing more. What is in flight goes on."""
        self._open = False

    def hasten(self, seconds: float) -> None:
        """Wait no longer than so many seconds from now for what is in flight, where somebody waits for it already."""
        if self._idle is not None:
            self._loop.call_later(seconds, self._wait_no_more)

    def _wait_no_more(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def drained(self, seconds: float) -> int:
        """Wait for what is in flight, at most so long; then give it up. Returns how many requests were given up."""
        self.close()
        if self.in_flight:
            self._idle = self._loop.create_future()
            await asyncio.wait([self._idle], timeout=seconds)
        abandoned = self.in_flight
        left = {slot for slot in self._slots if not slot.done()}
        while left:
            # Again until it is heard: a cancel that meets its reply in the same moment is lost in the HTTP client.
            for slot in left:
                slot.cancel()
            left = (await asyncio.wait(left, timeout=_CANCEL_S))[1]
        return abandoned

    # The slots

    async def _slot(self, number: int) -> None:
        admit = self._admit
        settle = self._settler.settle
        cells = self._board.cells
        while True:
            job = admit(number)
            if job is None:
                await self._parking_lot.park()
                continue
            provider: Provider = job.provider  # type: ignore[assignment]  # _admit has chosen it
            body = job.request.body  # type: ignore[union-attr]  # and built the request
            try:
                try:
                    if provider.rewrite is not None:
                        body = provider.rewrite(body)
                except Exception as error:  # noqa: BLE001 - it is this row's
                    self._settler.defect(job, provider, error, sent=False)
                else:
                    try:
                        reply = await provider.send(body)
                    except BaseException:
                        cells[number] = 0
                        raise
                    try:
                        settle(job, provider, reply)
                    except Exception as error:  # noqa: BLE001 - as above
                        self._settler.defect(job, provider, error)  # raises what is not: the board still names the row
            finally:
                # The one place where a request stops being in flight, whatever became of it.
                provider.in_flight -= 1
                self.in_flight -= 1
                if job.alone or self.in_flight == 0:
                    self._left(job)
            cells[number] = 0

    def _slot_ended(self, slot: asyncio.Task[None]) -> None:
        if not slot.cancelled() and not self.ended.done():
            self.ended.set_result(slot)

    def _admit(self, number: int) -> Job | None:
        """Choose and prepare what this slot sends now; None when nothing may be sent now."""
        if (
            self.in_flight >= self._allowed
            or not self._open
            or self._alone
            or self._writer.pending_bytes > _PENDING_BYTES
        ):
            return None
        # Not the loop's time, which stands still within a turn: a process that was stopped in the middle of one must
        # see that its lease is over.
        now = monotonic()
        cells = self._board.cells
        backlog = self.backlog
        while True:
            job = self._next_bound(now) if backlog.bound_rows else None
            job = job or backlog.next(now, self.in_flight == 0)
            if job is None:
                return None
            if job.alone and self.in_flight:
                backlog.set_aside(job)  # its next try is as dangerous as its first
                continue
            cells[number] = job.index + 1  # before the row is looked at: one that kills the process is found here
            request = job.request
            if request is None:
                if job.members is not None:
                    request = self._pack(job, number)
                    if request is None:
                        cells[number] = 0
                        job.become("done")  # none of its rows can be sent
                        continue
                else:
                    try:
                        request = job.request = self._task.build(job.line)
                    except Exception as error:  # noqa: BLE001 - as in `_slot`
                        self._settler.unbuilt(job, error)
                        cells[number] = 0
                        if self._allowed:
                            continue
                        return None  # so did row after row
            if job.fallback is not None:
                assert job.provider is not None
                provider = self._router.providers[job.provider.number]
                if self._router.due(provider, request, now) <= now:
                    break
                cells[number] = 0
                backlog.bind(job)
                continue
            chosen = self._router.choose(request, job.provider, now)
            if chosen is not None:
                provider = chosen
                break
            cells[number] = 0
            if not self._router.fits(request):
                self._too_large(job, request, now)
                continue
            backlog.pace(job)
            self._wake_at(self._router.next_at)
            return None
        if self._reservations is not None and not self._reservations.reserve(job, provider):
            self._unpaid(job, number)
            return None
        self._send(job, provider, now)
        return job

    def _too_large(self, job: Job, request: Request, now: float) -> None:
        """Fail a row that no provider's limit lets through, or ask the rows of a pack in smaller ones."""
        if job.members is not None and len(job.members) > 1:
            self._settler.split(job)
        else:
            self._writer.failure(job, _too_large(request.tokens), now)

    def _unpaid(self, job: Job, number: int) -> None:
        """Put a row back that the budget does not cover, and send nothing until the supervisor has answered."""
        self._board.cells[number] = 0
        if job.fallback is not None:
            self.backlog.bind(job)
        else:
            self.backlog.pace(job)
        self._allow()

    def _pack(self, pack: Job, number: int) -> Request | None:
        def building(index: int) -> None:
            self._board.cells[number] = index + 1

        self.feeder.pack(pack, building=building)
        building(pack.index)
        return pack.request

    def _send(self, job: Job, provider: Provider, now: float) -> None:
        """Book a request that goes out now."""
        report = provider.report
        if provider.lease.limited:
            job.debit = provider.debit(job.request)  # type: ignore[arg-type]  # built by now
            provider.lease.spend(job.debit, now)
            report.tokens += job.debit
        elif job.requests:
            job.debit = 0  # of the try before
        if job.requests:
            self.backlog.retried += not job.put_off
            report.retries += 1
            provider.counts[RETRIES] = report.retries
        else:
            job.first = now
        job.state = IN_FLIGHT[job.state]
        job.provider = provider
        job.started = now
        job.requests += 1
        self._alone = job.alone
        report.requests += 1
        provider.counts[REQUESTS] = report.requests
        provider.in_flight += 1
        if provider.in_flight >= provider.allowed:
            provider.full += 1
        in_flight = self.in_flight = self.in_flight + 1
        if in_flight > self.in_flight_max:  # noqa: PLR1730 - a call a row less
            self.in_flight_max = in_flight
        if self._parked and in_flight < self._allowed:
            self._parking_lot.wake()

    def _next_bound(self, now: float) -> Job | None:
        """Take a row that is left with one provider, if that one may send it."""
        for number, jobs in self.backlog.bound.items():
            provider = self._router.providers[number]
            if not jobs:
                continue
            request = jobs[0].request
            assert request is not None
            due = self._router.due(provider, request, now)
            if due <= now:
                return self.backlog.unbind(number)
            self._wake_at(due)
        return None

    def _wake_at(self, due: float) -> None:
        if due < inf:
            self._parking_lot.wake_at(due)

    def _left(self, job: Job) -> None:
        """React to the end of a request that others may have waited for."""
        if job.alone:
            self._alone = False
        if self.in_flight == 0:
            self._wait_no_more()
        self._parking_lot.wake()


def _too_large(tokens: int) -> Failure:
    message = f"the request needs about {tokens} tokens, more than the provider's limit of tokens a minute lets through"
    return Failure(fault=faults.INVALID_REQUEST, message=message)
