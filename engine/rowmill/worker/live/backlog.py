"""The rows that a worker has in hand and that are not on their way.

They are read and not yet tried (`add`), waiting out a backoff (`retry`), to be sent alone (`set_aside`), left with one
provider only (`bind`), or the one that is built and waits for the rate (`paced`). `next` says which comes next: what
has waited longest goes first, and a retry only as far as the retry budget goes.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from rowmill.flow.retry import DueHeap, RetryBudget
from rowmill.worker.job import Job
from rowmill.worker.live.parking_lot import ParkingLot

_READY_BYTES = 8 << 20  # of read rows held ready: long rows must not add up
_WAITING_ROWS = 4  # backoffs held at most, for each slot; beyond it no new row is admitted
_WAITING_LEAST = 64
_BLOCKED_ROWS = 10_000  # held at most that are due and that only the retry budget holds back: new rows earn it
_WAITING_BYTES = 64 << 20  # of all of them
_READY_S = 0.1  # rows held ready last so long: the next shard is here by then, and an idle worker misses few
_READY_ROWS = 16  # held ready at least


class Backlog:
    """Rows in hand, in the order in which they go.

    paced: one built row that nobody may send just now; the next to go.
    bound: for each provider, by number, rows that only it may be asked for.
    retried: requests that were neither a row's first nor at the server's own word; the retry budget counts them.
    probing: every provider fails, and what is sent is to find out whether one does still.
    budget_short: since it was last set to False, a retry was due that the budget did not allow.
    """

    def __init__(self, parking_lot: ParkingLot, budget: RetryBudget, slots: int, *, sent: Callable[[], int]) -> None:
        """`sent` tells how many requests have been sent so far."""
        self.paced: Job | None = None
        self.bound: dict[int, deque[Job]] = {}
        self.bound_rows = 0
        self.retried = 0
        self.budget_short = False
        self.probing = False
        self._blocked = False  # as budget_short, now
        self._parking_lot = parking_lot
        self._budget = budget
        self._sent = sent
        self._ready: deque[Job] = deque()
        self._ready_bytes = 0
        self._waiting: DueHeap[Job] = DueHeap()
        self._put_off: DueHeap[Job] = DueHeap()  # of these, those that come back when the server itself has said
        self._put_offs = self._put_off.entries
        self._waiting_bytes = 0
        self._backoffs = self._waiting.entries
        self._suspects: deque[Job] = deque()
        self._low_water = _READY_ROWS
        self._sent_before = 0
        self._is_hungry = True
        self._hungry = asyncio.Event()
        self._hungry.set()
        self.slots = slots

    def __repr__(self) -> str:
        counts = {
            "ready": len(self._ready),
            "paced": int(self.paced is not None),
            "waiting": self.waiting,
            "bound": self.bound_rows,
            "aside": len(self._suspects),
        }
        return f"<{', '.join(f'{count} {state}' for state, count in counts.items() if count) or 'empty'}>"

    # Rows come in

    def add(self, jobs: list[Job], size: int) -> None:
        """Take rows that have been read, of so many bytes together."""
        self._ready += jobs
        self._ready_bytes += size
        if len(self._ready) >= self._low_water or self._ready_bytes >= _READY_BYTES:
            self._is_hungry = False
            self._hungry.clear()

    def set_aside(self, job: Job) -> None:
        """Keep a row back until it can be sent alone."""
        job.become("aside")
        self._suspects.append(job)

    def retry(self, job: Job, due: float, *, put_off: bool = False) -> None:
        """Keep a row back until that time. `put_off`: it is the one that the server named, so no budget is asked."""
        job.become("waiting")
        (self._put_off if put_off else self._waiting).push(due, job)
        self._waiting_bytes += job.size
        if self._parking_lot.parked:
            self._parking_lot.wake_at(due)

    def bind(self, job: Job) -> None:
        """Keep a row for its provider alone."""
        assert job.provider is not None
        job.become("bound")
        self.bound.setdefault(job.provider.number, deque()).append(job)
        self.bound_rows += 1

    def pace(self, job: Job) -> None:
        """Keep the one row that is built and that nobody may send just now."""
        assert self.paced is None, f"{job} is the second row that waits for the rate"
        job.become("paced")
        self.paced = job

    def unbind(self, number: int) -> Job:
        """Take the first of the rows that are kept for this provider."""
        self.bound_rows -= 1
        return self.bound[number].popleft()

    def put_back(self, job: Job) -> None:
        """Put a row first in line, among those that may be sent as it may."""
        if job.fallback is not None:
            self.bind(job)
        elif job.alone:
            self.set_aside(job)
        else:
            job.become("ready")
            self._ready.appendleft(job)
            self._ready_bytes += job.size

    def put_behind(self, job: Job) -> None:
        """Put a row second in line, among those that may be sent as it may: first goes another one, if there is one."""
        self.put_back(job)
        if len(self._ready) > 1 and self._ready[0] is job:
            self._ready[0], self._ready[1] = self._ready[1], self._ready[0]

    # And go out

    def next(self, now: float, in_flight: int) -> Job | None:
        """Take the next row; None when there is none, or too many others wait."""
        job = self.paced
        if job is not None:
            self.paced = None
            return job
        if (self._backoffs or self._put_offs) and not (self.probing and self._turned()):
            if (job := self._put_off_row(now) or self._retried_row(now)) is not None:
                return job
            # A provider that is down must not fill the memory; a used up budget must not stop what earns it.
            most = _BLOCKED_ROWS if self._blocked else max(_WAITING_ROWS * self.slots, _WAITING_LEAST)
            if self.waiting >= most or self._waiting_bytes >= _WAITING_BYTES:
                return None
        if self._ready:
            job = self._ready.popleft()
            self._ready_bytes -= job.size
            if not self._is_hungry and len(self._ready) < self._low_water and self._ready_bytes < _READY_BYTES:
                self._is_hungry = True
                self._hungry.set()
            return job
        if self._suspects and not in_flight and not self.waiting:
            return self._suspects.popleft()
        return None

    def _turned(self) -> bool:
        """Bring the last row that is ready to the front, for a probe; False where a row that has failed must do.

        One that has failed tells little of the provider, for it may be the row's own; one far from it tells most.
        """
        if not self._ready or self.waiting >= _WAITING_LEAST or self._waiting_bytes >= _WAITING_BYTES:
            return False
        self._ready.rotate(1)
        return True

    def _put_off_row(self, now: float) -> Job | None:
        due = self._put_off.next_due
        if due is None:
            return None
        job = self._put_off.pop_due(now)
        if job is None:
            self._parking_lot.wake_at(due)
        else:
            self._waiting_bytes -= job.size
        return job

    def _retried_row(self, now: float) -> Job | None:
        self._blocked = False
        if not self._backoffs:
            return None
        due = self._backoffs[0][0]
        if due <= now:
            allowed = self._budget.ready_at(now, self._sent() - self.retried, self.retried)
            if allowed <= now:
                job = self._waiting.pop_due(now)
                assert job is not None
                self._waiting_bytes -= job.size
                return job
            self._blocked = self.budget_short = True
            due = allowed
        self._parking_lot.wake_at(due)
        return None

    # What others ask

    async def hungry(self) -> None:
        """Wait until more rows are wanted."""
        await self._hungry.wait()

    def look_ahead(self, elapsed_s: float) -> None:
        """Set how many rows to hold ready by what was sent since the last call, so many seconds ago."""
        before, self._sent_before = self._sent_before, self._sent()
        sent = self._sent_before - before
        self._low_water = max(_READY_ROWS, round(sent / elapsed_s * _READY_S))

    @property
    def waiting(self) -> int:
        """Rows waiting out a backoff."""
        return len(self._backoffs) + len(self._put_off)

    @property
    def untried(self) -> int:
        """Rows that do not wait out a backoff."""
        return len(self._ready) + (self.paced is not None) + self.bound_rows + len(self._suspects)

    @property
    def next_due(self) -> float | None:
        """When the soonest of them is due; None when none waits."""
        dues = [due for heap in (self._waiting, self._put_off) if (due := heap.next_due) is not None]
        return min(dues) if dues else None

    def has_rows(self, now: float) -> bool:
        """Whether some row could be sent now if somebody took it."""
        if self._ready or self.paced is not None or self.bound_rows or self._suspects:
            return True
        due = self.next_due
        return due is not None and due <= now
