"""A node's end: an actor that starts worker processes and carries what goes between them and the driver.

The workers are those of a run on one machine, in a run directory of their own that lasts as long as the agent. What
they must not know of the cluster is settled here: paths, times of another machine's clock, what this node can still
take. An agent that does not hear of its driver for four seconds ends: its workers see their pipes close, bring home
what is on its way, and are gone within ten.
"""

import asyncio
import os
import shutil
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic

import msgspec
import psutil

from rowmill.cluster import wire
from rowmill.cluster.clocks import boot_of_machine
from rowmill.cluster.node_input import NodeInput
from rowmill.cluster.node_worker import NodeWorker
from rowmill.cluster.outbox import Outbox, within
from rowmill.cluster.raylet import Raylet
from rowmill.cluster.wire import (
    Arrived,
    Begin,
    Board,
    Down,
    Ended,
    Errand,
    Forsaken,
    Hello,
    Kill,
    NodeState,
    Past,
    Piece,
    Read,
    Round,
    Started,
    Taken,
    Tell,
    Told,
)
from rowmill.core.defects import told
from rowmill.core.errors import RowmillError
from rowmill.ipc import processes
from rowmill.ipc.memory import peak_rss
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.machine.monitor import Monitor
from rowmill.supervisor.machine.readings import raise_descriptor_limit

_ALONE_S = 4.0  # without a word of the driver
_DRAINED_S = 5.5  # workers that were left alone bring home what they can
_LAST_S = 1.0  # for the driver to hear the last of a node without a raylet; Ray ends the actor itself about then
_KILLED_S = 5.0  # until a worker that was killed is gone: a machine can be slow, and Ray ends the actor if it must
_TICK_S = 0.1
_MEASURE_S = 1.0
_LOG_BYTES = 1 << 18  # in one look
_PREFIX = "rowmill-node-"


class Agent:
    """The agent of one node. Its methods are called over the cluster, in whatever order they arrive."""

    def __init__(self, errand: bytes) -> None:
        self._errand = msgspec.msgpack.decode(errand, type=Errand)
        raise_descriptor_limit()
        _sweep()
        place = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._directory = RunDirectory.open(place)
        pieces = place / "input"
        pieces.mkdir(mode=0o700)
        self._input = NodeInput(self._errand, pieces)
        free = self._errand.min_free_mb
        self._monitor = Monitor(
            (place,), memory=self._errand.memory, min_free_mb="auto" if isinstance(free, str) else free
        )
        self._workers: dict[int, NodeWorker] = {}
        self._outbox = Outbox()
        self._next = 0  # serial of the next call to be heeded
        self._early: dict[int, list[Down]] = {}  # calls that have overtaken others
        self._heard = monotonic()
        self._logged = 0  # bytes of the log that were told
        self._factor = 1.0
        self._ticking: asyncio.Task[None] | None = None
        self._boot = boot_of_machine()

    async def hello(self) -> bytes:
        """Return a `Hello`. Called first."""
        self._heard = monotonic()
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().create_task(self._tick())
        return wire.encode(Hello(os.getpid(), monotonic(), self._boot, self._input.itself))

    async def tell(self, serial: int, behind_s: float, down: bytes) -> None:
        """Take what the driver has to say. `behind_s`: what is to be added to its clock to have this node's."""
        self._take(serial, behind_s, down)

    async def exchange(self, serial: int, behind_s: float, down: bytes, wait_s: float) -> bytes:
        """Do as `tell`, and return a `Round` of what there is for the driver; waits a while for some."""
        self._take(serial, behind_s, down)
        up = await self._outbox.taken(wait_s)
        self._heard = monotonic()
        return wire.encode(Round(self._heard, up))

    async def close(self) -> None:
        """Let go of everything: no worker is left."""
        await self._end(0.0)

    # What the driver says

    def _take(self, serial: int, behind_s: float, down: bytes) -> None:
        self._heard = monotonic()
        self._early[serial] = wire.to_agent.decode(down)
        while (items := self._early.pop(self._next, None)) is not None:
            self._next += 1
            for item in items:
                try:
                    self._do(item, behind_s)
                except (OSError, RowmillError) as error:
                    self._cannot(item, error)

    def _cannot(self, item: Down, error: Exception) -> None:
        match item:
            case Tell(worker=number):
                self._workers[number].give_up(told(error, self._directory.log))
            case Begin(worker=number):
                self._tell_trouble(error)
                self._outbox.add(Ended(number, None), pressing=True)
            case _:
                self._tell_trouble(error)

    def _do(self, item: Down, behind_s: float) -> None:
        match item:
            case Begin(worker=number, module=module, name=name):
                self._begin(number, module, name)
            case Tell(worker=number, message=message):
                if (worker := self._workers.get(number)) is not None:
                    worker.hear(message, behind_s, self._factor)
            case Piece():
                self._input.lay(item)
            case Read():
                self._input.begin(item)
            case Past(shard=shard, data=data, start=start):
                path = self._directory.checkpoints / f"{shard:06d}.checkpoint"
                if not start:
                    path.unlink(missing_ok=True)
                if data:
                    with path.open("ab", buffering=0) as file:
                        file.write(data)
            case Arrived(worker=number):
                if (worker := self._workers.get(number)) is not None:
                    worker.arrived(item)
            case Kill(worker=number):
                self._kill(number)

    def _begin(self, number: int, module: str, name: str) -> None:
        with processes.signals_held():
            child = processes.start(module, name, self._directory.log)  # Ray keeps its own
        self._workers[number] = NodeWorker(
            number,
            child,
            self._directory,
            given=self._input,
            parts=self._errand.parts,
            tell=self._outbox.add,
        )
        asyncio.get_running_loop().add_reader(child.pipe.fileno(), self._on_pipe, number)
        self._outbox.add(Started(number, child.process.pid or 0))

    def _kill(self, number: int) -> None:
        if (worker := self._workers.get(number)) is not None:
            worker.child.process.kill()

    # What workers say

    def _tell_trouble(self, error: Exception) -> None:
        self._outbox.add(Told([str(told(error, self._directory.log))]), pressing=True)

    def _on_pipe(self, number: int) -> None:
        worker = self._workers[number]
        try:
            if worker.read():
                return
        except (OSError, RowmillError) as error:  # what it has written cannot be read: it would wait for ever
            self._tell_trouble(error)
            self._kill(number)
            return
        asyncio.get_running_loop().remove_reader(worker.child.pipe.fileno())
        worker.child.process.join()
        self._tell_board(worker)
        self._tell_log()
        del self._workers[number]
        worker.let_go()
        self._outbox.add(Ended(number, worker.child.process.exitcode), pressing=True)

    # Time goes on

    async def _tick(self) -> None:
        with closing(Raylet()) as raylet:
            await self._watch(raylet)
        if raylet.gone.is_set() and self._forsake():
            await asyncio.sleep(_LAST_S)
        await self._end(_DRAINED_S)
        os._exit(0)  # an actor that nobody has called for so long is nobody's

    async def _watch(self, raylet: Raylet) -> None:
        """Look at workers and node until nobody calls any more, or the raylet is gone."""
        process = psutil.Process()
        measured = monotonic()
        while monotonic() - self._heard < _ALONE_S and not raylet.gone.is_set():
            await within(_TICK_S, raylet.gone.wait)
            raylet.look()
            for worker in self._workers.values():
                self._tell_board(worker)
            self._tell_log()
            now = monotonic()
            if now - measured >= _MEASURE_S:
                measured = now
                try:
                    self._measure(process, now)
                except Exception as error:  # noqa: BLE001 - its driver is to be listened for whatever happens here
                    self._tell_trouble(error)

    def _measure(self, process: psutil.Process, now: float) -> None:
        lags = {number: worker.lag_ms for number, worker in self._workers.items() if worker.beats}
        condition = self._monitor.look(now, lags)
        factor = 0.0 if condition.paused else condition.factor
        self._factor = factor
        for number, worker in self._workers.items():
            usage = worker.child.process.usage()
            if usage is not None:
                self._outbox.note(Taken(number, usage.rss, usage.cpu_s, worker.child.process.is_stopped()))
        times = process.cpu_times()
        self._outbox.note(NodeState([*condition.notices], times.user + times.system, peak_rss()))
        if condition.events:
            self._outbox.add(Told([*condition.events]))

    def _tell_board(self, worker: NodeWorker) -> None:
        if (data := worker.board()) is not None:
            self._outbox.note(Board(worker.number, data))

    def _tell_log(self) -> None:
        """Tell what workers have written into the log of their directory: tracebacks of defects."""
        try:
            with self._directory.log.open("rb") as file:
                file.seek(self._logged)
                text = file.read(_LOG_BYTES)
        except OSError:  # there is none, or no file can be opened: a tick later
            return
        if text:
            self._logged += len(text)
            self._outbox.note(Told(text.decode("utf-8", "backslashreplace").splitlines()))

    # The end

    def _forsake(self) -> bool:
        """End the workers of a node that the cluster has lost; False where they cannot be ended.

        So the driver knows for sure and at once that nothing is sent from it any more, and others may. What the workers
        have written goes with it.
        """
        workers = [*self._workers.values()]
        for worker in workers:
            worker.child.process.kill()
        for worker in workers:
            worker.child.process.join(_KILLED_S)
            if worker.child.process.is_alive():
                return False
            asyncio.get_running_loop().remove_reader(worker.child.pipe.fileno())
            with suppress(OSError, RowmillError):
                worker.read()
            self._tell_board(worker)
        self._outbox.add(Forsaken(), pressing=True)
        return True

    async def _end(self, seconds: float) -> None:
        """Close the pipes, and see the workers out, after so many seconds by force."""
        until = monotonic() + seconds
        loop = asyncio.get_running_loop()
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            loop.remove_reader(worker.child.pipe.fileno())
            worker.hang_up()
        for worker in workers.values():
            await asyncio.to_thread(worker.child.process.join, max(0.0, until - monotonic()))
            worker.child.process.kill()
            worker.child.process.join()
        self._directory.close()
        shutil.rmtree(self._directory.path, ignore_errors=True)


def _sweep() -> None:
    """Remove what agents have left that were killed: directories that nobody holds a lock in."""
    for place in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if place.stat().st_uid == os.getuid() and RunDirectory(place).is_nobodys():
                shutil.rmtree(place, ignore_errors=True)
        except OSError:
            continue
