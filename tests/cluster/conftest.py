"""A cluster without Ray: real agents with real worker processes, in this process, and the driver as it is."""

import asyncio
import json
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from rowmill.cluster import driver, wire
from rowmill.cluster.agent import Agent
from rowmill.cluster.engine import Node
from rowmill.cluster.needs import Need
from rowmill.cluster.wire import Hello
from rowmill.core import config as configuration
from rowmill.core.config import Config
from rowmill.core.reports import RunReport
from rowmill.core.simulator import SimulatorSettings
from rowmill.ipc import messages
from rowmill.runs import session as sessions
from tests.simulator_host import HostedSimulator, SimulatorHost
from tests.watcher import Watcher

ROWS = 400


class Machine:
    """A machine with an agent, and what a test makes of it.

    other_clock_s: how far its clock is ahead of the driver's; None: it is the driver's. shuffled: calls overtake
    others. silent: nothing is answered any more. leaves_s: it is drained. agents: all that it has had.
    """

    def __init__(self, number: int, cpus: int) -> None:
        self.node = Node(f"{number:06d}" * 4, f"10.0.0.{number}", cpus, fits=True, leaves_s=None)
        self.other_clock_s: float | None = None
        self.shuffled = False
        self.silent = False
        self.heard: list[object] = []  # messages to its workers
        self.carried = 0  # bytes of the input
        self.told: list[float] = []  # what is to be added to the driver's clock, as each call has said
        self.agents: list[Agent] = []
        self._held: list[tuple[int, float, bytes]] = []

    @property
    def agent(self) -> Agent:
        return self.agents[-1]

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        return [each.child.process.pid or 0 for each in self.agent._workers.values()]

    def drain(self, seconds: float) -> None:
        self.node = self.node._replace(leaves_s=seconds)

    async def start(self, errand: bytes) -> "Machine":
        self.agents.append(Agent(errand))
        return self

    def end(self) -> None:
        """Do to the agent what the end of its process does: nobody acts any more, its pipes are closed."""
        for agent in self.agents:
            if agent._ticking is not None:
                agent._ticking.cancel()
            for worker in agent._workers.values():
                with suppress(OSError, ValueError):
                    asyncio.get_running_loop().remove_reader(worker.child.pipe.fileno())
                worker.hang_up()
                worker.child.process.kill()
                worker.child.process.join()
            agent._workers.clear()
            agent._directory.close()

    # As an actor's methods

    async def hello(self) -> bytes:
        await self._answers()
        data = await self.agent.hello()
        if self.other_clock_s is None:
            return data
        said = msgspec.msgpack.decode(data, type=Hello)
        return msgspec.msgpack.encode(
            msgspec.structs.replace(said, boot="of another machine", moment=said.moment + self.other_clock_s)
        )

    async def exchange(self, serial: int, behind_s: float, down: bytes, wait_s: float) -> bytes:
        await self._answers()
        behind_s = self._behind(behind_s, down)
        up = await self.agent.exchange(serial, behind_s, down, wait_s)
        held, self._held = self._held, []
        for each in reversed(held):  # now what has been overtaken, the last one first
            await self.agent.tell(*each)
        if self.other_clock_s is None:
            return up
        there = wire.to_driver.decode(up)
        return wire.encode(msgspec.structs.replace(there, moment=there.moment + self.other_clock_s))

    async def tell(self, serial: int, behind_s: float, down: bytes) -> None:
        await self._answers()
        behind_s = self._behind(behind_s, down)
        if self.shuffled:
            self._held.append((serial, behind_s, down))
        else:
            await self.agent.tell(serial, behind_s, down)

    async def close(self) -> None:
        await self._answers()
        await self.agent.close()

    def _behind(self, seconds: float, down: bytes) -> float:
        self.told.append(seconds)
        items = wire.to_agent.decode(down)
        self.heard += [messages.to_worker(item.message) for item in items if isinstance(item, wire.Tell)]
        self.carried += sum(len(item.data) for item in items if isinstance(item, wire.Piece))
        return seconds - (self.other_clock_s or 0.0)

    async def _answers(self) -> None:
        if self.silent:
            await asyncio.Event().wait()


class Machines:
    """All of them, as the driver sees a cluster by Ray."""

    started = False

    def __init__(self, count: int = 2, cpus: int = 1) -> None:
        self.all = [Machine(number, cpus) for number in range(count)]
        self.asked: list[tuple[int, int]] = []  # nodes that an autoscaler was to bring, and workers of each
        self.needs: list[str] = []  # modules that the nodes were to have
        self.settles = True
        self.comes = False

    def add(self) -> Machine:
        self.all.append(Machine(len(self.all), 1))
        return self.all[-1]

    # As the engine

    def nodes(self) -> list[Node]:
        return [each.node for each in self.all]

    def ask_for(self, nodes: int, workers: int) -> None:
        self.asked.append((nodes, workers))

    @property
    def settled(self) -> bool:
        self.asked.append((0, 0))
        return self.settles

    def awaited(self) -> bool:
        return self.comes

    async def agent(self, node: Node, cpus: float, errand: bytes, needs: Sequence[Need]) -> Machine:
        self.needs = [need.module for need in needs]
        [found] = [each for each in self.all if each.node.id == node.id]
        return await found.start(errand)

    async def call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        return await method(*arguments)

    def end(self, machine: Machine) -> None:
        machine.end()

    def close(self) -> None:
        pass


class Home:
    """A directory with an input, and runs in it, here or on machines."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = patch
        self.output = folder / "out.jsonl"
        self.run_dir = folder / "out.jsonl.run"
        rows = (json.dumps({"id": f"r{row}", "text": f"row {row} " + "x" * 600}) for row in range(ROWS))
        (folder / "in.jsonl").write_text("\n".join(rows) + "\n")

    def config(self, url: str, **tables: dict[str, Any]) -> Config:
        usual: dict[str, Any] = {
            "input": {"path": "in.jsonl", "id": "id"},
            "task": {"model": "m", "prompt": "{text}"},
            "output": {"path": "out.jsonl"},
            "workers": {"count": 2, "concurrency": 8},
            "checkpoint": {"commit_ms": 5},
            "cluster": {},
        }
        tree: dict[str, Any] = {name: {**keys, **tables.pop(name, {})} for name, keys in usual.items()}
        return configuration.parse({**tree, **tables, "provider": [{"base_url": url, "timeout_s": 20}]}, "test.toml")

    def run(self, config: Config, watcher: Watcher | None = None, **options: Any) -> RunReport:
        """Run here."""
        report, _ = sessions.run(config, {}, watcher or Watcher(), **options)
        return report

    def reference(self, config: Config) -> bytes:
        """Return the output of a run here, of which nothing stays."""
        self.run(config)
        output = config.output_path.read_bytes()
        self.clear(config)
        return output

    def run_on(
        self, machines: Machines, config: Config, watcher: Watcher | None = None, *, carry: bool = True, **options: Any
    ) -> RunReport:
        """Run on these machines; when it returns nothing of it may be left on them."""
        cluster = msgspec.structs.replace(config.cluster, engine="ray", input="carry" if carry else "auto")
        self._patch.setattr(driver, "Engine", lambda _settings: machines)
        report = self.run(msgspec.structs.replace(config, cluster=cluster), watcher, **options)
        assert workers_here() == []
        return report

    def as_csv(self) -> None:
        """Have the rows as CSV too."""
        rows = map(json.loads, (self.folder / "in.jsonl").read_bytes().splitlines())
        lines = ["id,text", *(f"{row['id']},{row['text']}" for row in rows)]
        (self.folder / "in.csv").write_text("\n".join(lines) + "\n")

    def clear(self, config: Config) -> None:
        """Remove a run."""
        config.output_path.unlink()
        shutil.rmtree(config.run_dir)

    def left(self) -> list[Path]:
        """Return the directories of agents that are still there."""
        return list(Path(tempfile.gettempdir()).glob("rowmill-node-*"))


def workers_here() -> list[int]:
    """Return the worker processes that are at work, of any agent."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "rowmill-worker" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(driver, "_LOOK_S", 0.1)
    monkeypatch.setattr(driver, "_AGAIN_S", 0.3)
    return Home(tmp_path, monkeypatch)


@pytest.fixture
def simulate(simulators: SimulatorHost) -> Iterator[Callable[..., "Witness"]]:
    started: list[Witness] = []

    def start(**settings: Any) -> Witness:
        started.append(Witness(simulators.start(SimulatorSettings(**{"latency_ms": 2, **settings}))))
        return started[-1]

    yield start
    for each in started:
        each.simulator.stop()


class Witness:
    """A simulator, and what it has seen."""

    def __init__(self, simulator: HostedSimulator) -> None:
        self.simulator = simulator
        self.url = simulator.base_url

    def stats(self) -> dict[str, Any]:
        with _direct.open(f"{self.url.removesuffix('/v1')}/stats", timeout=10) as reply:
            total: dict[str, Any] = json.load(reply)["total"]
        return total


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no way to our loopback
