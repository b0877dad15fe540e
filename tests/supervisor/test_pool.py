"""The workers as the supervisor sees them: what they may become, and what follows from how they end.

The processes are real but do nothing: what counts here is how they end, and what their boards say then.
"""

import signal
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rowmill.core import config as configuration
from rowmill.core import tallies
from rowmill.core.counts import Counters, ProviderReport
from rowmill.core.rows import InputPart, Layout, Shard
from rowmill.core.wire import Endpoint
from rowmill.ipc import messages
from rowmill.ipc.messages import Assign, Drain, Heartbeat, Setup
from rowmill.store.in_flight import BoardHead, InflightBoard
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor import pool
from rowmill.supervisor.pool import Death, Member, Pool

IDLE_WORKER = """
def main(pipe):
    try:
        while True:  # each message is answered by itself; an empty one asks for the end
            message = pipe.recv_bytes()
            if not message.strip(b"!"):
                return len(message)
            pipe.send_bytes(message)
    except (EOFError, OSError):
        return 0
"""
KILL = Callable[..., Death]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    with RunDirectory.open(tmp_path / "run") as opened:
        yield opened


@pytest.fixture
def workers(tmp_path: Path, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    (tmp_path / "rowmill_test_idle_worker.py").write_text(IDLE_WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pool, "WORKER_MODULE", "rowmill_test_idle_worker")
    made = Pool(directory)
    yield made
    made.kill_all()
    for member in made.members:
        member.child.process.join()
        member.child.pipe.close()


@pytest.fixture
def kill(directory: RunDirectory, workers: Pool) -> KILL:
    """Start a worker with these shards, kill it with these rows in flight, and bury it."""

    def die(in_flight: list[int], *shards: Shard, rows_done: int = 0, member: Member | None = None) -> Death:
        member = member or workers.start(0, 0.0)
        for one in shards:
            workers.assign(member, one)
        board = InflightBoard.create(directory.board_path(member.incarnation), 8)
        for slot, row in enumerate(in_flight):
            board.cells[slot] = row + 1
        member.child.process.kill()
        death = workers.bury(member, rows_done)
        assert death is not None
        return death

    return die


def shard(number: int, rows: int = 10) -> Shard:
    return Shard(number, number * rows, rows, number * 1000, number * 1000 + 1000, 0)


def assigned(workers: Pool, one: Shard) -> Assign:
    """Return what a new worker is told when it gets this shard."""
    member = workers.start(0, 0.0)
    workers.assign(member, one)
    told = messages.receive_in_worker(member.child.pipe)  # the idle worker sends it back
    assert isinstance(told, Assign)
    return told


def heartbeat(
    *,
    lag_ms: float = 0.0,
    waiting: int = 0,
    retries_short: bool = False,
    counters: Counters | None = None,
    providers: int = 0,
) -> Heartbeat:
    return Heartbeat(
        counters=counters or Counters(),
        in_flight=0,
        in_flight_max=0,
        waiting=waiting,
        next_due_s=None,
        rss_max=0,
        cpu_s=0.0,
        shards={},
        providers=[ProviderReport() for _ in range(providers)],
        lag_ms=lag_ms,
        retries_short=retries_short,
    )


# Lives


def test_a_worker_goes_through_its_life_in_one_direction(workers: Pool) -> None:
    member = workers.start(2, 5.0)
    assert (member.place, member.incarnation, member.heard, member.state) == (2, 0, 5.0, "starting")
    for state in ("working", "draining", "gone"):
        member.become(state)
        assert member.view().state == state


@pytest.mark.parametrize(
    ("lived", "wrong"),
    [
        ([], "starting"),
        (["working"], "starting"),
        (["working"], "working"),
        (["draining"], "working"),
        (["working", "draining"], "working"),
        (["working", "draining"], "draining"),
        (["gone"], "working"),
        (["gone"], "draining"),
        (["gone"], "gone"),
    ],
)
def test_an_impossible_move_is_a_defect(workers: Pool, lived: list[str], wrong: str) -> None:
    member = workers.start(0, 0.0)
    for state in lived:
        member.become(state)
    with pytest.raises(ValueError, match=f"cannot go from {member.state} to {wrong}"):
        member.become(wrong)


def test_the_pool_tells_who_works_on_what(workers: Pool, kill: KILL) -> None:
    one = workers.start(0, 0.0)
    one.become("working")
    workers.assign(one, shard(4))
    workers.start(1, 0.0)
    assert repr(workers) == "<[<worker 0: working, shards [4]>, <worker 1: starting, shards []>], 0 deaths>"
    kill([41], member=one)
    assert repr(one) == "<worker 0: gone, shards [4]>"
    assert repr(workers) == "<[<worker 1: starting, shards []>], 1 deaths>"


def test_every_process_has_a_number_of_its_own_for_its_board(workers: Pool) -> None:
    assert [workers.start(place, 0.0).incarnation for place in (0, 1, 0)] == [0, 1, 2]


def test_setup_and_assignment_reach_the_worker(workers: Pool) -> None:
    config = configuration.parse(
        {"input": {"path": "i"}, "task": {"model": "m", "prompt": "p"}, "output": {"path": "o"}}, "test"
    )
    setup = Setup(
        worker=0,
        config=config,
        parts=[InputPart("in.jsonl", "lines")],
        layout=Layout(),
        endpoints=[Endpoint("p", "http://h/v1", None, False, 1.0)],
        slots=8,
        workers=1,
        run_dir="run",
        supervisor=1,
        incarnation=0,
        claimant=0,
        salvage=False,
        retry_failed=False,
    )
    member = workers.start(0, 0.0)
    workers.set_up(member, setup)
    assert messages.receive_in_worker(member.child.pipe) == setup
    member.wants = True
    workers.assign(member, shard(3))
    assert messages.receive_in_worker(member.child.pipe) == Assign(shard(3))
    assert not member.wants
    assert member.shards == {3: shard(3)}


def test_all_workers_are_told_to_drain_once(workers: Pool) -> None:
    members = [workers.start(0, 0.0), workers.start(1, 0.0)]
    for member in members:
        member.become("working")
    workers.drain(3.0)
    workers.drain(1.0)
    for member in members:
        assert member.state == "draining"
        assert messages.receive_in_worker(member.child.pipe) == Drain(3.0)
        member.child.pipe.send_bytes(b"!")  # answered by the end: there is no second Drain before it
        assert messages.receive_in_worker(member.child.pipe) is None


# Ends


def test_a_worker_that_ends_as_it_was_told_is_no_death(workers: Pool, directory: RunDirectory) -> None:
    member = workers.start(0, 0.0)
    member.become("working")
    workers.drain(0.0)
    member.child.pipe.close()
    assert workers.bury(member, 0) is None
    assert (workers.members, workers.deaths, member.state) == ([], 0, "gone")


def test_a_worker_that_is_not_ready_yet_is_ended_at_once_and_that_is_no_death(workers: Pool) -> None:
    member = workers.start(0, 0.0)
    workers.drain(30.0)
    member.child.process.join()
    assert member.child.process.exitcode == -signal.SIGKILL
    assert workers.bury(member, 0) is None
    assert (workers.members, workers.deaths) == ([], 0)


@pytest.mark.parametrize(
    ("drain", "end", "how"),
    [(False, b"", "exit status 0"), (False, b"!!!", "exit status 3"), (True, b"!!!", "exit status 3")],
)
def test_a_worker_that_ends_untold_or_in_error_has_died(workers: Pool, drain: bool, end: bytes, how: str) -> None:
    member = workers.start(0, 0.0)
    member.become("working")
    if drain:
        workers.drain(0.0)
    member.child.pipe.send_bytes(end)
    death = workers.bury(member, 0)
    assert death is not None
    assert death.how == how
    assert workers.deaths == 1


def test_a_killed_worker_leaves_its_shards_and_the_rows_that_were_in_flight(
    workers: Pool, directory: RunDirectory, kill: KILL
) -> None:
    death = kill([12, 3], shard(0), shard(1))
    assert death.how == f"killed by signal {int(signal.SIGKILL)}"
    assert death.shards == [shard(0), shard(1)]
    assert death.board.in_flight == [12, 3]
    assert workers.members == []
    assert directory.boards() == [directory.board_path(0)], "until what it says is written down"
    workers.forget_boards()
    assert directory.boards() == []


def test_what_a_killed_worker_has_not_told_is_read_from_its_board(workers: Pool, directory: RunDirectory) -> None:
    names = tallies.names(2, ["timeout"])
    counted = {name: number for number, name in enumerate(names)}
    for beat in (None, heartbeat(counters=Counters(rows=3, faults={"timeout": 1}), providers=2)):
        member = workers.start(0, 0.0)
        member.heartbeat = beat
        board = InflightBoard.create(
            directory.board_path(member.incarnation), 4, BoardHead("s-0", 4, ["main", "other"], names)
        )
        board.counts[:] = memoryview(array("q", counted.values()))
        member.child.process.kill()
        death = workers.bury(member, 0)
        assert death is not None
        assert death.board.in_flight == [], "counts are no rows"
        assert member.heartbeat is not None
        told = tallies.told(member.heartbeat.counters, member.heartbeat.providers)
        assert {name: told[name] for name in counted} == counted
        counters = member.heartbeat.counters
        assert counters.requests == counted["0.requests"] + counted["1.requests"]
    assert beat is not None
    assert beat.counters.faults == {"timeout": 1}, "what was told is left as it was"


def test_a_worker_killed_before_it_had_a_board_had_nothing_in_flight(workers: Pool) -> None:
    member = workers.start(0, 0.0)
    member.child.process.kill()
    death = workers.bury(member, 0)
    assert death is not None
    assert (death.board.in_flight, death.shards) == ([], [])


# Rows that workers die on


def test_a_row_is_suspected_after_two_deaths_in_a_row_and_given_up_after_a_third(workers: Pool, kill: KILL) -> None:
    kill([4, 5], shard(0))
    told = assigned(workers, shard(0))
    assert (told.suspects, told.quarantined) == ((), ()), "one death proves nothing"
    kill([5, 6], shard(0))
    told = assigned(workers, shard(0))
    assert (told.suspects, told.quarantined) == ((5,), ())
    kill([5], shard(0))
    told = assigned(workers, shard(0))
    assert (told.suspects, told.quarantined) == ((), (5,))
    assert workers.quarantined == {(0, 5)}


def test_a_row_that_was_not_there_when_its_shards_worker_died_is_cleared(workers: Pool, kill: KILL) -> None:
    kill([4], shard(0))
    kill([7], shard(0))
    kill([4], shard(0))
    assert assigned(workers, shard(0)).suspects == ()
    kill([4], shard(0))
    assert assigned(workers, shard(0)).suspects == (4,)


def test_the_death_of_another_shards_worker_clears_nothing(workers: Pool, kill: KILL) -> None:
    kill([4], shard(0))
    kill([14], shard(1))
    kill([4], shard(0))
    assert assigned(workers, shard(0)).suspects == (4,)


def test_the_death_that_a_suspect_died_alone_clears_nobody(workers: Pool, kill: KILL) -> None:
    for _ in range(2):
        kill([3], shard(0))
    kill([7], shard(0))
    kill([3], shard(0))  # alone, before the others were read
    kill([7], shard(0))
    told = assigned(workers, shard(0))
    assert (told.suspects, told.quarantined) == ((7,), (3,))


def test_suspects_are_told_only_with_their_own_shard(workers: Pool, kill: KILL) -> None:
    for _ in range(2):
        kill([9, 10], shard(0), shard(1))
    assert assigned(workers, shard(0)).suspects == (9,)
    assert assigned(workers, shard(1)).suspects == (10,)
    assert assigned(workers, shard(2)).suspects == ()


def test_suspects_whose_worker_dies_on_one_of_them_stay_suspects(workers: Pool, kill: KILL) -> None:
    for _ in range(2):
        kill([1, 2, 3], shard(0))
    kill([1], shard(0))
    told = assigned(workers, shard(0))
    assert (told.suspects, told.quarantined) == ((2, 3), (1,))


# Workers that cannot work


def test_workers_that_keep_dying_without_a_row_done_cannot_work(workers: Pool, kill: KILL) -> None:
    for _ in range(5):
        kill([1])
        assert not workers.cannot_work
    kill([1])
    assert workers.cannot_work


def test_a_row_done_between_the_deaths_is_hope(workers: Pool, kill: KILL) -> None:
    for done in (0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1):
        assert not workers.cannot_work
        kill([1], rows_done=done)
    assert not workers.cannot_work, "five deaths since that row"
    kill([1], rows_done=1)
    assert workers.cannot_work


def test_isolating_one_poison_row_takes_fewer_deaths_than_giving_up(workers: Pool, kill: KILL) -> None:
    while not assigned(workers, shard(0)).quarantined:
        kill([5], shard(0))
        assert not workers.cannot_work


def test_isolating_two_poison_rows_at_a_time_is_no_reason_to_give_up_either(workers: Pool, kill: KILL) -> None:
    for _ in range(3):
        for row, one in ((5, shard(0)), (25, shard(2))):
            kill([row], one)
            assert not workers.cannot_work
    assert assigned(workers, shard(0)).quarantined == (5,)
    assert assigned(workers, shard(2)).quarantined == (25,)
    for _ in range(5):
        kill([])
        assert not workers.cannot_work
    kill([])
    assert workers.cannot_work


# Workers that hang


def test_a_worker_that_is_silent_too_long_is_killed_and_one_that_starts_gets_longer(workers: Pool) -> None:
    starting, working, fresh = (workers.start(place, 100.0) for place in range(3))
    working.become("working")
    fresh.become("working")
    fresh.heard = 125.0
    assert workers.kill_silent(130.0) == []
    assert workers.kill_silent(130.1) == [working]
    working.child.process.join()
    assert working.child.process.exitcode == -signal.SIGKILL
    assert workers.kill_silent(131.0) == [], "its end is on its way"
    fresh.heard = 161.0
    assert workers.kill_silent(160.0) == []
    assert workers.kill_silent(160.05) == [starting]
    assert fresh.child.process.is_alive()


def test_a_worker_that_is_on_its_way_is_not_silent_however_long_it_takes(workers: Pool) -> None:
    """Many that start on few processors: each has its turn, and none is there in time."""
    member = workers.start(0, 100.0)
    end = time.monotonic() + 30
    while not member.starts:  # it imports
        assert time.monotonic() < end
        workers.measure(1.0)
    assert workers.kill_silent(1000.0) == []
    while not workers.kill_silent(1060.1):  # once it waits for its setup, it uses nothing more
        assert time.monotonic() < end
        member.heard = 1000.0
        workers.measure(1.0)
        time.sleep(0.05)
    member.child.process.join()
    assert member.child.process.exitcode == -signal.SIGKILL


def test_a_worker_that_drains_is_not_killed_for_its_silence(workers: Pool) -> None:
    member = workers.start(0, 0.0)
    member.become("working")
    workers.drain(30.0)
    assert workers.kill_silent(1e6) == []
    assert member.child.process.is_alive()


# Figures


def test_memory_and_cpu_of_every_process_are_read(workers: Pool) -> None:
    member = workers.start(0, 0.0)
    member.child.pipe.send_bytes(b"up")
    assert member.child.pipe.recv_bytes() == b"up"
    workers.measure(1.0)
    assert member.rss > 1 << 20
    assert member.cpu_s > 0.0
    assert 0.0 < member.cpu_share <= member.cpu_s
    view = member.view()
    assert (view.number, view.pid, view.rss_bytes) == (0, member.child.process.pid, member.rss)
    assert psutil.pid_exists(view.pid)
    workers.measure(0.0)
    assert member.cpu_share == 0.0


def test_a_process_that_has_just_ended_is_no_error(workers: Pool) -> None:
    member = workers.start(0, 0.0)
    workers.measure(1.0)
    member.child.process.kill()
    member.child.process.join()
    workers.measure(1.0)
    assert member.child.process.usage() is None


def test_how_late_a_loop_is_counts_of_workers_at_work(workers: Pool) -> None:
    """One that starts or drains has other reasons to be late."""
    starting, working, silent, draining = (workers.start(place, 0.0) for place in range(4))
    for member in (working, silent, draining):
        member.become("working")
    draining.become("draining")
    for member, lag_ms in ((starting, 900.0), (working, 12.5), (draining, 700.0)):
        member.heartbeat = heartbeat(lag_ms=lag_ms)
    assert workers.lags() == {1: 12.5}
    assert [member.view().lag_ms for member in (working, silent)] == [12.5, 0.0]


def test_rows_held_back_by_the_retry_budget_are_told_as_long_as_they_are(workers: Pool) -> None:
    one, two, _ = (workers.start(place, 0.0) for place in range(3))
    assert workers.notices() == ()
    one.heartbeat = heartbeat(waiting=1200, retries_short=True)
    two.heartbeat = heartbeat(waiting=50)  # these wait out their backoffs
    assert workers.notices() == ("retry budget used up: 1,200 rows wait (retry.share)",)
    one.heartbeat = heartbeat(waiting=1200)
    assert workers.notices() == ()
