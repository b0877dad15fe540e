"""The driver's end of one node: its workers as the supervisor has them, and the rounds to its agent.

A round takes to the agent what there is for it and brings back what there is for the driver: at once where something
presses, else a few times a second. What a round brings is written first, and passed on to the supervisor only then: a
sealed shard that it hears of is in the run directory.

A node is lost when its agent is gone or has not answered for ten seconds. Its workers end, for the supervisor, once
nothing can be sent any more on the leases that they have: at once where its agent has said that they are gone, a second
later where Ray says that the agent is; a node that is only cut off goes by them until they expire.
"""

import asyncio
import math
import multiprocessing
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol

from rowmill.cluster import wire
from rowmill.cluster.records import Records
from rowmill.cluster.remote_workers import RemoteProcess, RemoteWorker
from rowmill.cluster.shard_input import ShardInput
from rowmill.cluster.wire import (
    PIECE_BYTES,
    Arrived,
    Begin,
    Down,
    Ended,
    Forsaken,
    Hello,
    Idle,
    Kill,
    Lacking,
    NodeState,
    Passed,
    Past,
    Started,
    Taken,
    Tell,
    Told,
    Unable,
    Up,
)
from rowmill.core.errors import MachineError, RowmillError
from rowmill.core.reports import NodeFigures
from rowmill.core.rows import InputFile, InputPart, Shard
from rowmill.ipc import messages, processes
from rowmill.ipc.channel import Channel
from rowmill.ipc.messages import Assign, Leases, Setup, Stop
from rowmill.supervisor.mailbox import Crashed

_WAIT_S = 0.1  # of a round in which there is nothing to bring back
_SILENT_S = 10.0
_GONE_S = 1.0  # by then the workers of an agent that Ray says is dead have seen its pipe close
_ALIVE_S = 1.0  # an agent ends that hears of nobody for four
_CLOCK_SAMPLES = 100
_LOST = "its node is gone"


class AgentDiedError(MachineError):
    """An agent's process has ended: Ray knows, and does not only fail to reach it."""


class AgentCalls(Protocol):
    """How an agent is called. All raise `AgentDiedError`, and `MachineError` where it cannot be reached."""

    def exchange(self, serial: int, behind_s: float, down: bytes, wait_s: float) -> Awaitable[bytes]:
        """As `Agent.exchange`."""

    def tell(self, serial: int, behind_s: float, down: bytes) -> Awaitable[None]:
        """As `Agent.tell`."""

    def close(self) -> Awaitable[None]:
        """As `Agent.close`."""


class Link:
    """One node. A `Host`: workers are started on it from the supervisor's thread; all else is of the loop's thread."""

    def __init__(
        self,
        name: str,
        calls: AgentCalls,
        hello: Hello,
        moment: float,
        *,
        same_machine: bool,
        records: Records,
        parts: list[InputPart],
        origins: Sequence[Sequence[InputFile]],
        put: Callable[[object], None],
        began: float,
    ) -> None:
        """`moment`: when `hello` came, by this clock; `began`: when the session did."""
        self.name = name
        self.where = f" on {name}"
        self.lost = False
        self.leaving = False
        self.why: str | None = None
        self.figures = NodeFigures(name, round(monotonic() - began, 1), 0)
        self.notices: tuple[str, ...] = ()
        self._calls = calls
        self._input = ShardInput(parts, hello.seen, records, origins)
        self._records = records
        self._put = put
        self._began = began
        self._loop = asyncio.get_running_loop()
        self._workers: dict[int, RemoteWorker] = {}
        self._queue: list[Down] = []
        self._serial = 0
        self._clocks: deque[float] | None = None if same_machine else deque([hello.moment - moment], _CLOCK_SAMPLES)
        self._leased_until = -math.inf
        self._idle: set[int] = set()  # workers that have nothing to do until a shard comes
        self._queued: set[int] = set()  # those whose shard is in the queue
        self._bringing = asyncio.Lock()  # a shard after the other: one goes without what the one before it has brought
        self._telling: set[asyncio.Future[None]] = set()
        self._broken: RowmillError | None = None
        self._salvage = False  # damaged checkpoints
        self._carries = False  # it was said that the node cannot read what it was to read itself

    # From the supervisor's thread

    def start(self, module: str, name: str, incarnation: int) -> processes.Child:
        """Start a worker process on the node. It waits for its `Setup`."""
        ours, theirs = multiprocessing.Pipe(duplex=True)

        def kill() -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it all there was
                self._loop.call_soon_threadsafe(self._say, Kill(incarnation))

        process = RemoteProcess(kill)
        with theirs:
            worker = RemoteWorker(process, Channel(theirs))
        self._loop.call_soon_threadsafe(self._adopt, incarnation, worker, module, name)
        return processes.Child(process, ours)

    # In the loop's thread

    def _adopt(self, number: int, worker: RemoteWorker, module: str, name: str) -> None:
        self._workers[number] = worker
        self.figures.workers = max(self.figures.workers, len(self._workers))
        if self.lost:
            self._end(number, None, _LOST)
            return
        self._loop.add_reader(worker.channel.fileno(), self._on_messages, number)
        self._say(Begin(number, module, name))

    def _on_messages(self, number: int) -> None:
        channel = self._workers[number].channel
        received = channel.receive()
        if received is None:
            self._loop.remove_reader(channel.fileno())
        for data in received or ():
            self._pass_down(number, data)

    def _pass_down(self, number: int, data: bytes) -> None:
        message = messages.to_worker(data)
        if isinstance(message, Assign):
            self._keep(self._bring(number, message, data))
        elif isinstance(message, Setup):
            self._salvage = message.salvage
            self._records.begin(number, message.claimant)
            self._say(Tell(number, data))
        elif isinstance(message, Leases):
            self._leased_until = max(self._leased_until, *(lease.expires for lease in message.leases))
            self._queue.append(Tell(number, data))  # goes with the next round
        else:
            self._say(Tell(number, data))

    def _say(self, *items: Down) -> None:
        """Tell the agent something now."""
        if self.lost:
            return
        self._queue += items
        self._keep(self._calls.tell(*self._call()))

    def _call(self) -> tuple[int, float, bytes]:
        """Return what the next call is to say."""
        queue, self._queue = self._queue, []
        self._queued.clear()
        serial, self._serial = self._serial, self._serial + 1
        data = wire.encode(queue)
        self.figures.calls += 1
        self.figures.sent_mb += len(data) / 1e6
        return serial, max(self._clocks) if self._clocks else 0.0, data

    def _keep(self, doing: Awaitable[None]) -> None:
        task = asyncio.ensure_future(doing, loop=self._loop)
        self._telling.add(task)
        task.add_done_callback(self._told)

    def _told(self, task: asyncio.Future[None]) -> None:
        self._telling.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, RowmillError):
            self._broken = self._broken or error
        elif error is not None:
            self._put(Crashed(error if isinstance(error, Exception) else RuntimeError(str(error))))

    async def _bring(self, number: int, assign: Assign, data: bytes) -> None:
        """Assign a shard, with what the node needs of the input and of the shard's checkpoint."""
        async with self._bringing:
            shard = assign.shard
            if self._salvage and (done := await asyncio.to_thread(self._records.salvage, shard)):
                self._put(done)
            items: list[Down] = []
            size = 0
            async for item in self._needed(shard):
                items.append(item)
                size += len(getattr(item, "data", b""))
                if size >= PIECE_BYTES:
                    self._queue += items
                    items, size = [], 0
                    await self._calls.tell(*self._call())
            self._queue += [*items, Tell(number, data)]
            self._queued.add(number)
            if number in self._idle:
                self._idle.discard(number)
                self._say()

    async def _needed(self, shard: Shard) -> AsyncIterator[Down]:
        """Yield what a node is to have before a shard is assigned: of the shard's checkpoint, and of the input."""
        start = 0
        while True:
            past = await asyncio.to_thread(self._records.past, shard.number, start, PIECE_BYTES)
            if past or not start:
                yield Past(shard.number, past, start)
            start += len(past)
            if len(past) < PIECE_BYTES:
                break
        if (read := await self._input.read(shard)) is not None:
            yield read
        async for piece in self._input.pieces(shard):
            yield piece

    # Rounds

    async def rounds(self) -> None:
        """Go to and fro until the node is lost; `why` says how it was."""
        try:
            while self._broken is None and not self.lost:
                async with asyncio.timeout(_SILENT_S):
                    data = await self._calls.exchange(*self._call(), _WAIT_S)
                came = monotonic()
                up = wire.to_driver.decode(data)
                if self._clocks is not None:
                    self._clocks.append(up.moment - came)
                await self._take(up.items)
            if self._broken is not None:
                raise self._broken
        except TimeoutError:
            self.why = f"it did not answer for {_SILENT_S:.0f} s"
        except RowmillError as error:
            self.why = str(error)
            if isinstance(error, AgentDiedError):  # its workers know: they were left alone, and send nothing more
                self._leased_until = min(self._leased_until, monotonic() + _GONE_S)
        await self._lose()

    async def _take(self, items: list[Up]) -> None:
        if any(isinstance(item, self._records.KINDS) for item in items):
            try:
                answers = await self._store(items)
            except MachineError as error:  # no other node could do better
                self._put(Crashed(error))
                raise
            self._queue += answers
            for answer in answers:
                if isinstance(answer, Arrived) and answer.problem is not None:
                    self._put(Crashed(MachineError(answer.problem)))
            self.figures.carried_mb += sum(len(getattr(item, "data", b"")) for item in items) / 1e6
        for item in items:
            self._pass_on(item)

    async def _store(self, items: list[Up]) -> list[Arrived | Tell]:
        """Have items stored. Meanwhile the agent hears that somebody is there: a disk may hold a write up for long."""
        storing = asyncio.ensure_future(asyncio.to_thread(self._records.store, items))
        while not (await asyncio.wait([storing], timeout=_ALIVE_S))[0]:
            self._say()
        return storing.result()

    def _pass_on(self, item: Up) -> None:
        match item:
            case Idle(worker=number):
                if number not in self._queued:  # which the next round takes, now
                    self._idle.add(number)
            case Passed(worker=number, message=message):
                if (worker := self._workers.get(number)) is not None:
                    worker.channel.send(message)
            case Unable(worker=number, exit_code=code, reason=reason):
                if (worker := self._workers.get(number)) is not None:
                    worker.channel.send(messages.encode(Stop(code, f"node {self.name}: {reason}")))
            case Started(worker=number, pid=pid):
                if (worker := self._workers.get(number)) is not None:
                    worker.process.pid = pid
            case Taken(worker=number):
                if (worker := self._workers.get(number)) is not None:
                    worker.process.taken = item
            case Ended(worker=number, exitcode=exitcode):
                if number in self._workers:
                    how = "it could not be started" if exitcode is None else processes.how_ended(exitcode)
                    self._end(number, exitcode, how)
            case Lacking(worker=number, message=data, why=why, every=every):
                assign = messages.to_worker(data)
                assert isinstance(assign, Assign)
                if not self._carries:  # once
                    self._carries = True
                    self._put(f"node {self.name} cannot read the input itself ({why}): it is carried there")
                self._input.lacks(assign.shard.part, every=every)
                self._keep(self._bring(number, assign, data))
            case Forsaken():
                self.lost = True
                self.why = "Ray has ended there"
                self._leased_until = -math.inf
            case Told(lines=lines):
                for line in lines:
                    self._put(f"{self.name}: {line}")
            case NodeState(notices=notices, cpu_s=cpu_s, rss_max=rss_max):
                self.notices = tuple(f"{self.name}: {notice}" for notice in notices)
                self.figures.cpu_s = round(cpu_s, 3)
                self.figures.rss_mb = round(rss_max / 1e6, 1)

    def _end(self, number: int, exitcode: int | None, end: str) -> None:
        """Have the supervisor see a worker's end."""
        worker = self._workers.pop(number)
        self._records.end(number)
        worker.process.ended(exitcode, end)
        self._loop.remove_reader(worker.channel.fileno())
        worker.channel.end()  # which is seen behind all that was said

    async def _lose(self) -> None:
        """Give the node up, once it sends nothing any more."""
        self.lost = True
        self.figures.left_s = round(monotonic() - self._began, 1)
        self.figures.why = self.why
        self.notices = ()
        for task in self._telling:
            task.cancel()
        if self._workers:
            await asyncio.sleep(max(0.0, self._leased_until - monotonic()))
        for number in list(self._workers):
            self._end(number, None, _LOST)

    async def close(self) -> None:
        """Let go of the node."""
        self.lost = True
        with suppress(RowmillError, TimeoutError):
            async with asyncio.timeout(_SILENT_S):
                await self._calls.close()
