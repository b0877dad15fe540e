"""A node's end: what it does with what it is told, in whatever order that arrives, and once nobody tells it more."""

import asyncio
import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.cluster import agent as agents
from rowmill.cluster import wire
from rowmill.cluster.agent import Agent
from rowmill.cluster.clocks import boot_of_machine
from rowmill.cluster.node_worker import NodeWorker
from rowmill.cluster.wire import (
    Begin,
    Down,
    Ended,
    Errand,
    Forsaken,
    Hello,
    Kill,
    NodeState,
    Past,
    Piece,
    Started,
    Taken,
    Tell,
    Told,
    Unable,
    Up,
)
from rowmill.core.errors import ExitCode, MachineError
from rowmill.core.rows import InputPart
from rowmill.files.input import carried
from rowmill.ipc import messages, processes
from rowmill.ipc.messages import ClaimsAnswer, Drain
from rowmill.ipc.processes import Child
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.machine.cgroup import Memory
from rowmill.supervisor.machine.monitor import Monitor

WORKER = "rowmill.worker.live.process"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def errand(parts: list[InputPart] | None = None, marks: list[bytes] | None = None, *, carry: bool = False) -> bytes:
    return msgspec.msgpack.encode(
        Errand(
            parts or [],
            marks or [carried.mark(part.path) for part in parts or []],
            [[] for _ in parts or []],
            carry,
            0.9,
            "auto",
        )
    )


class Driver:
    """Who speaks to an agent."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.serial = 0
        self.heard: list[Up] = []

    async def say(self, *items: Down) -> None:
        self.serial += 1
        await self.agent.tell(self.serial - 1, 0.0, wire.encode(items))

    async def round(self, wait_s: float = 0.05) -> list[Up]:
        self.serial += 1
        up = await self.agent.exchange(self.serial - 1, 0.0, wire.encode([]), wait_s)
        found = wire.to_driver.decode(up).items
        self.heard += found
        return found

    async def until(self, kind: type[Any]) -> Any:
        """Go to and fro until there is one of these."""
        async with asyncio.timeout(20):
            while not (found := [each for each in self.heard if isinstance(each, kind)]):
                await self.round()
        return found[-1]


def run(test: Callable[[Driver], Coroutine[Any, Any, None]], given: bytes | None = None) -> None:
    async def whole() -> None:
        problems: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        agent = Agent(given or errand())
        try:
            await test(Driver(agent))
        finally:
            await agent.close()
            if agent._ticking is not None:
                agent._ticking.cancel()
        assert problems == []

    asyncio.run(whole())


def pieces(place: Path) -> Path:
    [node] = place.glob("rowmill-node-*")
    return node / "input"


@given(order=st.permutations(range(6)), exchanged=st.sets(st.integers(0, 5), max_size=2))
@settings(max_examples=15, deadline=None)
def test_calls_are_heeded_in_their_order_however_they_arrive(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], exchanged: set[int]
) -> None:
    place = tmp_path_factory.mktemp("order")

    async def test(driver: Driver) -> None:
        for serial in order:
            down = wire.encode([Piece(0, 7, serial, b"%d end" % serial)])
            if serial in exchanged:
                await driver.agent.exchange(serial, 0.0, down, 0.0)
            else:
                await driver.agent.tell(serial, 0.0, down)
        assert (pieces(place) / "000007.shard").read_bytes() == b"0123456"[:5] + b"5 end"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(place))
        run(test)


def test_what_is_carried_lies_where_it_belongs(place: Path) -> None:
    async def test(driver: Driver) -> None:
        await driver.say(
            Piece(2, None, 100, b"a part"),
            Piece(2, 5, 10, b"of a shard"),
            Piece(2, None, 0, b"head"),
            Past(5, b"do"),
            Past(5, b"ne", 2),
        )
        part, shard = pieces(place) / "000002.part", pieces(place) / "000005.shard"
        assert part.read_bytes() == b"head" + bytes(96) + b"a part"
        assert shard.read_bytes() == bytes(10) + b"of a shard"
        assert part.stat().st_mode & 0o777 == 0o600
        assert pieces(place).stat().st_mode & 0o777 == 0o700
        checkpoint = driver.agent._directory.checkpoints / "000005.checkpoint"
        assert checkpoint.read_bytes() == b"done"
        await driver.say(Past(5, b""))
        assert not checkpoint.exists()

    run(test)
    assert list(place.glob("rowmill-node-*")) == []


def test_an_agent_says_who_it_is_and_what_it_sees(tmp_path: Path, place: Path) -> None:
    same, other, gone = (tmp_path / name for name in ("same", "other", "gone"))
    for path in (same, other):
        path.write_bytes(b"rows")
    parts = [InputPart(str(path), "lines") for path in (same, other, gone)]
    marks = [carried.mark(str(same)), b"another's", b""]

    async def test(driver: Driver) -> None:
        before = monotonic()
        hello = msgspec.msgpack.decode(await driver.agent.hello(), type=Hello)
        assert hello.seen == [True, False, False]
        assert (hello.pid, hello.boot) == (os.getpid(), boot_of_machine())
        assert before <= hello.moment <= monotonic()

    async def carries(driver: Driver) -> None:
        assert msgspec.msgpack.decode(await driver.agent.hello(), type=Hello).seen == [False] * 3

    run(test, errand(parts, marks))
    run(carries, errand(parts, marks, carry=True))


def test_a_worker_begins_and_ends(place: Path) -> None:
    async def test(driver: Driver) -> None:
        await driver.say(Begin(4, WORKER, "rowmill-worker-4"))
        started = await driver.until(Started)
        assert started.worker == 4
        assert psutil.pid_exists(started.pid)
        await driver.say(Kill(4), Kill(99))
        assert await driver.until(Ended) == Ended(4, -9)
        assert not psutil.pid_exists(started.pid)

    run(test)


def test_a_worker_that_somebody_has_stopped_holds_up_no_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_MEASURE_S", 0.02)
    monkeypatch.setattr(agents, "_TICK_S", 0.01)

    async def test(driver: Driver) -> None:
        await driver.agent.hello()
        await driver.say(Begin(1, WORKER, "rowmill-worker-1"), Begin(2, WORKER, "rowmill-worker-2"))
        while len(pids := {each.worker: each.pid for each in driver.heard if isinstance(each, Started)}) < 2:
            await driver.round()
        stopped = psutil.Process(pids[1])
        stopped.suspend()
        while not any(isinstance(each, Taken) and each.stopped for each in driver.heard):
            await driver.round()
        more = messages.encode(ClaimsAnswer([], [(b"key", bytes(1000))]))
        await driver.say(*(Tell(1, more) for _ in range(2000)), Tell(2, messages.encode(Drain(0.0))))
        assert await driver.until(Ended) == Ended(2, 0)
        stopped.resume()
        while not any(isinstance(each, Ended) and each.worker == 1 for each in driver.heard):
            await driver.round()

    run(test)


def test_a_worker_whose_records_cannot_be_read_ends(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = NodeWorker.read
    failed = 0

    def fails(worker: NodeWorker) -> bool:
        nonlocal failed
        failed += 1
        if failed == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(worker)

    monkeypatch.setattr(NodeWorker, "read", fails)

    async def test(driver: Driver) -> None:
        await driver.say(Begin(4, WORKER, "rowmill-worker-4"))
        # Anything that it says will do.
        driver.agent._workers[4].child.process.kill()
        assert await driver.until(Ended) == Ended(4, -9)
        lines = [line for each in driver.heard if isinstance(each, Told) for line in each.lines]
        assert any("Input/output error" in line for line in lines)

    run(test)


def test_a_worker_that_cannot_be_started_has_ended(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> Child:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(processes, "start", refuses)

    async def test(driver: Driver) -> None:
        await driver.say(Begin(4, WORKER, "rowmill-worker-4"))
        assert await driver.until(Ended) == Ended(4, None)
        [told] = [each for each in driver.heard if isinstance(each, Told)]
        assert "Resource temporarily unavailable" in told.lines[0]

    run(test)


def test_what_a_worker_cannot_be_told_ends_it_and_says_why(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise MachineError("cache.dir: no space")

    monkeypatch.setattr(NodeWorker, "hear", refuses)

    async def test(driver: Driver) -> None:
        await driver.say(Begin(4, WORKER, "rowmill-worker-4"), Tell(4, b"its setup"))
        assert await driver.until(Ended) == Ended(4, 0)
        assert await driver.until(Unable) == Unable(4, ExitCode.MACHINE, "cache.dir: no space")

    run(test)


def test_what_a_worker_writes_into_its_log_is_told(place: Path) -> None:
    async def test(driver: Driver) -> None:
        await driver.agent.hello()
        driver.agent._directory.log.write_text("first\nTraceback\n")
        assert (await driver.until(Told)).lines == ["first", "Traceback"]
        with driver.agent._directory.log.open("a") as log:
            log.write("more\n")
        driver.heard.clear()
        assert (await driver.until(Told)).lines == ["more"]

    run(test)


def test_a_node_tells_what_it_takes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_TICK_S", 0.01)
    monkeypatch.setattr(agents, "_MEASURE_S", 0.02)

    async def test(driver: Driver) -> None:
        free = 100
        driver.agent._monitor = Monitor((place,), read_memory=lambda: Memory(100, free))
        await driver.agent.hello()
        await driver.say(Begin(0, WORKER, "rowmill-worker-0"))
        taken = await driver.until(Taken)
        assert taken.worker == 0
        assert taken.rss > 1 << 20
        assert not taken.stopped
        state = await driver.until(NodeState)
        assert state.notices == []
        assert state.cpu_s > 0
        assert driver.agent._factor == 1.0
        free = 2
        driver.heard.clear()
        told = await driver.until(Told)
        assert told.lines == ["memory 98% used, 0 kB free: fewer requests in flight"]
        driver.heard.clear()
        state = await driver.until(NodeState)
        assert state.notices[0].startswith("memory 98% used: concurrency at ")
        assert driver.agent._factor < 1.0

    run(test)


def test_a_disk_that_takes_nothing_more_is_told(place: Path) -> None:
    async def test(driver: Driver) -> None:
        pieces(place).rmdir()
        await driver.say(Piece(0, 0, 0, b"data"), Past(1, b"heeded"))
        [told] = await driver.round()
        assert isinstance(told, Told)
        assert "No such file" in told.lines[0]
        assert (driver.agent._directory.checkpoints / "000001.checkpoint").read_bytes() == b"heeded"

    run(test)


class Exited(Exception):
    pass


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note what ends this process, which goes on."""
    codes: list[int] = []

    def exit_(code: int) -> None:
        codes.append(code)
        raise Exited

    monkeypatch.setattr(os, "_exit", exit_)
    return codes


def test_an_agent_that_hears_of_nobody_ends_and_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, exits: list[int]
) -> None:
    assert agents._ALONE_S == 4.0
    monkeypatch.setattr(agents, "_ALONE_S", 0.3)
    monkeypatch.setattr(agents, "_TICK_S", 0.02)

    async def test() -> None:
        agent = Agent(errand())
        driver = Driver(agent)
        await agent.hello()
        await driver.say(Begin(0, WORKER, "rowmill-worker-0"))
        started = await driver.until(Started)
        heard = monotonic()
        await driver.say()
        assert agent._ticking is not None
        with pytest.raises(Exited):
            await asyncio.wait_for(agent._ticking, 20)
        assert monotonic() - heard >= 0.3
        assert exits == [0]
        assert not psutil.pid_exists(started.pid)

    asyncio.run(test())
    assert list(place.glob("rowmill-node-*")) == []


def test_what_a_killed_agent_has_left_goes_and_what_another_one_holds_stays(place: Path) -> None:
    left = place / "rowmill-node-left"
    RunDirectory.open(left).close()
    (left / "input").mkdir()
    stranger = place / "rowmill-node-not-of-a-run"
    stranger.mkdir()
    with RunDirectory.open(place / "rowmill-node-held") as held:

        async def test(driver: Driver) -> None:
            assert not left.exists()
            assert held.path.exists()
            assert stranger.exists()

        run(test)


@pytest.mark.parametrize("told", [True, False], ids=["told by the kernel", "looked for"])
def test_a_node_without_its_raylet_ends_its_workers_at_once_and_says_so_last(
    place: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """What Ray itself tells the driver comes seconds later: leases would lie idle for so long."""
    ended: list[int] = []
    gone = False
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as raylet:
        monkeypatch.setattr(os, "getppid", lambda: 1 if gone and not told else raylet.pid)
        monkeypatch.setattr(os, "_exit", ended.append)
        monkeypatch.setattr(agents, "_LAST_S", 0.3)
        if not told:
            monkeypatch.delattr(os, "pidfd_open")

        async def test(driver: Driver) -> None:
            nonlocal gone
            await driver.agent.hello()
            await driver.say(Begin(1, WORKER, "rowmill-worker-1"), Begin(2, WORKER, "rowmill-worker-2"))
            while len(workers := [psutil.Process(each.pid) for each in driver.heard if isinstance(each, Started)]) < 2:
                await driver.round()
            raylet.kill()
            gone = True
            await driver.until(Forsaken)
            assert not any(each.is_running() for each in workers)
            assert isinstance(driver.heard[-1], Forsaken)
            while not ended:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)

        run(test)
    assert list(place.glob("rowmill-node-*")) == []
    assert ended == [0]
