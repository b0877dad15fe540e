"""The driver's end of a node: what it says and hears, whose clock is whose, and when a node is lost."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zlib_ng.zlib_ng import crc32

from rowmill.cluster import link as links
from rowmill.cluster import shard_input, wire
from rowmill.cluster.link import AgentDiedError, Link
from rowmill.cluster.records import Records
from rowmill.cluster.wire import (
    Arrived,
    Begin,
    Board,
    Down,
    Ended,
    Forsaken,
    Group,
    Hello,
    Kill,
    Lacking,
    NodeState,
    Passed,
    Past,
    Piece,
    Read,
    Round,
    Started,
    Taken,
    Tell,
    Told,
    Unable,
    Up,
    Whole,
)
from rowmill.core.errors import MachineError
from rowmill.core.leases import Lease
from rowmill.core.rows import InputFile, InputPart, Shard
from rowmill.files.input import parquet
from rowmill.ipc import messages
from rowmill.ipc.messages import Assign, Drain, Leases, Note, Stop, ToSupervisor
from rowmill.ipc.processes import Child
from rowmill.store import durable
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.mailbox import Crashed


class Calls:
    """An agent that a test speaks for: it answers with what is in `up`, once there is something."""

    def __init__(self, moment: Callable[[], float] = monotonic) -> None:
        self.heard: list[tuple[int, float, list[Down]]] = []
        self.up: asyncio.Queue[list[Up]] = asyncio.Queue()
        self.closed = False
        self.error: Exception | None = None
        self.silent = False
        self._moment = moment

    async def exchange(self, serial: int, behind_s: float, down: bytes, wait_s: float) -> bytes:
        await self.tell(serial, behind_s, down)
        up: list[Up] = []
        try:
            async with asyncio.timeout(min(wait_s, 0.01)):
                up = await self.up.get()
        except TimeoutError:
            pass
        return wire.encode(Round(self._moment(), up))

    async def tell(self, serial: int, behind_s: float, down: bytes) -> None:
        if self.silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.heard.append((serial, behind_s, wire.to_agent.decode(down)))

    async def close(self) -> None:
        self.closed = True

    @property
    def items(self) -> list[Down]:
        """All that was said, in the order of the calls' serials."""
        assert sorted(serial for serial, _, _ in self.heard) == list(range(len(self.heard)))
        return [item for _, _, items in sorted(self.heard) for item in items]

    async def said(self, kind: type[Any], count: int = 1) -> list[Any]:
        """Wait until so many of these were said."""

        def found() -> list[Any]:
            return [each for each in self.items if isinstance(each, kind)]

        await until(lambda: len(found()) >= count)
        return found()


async def until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(10):
        while not (value := condition()):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)
    return value


class Node:
    """A link to an agent that the test speaks for."""

    def __init__(
        self, home: Path, calls: Calls, parts: list[InputPart], *, same_machine: bool, moment: float, reads: bool
    ) -> None:
        self.directory = RunDirectory.open(home / "run")
        self.calls = calls
        clock: Callable[[], float] = vars(links)["monotonic"]  # as a test may have it
        self.mail: list[object] = []
        self.link = Link(
            "10.0.0.1",
            calls,
            Hello(1, moment, "", [reads] * len(parts)),
            clock(),
            same_machine=same_machine,
            records=Records(self.directory),
            parts=parts,
            origins=[[InputFile("s3://rows/in", 0, 0)] if reads else [] for _ in parts],
            put=self.mail.append,
            began=clock(),
        )

    def worker(self, number: int = 0) -> Child:
        return self.link.start("rowmill.worker.live.process", f"rowmill-worker-{number}", number)


@asynccontextmanager
async def linked(
    home: Path,
    calls: Calls | None = None,
    parts: list[InputPart] | None = None,
    *,
    same_machine: bool = True,
    moment: float = 0.0,
    reads: bool = False,
) -> AsyncIterator[Node]:
    node = Node(home, calls or Calls(), parts or [], same_machine=same_machine, moment=moment, reads=reads)
    rounds = asyncio.create_task(node.link.rounds())
    try:
        yield node
    finally:
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)
        await node.link.close()
        for number in list(node.link._workers):
            node.link._end(number, None, "")
        node.directory.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test; an error in a callback fails it too."""

    async def whole() -> None:
        problems: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        await test
        assert problems == []

    asyncio.run(whole())


async def heard(pipe: Connection) -> ToSupervisor | None:
    return await asyncio.to_thread(messages.receive_in_supervisor, pipe)


def lease(expires: float) -> Lease:
    return Lease(0, 1, expires, 8)


def shard_of(number: int, start: int, end: int) -> Shard:
    return Shard(number, 0, 1, start, end, 0)


def test_a_worker_of_a_node_is_as_one_of_this_machine(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as node:
            worker = node.worker(3)
            assert await node.calls.said(Begin) == [Begin(3, "rowmill.worker.live.process", "rowmill-worker-3")]
            assert worker.process.usage() is None
            await node.calls.up.put(
                [
                    Started(3, 4711),
                    Taken(3, 100, 2.5, stopped=True),
                    NodeState(["memory"], 1.0, 50_000_000),
                    Told(["line"]),
                ]
            )
            await until(lambda: node.mail)
            assert worker.process.pid == 4711
            assert worker.process.usage() == (100, 2.5)
            assert worker.process.is_stopped()
            assert worker.process.is_alive()
            assert node.link.notices == ("10.0.0.1: memory",)
            assert node.mail == ["10.0.0.1: line"]
            messages.send(worker.pipe, Drain(5.0))
            [tell] = await node.calls.said(Tell)
            assert tell.worker == 3
            assert messages.to_worker(tell.message) == Drain(5.0)
            await node.calls.up.put([Passed(3, messages.encode(Note("hello"))), Passed(9, b"of nobody")])
            assert await heard(worker.pipe) == Note("hello")
            worker.process.kill()
            assert await node.calls.said(Kill) == [Kill(3)]
            await node.calls.up.put([Unable(3, 6, "no space"), Unable(9, 6, "of nobody")])
            assert await heard(worker.pipe) == Stop(6, "node 10.0.0.1: no space")
            await node.calls.up.put([Ended(3, -9), Ended(3, -9)])
            assert await heard(worker.pipe) is None
            assert (worker.process.exitcode, worker.process.end) == (-9, "killed by signal 9")
            assert not worker.process.is_alive()
            worker.process.join()
            late = node.worker(4)
            await node.calls.said(Begin, 2)
            await node.calls.up.put([Ended(4, None)])
            assert await heard(late.pipe) is None
            assert late.process.end == "it could not be started"
            for each in (worker, late):
                each.pipe.close()

    run(test())


def test_a_supervisor_that_does_not_read_one_workers_messages_has_those_of_others(tmp_path: Path) -> None:
    """And hears all of them once it reads, also where the worker has ended meanwhile."""
    told = [messages.encode(Note(f"{number} {'x' * 1000}")) for number in range(1000)]  # more than a pipe holds

    async def test() -> None:
        async with linked(tmp_path) as node:
            unread, read = node.worker(0), node.worker(1)
            await node.calls.said(Begin, 2)
            last = messages.encode(Note("of the other"))
            await node.calls.up.put([*(Passed(0, each) for each in told), Ended(0, -9), Passed(1, last)])
            assert await heard(read.pipe) == Note("of the other")
            assert not unread.process.is_alive()
            assert [await asyncio.to_thread(unread.pipe.recv_bytes) for _ in told] == told
            assert await heard(unread.pipe) is None
            for each in (unread, read):
                each.pipe.close()

    run(test())


def test_what_is_passed_on_is_on_the_disk_and_what_is_stored_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as node:
            worker = node.worker()
            await node.calls.said(Begin)
            sealed = Passed(0, messages.encode(Note("sealed")))
            await node.calls.up.put([Group(0, 5, 0, b"head one"), Whole(5, b"sealed"), sealed])
            assert await heard(worker.pipe) == Note("sealed")
            assert (node.directory.sealed / "000005.sealed").read_bytes() == b"sealed"
            assert await node.calls.said(Arrived) == [Arrived(0, 5, 8)]
            assert node.link.figures.carried_mb == pytest.approx(14e-6)
            await node.calls.up.put([Group(0, 5, 100, b"gap")])
            [_, told] = await node.calls.said(Arrived, 2)
            assert told.problem is not None
            [crashed] = node.mail
            assert isinstance(crashed, Crashed)
            assert isinstance(crashed.error, MachineError)
            assert str(crashed.error) == told.problem
            worker.pipe.close()

    run(test())


def test_an_agent_hears_of_its_driver_while_the_disk_holds_a_write_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_ALIVE_S", 0.01)
    store = Records.store
    begun, goes_on = threading.Event(), threading.Event()

    def slow(records: Records, items: list[Up]) -> Any:
        begun.set()
        assert goes_on.wait(20)
        return store(records, items)

    monkeypatch.setattr(Records, "store", slow)

    async def test() -> None:
        async with linked(tmp_path) as node:
            await node.calls.up.put([Group(0, 5, 0, b"head")])
            await asyncio.to_thread(begun.wait, 20)
            before = len(node.calls.heard)
            await until(lambda: len(node.calls.heard) > before + 5)
            goes_on.set()
            assert await node.calls.said(Arrived) == [Arrived(0, 5, 4)]

    run(test())


def test_where_a_sealed_shard_cannot_be_written_the_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, start: int, data: bytes, *, sync: bool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def test() -> None:
        async with linked(tmp_path) as node:
            worker = node.worker()
            await node.calls.said(Begin)
            monkeypatch.setattr(durable, "write_at", full)
            await node.calls.up.put([Whole(5, b"sealed"), Passed(0, messages.encode(Note("sealed")))])
            assert await heard(worker.pipe) is None  # nobody hears that it is sealed
            [crashed] = node.mail
            assert isinstance(crashed, Crashed)
            assert isinstance(crashed.error, MachineError)
            assert "write the sealed shard" in str(crashed.error)
            assert "No space left" in str(crashed.error)
            worker.pipe.close()

    run(test())


@given(
    offset=st.floats(-1e6, 1e6),
    ways=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=12),
    hello_s=st.floats(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_a_lease_expires_no_later_by_a_nodes_clock(
    tmp_path_factory: pytest.TempPathFactory, offset: float, ways: list[tuple[float, float]], hello_s: float
) -> None:
    now = 1000.0  # by the driver's clock

    class Far(Calls):
        async def exchange(self, serial: int, behind_s: float, down: bytes, wait_s: float) -> bytes:
            nonlocal now
            self.heard.append((serial, behind_s, wire.to_agent.decode(down)))
            if not ways:
                await asyncio.Event().wait()
            there, back = ways.pop(0)
            now += there
            moment = now + offset
            now += back
            return wire.encode(Round(moment, []))

    async def test() -> None:
        calls = Far()
        least = min([hello_s, *(back for _, back in ways)])
        count = len(ways)
        async with linked(tmp_path_factory.mktemp("clock"), calls, same_machine=False, moment=now + offset - hello_s):
            await until(lambda: len(calls.heard) > count)
            told = [behind for _, behind, _ in calls.heard]
            assert all(behind <= offset + 1e-6 for behind in told)
            assert told == sorted(told)
            assert told[-1] == pytest.approx(offset - least, abs=1e-6)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links, "monotonic", lambda: now)
        run(test())


def test_a_node_on_the_drivers_machine_has_its_clock(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path, Calls(lambda: 5.0)) as node:
            await until(lambda: len(node.calls.heard) > 3)
            assert {behind for _, behind, _ in node.calls.heard} == {0.0}

    run(test())


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_workers_of_a_lost_node_end_once_their_leases_have_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    assert links._SILENT_S == 10.0
    monkeypatch.setattr(links, "_SILENT_S", 0.1)

    async def test() -> None:
        async with linked(tmp_path) as node:
            first, second = node.worker(0), node.worker(1)
            await node.calls.said(Begin, 2)
            until_s = monotonic() + 0.6
            messages.send(first.pipe, Leases([lease(until_s)]))
            messages.send(second.pipe, Leases([lease(until_s - 0.5)]))
            await node.calls.said(Tell, 2)
            if how == "silent":
                node.calls.silent = True
            else:
                node.calls.error = MachineError("the actor died")
            messages.send(first.pipe, Drain(1.0))  # is on its way when the node is lost
            assert await heard(first.pipe) is None
            assert monotonic() >= until_s
            assert await heard(second.pipe) is None
            assert node.link.lost
            assert node.link.why == ("it did not answer for 0 s" if how == "silent" else "the actor died")
            assert node.link.figures.why == node.link.why
            assert node.link.figures.left_s is not None
            assert first.process.end == second.process.end == "its node is gone"
            late = node.worker(2)
            assert await heard(late.pipe) is None
            assert late.process.end == "its node is gone"
            late.process.kill()
            for each in (first, second, late):
                each.pipe.close()

    run(test())


@pytest.mark.parametrize(
    ("error", "how"),
    [(None, "Ray has ended there"), (AgentDiedError("it died"), "it died")],
    ids=["the agent has ended them", "the agent is dead"],
)
def test_leases_are_free_as_soon_as_it_is_certain_that_nothing_more_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: MachineError | None, how: str
) -> None:
    """And not when they would expire; what the agent has told last is heard before."""
    assert links._GONE_S == 1.0
    monkeypatch.setattr(links, "_GONE_S", 0.1)

    async def test() -> None:
        async with linked(tmp_path) as node:
            worker = node.worker()
            await node.calls.said(Begin)
            messages.send(worker.pipe, Leases([lease(monotonic() + 60.0)]))
            await node.calls.said(Tell)
            if error is None:
                note = messages.encode(Note("last words"))
                await node.calls.up.put([Passed(0, note), Board(0, b"a board"), Forsaken()])
                assert await heard(worker.pipe) == Note("last words")
                assert node.directory.board_path(0).read_bytes() == b"a board"
            else:
                node.calls.error = error
            assert await heard(worker.pipe) is None
            assert (node.link.lost, node.link.why) == (True, how)
            worker.pipe.close()

    run(test())


def test_without_leases_they_end_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path) as node:
            worker = node.worker()
            await node.calls.said(Begin)
            node.calls.error = MachineError("the actor died")
            assert await heard(worker.pipe) is None
            worker.pipe.close()

    run(test())


def test_what_a_node_reads_itself_is_not_carried_until_it_says_that_it_cannot(tmp_path: Path) -> None:
    table, lines, other = (tmp_path / name for name in ("in.parquet", "a.jsonl", "b.jsonl"))
    pq.write_table(pa.table({"n": list(range(40))}), table, row_group_size=10)
    lines.write_bytes(b"0123456789" * 20)
    other.write_bytes(b"9876543210" * 20)
    parts = [InputPart(str(table), "parquet"), InputPart(str(lines), "lines"), InputPart(str(other), "lines")]
    whole = table.read_bytes()

    async def test() -> None:
        async with linked(tmp_path, parts=parts, reads=True) as node:
            worker = node.worker()

            async def assigned(shard: Shard) -> list[Down]:
                before = len(node.calls.items)
                messages.send(worker.pipe, Assign(shard))
                await until(lambda: any(isinstance(each, Tell) for each in node.calls.items[before:]))
                return node.calls.items[before:]

            _, _, read, tell = await assigned(Shard(0, 0, 10, 50, 60, 77, 1))
            assert read == Read(0, 1, [(50, 60, 77)])
            assert isinstance(tell, Tell)
            _, read, _ = await assigned(Shard(1, 10, 10, 10, 20, 5, 0))
            assert isinstance(read, Read)
            assert all(crc == crc32(whole[start:end]) for start, end, crc in read.ranges)
            _, less, _ = await assigned(Shard(2, 20, 10, 20, 30, 5, 0))
            assert isinstance(less, Read)
            assert len(less.ranges) == 1  # the rest is there
            before = len(node.calls.items)
            await node.calls.up.put([Lacking(0, tell.message, "no bucket", every=True)])
            await until(lambda: any(isinstance(each, Tell) for each in node.calls.items[before:]))
            past, piece, again = node.calls.items[before:]
            assert (past, again) == (Past(0, b""), tell)
            assert piece == Piece(1, 0, 50, lines.read_bytes()[50:60])
            assert not any(isinstance(each, Read) for each in await assigned(Shard(3, 30, 10, 0, 10, 0, 2)))
            assert sum(isinstance(each, Piece) for each in await assigned(Shard(4, 40, 10, 30, 40, 5, 0))) == 3
            assert [each for each in node.mail if "cannot read" in str(each)] == [
                "node 10.0.0.1 cannot read the input itself (no bucket): it is carried there"
            ]
            worker.pipe.close()

    run(test())


def test_a_shard_is_assigned_once_all_that_it_needs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_input, "PIECE_BYTES", 100)
    monkeypatch.setattr(links, "PIECE_BYTES", 250)
    path = tmp_path / "in.jsonl"
    path.write_bytes(os.urandom(5000))
    done = os.urandom(700)

    async def test() -> None:
        async with linked(tmp_path, parts=[InputPart(str(path), "lines")]) as node:
            node.directory.checkpoints.joinpath("000007.checkpoint").write_bytes(done)
            worker = node.worker()
            messages.send(worker.pipe, Assign(shard_of(7, 1111, 2345)))
            await node.calls.said(Tell)
            _, *items, tell = node.calls.items
            before, found = bytearray(), bytearray()
            for item in items:
                if isinstance(item, Past):
                    assert (item.shard, item.start) == (7, len(before))
                    before += item.data
                else:
                    assert isinstance(item, Piece)
                    assert (item.part, item.shard, item.offset) == (0, 7, 1111 + len(found))
                    found += item.data
            assert before == done
            assert found == path.read_bytes()[1111:2345]
            assert isinstance(tell, Tell)
            assert messages.to_worker(tell.message) == Assign(shard_of(7, 1111, 2345))
            sizes = [sum(len(getattr(each, "data", b"")) for each in items) for _, _, items in node.calls.heard]
            assert max(sizes) <= 350
            worker.pipe.close()

    run(test())


def test_what_two_shards_need_is_carried_once_and_is_there_before_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": [os.urandom(40).hex() for _ in range(200)]}), path, compression="none")
    shards = list(parquet.plan(path, 50))
    assert len(shards) > 2
    read = Records.read
    reading = 0

    def slow(path: str, offset: int, size: int) -> bytes:
        nonlocal reading
        reading += 1
        if reading == 1:
            ready.wait(0.3)  # for others to overtake it
        return read(path, offset, size)

    ready = threading.Event()
    monkeypatch.setattr(Records, "read", staticmethod(slow))

    async def test() -> None:
        async with linked(tmp_path, parts=[InputPart(str(path), "parquet")]) as node:
            workers = [node.worker(0), node.worker(1)]
            for worker, shard in zip(workers, shards, strict=False):
                messages.send(worker.pipe, Assign(shard))
            await node.calls.said(Tell, 2)
            items = node.calls.items
            kinds = [type(each).__name__ for each in items if isinstance(each, Piece | Tell)]
            assert kinds == ["Piece"] * (len(kinds) - 2) + ["Tell", "Tell"]
            assert sum(len(each.data) for each in items if isinstance(each, Piece)) < 1.2 * path.stat().st_size
            for worker in workers:
                worker.pipe.close()

    run(test())


def test_an_input_that_cannot_be_read_any_more_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with linked(tmp_path, parts=[InputPart(str(tmp_path / "nowhere"), "lines")]) as node:
            worker = node.worker()
            messages.send(worker.pipe, Assign(shard_of(0, 0, 10)))
            [crashed] = await until(lambda: node.mail)
            assert isinstance(crashed, Crashed)
            assert isinstance(crashed.error, FileNotFoundError)
            worker.pipe.close()

    run(test())
