"""The way of a row inside a worker: admitted to a slot, built, paced, sent, judged, and recorded or retried.

A fixed set of slot coroutines does the sending. What to do next is decided without awaiting, by `_admit`, and what
followed by `_settle`; all state changes there. A slot that finds nothing to do parks; whatever makes work
possible (rows read, a row due, the rate) wakes one parked slot, which wakes the next while there is more.

State: `_ready` rows read but not tried, `_waiting` rows in backoff, `_paced` the one built row that waits for the
rate, `_suspects` rows to be sent alone, and what the slots hold (`in_flight`).
"""

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from engine.errors import BadReply, InvalidRow, Refused
from engine.flow.rate import Slice
from engine.flow.retry import DueHeap, RetryPolicy
from engine.records import Answer, Counters, Failure, Reply, Request, Shard
from engine.store.checkpoint import Checkpoint
from engine.store.inflight import InflightBoard
from engine.store.lines import failure_line, result_line
from engine.tasks.chat import ChatTask
from engine.transport import Transport, faults

_READY_BYTES = 8 << 20  # of read rows held ready: long rows must not add up
_PENDING_BYTES = 16 << 20  # of outcomes not yet on disk: a slow disk slows admission, memory does not grow
_WAITING_ROWS = 4  # backoffs held at most, for each slot; beyond it no new row is admitted


class OpenShard:
    """A shard that this worker is working on."""

    def __init__(self, shard: Shard, checkpoint: Checkpoint, suspects: frozenset[int], quarantined: frozenset[int]):
        self.shard = shard
        self.checkpoint = checkpoint
        self.suspects = suspects
        self.quarantined = quarantined


class _Job:
    """One row on its way."""

    __slots__ = ("alone", "attempts", "index", "line", "request", "requests", "shard", "started")

    def __init__(self, index: int, line: bytes, shard: OpenShard) -> None:
        self.index = index
        self.line = line
        self.shard = shard
        self.request: Request | None = None
        self.requests = 0  # sent so far
        self.attempts = 0  # of them, those that count against the row
        self.started = 0.0
        self.alone = False


class Pipeline:
    """Turns rows into recorded outcomes, with at most `concurrency` requests in flight."""

    def __init__(
        self,
        *,
        task: ChatTask,
        transport: Transport,
        retry: RetryPolicy,
        slice_: Slice,
        board: InflightBoard,
        concurrency: int,
        provider: str,
        include: frozenset[str],
        secrets: tuple[str, ...],
        on_recorded: Callable[[], None],
        on_provider_closed: Callable[[Failure], None],
    ) -> None:
        self._task = task
        self._transport = transport
        self._retry = retry
        self._slice = slice_
        self._board = board
        self._provider = provider
        self._include_input = "input" in include
        self._include_meta = "meta" in include
        self._secrets = secrets
        self._on_recorded = on_recorded
        self._on_provider_closed = on_provider_closed
        self.concurrency = concurrency

        self.counters = Counters()
        self.in_flight = 0
        self.in_flight_max = 0
        self.pending_bytes = 0  # recorded, not yet on disk; the committer takes back what it has synced
        self._ready: deque[tuple[int, bytes, OpenShard]] = deque()
        self._ready_bytes = 0
        self._waiting: DueHeap[_Job] = DueHeap()
        self._waiting_max = max(_WAITING_ROWS * concurrency, 64)
        self._paced: _Job | None = None
        self._suspects: deque[_Job] = deque()
        self._alone = False  # a suspect is in flight, and nothing else may be
        self._open = True
        self._parked: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._hungry = asyncio.Event()
        self._hungry.set()
        self._low_water = concurrency + 512  # rows ready for the time that the next shard takes to arrive
        self._idle = asyncio.Event()
        self._idle.set()
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
            if index in shard.quarantined:
                self._record_failure(_Job(index, line, shard), _poisonous())
            elif index in shard.suspects:
                job = _Job(index, line, shard)
                job.alone = True
                self._suspects.append(job)
            else:
                self._ready.append((index, line, shard))
                self._ready_bytes += len(line)
        if len(self._ready) >= self._low_water or self._ready_bytes >= _READY_BYTES:
            self._hungry.clear()
        self._wake()

    def synced(self, count: int) -> None:
        """Take note that so many recorded bytes are on disk."""
        self.pending_bytes -= count
        self._wake()

    def close(self) -> None:
        """Admit nothing more. What is in flight goes on."""
        self._open = False

    async def drained(self, seconds: float) -> None:
        """Wait for what is in flight, at most so long; then give it up."""
        self.close()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self.counters.maybe_billed_twice += self.in_flight
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)

    # The slots

    async def _slot(self, number: int) -> None:
        send = self._transport.send
        time = self._loop.time
        board = self._board
        while True:
            job = self._admit(number)
            if job is None:
                parked = self._loop.create_future()
                self._parked.append(parked)
                await parked
                continue
            try:
                assert job.request is not None
                job.started = time()
                reply = await send(job.request.body)
                self._settle(job, reply)
            finally:
                board.leave(number)
                self._leave(job)

    def _admit(self, number: int) -> _Job | None:
        """Choose and prepare what this slot sends now; None when nothing may be sent now."""
        if not self._open or self._alone or self.pending_bytes > _PENDING_BYTES:
            return None
        now = self._loop.time()
        while True:
            job = self._paced or self._waiting.pop_due(now)
            if job is None:
                job = self._next_new(number)
                if job is None:
                    self._board.leave(number)
                    return None
            self._paced = None
            self._board.enter(number, job.index)
            if job.request is None and not self._build(job):
                continue
            assert job.request is not None
            due = self._slice.ready_at(job.request.tokens, now)
            if due > now:
                self._paced = job
                self._board.leave(number)
                self._wake_at(due)
                return None
            self._slice.spend(job.request.tokens, now)
            job.requests += 1
            self._alone = job.alone
            self.counters.requests += 1
            self.in_flight += 1
            if self.in_flight > self.in_flight_max:
                self.in_flight_max = self.in_flight
            self._idle.clear()
            if self._parked:
                self._wake()
            return job

    def _next_new(self, number: int) -> _Job | None:
        """Take a row that has not been tried; None when there is none, or too many others wait."""
        if (due := self._waiting.next_due) is not None:
            self._wake_at(due)
            if len(self._waiting) >= self._waiting_max:
                return None
        if self._ready:
            index, line, shard = self._ready.popleft()
            self._ready_bytes -= len(line)
            if len(self._ready) < self._low_water and self._ready_bytes < _READY_BYTES:
                self._hungry.set()
            return _Job(index, line, shard)
        if self._suspects and self.in_flight == 0 and not self._waiting:
            return self._suspects.popleft()
        return None

    def _build(self, job: _Job) -> bool:
        """Build the job's request; a row that cannot become one is recorded as failed."""
        try:
            job.request = self._task.build(job.line)
        except InvalidRow as error:
            self._record_failure(job, Failure(fault=faults.INVALID_ROW, message=str(error)))
            return False
        return True

    def _leave(self, job: _Job) -> None:
        """Give the slot back: the one place where a request stops being in flight."""
        self.in_flight -= 1
        if job.alone:
            self._alone = False
            self._wake()
        if self.in_flight == 0:
            self._idle.set()
            if self._suspects:
                self._wake()

    # What a reply means

    def _settle(self, job: _Job, reply: Reply | Failure) -> None:
        """Record the outcome, or put the row back until its next try."""
        if type(reply) is Reply:
            self.counters.replies += 1
            outcome = faults.classify(reply) if reply.status != 200 else None  # noqa: PLR2004
            if outcome is None:
                answer = self._read(reply)
                if type(answer) is Answer:
                    self._record(job, answer)
                    return
                outcome = answer
        else:
            outcome = reply
        assert type(outcome) is Failure
        self._fail(job, outcome)

    def _read(self, reply: Reply) -> Answer | Failure:
        try:
            return self._task.parse(reply.body)
        except BadReply as error:
            # The work was done and will be done again: this one is certain to be billed twice.
            return Failure(fault=faults.BAD_REPLY, message=str(error), status=reply.status, maybe_billed=True)
        except Refused as error:
            return Failure(fault=faults.CONTENT_FILTER, message=str(error), code="refusal", status=reply.status)

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
            self._wake_at(due)

    def _record(self, job: _Job, answer: Answer) -> None:
        request = job.request
        assert request is not None
        now = self._loop.time()
        self._slice.settle(request.tokens, answer.prompt_tokens + answer.completion_tokens, now)
        ms = round((now - job.started) * 1000)
        line = result_line(job.index, request.id, answer, self._included(job, ms) if self._includes else b"")
        self._append(job, ms, line, failed=False, answer=answer)

    def _record_failure(self, job: _Job, failure: Failure) -> None:
        ms = round((self._loop.time() - job.started) * 1000) if job.started else 0
        id_ = job.request.id if job.request is not None else self._task.id_of(job.line)
        line = failure_line(job.index, id_, failure, self._included(job, ms) if self._includes else b"")
        self._append(job, ms, line, failed=True, answer=None)

    def _append(self, job: _Job, ms: int, line: bytes, *, failed: bool, answer: Answer | None) -> None:
        job.shard.checkpoint.append(
            job.index,
            attempts=max(job.attempts + (not failed), 1),
            requests=job.requests,
            ms=ms,
            provider=self._provider,
            failed=failed,
            prompt_tokens=0 if answer is None else answer.prompt_tokens,
            completion_tokens=0 if answer is None else answer.completion_tokens,
            line=line,
        )
        self.pending_bytes += len(line)
        self._on_recorded()

    @property
    def _includes(self) -> bool:
        return self._include_input or self._include_meta

    def _included(self, job: _Job, ms: int) -> bytes:
        """Encode the further members of the output line that `output.include` asks for."""
        members = b""
        if self._include_input:
            members += b',"input":' + self._task.input_of(job.line)
        if self._include_meta:
            meta = {"provider": self._provider, "attempts": job.attempts + 1, "requests": job.requests, "ms": ms}
            members += b',"meta":' + msgspec.json.encode(meta)
        return members

    # Waking parked slots

    def _wake(self) -> None:
        """Let one parked slot look again; it wakes the next one if it found something to do."""
        while self._parked:
            parked = self._parked.popleft()
            if not parked.done():
                parked.set_result(None)
                return

    def _wake_at(self, due: float) -> None:
        """Wake a slot at that time, unless one will be woken before."""
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._wake()


def _poisonous() -> Failure:
    return Failure(
        fault=faults.POISON_ROW,
        message="worker processes died several times while this row was in flight, the last time with it alone",
    )
