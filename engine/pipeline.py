"""The way of a row inside a worker: admitted to a slot, built, paced, sent, judged, and recorded or retried.

A fixed set of slot coroutines does the sending. What to do next is decided without awaiting, by `_admit`, and what
followed by `_settle`; all state changes there. A slot that finds nothing to do parks; whatever makes work
possible (rows read, a row due, the rate) wakes one parked slot (`parking`).

State: `_ready` rows read but not tried, `_waiting` rows in backoff, `_paced` the one built row that waits for the
rate, `_suspects` rows to be sent alone, and what the slots hold (`in_flight`).

This is the hot path: with 30,000 rows a second, a microsecond here is three in a hundred. Hence the local names, the
few calls, and the board written cell by cell.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from engine.errors import BadReply, InvalidRow, Refused
from engine.flow.rate import Slice
from engine.flow.retry import DueHeap, RetryPolicy
from engine.job import Job, OpenShard
from engine.parking import Parking
from engine.recorder import Recorder
from engine.records import Counters, Failure, Reply
from engine.store.inflight import InflightBoard
from engine.tasks.chat import ChatTask
from engine.transport import Transport, faults

_READY_BYTES = 8 << 20  # of read rows held ready: long rows must not add up
_PENDING_BYTES = 16 << 20  # of outcomes not yet on disk: a slow disk slows admission, memory does not grow
_WAITING_ROWS = 4  # backoffs held at most, for each slot; beyond it no new row is admitted
_READY_S = 0.1  # rows held ready last so long: the next shard is here by then, and an idle worker misses few
_READY_ROWS = 16  # held ready at least

_CANCEL_S = 0.1  # a cancelled slot ends in the next turn of the loop

_OK = 200


class Pipeline:
    """Turns rows into recorded outcomes, with at most `concurrency` requests in flight."""

    def __init__(
        self,
        *,
        task: ChatTask,
        transport: Transport,
        retry: RetryPolicy,
        slice_: Slice | None,
        board: InflightBoard,
        concurrency: int,
        recorder: Recorder,
        secrets: tuple[str, ...],
        on_provider_closed: Callable[[Failure], None],
    ) -> None:
        """`slice_` is None where no rate is to be kept."""
        self._task = task
        self._transport = transport
        self._retry = retry
        self._slice = slice_
        self._board = board
        self._recorder = recorder
        self._secrets = secrets
        self._on_provider_closed = on_provider_closed
        self.concurrency = concurrency

        self.counters = Counters()
        self.in_flight = 0
        self.in_flight_max = 0
        self._ready: deque[Job] = deque()
        self._ready_bytes = 0
        self._waiting: DueHeap[Job] = DueHeap()
        self._backoffs = self._waiting.entries
        self._waiting_max = max(_WAITING_ROWS * concurrency, 64)
        self._paced: Job | None = None
        self._suspects: deque[Job] = deque()
        self._alone = False  # a suspect is in flight, and nothing else may be
        self._open = True
        self._parking = Parking()
        self._parked = self._parking.parked
        self._low_water = _READY_ROWS
        self._requests_before = 0
        self._is_hungry = True
        self._hungry = asyncio.Event()
        self._hungry.set()
        self._idle: asyncio.Future[None] | None = None  # somebody waits for the last reply
        self._loop = asyncio.get_running_loop()
        self._slots: list[asyncio.Task[None]] = []

    def start(self) -> list[asyncio.Task[None]]:
        """Start the slots. Their tasks end only by being cancelled; one that ends otherwise is a defect."""
        self._slots = [self._loop.create_task(self._slot(number)) for number in range(self.concurrency)]
        return self._slots

    # What the worker's other parts ask for

    @property
    def waiting(self) -> int:
        """Rows waiting out a backoff."""
        return len(self._waiting)

    @property
    def next_due_s(self) -> float | None:
        """Seconds until the soonest of them; None when none waits."""
        due = self._waiting.next_due
        return None if due is None else max(0.0, due - self._loop.time())

    async def hungry(self) -> None:
        """Wait until more rows are wanted."""
        await self._hungry.wait()

    def feed(self, shard: OpenShard, first_row: int, lines: list[bytes]) -> None:
        """Take rows that have been read; those with an outcome are passed over."""
        is_done = shard.checkpoint.is_done
        for index, line in enumerate(lines, first_row):
            if is_done(index):
                continue
            job = Job(index, line, shard)
            if index in shard.quarantined:
                self._recorder.failure(job, _poisonous(), self._loop.time())
            elif index in shard.suspects:
                job.alone = True
                self._suspects.append(job)
            else:
                self._ready.append(job)
                self._ready_bytes += len(line)
        if len(self._ready) >= self._low_water or self._ready_bytes >= _READY_BYTES:
            self._is_hungry = False
            self._hungry.clear()
        self._parking.wake()

    def look_ahead(self, elapsed_s: float) -> None:
        """Set how many rows to hold ready by what was sent since the last call, so many seconds ago."""
        sent = self.counters.requests - self._requests_before
        self._requests_before = self.counters.requests
        self._low_water = max(_READY_ROWS, round(sent / elapsed_s * _READY_S))

    def synced(self) -> None:
        """Look again: what was recorded is on disk, and no longer holds up admission."""
        self._parking.wake()

    def close(self) -> None:
        """Admit nothing more. What is in flight goes on."""
        self._open = False

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
        send = self._transport.send
        admit = self._admit
        settle = self._settle
        cells = self._board.cells
        while True:
            job = admit(number)
            if job is None:
                await self._parking.park()
                continue
            try:
                settle(job, await send(job.request.body))  # type: ignore[union-attr]  # _admit has built it
            finally:
                # The one place where a request stops being in flight, whatever became of it.
                cells[number] = 0
                self.in_flight -= 1
                if job.alone or self.in_flight == 0:
                    self._left(job)

    def _admit(self, number: int) -> Job | None:
        """Choose and prepare what this slot sends now; None when nothing may be sent now."""
        if not self._open or self._alone or self._recorder.pending_bytes > _PENDING_BYTES:
            return None
        now = self._loop.time()
        cells = self._board.cells
        while True:
            job = self._paced or (self._waiting.pop_due(now) if self._backoffs else None) or self._next_new()
            if job is None:
                return None
            self._paced = None
            if job.alone and self.in_flight:
                self._suspects.append(job)  # its next try is as dangerous as its first
                continue
            cells[number] = job.index + 1  # before the row is looked at: one that kills the process is found here
            if job.request is None:
                try:
                    job.request = self._task.build(job.line)
                except InvalidRow as error:
                    cells[number] = 0
                    self._recorder.failure(job, Failure(fault=faults.INVALID_ROW, message=str(error)), now)
                    continue
            if self._slice is None:
                break
            if not self._slice.fits(job.request.tokens):
                cells[number] = 0
                self._recorder.failure(job, _too_large(job.request.tokens), now)
                continue
            if (due := self._slice.ready_at(job.request.tokens, now)) > now:
                cells[number] = 0
                self._paced = job
                self._parking.wake_at(due)
                return None
            break
        if self._slice is not None:
            self._slice.spend(job.request.tokens, now)
        job.started = now
        job.requests += 1
        self._alone = job.alone
        self.counters.requests += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        if self._parked:
            self._parking.wake()
        return job

    def _next_new(self) -> Job | None:
        """Take a row that has not been tried; None when there is none, or too many others wait."""
        if self._backoffs and self._too_many_waiting():
            return None
        if self._ready:
            job = self._ready.popleft()
            self._ready_bytes -= len(job.line)
            if not self._is_hungry and len(self._ready) < self._low_water and self._ready_bytes < _READY_BYTES:
                self._is_hungry = True
                self._hungry.set()
            return job
        if self._suspects and self.in_flight == 0 and not self._backoffs:
            return self._suspects.popleft()
        return None

    def _too_many_waiting(self) -> bool:
        due = self._waiting.next_due
        assert due is not None
        self._parking.wake_at(due)
        return len(self._waiting) >= self._waiting_max

    def _left(self, job: Job) -> None:
        """React to the end of a request that others may have waited for."""
        if job.alone:
            self._alone = False
        if self.in_flight == 0 and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self._parking.wake()

    # What a reply means

    def _settle(self, job: Job, reply: Reply | Failure) -> None:
        """Record the outcome, or put the row back until its next try."""
        if type(reply) is Failure:
            self._fail(job, reply)
            return
        assert type(reply) is Reply
        self.counters.replies += 1
        if reply.status != _OK and (failure := faults.classify(reply)) is not None:
            self._fail(job, failure)
            return
        try:
            answer = self._task.parse(reply.body)
        except BadReply as error:
            # The work was done and will be done again: this one is certain to be billed twice.
            self._fail(job, Failure(fault=faults.BAD_REPLY, message=str(error), status=reply.status, maybe_billed=True))
        except Refused as error:
            self._fail(
                job,
                Failure(fault=faults.CONTENT_FILTER, message=str(error), code="refusal", status=reply.status),
            )
        else:
            now = self._loop.time()
            if self._slice is not None and answer.prompt_tokens and job.request is not None:
                self._slice.settle(job.request.tokens, answer.prompt_tokens + answer.completion_tokens, now)
            self._recorder.result(job, answer, now)

    def _fail(self, job: Job, failure: Failure) -> None:
        name = failure.fault.name
        self.counters.faults[name] = self.counters.faults.get(name, 0) + 1
        failure = msgspec.structs.replace(failure, message=faults.redacted(failure.message, self._secrets))
        if failure.fault.scope == "provider":
            # The row stays without an outcome: it is not the row's failure, and a resume sends it again.
            self.close()
            self._on_provider_closed(failure)
            return
        if failure.fault.spends_attempt:
            job.attempts += 1
        wait = self._retry.wait_s(failure, tries=job.requests, attempts=job.attempts)
        if wait is None:
            self._recorder.failure(job, failure, self._loop.time())
            return
        self.counters.retries += 1
        self.counters.maybe_billed_twice += failure.maybe_billed
        due = self._loop.time() + wait
        self._waiting.push(due, job)
        if self._parked:
            self._parking.wake_at(due)


def _too_large(tokens: int) -> Failure:
    message = f"the request needs about {tokens} tokens, more than the provider's tokens_per_minute lets through"
    return Failure(fault=faults.INVALID_REQUEST, message=message)


def _poisonous() -> Failure:
    return Failure(
        fault=faults.POISON_ROW,
        message="worker processes died several times while this row was in flight, the last time with it alone",
    )
