"""One worker of a node: what passes through, what is changed on the way, and what is carried."""

import asyncio
from collections.abc import Callable, Iterator
from functools import wraps
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from rowmill.cluster import node_worker
from rowmill.cluster.node_input import NodeInput
from rowmill.cluster.node_worker import NodeWorker
from rowmill.cluster.wire import Arrived, Errand, Group, Idle, Passed, Unable, Whole
from rowmill.core.counts import Totals
from rowmill.core.errors import ExitCode
from rowmill.core.leases import Lease
from rowmill.core.rows import InputPart, Shard
from rowmill.ipc import messages
from rowmill.ipc.messages import Appended, Assign, Durable, Leases, Note, Ready, ShardSealed, Stop, ToSupervisor, Want
from rowmill.ipc.processes import Child, Process
from rowmill.store.run_directory import RunDirectory


def in_a_loop(test: Callable[..., None]) -> Callable[..., None]:
    """Have a test run in a loop, as an agent does."""

    @wraps(test)
    def run(**arguments: Any) -> None:
        async def whole() -> None:
            test(**arguments)

        asyncio.run(whole())

    return run


def given_input(pieces: Path, parts: list[InputPart], seen: list[bool]) -> NodeInput:
    given = NodeInput(Errand(parts, [b""] * len(parts), [[] for _ in parts], False, 0.9, "auto"), pieces)
    given.itself = given._in_place = [*seen]
    return given


class Worker:
    """The worker's own end, and what was told to the driver."""

    def __init__(self, directory: RunDirectory, pieces: Path, parts: list[InputPart], seen: list[bool]) -> None:
        ours, self.pipe = Pipe(duplex=True)
        self.told: list[Any] = []
        self.node = NodeWorker(
            5,
            Child(cast("Process", None), ours),
            directory,
            given=given_input(pieces, parts, seen),
            parts=parts,
            tell=self._tell,
        )

    def _tell(self, item: Any, size: int | None = None, *, pressing: bool = False) -> None:
        items = [*item] if isinstance(item, Iterator) else [item]
        assert size is None or size == sum(len(getattr(each, "data", b"")) for each in items)
        self.told += items

    def says(self, message: ToSupervisor) -> list[Any]:
        """Say something; returns what the driver is told."""
        self.told.clear()
        messages.send(self.pipe, message)
        assert self.node.read()
        return [messages.to_supervisor(each.message) if isinstance(each, Passed) else each for each in self.told]

    def hears(self) -> Any:
        return messages.receive_in_worker(self.pipe) if self.pipe.poll() else None


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    with RunDirectory.open(tmp_path / "node") as directory:
        yield directory


@pytest.fixture
def worker(directory: RunDirectory, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    opened: list[Worker] = []

    def make(kind: Any = "lines", *, seen: bool = False) -> Worker:
        made = Worker(directory, tmp_path / "input", [InputPart("/data/in.jsonl", kind)], [seen])
        opened.append(made)
        return made

    yield make
    for each in opened:
        each.pipe.close()
        each.node.hang_up()


def shard(number: int) -> Shard:
    return Shard(number, number * 10, 10, number * 100, number * 100 + 100, 7)


def assign(worker: Worker, number: int) -> None:
    worker.node.hear(messages.encode(Assign(shard(number))), 0.0, 1.0)


def at_work(worker: Worker, directory: RunDirectory, brought: bytes, written: bytes) -> Path:
    """Assign a shard with what was brought of its checkpoint, which is then what the worker has written."""
    path = directory.checkpoint_path(shard(0))
    path.write_bytes(brought)
    assign(worker, 0)
    path.write_bytes(written)
    return path


@in_a_loop
def test_a_shard_is_there_before_it_is_wanted(worker: Callable[..., Worker], tmp_path: Path) -> None:
    one = worker()
    assert one.says(Ready()) == [Ready(), Want()]
    assign(one, 0)
    assert one.hears() is None
    assert one.says(Want()) == [Want()]  # for the next one ahead
    copy = InputPart(str(tmp_path / "input" / "000000.shard"), "lines")
    assert one.hears() == Assign(shard(0), part=copy)
    assert one.says(Want()) == [Idle(5)]
    assign(one, 1)
    assign(one, 2)
    assert one.hears().shard == shard(1)
    assert one.hears() is None
    one.says(Want())
    assert one.hears().shard == shard(2)


@pytest.mark.parametrize(
    ("kind", "seen", "expected"),
    [("lines", True, None), ("parquet", True, None), ("lines", False, "000003.shard"), ("arrow", False, "000000.part")],
)
@in_a_loop
def test_a_worker_reads_where_the_rows_are(
    worker: Callable[..., Worker], tmp_path: Path, *, kind: Any, seen: bool, expected: str | None
) -> None:
    one = worker(kind, seen=seen)
    assign(one, 3)
    one.says(Want())
    part = one.hears().part
    assert part == (None if expected is None else InputPart(str(tmp_path / "input" / expected), kind))


@pytest.mark.parametrize(
    ("factor", "given", "expected"),
    [(1.0, 8, 8), (0.5, 8, 4), (0.01, 8, 1), (0.0, 8, 0), (0.5, 0, 0), (1.0, 0, 0), (0.99, 1, 1)],
)
@in_a_loop
def test_a_lease_is_in_the_nodes_time_and_as_large_as_the_node_can_take(
    worker: Callable[..., Worker], factor: float, given: int, expected: int
) -> None:
    one = worker()
    lease = Lease(1, 9, 100.0, given, paused_until=90.0)
    still = Lease(0, 9, 100.0, given)
    one.node.hear(messages.encode(Leases([lease, still])), -30.0, factor)
    first, second = one.hears().leases
    assert first == msgspec.structs.replace(lease, expires=70.0, paused_until=60.0, in_flight=expected)
    assert (second.expires, second.paused_until) == (70.0, 0.0)


@in_a_loop
def test_groups_are_carried_from_what_the_driver_has(worker: Callable[..., Worker], directory: RunDirectory) -> None:
    one = worker()
    path = at_work(one, directory, b"done before ", b"done before one ")
    assert one.says(Appended(0, 12, 16)) == [Group(5, 0, 12, b"one ")]
    one.node.arrived(Arrived(5, 0, 16))
    assert one.hears() == Durable(0, 16)
    # What was not told to have arrived is carried again, with what follows it.
    path.write_bytes(b"done before one two three")
    assert one.says(Appended(0, 16, 20)) == [Group(5, 0, 16, b"two ")]
    one.node.arrived(Arrived(5, 0, 20, "no space"))
    assert one.hears() == Durable(0, 20, "no space")
    assert one.says(Appended(0, 20, 25)) == [Group(5, 0, 16, b"two three")]


@in_a_loop
def test_of_a_new_checkpoint_all_is_carried(worker: Callable[..., Worker], directory: RunDirectory) -> None:
    one = worker()
    assign(one, 0)
    directory.checkpoint_path(shard(0)).write_bytes(b"head one ")
    assert one.says(Appended(0, 5, 9)) == [Group(5, 0, 0, b"head one ")]


@in_a_loop
def test_a_torn_tail_that_was_cut_is_replaced(worker: Callable[..., Worker], directory: RunDirectory) -> None:
    one = worker()
    at_work(one, directory, b"head one torn", b"head one two")
    assert one.says(Appended(0, 9, 12)) == [Group(5, 0, 9, b"two")]


@pytest.mark.parametrize("pieces", [[b"of the shard"], [b"of th", b"e sha", b"rd"], [b"of the", b" shard"]])
@in_a_loop
def test_a_sealed_shard_goes_before_the_word_of_it_and_nothing_of_it_stays(
    worker: Callable[..., Worker],
    directory: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pieces: list[bytes],
) -> None:
    size = len(pieces[0])
    monkeypatch.setattr(node_worker, "PIECE_BYTES", size)
    one = worker()
    assign(one, 2)
    (tmp_path / "input").mkdir()
    piece = tmp_path / "input" / "000002.shard"
    left = [directory.checkpoint_path(shard(2)), directory.sealed_path(shard(2)), piece]
    for path in left:
        path.write_bytes(b"of the shard")
    sealed = ShardSealed(2, Totals())
    *wholes, last = one.says(sealed)
    assert last == sealed
    assert wholes == [Whole(2, piece, size * number, last=piece is pieces[-1]) for number, piece in enumerate(pieces)]
    assert not any(path.exists() for path in left)


@in_a_loop
def test_what_is_wrong_is_told_by_the_names_of_the_drivers_files(
    worker: Callable[..., Worker], directory: RunDirectory, tmp_path: Path
) -> None:
    one = worker()
    one.node._home = "/runs/out.jsonl.run"
    assign(one, 3)
    reason = f"{directory.checkpoints}/000003.checkpoint is damaged; {tmp_path}/input/000003.shard changed"
    expected = "/runs/out.jsonl.run/checkpoints/000003.checkpoint is damaged; /data/in.jsonl changed"
    assert one.says(Stop(ExitCode.RUN_DIRECTORY, reason)) == [Stop(ExitCode.RUN_DIRECTORY, expected)]
    # What is wrong with the node's own disk is so with its own names, and what it lacks is not the driver's.
    assert one.says(Stop(ExitCode.MACHINE, reason)) == [Unable(5, ExitCode.MACHINE, reason)]
    lacks = "task.schema: shop:Order cannot be imported: there is no module shop"
    assert one.says(Stop(ExitCode.USAGE, lacks)) == [Unable(5, ExitCode.USAGE, lacks)]
    assert one.says(Note("a line")) == [Note("a line")]


@in_a_loop
def test_a_board_is_told_when_it_has_changed(worker: Callable[..., Worker], directory: RunDirectory) -> None:
    one = worker()
    assert one.node.board() is None
    directory.board_path(5).write_bytes(b"cells")
    assert [one.node.board(), one.node.board()] == [b"cells", None]
    directory.board_path(5).write_bytes(b"other")
    assert one.node.board() == b"other"
    one.node.let_go()
    assert not directory.board_path(5).exists()


@in_a_loop
def test_the_end_of_a_worker_is_seen(worker: Callable[..., Worker]) -> None:
    one = worker()
    one.pipe.close()
    assert not one.node.read()
