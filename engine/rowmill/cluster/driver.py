"""The cluster as the supervisor has it: nodes come, get an agent and a link, and go."""

import asyncio
import contextlib
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Literal

import msgspec

from rowmill.cluster.clocks import boot_of_machine
from rowmill.cluster.demand import Demand
from rowmill.cluster.engine import Engine, Node
from rowmill.cluster.link import Link
from rowmill.cluster.needs import Need, needs_of
from rowmill.cluster.records import Records
from rowmill.cluster.wire import Errand, Hello
from rowmill.core.config import Config
from rowmill.core.errors import MachineError
from rowmill.core.reports import NodeFigures
from rowmill.core.rows import InputFile, InputPart
from rowmill.files.input import carried
from rowmill.ipc import processes
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.hosts import Host, Joined, Leaving
from rowmill.supervisor.mailbox import Crashed

_LOOK_S = 1.0
_START_S = 20.0  # until there is a first node with room
_HELLO_S = 25.0
_INSTALL_S = 300.0  # as long where an environment is made on each node first
_REFUSED_S = 8.0  # without a first node, where those that there are have said why
_AGAIN_S = 3.0  # until a node on which something went wrong is tried again
_PATIENCE_S = 600.0  # without any node, once there was one


class RayCluster:
    """Workers on the nodes of a Ray cluster. A `Cluster` of the supervisor's.

    workers: that there is room for on the nodes that are there when the run begins.
    """

    def __init__(
        self,
        config: Config,
        tell: Callable[[str], None] = lambda _line: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Connect, and wait a while for a node with room. Raises `ConfigError` and `MachineError`.

        `tell` takes what there is to be told meanwhile.
        """
        self._config = config
        self._settings = config.cluster
        self._clock = clock
        with processes.signals_held():
            self._engine = Engine(self._settings)
        self.started = self._engine.started
        self._rooms: dict[str, int] = {}  # node -> workers that it had room for, of those that were tried
        self._demand = Demand(self._engine)
        try:
            self.workers = sum(map(self._room, self._first_nodes(tell)[: self._settings.nodes]))
        except BaseException:
            self._engine.close()
            raise
        self._links: dict[str, Link] = {}
        self._all: list[Link] = []
        self._waiting: tuple[str, ...] = ()
        self._problem: str | None = None  # the latest of a node
        self._problems: set[str] = set()  # all that were told
        self._hello_s = _INSTALL_S if self._settings.runtime_env else _HELLO_S
        self._put: Callable[[object], None] = lambda _item: None
        self._errand = b""
        self._needs: list[Need] = []
        self._parts: list[InputPart] = []
        self._origins: list[list[InputFile]] = []
        self._records: Records | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._began = 0.0

    def _first_nodes(self, tell: Callable[[str], None]) -> list[Node]:
        """Return the nodes that have room. Waits for a first one, and for one that an autoscaler brings."""
        began = self._clock()
        until = began + _START_S
        waiting = threading.Event()
        told = False
        while True:
            there = self._engine.nodes()
            nodes = [node for node in there if self._room(node)]
            now = self._clock()
            settled = self._demand.settled([node.id for node in there], now)
            if nodes and settled:
                return nodes
            if not nodes and settled:
                self._demand.ask_for(self._missing(0), self._each)
                if self._engine.awaited():
                    until = min(now + _START_S, began + _PATIENCE_S)
                    if not told:
                        tell("cluster: no node has room; waiting for one that the autoscaler starts")
                    told = True
            if now >= until:
                raise MachineError(self._no_room())
            waiting.wait(_LOOK_S)

    def _missing(self, nodes: int) -> int:
        """Return how many more nodes would be used than these: a first one, or as many as the configuration wants."""
        return max(0, (self._settings.nodes or 1) - nodes)

    @property
    def _each(self) -> int:
        """The workers that a node is asked for with: what the smallest one has room for, one where nobody knows."""
        wanted = self._settings.workers_per_node
        if wanted == "auto":
            wanted = self._config.workers.count
        return wanted if isinstance(wanted, int) else min(self._rooms.values(), default=1)

    def _no_room(self) -> str:
        wanted = [f"{self._settings.cpus_per_worker:g} free CPUs"]
        wanted += [f"{amount:g} {name}" for name, amount in self._settings.resources.items()]
        has = ", ".join(f"{node.name}: {node.free:g}" for node in self._engine.nodes())
        has = f"CPUs free on {has}" if has else "no node is alive"
        return (
            f"no node of the cluster has {' and '.join(wanted)} ({has}): end what uses them, lower "
            "cluster.cpus_per_worker, or add a node"
        )

    def _room(self, node: Node) -> int:
        """Return how many workers a node has room for."""
        if not node.fits or node.leaves_s is not None:
            return 0
        room = math.floor(node.free / self._settings.cpus_per_worker + 1e-6)
        wanted = self._settings.workers_per_node
        if wanted == "auto":
            wanted = self._config.workers.count if isinstance(self._config.workers.count, int) else room
        return min(room, wanted)

    # As a `Cluster`

    def begin(
        self,
        put: Callable[[object], None],
        directory: RunDirectory,
        parts: Sequence[InputPart],
        origins: Sequence[Sequence[InputFile]],
    ) -> None:
        """Look for nodes from now on."""
        self._put = put
        self._parts = [*parts]
        self._origins = [[*files] for files in origins]
        self._records = Records(directory)
        machine = self._config.machine
        self._errand = msgspec.msgpack.encode(
            Errand(
                parts=self._parts,
                marks=[carried.mark(part.path) for part in parts],
                origins=self._origins,
                carry=self._settings.input == "carry",
                memory=machine.memory,
                min_free_mb=machine.min_free_mb,
            )
        )
        self._needs = needs_of(self._config, self._parts)
        self._began = self._clock()
        self._thread = threading.Thread(target=self._main, name="rowmill-cluster", daemon=True)
        self._thread.start()

    def notices(self) -> tuple[str, ...]:
        """Return what is waited for, and what the nodes say."""
        return (*self._waiting, *(notice for link in list(self._links.values()) for notice in link.notices))

    def figures(self, rows: Mapping[Host, int]) -> list[NodeFigures]:
        """Return what the report says of the nodes; `rows`: that came to an outcome on each."""
        found = [(link.figures, rows.get(link, 0)) for link in self._all]
        return [
            msgspec.structs.replace(
                each, rows=count, carried_mb=round(each.carried_mb, 3), sent_mb=round(each.sent_mb, 3)
            )
            for each, count in found
        ]

    def close(self) -> None:
        """Let go of all nodes, and of the cluster."""
        if self._thread is not None:
            if self._loop is not None and self._closing is not None:
                with contextlib.suppress(RuntimeError):  # it has ended by itself
                    self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()
        self._engine.close()

    # The thread

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception as error:  # noqa: BLE001 - the last edge of a thread: the supervisor tells it
            self._put(Crashed(error))

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        tasks: dict[str, asyncio.Task[None]] = {}
        closing = asyncio.create_task(self._closing.wait())
        try:
            await self._look(closing, tasks)
        except Exception as error:  # noqa: BLE001 - the supervisor tells it, and brings home what is in flight on the nodes
            self._put(Crashed(error))
            await closing
        await asyncio.gather(*(link.close() for link in self._links.values()))
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _look(self, closing: asyncio.Task[Literal[True]], tasks: dict[str, asyncio.Task[None]]) -> None:
        """Use nodes as they come, each in a task of its own, until it is time to close."""
        tried: dict[str, float] = {}
        alone_since = self._clock()
        while not closing.done():
            nodes = await asyncio.to_thread(self._engine.nodes)
            now = self._clock()
            there = {node.id: node for node in nodes}
            settled = await asyncio.to_thread(self._demand.settled, there, now)
            for number, task in list(tasks.items()):
                if task.done():
                    del tasks[number]
                    tried[number] = now
                    task.result()
            for number, link in self._links.items():
                node = there.get(number)
                if node is not None and node.leaves_s is not None and not link.leaving:
                    link.leaving = True
                    self._put(f"node {node.name} is drained, and goes in {node.leaves_s:.0f} s")
                    self._put(Leaving(link, max(1.0, node.leaves_s - _AGAIN_S)))
            for node in nodes if settled else ():
                if node.id in tasks or now - tried.get(node.id, -math.inf) < _AGAIN_S or not self._room(node):
                    continue
                if self._settings.nodes is not None and len(tasks) >= self._settings.nodes:
                    break
                self._rooms[node.id] = self._room(node)
                tasks[node.id] = asyncio.create_task(self._use(node))
            if settled:
                await asyncio.to_thread(self._demand.ask_for, self._missing(len(tasks)), self._each)
            if self._links:
                alone_since = now
            self._wait_for_nodes(now - alone_since, trying=bool(tasks))
            await asyncio.wait([closing, *tasks.values()], timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)

    def _wait_for_nodes(self, seconds: float, *, trying: bool) -> None:
        self._waiting = () if self._links or trying else ("waiting for a node of the cluster",)
        first = not self._all
        refused = self._problem is not None and not trying
        longest = _PATIENCE_S if not first else _REFUSED_S if refused else self._hello_s
        if seconds < longest or (trying and not first):
            return
        why = self._problem or self._no_room()
        self._put(Crashed(MachineError(why if first else f"no node of the cluster is left: {why}")))

    async def _use(self, node: Node) -> None:
        """Have an agent on a node, until it is lost."""
        assert self._records is not None
        room = self._room(node)
        agent = None
        try:
            async with asyncio.timeout(self._hello_s):
                cpus = room * self._settings.cpus_per_worker
                agent = await self._engine.agent(node, cpus, self._errand, self._needs)
                calls = _Calls(self._engine, agent)
                hello = msgspec.msgpack.decode(await calls.hello(), type=Hello)
            link = Link(
                node.name,
                calls,
                hello,
                self._clock(),
                same_machine=bool(hello.boot) and hello.boot == boot_of_machine(),
                records=self._records,
                parts=self._parts,
                origins=self._origins,
                put=self._put,
                began=self._began,
            )
            self._links[node.id] = link
            self._all.append(link)
            self._put(f"node {node.name}: {room} {'worker' if room == 1 else 'workers'}")
            self._put(Joined(link, room))
            await link.rounds()
            self._put(f"node {node.name} is lost: {link.why}")
            self._problem = f"node {node.name}: {link.why}"
        except (MachineError, TimeoutError) as error:
            self._problem = str(error) or f"node {node.name}: its agent did not come up in {self._hello_s:.0f} s"
            if self._problem not in self._problems:  # once, however often the node is tried
                self._problems.add(self._problem)
                self._put(self._problem)
        finally:
            self._links.pop(node.id, None)
            if agent is not None:
                self._engine.end(agent)


class _Calls:
    """An agent's methods, called over the cluster."""

    def __init__(self, engine: Engine, agent: Any) -> None:
        self._call = engine.call
        self._agent = agent

    def hello(self) -> Awaitable[bytes]:
        return self._call(self._agent.hello)

    def exchange(self, serial: int, behind_s: float, down: bytes, wait_s: float) -> Awaitable[bytes]:
        return self._call(self._agent.exchange, serial, behind_s, down, wait_s)

    def tell(self, serial: int, behind_s: float, down: bytes) -> Awaitable[None]:
        return self._call(self._agent.tell, serial, behind_s, down)

    def close(self) -> Awaitable[None]:
        return self._call(self._agent.close)
