"""A worker process: reads its shards, keeps requests in flight, records outcomes, seals what is finished.

Three parts run side by side on one uvloop loop: the feeder reads rows into the pipeline, the pipeline's slots send
them, the committer puts what they recorded on disk, group by group. Everything else answers the supervisor.

The worker ends in one of three ways: told to drain; the pipe to the supervisor closes, which is the same; or an
error that would stop any worker, which it reports before it goes.
"""

import asyncio
import resource
from multiprocessing.connection import Connection
from random import Random

import uvloop

from engine import messages
from engine.errors import ExitCode, RowmillError
from engine.flow.rate import Slice
from engine.flow.retry import RetryPolicy
from engine.job import OpenShard
from engine.memory import peak_rss
from engine.messages import Assign, Beat, Drain, Note, Ready, Setup, ShardSealed, Stop, Want
from engine.pipeline import Pipeline
from engine.recorder import Recorder
from engine.records import Failure
from engine.sources.jsonl import ShardReader
from engine.store.checkpoint import Checkpoint
from engine.store.inflight import InflightBoard
from engine.store.run_directory import RunDirectory
from engine.tasks.chat import ChatTask
from engine.transport import open_transport

_BEAT_S = 0.25
_ORPHAN_DRAIN_S = 5.0  # without a supervisor: enough for most replies that are already paid for, well under 10 s
_STOPPED_DRAIN_S = 30.0  # where the provider has closed: what is still in flight may have been let through
_OPEN_SHARDS = 64  # each holds a file open; more are only open where rows wait out long backoffs


def main(pipe: Connection) -> int:
    """Run a worker until it is told to stop or its supervisor is gone; returns the exit status."""
    setup = messages.receive_in_worker(pipe)
    if not isinstance(setup, Setup):
        return ExitCode.OK  # told to go, or left alone, before there was anything to do
    _raise_descriptor_limit()
    try:
        RunDirectory(setup.run_directory).hold_worker_lock(setup.supervisor)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Worker(setup, pipe).run())
    except RowmillError as error:  # before there was anything to drain
        messages.send(pipe, Stop(error.exit_code, str(error)))
    return ExitCode.OK


def _raise_descriptor_limit() -> None:
    """Allow as many open connections and files as the system lets this user have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Worker:
    def __init__(self, setup: Setup, pipe: Connection) -> None:
        self._setup = setup
        self._pipe = pipe
        self._directory = RunDirectory(setup.run_directory)
        self._task = ChatTask(setup.config.task, setup.config.input.id)
        self._assigned: asyncio.Queue[Assign] = asyncio.Queue()
        self._open: dict[int, OpenShard] = {}
        self._room = asyncio.Event()  # fewer shards open than may be
        self._room.set()
        self._recorded = asyncio.Event()  # something waits for the disk
        self._group_full = asyncio.Event()
        self._drain_s: float | None = None
        self._draining = asyncio.Event()
        self._sealing: set[asyncio.Task[None]] = set()
        self._sealed_rows = 0  # of what this process has brought to an outcome, what is in sealed shards
        self._stopped = False  # the supervisor has been told why no worker could go on
        self._told = False  # it has been told of a first group on disk
        self._orphaned = False  # the supervisor is gone
        self._failed: BaseException | None = None  # what a shard could not be sealed for

    async def run(self) -> None:
        setup = self._setup
        loop = asyncio.get_running_loop()
        board = InflightBoard.create(self._directory.board_path(setup.incarnation), setup.config.workers.concurrency)
        transport = open_transport(
            setup.config.client.transport,
            setup.endpoint,
            api=setup.config.task.api,
            concurrency=setup.config.workers.concurrency,
        )
        rng = Random(setup.incarnation)  # noqa: S311 - jitter, no secret
        self._recorder = Recorder(
            task=self._task,
            board=board,
            provider=setup.endpoint.provider,
            include=frozenset(setup.config.output.include),
            on_recorded=self._on_recorded,
        )
        self._pipeline = Pipeline(
            task=self._task,
            transport=transport,
            retry=RetryPolicy(setup.config.retry.attempts, rng),
            slice_=None if setup.lease.unlimited else Slice(setup.lease, loop.time()),
            board=board,
            concurrency=setup.config.workers.concurrency,
            recorder=self._recorder,
            secrets=(setup.endpoint.key,) if setup.endpoint.key else (),
            on_provider_closed=self._on_provider_closed,
        )
        loop.add_reader(self._pipe.fileno(), self._on_message)
        self._tell(Ready())
        parts = [loop.create_task(part) for part in (self._feed(), self._commit(), self._beat())]
        parts += self._pipeline.start()
        stop = loop.create_task(self._draining.wait())
        try:
            await asyncio.wait([stop, *parts], return_when=asyncio.FIRST_COMPLETED)
            abandoned = await self._finish(parts)
        finally:
            loop.remove_reader(self._pipe.fileno())
            await transport.close()
        if abandoned and self._orphaned:
            board.note_unsynced(abandoned)  # nobody is there to be told: the next session finds it on the board
        else:
            board.close()

    # Messages

    def _on_message(self) -> None:
        message = messages.receive_in_worker(self._pipe)
        if isinstance(message, Assign):
            self._assigned.put_nowait(message)
        elif isinstance(message, Drain):
            self._stop(message.seconds)
        elif message is None:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._orphaned = True
            self._stop(_ORPHAN_DRAIN_S)

    def _tell(self, message: messages.ToSupervisor) -> None:
        if not messages.send(self._pipe, message):
            self._orphaned = True
            self._stop(_ORPHAN_DRAIN_S)

    def _stop(self, seconds: float) -> None:
        """Begin to drain; a second call can only shorten it."""
        self._drain_s = seconds if self._drain_s is None else min(seconds, self._drain_s)
        self._pipeline.close()
        self._draining.set()

    def _on_provider_closed(self, failure: Failure) -> None:
        status = f"HTTP {failure.status}, " if failure.status else ""
        reason = f"provider {self._setup.endpoint.provider!r}: {failure.fault.name} ({status}{failure.message})"
        self._tell(Stop(ExitCode.PROVIDER, reason))
        self._stop(min(_STOPPED_DRAIN_S, self._setup.endpoint.timeout_s))

    def _on_recorded(self, group_full: bool) -> None:
        self._recorded.set()
        if group_full:
            self._group_full.set()

    # The parts

    async def _feed(self) -> None:
        """Open assigned shards, one after the other, and read their rows into the pipeline as it wants them."""
        setup = self._setup
        while True:
            await self._pipeline.hungry()
            await self._room.wait()
            self._tell(Want())
            assign = await self._assigned.get()
            shard = assign.shard
            path = self._directory.checkpoint_path(shard)
            checkpoint = await Checkpoint.open(path, shard, salvage=setup.salvage)
            if checkpoint.cut_bytes:
                self._tell(Note(f"{path.name}: cut {checkpoint.cut_bytes} bytes of a torn group; its rows are redone"))
            opened = OpenShard(shard, checkpoint, frozenset(assign.suspects), frozenset(assign.quarantined))
            self._open[shard.number] = opened
            if len(self._open) >= _OPEN_SHARDS:
                self._room.clear()
            if not checkpoint.complete:
                async with ShardReader(setup.config.input_path, shard) as reader:
                    row = shard.first_row
                    while lines := await reader.read():
                        self._pipeline.feed(opened, row, lines)
                        row += len(lines)
                        await self._pipeline.hungry()
            else:
                self._seal(opened)

    async def _commit(self) -> None:
        """Put recorded outcomes on disk, a group every `commit_ms` or as soon as one is full."""
        delay_s = self._setup.config.checkpoint.commit_ms / 1000
        while True:
            await self._recorded.wait()
            try:
                async with asyncio.timeout(delay_s):
                    await self._group_full.wait()
            except TimeoutError:
                pass
            await self._commit_group()

    async def _commit_group(self) -> None:
        self._recorded.clear()
        self._group_full.clear()
        pending, rows = self._recorder.pending_bytes, self._recorder.pending_rows
        dirty = [opened for opened in self._open.values() if opened.checkpoint.pending_bytes]
        await asyncio.gather(*(opened.checkpoint.commit() for opened in dirty))
        self._recorder.synced(pending, rows)
        self._pipeline.synced()
        if dirty and not self._told:
            # At once: a worker that dies before its first beat, but not before its first group, has got somewhere.
            self._told = True
            self._tell(self._progress())
        if self._recorder.pending_bytes:
            self._recorded.set()
        for opened in dirty:
            if opened.checkpoint.complete:
                self._seal(opened)

    def _seal(self, opened: OpenShard) -> None:
        task = asyncio.get_running_loop().create_task(self._seal_shard(opened))
        self._sealing.add(task)
        task.add_done_callback(self._sealed)

    async def _seal_shard(self, opened: OpenShard) -> None:
        number = opened.shard.number
        sealed = await opened.checkpoint.seal(self._directory.sealed)
        await opened.checkpoint.close()
        del self._open[number]
        self._sealed_rows += opened.new_rows
        self._room.set()
        self._tell(ShardSealed(number, sealed.totals))

    def _sealed(self, task: asyncio.Task[None]) -> None:
        self._sealing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed = error
            self._stop(0.0)

    async def _beat(self) -> None:
        while True:
            self._tell(self._progress())
            await asyncio.sleep(_BEAT_S)
            self._pipeline.look_ahead(_BEAT_S)

    def _progress(self) -> Beat:
        pipeline = self._pipeline
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pipeline.counters.rows = self._sealed_rows + sum(opened.new_rows for opened in self._open.values())
        return Beat(
            counters=pipeline.counters,
            in_flight=pipeline.in_flight,
            in_flight_max=pipeline.in_flight_max,
            waiting=pipeline.waiting,
            next_due_s=pipeline.next_due_s,
            rss_max=peak_rss(),
            cpu_s=usage.ru_utime + usage.ru_stime,
            shards={number: opened.checkpoint.acknowledged for number, opened in self._open.items()},
        )

    # The end

    async def _finish(self, parts: list[asyncio.Task[None]]) -> int:
        """Let what is in flight come back, put it on disk, say how far it came.

        Returns how many requests were given up.
        """
        ended = (part.exception() for part in parts if part.done() and not part.cancelled())
        failed = self._failed or next(ended, None)
        if failed is not None:
            self._report(failed)
        abandoned = await self._pipeline.drained(0.0 if failed is not None else self._drain_s or 0.0)
        self._pipeline.counters.maybe_billed_twice += abandoned
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        try:
            await self._commit_group()
            await asyncio.gather(*self._sealing)
            for opened in list(self._open.values()):
                await opened.checkpoint.close()
        except RowmillError as error:
            self._report(error)
        self._tell(self._progress())
        return abandoned

    def _report(self, error: BaseException) -> None:
        """Tell the supervisor why no worker could go on. Defects go up and end the process with a traceback."""
        if not isinstance(error, RowmillError):
            raise error
        if not self._stopped:
            self._stopped = True
            self._tell(Stop(error.exit_code, str(error)))
