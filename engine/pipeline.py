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
from engine.parking import Parking
from engine.records import Answer, Counters, Failure, Reply, Request, Shard
from engine.store.checkpoint import Checkpoint
from engine.store.inflight import InflightBoard
from engine.store.lines import failure_line, result_line
from engine.tasks.chat import ChatTask
from engine.transport import Transport, faults

_READY_BYTES = 8 << 20  # of read rows held ready: long rows must not add up
_PENDING_BYTES = 16 << 20  # of outcomes not yet on disk: a slow disk slows admission, memory does not grow
_GROUP_BYTES = 1 << 20  # of outcomes that are worth a write and a sync of their own
_WAITING_ROWS = 4  # backoffs held at most, for each slot; beyond it no new row is admitted
_READY_S = 0.1  # rows held ready last so long: the next shard is here by then, and an idle worker misses few
_READY_ROWS = 16  # held ready at least

_CANCEL_S = 0.1  # a cancelled slot ends in the next turn of the loop

_OK = 200


class OpenShard:
    """A shard that this worker is working on."""

    def __init__(
        self, shard: Shard, checkpoint: Checkpoint, suspects: frozenset[int], quarantined: frozenset[int]
    ) -> None:
        self.shard = shard
        self.checkpoint = checkpoint
        self.suspects = suspects
        self.quarantined = quarantined
        self._recovered = checkpoint.acknowledged.rows

    @property
    def new_rows(self) -> int:
        """Rows on disk since this worker has the shard."""
        return self.checkpoint.acknowledged.rows - self._recovered


class _Job(msgspec.Struct, gc=False):
    """One row on its way."""

    index: int
    line: bytes
    shard: OpenShard
    alone: bool = False  # to be sent with nothing else in flight
    request: Request | None = None
    requests: int = 0  # sent so far
    attempts: int = 0  # of the failed ones, those that count against the row
    started: float = 0.0


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
        provider: str,
        include: frozenset[str],
        secrets: tuple[str, ...],
        on_recorded: Callable[[bool], None],
        on_provider_closed: Callable[[Failure], None],
    ) -> None:
        """`slice_` is None where no rate is to be kept.

        `on_recorded` is called with False for the first outcome that waits for the disk, and with True once enough
        wait for a group of their own; `synced` answers it.
        """
        self._task = task
        self._transport = transport
        self._retry = retry
        self._slice = slice_
        self._board = board
        self._provider = provider
        self._include_input = "input" in include
        self._include_meta = "meta" in include
        self._includes = bool(include)
        self._secrets = secrets
        self._on_recorded = on_recorded
        self._on_provider_closed = on_provider_closed
        self.concurrency = concurrency

        self.counters = Counters()
        self.in_flight = 0
        self.in_flight_max = 0
        self.pending_bytes = 0  # recorded, not yet on disk
        self.pending_rows = 0
        self._ready: deque[_Job] = deque()
        self._ready_bytes = 0
        self._waiting: DueHeap[_Job] = DueHeap()
        self._backoffs = self._waiting.entries
        self._waiting_max = max(_WAITING_ROWS * concurrency, 64)
        self._paced: _Job | None = None
        self._suspects: deque[_Job] = deque()
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
            job = _Job(index, line, shard)
            if index in shard.quarantined:
                self._record_failure(job, _poisonous())
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

    def synced(self, count: int, rows: int) -> None:
        """Take note that so many recorded bytes, of so many rows, are on disk."""
        self.pending_bytes -= count
        self.pending_rows -= rows
        self._board.note_unsynced(self.pending_rows)
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

    def _admit(self, number: int) -> _Job | None:
        """Choose and prepare what this slot sends now; None when nothing may be sent now."""
        if not self._open or self._alone or self.pending_bytes > _PENDING_BYTES:
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
                    self._record_failure(job, Failure(fault=faults.INVALID_ROW, message=str(error)))
                    continue
            if self._slice is None:
                break
            if not self._slice.fits(job.request.tokens):
                cells[number] = 0
                self._record_failure(job, _too_large(job.request.tokens))
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

    def _next_new(self) -> _Job | None:
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

    def _left(self, job: _Job) -> None:
        """React to the end of a request that others may have waited for."""
        if job.alone:
            self._alone = False
        if self.in_flight == 0 and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self._parking.wake()

    # What a reply means

    def _settle(self, job: _Job, reply: Reply | Failure) -> None:
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
            self._record(job, answer)

    def _fail(self, job: _Job, failure: Failure) -> None:
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
            self._record_failure(job, failure)
            return
        self.counters.retries += 1
        self.counters.maybe_billed_twice += failure.maybe_billed
        due = self._loop.time() + wait
        self._waiting.push(due, job)
        if self._parked:
            self._parking.wake_at(due)

    def _record(self, job: _Job, answer: Answer) -> None:
        request = job.request
        assert request is not None
        now = self._loop.time()
        if self._slice is not None and answer.prompt_tokens:
            self._slice.settle(request.tokens, answer.prompt_tokens + answer.completion_tokens, now)
        ms = int((now - job.started) * 1000)
        attempts = job.attempts + 1
        include = self._included(job, ms, attempts) if self._includes else b""
        line = result_line(job.index, request.id, answer, include)
        job.shard.checkpoint.append(
            job.index,
            attempts,
            job.requests,
            ms,
            self._provider,
            line,
            answer.prompt_tokens,
            answer.completion_tokens,
        )
        self._note_recorded(len(line))

    def _record_failure(self, job: _Job, failure: Failure) -> None:
        ms = int((self._loop.time() - job.started) * 1000) if job.requests else 0
        id_ = job.request.id if job.request is not None else self._task.id_of(job.line)
        attempts = max(job.attempts, 1)
        line = failure_line(job.index, id_, failure, self._included(job, ms, attempts))
        job.shard.checkpoint.append(job.index, attempts, job.requests, ms, self._provider, line, failed=True)
        self._note_recorded(len(line))

    def _note_recorded(self, count: int) -> None:
        before = self.pending_bytes
        self.pending_bytes = after = before + count
        self.pending_rows += 1
        self._board.cells[self.concurrency] = -self.pending_rows  # as note_unsynced, without the call
        if before == 0 or before < _GROUP_BYTES <= after:
            self._on_recorded(after >= _GROUP_BYTES)

    def _included(self, job: _Job, ms: int, attempts: int) -> bytes:
        """Encode the further members of the output line that `output.include` asks for."""
        members = b""
        if self._include_input:
            members += b',"input":' + self._task.input_of(job.line)
        if self._include_meta:
            meta = {"provider": self._provider, "attempts": attempts, "requests": job.requests, "ms": ms}
            members += b',"meta":' + msgspec.json.encode(meta)
        return members


def _too_large(tokens: int) -> Failure:
    message = f"the request needs about {tokens} tokens, more than the provider's tokens_per_minute lets through"
    return Failure(fault=faults.INVALID_REQUEST, message=message)


def _poisonous() -> Failure:
    return Failure(
        fault=faults.POISON_ROW,
        message="worker processes died several times while this row was in flight, the last time with it alone",
    )
