"""Whole runs on machines of a cluster: the same bytes as on one machine, whatever becomes of them."""

import asyncio
import errno
import json
import os
import signal
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]  # it ships no types
import msgspec
import psutil
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest

from rowmill.cluster import driver, link
from rowmill.cluster.engine import Node
from rowmill.cluster.shared_requests import SharedRequests
from rowmill.core.errors import ExitCode, MachineError, RunDirectoryError
from rowmill.core.reports import Snapshot
from rowmill.files import remote
from rowmill.ipc.messages import Assign, ClaimsAnswer, ClaimsAsk, Leases
from rowmill.runs.plan import plan
from rowmill.store import durable
from rowmill.store.in_flight import BoardReading, read_board
from rowmill.supervisor import session_parts
from tests.cluster.conftest import ROWS, Home, Machine, Machines, Witness
from tests.watcher import Watcher

SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "lines": {},
    "packs": {"task": {"rows_per_request": 7}},
    "tables": {"input": {"path": "in.csv"}, "output": {"path": "out.parquet", "include": ["input"]}},
}


def some_done(snapshot: Snapshot) -> bool:
    return 0 < snapshot.totals.rows < ROWS / 2 and len(snapshot.workers) == 2 and snapshot.in_flight > 0


def once(act: Callable[[], object], when: Callable[[Snapshot], bool] = some_done) -> Watcher:
    """Do something in the middle of a run."""

    def look(snapshot: Snapshot) -> bool:
        if not when(snapshot):
            return False
        act()
        return True

    return Watcher(look)


def assert_whole(home: Home) -> None:
    lines = [json.loads(line) for line in home.output.read_bytes().splitlines()]
    assert [line["id"] for line in lines] == [f"r{row}" for row in range(ROWS)]
    assert all(line["output"] for line in lines)


def asking(machine: Machine) -> bool:
    """Tell whether the first worker of a machine has requests in flight."""
    boards = [machine.agent._directory.board_path(number) for number in machine.agent._workers]
    return bool(boards) and bool(read_board(boards[0]).in_flight)


def killed(machine: Machine) -> tuple[int, BoardReading]:
    """Kill the first worker of a machine; return its number, and what its board said in that moment."""
    number, worker = next(iter(machine.agent._workers.items()))
    process = psutil.Process(worker.child.process.pid)
    process.suspend()
    while process.status() != psutil.STATUS_STOPPED:
        pass
    board = read_board(machine.agent._directory.board_path(number))
    process.kill()
    return number, board


def test_a_node_takes_a_part_of_the_rate_when_it_has_rows(home: Home, simulate: Callable[..., Witness]) -> None:
    """Until then, and its first rows are seconds away on a busy node, those that have some use it up."""
    witness = simulate(latency_ms=60)
    machines = Machines(3)
    home.run_on(machines, home.config(witness.url))
    assert_whole(home)
    heard = [[type(message) for message in machine.heard] for machine in machines.all]
    assert all(Leases in kinds and Assign in kinds for kinds in heard)
    # The first one has nobody beside it.
    assert sum(kinds.index(Leases) < kinds.index(Assign) for kinds in heard) <= 1


@pytest.mark.parametrize("use", ["run", "disk"])
def test_a_request_is_asked_once_over_all_nodes(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    """Also where results are larger than a pipe holds, and where the worker that has it in hand is killed."""
    rows = [json.dumps({"id": f"r{row}", "text": f"question {row % 40} {'x' * 3000}"}) for row in range(ROWS)]
    (home.folder / "in.jsonl").write_text("\n".join(rows) + "\n")
    witness = simulate(latency_ms=60)
    cache = {"use": use, "dir": str(home.folder / "replies")}
    config = home.config(witness.url, cache=cache, workers={"concurrency": 4})
    machines = Machines(2)
    published: Counter[int] = Counter()  # by worker: requests whose results the driver has
    ask = SharedRequests.ask

    def counted(requests: SharedRequests, claimant: int, asked: ClaimsAsk) -> ClaimsAnswer | None:
        published[claimant] += len(asked.published)
        return ask(requests, claimant, asked)

    monkeypatch.setattr(SharedRequests, "ask", counted)
    deaths: list[tuple[int, BoardReading]] = []

    def look(snapshot: Snapshot) -> bool:
        if len(snapshot.workers) != 2 or (found := next(filter(asking, machines.all), None)) is None:
            return False
        deaths.append(killed(found))
        return True

    watcher = Watcher(look)
    if use == "disk":  # what a killed worker had not kept yet would be asked again
        watcher = Watcher()
    report = home.run_on(machines, config, watcher)
    assert_whole(home)
    asked = witness.stats()["requests"]
    assert len(deaths) == (use == "run")
    lost = sum(board.counts["0.requests"] - published[number] for number, board in deaths)
    unsynced = sum(board.unsynced for _, board in deaths)
    assert all(len(board.in_flight) <= 4 for _, board in deaths)
    assert 40 <= asked <= 40 + lost, "in flight, and answered a moment ago: nobody else has heard of it"
    [session] = report.sessions
    # Rows whose outcome was lost are done again, and may have been counted before; those of a group that was on the
    # disk, which the worker had not heard yet, are not done again and may not have been counted.
    assert ROWS - asked - unsynced <= session.counters.duplicates <= ROWS - 40 + unsynced
    home.clear(config)
    before = witness.stats()["requests"]
    report = home.run_on(Machines(2), config, Watcher())
    assert_whole(home)
    again = witness.stats()["requests"] - before
    assert again == (0 if use == "disk" else 40)
    assert report.sessions[-1].counters.cached == (ROWS if use == "disk" else 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bytes_are_those_of_one_machine(home: Home, simulate: Callable[..., Witness], shape: str) -> None:
    home.as_csv()
    config = home.config(simulate().url, **SHAPES[shape])
    expected = home.reference(config)
    machines = Machines(2)
    machines.all[1].other_clock_s = 12_345.0
    machines.all[1].shuffled = True
    watcher = Watcher()
    report = home.run_on(machines, config, watcher)
    assert config.output_path.read_bytes() == expected
    [session] = report.sessions
    assert (session.exit_code, session.deaths, report.totals.rows) == (0, 0, ROWS)
    assert sorted(node.node for node in session.nodes) == ["10.0.0.0", "10.0.0.1"]
    assert sum(node.rows for node in session.nodes) == ROWS
    assert all(node.workers == 1 and node.left_s is None and node.why is None for node in session.nodes)
    assert sum(node.carried_mb for node in session.nodes) > 0.05
    assert {worker.node for each in watcher.snapshots for worker in each.workers} == {"10.0.0.0", "10.0.0.1"}
    assert home.left() == []


def test_a_killed_worker_costs_what_was_in_flight_and_its_open_group(
    home: Home, simulate: Callable[..., Witness]
) -> None:
    witness = simulate(latency_ms=100)
    machines = Machines(2)
    watcher = once(lambda: os.kill(machines.all[0].workers()[0], signal.SIGKILL))
    report = home.run_on(machines, home.config(witness.url), watcher)
    [session] = report.sessions
    assert_whole(home)
    assert (session.exit_code, session.deaths) == (0, 1)
    [line] = watcher.told("died")
    assert "on 10.0.0.0) died: killed by signal 9; " in line
    assert witness.stats()["requests"] <= ROWS + 4 * 8  # in flight, and not yet told to be on the disk
    assert session.billed_twice_max <= 4 * 8
    assert all(node.why is None for node in session.nodes)


def test_while_a_worker_is_stopped_those_of_other_nodes_go_on(home: Home, simulate: Callable[..., Witness]) -> None:
    machines = Machines(2)
    stopped: list[int] = []

    def look(snapshot: Snapshot) -> bool:
        if not stopped and some_done(snapshot):
            stopped.append(machines.all[0].workers()[0])
            os.kill(stopped[0], signal.SIGSTOP)
        # No more than three of the eight shards wait for it: one that is sealed, one at work, one ahead.
        if not stopped or snapshot.totals.rows < ROWS / 2:
            return False
        os.kill(stopped[0], signal.SIGCONT)
        return True

    report = home.run_on(machines, home.config(simulate(latency_ms=30).url), Watcher(look))
    assert_whole(home)
    [session] = report.sessions
    assert (session.exit_code, session.deaths) == (0, 0)


def test_a_node_that_is_cut_off_costs_what_its_leases_let_it_send(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_SILENT_S", 0.4)
    witness = simulate(latency_ms=100)
    machines = Machines(2)
    watcher = once(lambda: setattr(machines.all[0], "silent", True))
    report = home.run_on(machines, home.config(witness.url), watcher)
    [session] = report.sessions
    assert_whole(home)
    assert session.exit_code == 0
    [gone] = [node for node in session.nodes if node.left_s is not None]
    assert (gone.node, gone.why) == ("10.0.0.0", "it did not answer for 0 s")
    # Of no more than the three shards that it has: one that is sealed, one at work, one ahead.
    assert witness.stats()["requests"] <= ROWS + 160
    assert watcher.told("node 10.0.0.0 is lost: it did not answer for 0 s")
    assert watcher.told("on 10.0.0.0) died: its node is gone; ")


def test_every_node_is_let_go_of_also_where_others_are_gone_before(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    machines = Machines(4)
    close = Machine.close

    async def slow(machine: Machine) -> None:
        await asyncio.sleep(0.15)  # the rounds with a node end meanwhile
        await close(machine)
        closed.append(machine.node.name)

    monkeypatch.setattr(Machine, "close", slow)
    report = home.run_on(machines, home.config(simulate().url, workers={"count": 1}))
    assert report.sessions[0].exit_code == 0
    assert sorted(closed) == sorted(node.node for node in report.sessions[0].nodes)
    assert len(closed) == 4


def test_a_node_that_joins_gets_workers_at_once(home: Home, simulate: Callable[..., Witness]) -> None:
    machines = Machines(1)
    witness = simulate(latency_ms=30)
    witness.simulator.hold(8)  # however long a worker takes to start, there are rows for it

    def look(snapshot: Snapshot) -> bool:
        if len(machines.all) == 1 and snapshot.in_flight > 0:
            machines.add()
        if not all(
            any(each.node == node and each.in_flight for each in snapshot.workers) for node in ("10.0.0.0", "10.0.0.1")
        ):
            return False
        witness.simulator.hold()
        return True

    report = home.run_on(machines, home.config(witness.url), Watcher(look))
    assert_whole(home)
    [first, second] = report.sessions[0].nodes
    assert min(first.rows, second.rows) > ROWS / 10
    assert second.joined_s >= first.joined_s


def test_a_node_that_leaves_brings_home_what_is_in_flight(home: Home, simulate: Callable[..., Witness]) -> None:
    witness = simulate(latency_ms=100)
    machines = Machines(2)
    watcher = once(lambda: machines.all[1].drain(20.0))
    report = home.run_on(machines, home.config(witness.url), watcher)
    assert_whole(home)
    [session] = report.sessions
    assert (session.exit_code, session.deaths) == (0, 0)
    assert witness.stats()["requests"] == ROWS
    assert watcher.told("node 10.0.0.1 is drained, and goes in 20 s")
    # It gets no more of them.
    assert [len(snapshot.workers) for snapshot in watcher.snapshots if snapshot.totals.rows > 0.8 * ROWS][-1] <= 1


def test_where_the_drivers_disk_fails_the_run_ends_and_loses_nothing(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = simulate(latency_ms=60)
    config = home.config(witness.url)
    real = durable.write_at
    groups = 0

    def fails(path: Path, start: int, data: bytes) -> None:
        nonlocal groups
        groups += 1
        if groups > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, start, data)

    with monkeypatch.context() as full:
        full.setattr(durable, "write_at", fails)
        report = home.run_on(Machines(2), config)
    [session] = report.sessions
    assert session.exit_code == ExitCode.MACHINE
    assert "write the checkpoint" in str(session.stopped_by)
    assert "No space left" in str(session.stopped_by)
    assert home.left() == []
    recorded = report.totals.rows
    assert recorded > 0
    before = witness.stats()["requests"]
    report = home.run_on(Machines(2), config)
    assert_whole(home)
    assert witness.stats()["requests"] - before == ROWS - recorded


def test_an_interrupted_run_goes_on_where_it_was(home: Home, simulate: Callable[..., Witness]) -> None:
    witness = simulate(latency_ms=100)
    config = home.config(witness.url)
    report = home.run_on(Machines(2), config, once(lambda: os.kill(os.getpid(), signal.SIGINT)))
    [session] = report.sessions
    assert session.exit_code == ExitCode.INTERRUPTED
    assert 0 < report.totals.rows < ROWS
    assert witness.stats()["requests"] == report.totals.rows
    assert home.left() == []
    half = sum(path.stat().st_size > 0 for path in (home.run_dir / "checkpoints").iterdir())
    assert half
    # On this machine, and back: a run directory is a run directory.
    report = home.run_on(Machines(1), config, once(lambda: os.kill(os.getpid(), signal.SIGINT), lambda _: True))
    report = home.run(config)
    assert_whole(home)
    assert witness.stats()["requests"] == ROWS


def damage(home: Home) -> tuple[Path, bytes]:
    """Spoil a record in the middle of a checkpoint that is not sealed."""
    sealed = {path.stem for path in (home.run_dir / "sealed").iterdir()}
    paths = [path for path in (home.run_dir / "checkpoints").iterdir() if path.stem not in sealed]
    path = max(paths, key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    lines = data.split(b"\n")
    assert len(lines) > 5
    place = data.index(lines[3])
    data[place + 20] ^= 1
    path.write_bytes(data)
    return path, bytes(data)


def test_a_damaged_checkpoint_is_refused_and_salvaged(home: Home, simulate: Callable[..., Witness]) -> None:
    witness = simulate(latency_ms=100)
    config = home.config(witness.url)
    done = home.run_on(Machines(2), config, once(lambda: os.kill(os.getpid(), signal.SIGINT))).totals.rows
    path, data = damage(home)
    report = home.run_on(Machines(1), config)
    assert report.sessions[-1].exit_code == RunDirectoryError.exit_code
    stopped = str(report.sessions[-1].stopped_by)
    assert stopped.startswith(f"{path.relative_to(home.folder)} is damaged at byte ")
    assert "--salvage" in stopped
    assert path.read_bytes() == data
    report = home.run_on(Machines(1), config, salvage=True)
    assert report.sessions[-1].exit_code == 0
    assert_whole(home)
    assert witness.stats()["requests"] <= ROWS + 1 + 8  # and what was in flight when it was refused
    assert done
    assert path.with_name(f"{path.name}.damaged-1").read_bytes() == data


def test_no_more_nodes_are_used_than_asked_for_and_no_more_workers_than_they_have_room_for(
    home: Home, simulate: Callable[..., Witness]
) -> None:
    machines = Machines(3, cpus=2)  # of which each has room for two workers
    config = home.config(simulate().url, workers={"count": 5}, cluster={"nodes": 2})
    report = home.run_on(machines, config)
    assert_whole(home)
    assert [node.workers for node in report.sessions[0].nodes] == [2, 2]
    assert machines.all[2].agents == []


def test_a_first_node_on_which_nothing_works_ends_the_run_in_a_line(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_HELLO_S", 0.5)
    machines = Machines(1)

    async def refuses(*_: object) -> Any:
        raise MachineError("node 10.0.0.0 has Python 3.9.1 and the driver 3.13.0: have the same on both")

    monkeypatch.setattr(machines, "agent", refuses)
    watcher = Watcher()
    report = home.run_on(machines, home.config(simulate().url), watcher)
    [session] = report.sessions
    assert session.exit_code == ExitCode.MACHINE
    assert "has Python 3.9.1" in str(session.stopped_by)
    assert len(watcher.told("has Python 3.9.1")) == 2  # when it was found, and why the run ended
    assert threading.active_count() < 20


def test_what_a_worker_lacks_on_its_node_ends_the_run_in_a_line(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when the node was asked: the worker says so itself, and no other one tries."""
    module = home.folder / "of_the_driver.py"
    module.write_text("import pydantic\n\nclass Order(pydantic.BaseModel):\n    product: str\n")
    machines = Machines(1)
    start = Machine.start

    async def lacking(machine: Machine, errand: bytes) -> Machine:
        module.unlink()
        return await start(machine, errand)

    monkeypatch.setattr(Machine, "start", lacking)
    monkeypatch.syspath_prepend(str(home.folder))
    witness, watcher = simulate(), Watcher()
    report = home.run_on(machines, home.config(witness.url, task={"schema": "of_the_driver:Order"}), watcher)
    monkeypatch.delitem(sys.modules, "of_the_driver")
    [session] = report.sessions
    assert (session.exit_code, session.deaths) == (ExitCode.USAGE, 0)
    assert str(session.stopped_by).startswith(
        "node 10.0.0.0: task.schema: of_the_driver:Order cannot be imported: there is no module of_the_driver; "
    )
    assert machines.needs == ["of_the_driver"]
    assert watcher.told("died") == []
    assert witness.stats()["requests"] == 0


def test_a_cluster_without_room_is_told_before_the_run_begins(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_START_S", 0.3)
    machines = Machines(1, cpus=0)
    with pytest.raises(MachineError, match=r"no node of the cluster has 1 free CPUs \(CPUs free on 10.0.0.0: 0\)"):
        home.run_on(machines, home.config(simulate().url))
    machines.all.clear()
    with pytest.raises(MachineError, match="no node is alive"):
        home.run_on(machines, home.config(simulate().url))


class Objects:
    """The input as objects of a file system that all machines reach; those of `home` beside it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.root = f"memory://{uuid.uuid4().hex}"
        self.system = fsspec.filesystem("memory")
        lines = (home.folder / "in.jsonl").read_bytes().splitlines(keepends=True)
        self.put("a.jsonl", b"".join(lines[:150]))
        self.put("b.jsonl", b"".join(lines[150:])[:-1])  # without its last newline

    def put(self, name: str, data: bytes) -> None:
        self.system.pipe_file(f"{self.root}/{name}", data)

    def run_on(self, machines: Machines, url: str, watcher: Watcher) -> int:
        """Run with the input there; returns how many bytes of it were carried."""
        config = self.home.config(url, input={"path": self.root})
        self.home.run_on(machines, config, watcher, carry=False)
        return sum(machine.carried for machine in machines.all)


def test_rows_on_storage_that_nodes_reach_do_not_pass_through_the_driver(
    home: Home, simulate: Callable[..., Witness]
) -> None:
    url = simulate().url
    config = home.config(url)
    expected = home.reference(config)
    machines = Machines(2)
    home.run_on(machines, config, carry=False)  # a path that all share
    assert home.output.read_bytes() == expected
    assert sum(machine.carried for machine in machines.all) == 0
    home.clear(config)
    objects = Objects(home)
    watcher = Watcher()
    assert objects.run_on(Machines(2), url, watcher) == 0
    assert home.output.read_bytes() == expected
    assert watcher.told("cannot read") == []
    home.clear(config)
    table = home.folder / "in.parquet"
    rows = [json.loads(line) for line in (home.folder / "in.jsonl").read_bytes().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), table, row_group_size=50)
    objects.system.rm(objects.root, recursive=True)
    objects.put("t.parquet", table.read_bytes())
    assert objects.run_on(Machines(2), url, watcher) == 0
    assert home.output.read_bytes() == expected


@pytest.mark.parametrize("how", ["changed", "with a mark at its start", "out of reach"])
def test_what_nodes_cannot_read_as_it_was_planned_is_carried(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """And each node says so once."""
    url = simulate().url
    config = home.config(url)
    expected = home.reference(config)
    objects = Objects(home)
    if how == "with a mark at its start":
        objects.put("a.jsonl", b"\xef\xbb\xbf" + objects.system.cat_file(f"{objects.root}/a.jsonl"))
    elif how == "out of reach":
        monkeypatch.setattr(remote, "read_range", lambda *_: 1 / 0)
    else:

        def read_range(url: str, start: int, end: int) -> bytes:
            return bytes(reversed(objects.system.cat_file(url, start=start, end=end)))

        monkeypatch.setattr(remote, "read_range", read_range)
    machines, watcher = Machines(2), Watcher()
    assert objects.run_on(machines, url, watcher) > 0
    assert home.output.read_bytes() == expected
    assert 1 <= len(watcher.told("cannot read the input itself (")) <= 2


@pytest.mark.parametrize("begins", [True, False])
def test_the_cluster_is_let_go_of_once_also_where_a_session_cannot_begin(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch, *, begins: bool
) -> None:
    closed: list[Machines] = []

    def close(machines: Machines) -> None:
        closed.append(machines)

    monkeypatch.setattr(Machines, "close", close)
    config = home.config(simulate().url)
    if begins:
        home.run_on(Machines(1), config)
    else:

        def broken(*_: object, **__: object) -> Any:
            raise MachineError("cannot read the disk")

        monkeypatch.setattr(session_parts, "Monitor", broken)
        with pytest.raises(MachineError, match="cannot read the disk"):
            home.run_on(Machines(1), config)
    assert len(closed) == 1


class Autoscaler(Machines):
    """A cluster without any node, until one is asked for; each takes a while."""

    def __init__(self) -> None:
        super().__init__(0)
        self.comes = self.brings = True
        self._looks = 0

    def nodes(self) -> list[Node]:
        self._looks += 1
        if self.brings and self._looks % 4 == 0 and self.asked and self.asked[-1][0] > 0:
            self.add()
        return super().nodes()


def test_an_autoscaler_is_asked_for_the_nodes_that_a_run_would_use(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And waited for, as long as it is about to bring some."""
    assert driver._START_S == 20.0
    monkeypatch.setattr(driver, "_START_S", 0.2)
    machines, watcher = Autoscaler(), Watcher()
    home.run_on(machines, home.config(simulate(latency_ms=60).url, cluster={"nodes": 2}), watcher)
    assert_whole(home)
    assert len(machines.all) == 2
    assert watcher.told("no node has room; waiting for one that the autoscaler starts") != []
    wanted = [nodes for nodes, _ in machines.asked if nodes]
    assert wanted == sorted(wanted, reverse=True)
    assert {*wanted} == {2, 1}
    machines = Autoscaler()
    machines.comes, machines.brings = False, False
    with pytest.raises(MachineError, match=r"no node of the cluster has 1 free CPUs \(no node is alive\): "):
        home.run_on(machines, home.config("http://127.0.0.1:1/v1", output={"path": "other.jsonl"}))
    assert {each for each in machines.asked if each[0]} == {(1, 2)}  # one, where no number is wanted


def test_batches_are_made_on_the_driver_and_nobody_asks_for_a_cluster(
    home: Home, simulate: Callable[..., Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "Engine", lambda _: 1 / 0)
    url = simulate(batch_s=0.2).url
    config = home.config(url, task={"mode": "batch"}, batch={"poll_s": 0.1})
    config = msgspec.structs.replace(config, cluster=msgspec.structs.replace(config.cluster, engine="ray"))
    watcher = Watcher()
    report = home.run(config, watcher)
    assert_whole(home)
    assert watcher.told("cluster: batches are made on this machine, where one process keeps up with any provider") != []
    assert report.sessions[-1].nodes == []
    assert plan(config).cluster == (
        "not used: batches are made on this machine, where one process keeps up with any provider"
    )


def test_a_plan_says_what_a_cluster_would_do_and_asks_nobody(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "Engine", lambda _: 1 / 0)
    tables: dict[str, Any] = {"engine": "ray", "address": "10.0.0.1:6379", "nodes": 3, "input": "carry"}
    assert plan(home.config("http://127.0.0.1:1/v1", cluster=tables)).cluster == (
        "ray at 10.0.0.1:6379: up to 3 nodes, a worker for each free CPU, 2 on each node at most, at most 8 in all "
        "(one a shard); 0.3 MB of rows are carried to the nodes"
    )
    assert plan(home.config("http://127.0.0.1:1/v1")).cluster is None


def test_a_cluster_that_answers_no_more_ends_the_run_in_a_line(home: Home, simulate: Callable[..., Witness]) -> None:
    witness = simulate(latency_ms=100)
    machines = Machines(2)

    def silent() -> list[Node]:
        raise MachineError("the cluster does not answer: its head is gone")

    config = home.config(witness.url)
    report = home.run_on(machines, config, once(lambda: setattr(machines, "nodes", silent)))
    [session] = report.sessions
    assert session.exit_code == ExitCode.MACHINE
    assert session.stopped_by == "the cluster does not answer: its head is gone"
    assert witness.stats()["requests"] == report.totals.rows  # what was in flight has come home
    home.run_on(Machines(2), config)
    assert_whole(home)
    assert witness.stats()["requests"] == ROWS
