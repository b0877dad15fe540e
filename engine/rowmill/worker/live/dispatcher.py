"""The way of a row inside a worker: admitted to a slot, built, routed, paced, sent, judged, and recorded or retried.

The sending is done by `Slot`s, as many as the leases allow requests in flight. What to do next is decided
without awaiting, by `Admission.admit`, and what followed by `Settler.settle`; all state changes there. A slot that
finds nothing to do parks; whatever makes work possible (rows read, a row due, the rate, a lease) wakes one of the
`ParkingLot`.

Rows that are not on their way are in the `Backlog`; where a row goes is the `Router`'s choice; what its reply means is
the `Settler`'s verdict.

This is the hot path: with 30,000 rows a second, a microsecond here is three in a hundred. Hence the local names, the
few calls, and the board written cell by cell.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from random import Random
from time import monotonic
from typing import TYPE_CHECKING

from rowmill.core.amounts import Amount
from rowmill.core.counts import Counters
from rowmill.core.leases import Lease
from rowmill.flow.retry import RetryBudget, RetryPolicy
from rowmill.ipc.messages import ToSupervisor
from rowmill.store.in_flight import InflightBoard
from rowmill.tasks import Task
from rowmill.worker.defects import Defects
from rowmill.worker.job import Job
from rowmill.worker.live.admission import Admission
from rowmill.worker.live.backlog import Backlog
from rowmill.worker.live.endings import Endings
from rowmill.worker.live.feeder import Feeder
from rowmill.worker.live.gaps import Gaps
from rowmill.worker.live.measured import Measured
from rowmill.worker.live.parking_lot import ParkingLot
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.router import Router
from rowmill.worker.live.settler import Settler
from rowmill.worker.live.slot import Slot
from rowmill.worker.outcome_writer import OutcomeWriter

if TYPE_CHECKING:
    from rowmill.worker.finish_rules import FinishRules  # only where the configuration names reasons
    from rowmill.worker.live.reservations import Reservations  # only where there is a budget
    from rowmill.worker.live.tally import Tally

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
        defects: Defects,
        on_idle: Callable[[], None],
        reservations: "Reservations | None" = None,
        feeling: int | None = None,
        rules: "FinishRules | None" = None,
    ) -> None:
        """`slots`: the most that leases ever allow; `streak`: of rows with one error, so many close a provider.

        `asks`: how often a row is asked until its reply is a valid answer. `defects`: that rows have met.
        `on_idle`: called when nothing is on its way any more.
        `reservations`: where the run has a budget.
        `feeling`: requests in flight of the first moment, until there is an answer; None: as many as leases allow.
        `rules`: where replies are asked for again, or fail, for how they end.
        """
        self._task = task
        self._router = Router(providers)
        self._board = board
        self._writer = writer
        self._most_slots = slots
        self._reservations = reservations

        self.counters = Counters()
        self._parking_lot = ParkingLot()
        self.backlog = Backlog(self._parking_lot, budget, slots, sent=self._router.sent)
        self.feeder = Feeder(
            task=task, backlog=self.backlog, writer=writer, parking_lot=self._parking_lot, asks=asks, rules=rules
        )
        self.gaps = Gaps()
        self.measured = Measured()
        self._endings = Endings(
            router=self._router,
            backlog=self.backlog,
            writer=writer,
            counters=self.counters,
            tell=tell,
            on_less=self._allow,
            streak=streak,
            defects=defects,
            rules=rules,
            reservations=reservations,
        )
        self._settler = Settler(
            task=task,
            router=self._router,
            backlog=self.backlog,
            writer=writer,
            retry=retry,
            counters=self.counters,
            tell=tell,
            on_less=self._allow,
            endings=self._endings,
            asks=asks,
            rng=rng,
            gaps=self.gaps,
            try_out=self._try_out,
            finishes=self._endings.finishes,
            reservations=reservations,
        )
        self.feeder.on_unbuilt = self._endings.unbuilt
        self._admission = Admission(
            task=task,
            router=self._router,
            board=board,
            backlog=self.backlog,
            feeder=self.feeder,
            writer=writer,
            endings=self._endings,
            parking_lot=self._parking_lot,
            on_less=self._allow,
            measured=self.measured,
            reservations=reservations,
        )
        if len(providers) == 1:  # what is measured of it is what is measured
            providers[0].measured = self.measured
        self._feeling = feeling
        self._on_idle = on_idle
        self._idle: asyncio.Future[None] | None = None  # somebody waits for the last reply
        self._loop = asyncio.get_running_loop()
        self._slots: list[asyncio.Task[None]] = []
        # Done when a slot ends, which only a defect or a cancel brings about.
        self.ended: asyncio.Future[asyncio.Task[None]] = self._loop.create_future()

    def __repr__(self) -> str:
        admission = self._admission
        words = " alone" * admission.alone + ", closed" * (not admission.open)
        return f"<{self.in_flight} of {admission.allowed} in flight{words}; backlog {self.backlog}>"

    # What the worker's other parts ask for

    @property
    def in_flight(self) -> int:
        """Requests on the wire."""
        return self._admission.in_flight

    @property
    def in_flight_max(self) -> int:
        """The most that there were at a time."""
        return self._admission.in_flight_max

    @property
    def next_due_s(self) -> float | None:
        """Seconds until the soonest row in backoff is due; None when none waits."""
        due = self.backlog.next_due
        return None if due is None else max(0.0, due - monotonic())

    def count(self) -> Counters:
        """Return the counters as they stand."""
        self.counters.requests = self._router.sent()
        self.counters.replies = self._settler.replies
        self.counters.cached, self.counters.duplicates, self.counters.spared = self.feeder.shared
        self.counters.retries = sum(provider.sums.retries for provider in self._router.providers)
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
        self.backlog.probing = all(provider.failing or provider.closed for provider in self._router.providers)
        self._allow()
        return returned

    def allow(self, amount: Amount) -> None:
        """Take what the supervisor allows of the budget."""
        assert self._reservations is not None
        self._reservations.allow(amount)
        self._allow()

    def _try_out(self, provider: Provider) -> None:
        """Ask a provider once in a form that it may refuse, before all rows go out in it."""
        provider.feel(1, self._allow)
        self._allow()
        self._loop.call_later(_FEELING_S, provider.felt)

    def _felt(self) -> None:
        for provider in self._router.providers:
            provider.felt()

    def _allow(self) -> None:
        """Take in what the leases now allow: start the slots that this takes, and look for work."""
        allowed = min(self._router.allowed, self._most_slots)
        if self._reservations is not None and self._reservations.short:
            allowed = 0
        self._admission.allowed = self.backlog.slots = allowed
        for number in range(len(self._slots), allowed):
            slot = self._loop.create_task(self._slot(number).run())
            slot.add_done_callback(self._slot_ended)
            self._slots.append(slot)
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
        self._admission.open = False

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

    def _slot(self, number: int) -> Slot:
        return Slot(
            number,
            self._board,
            admission=self._admission,
            settler=self._settler,
            endings=self._endings,
            parking_lot=self._parking_lot,
            on_left=self._left,
        )

    def _slot_ended(self, slot: asyncio.Task[None]) -> None:
        if not slot.cancelled() and not self.ended.done():
            self.ended.set_result(slot)

    def _left(self, job: Job) -> None:
        """React to the end of a request that others may have waited for."""
        if job.alone:
            self._admission.alone = False
        if self._admission.in_flight == 0:
            self._wait_no_more()
            self._on_idle()
        self._parking_lot.wake()
