"""The workers of a run as the supervisor sees them: started, fed, watched, replaced.

A place in the pool is filled by one worker process after another. What a death means is decided here: its shards go
back, the rows that were in flight are remembered, and a row found in flight at several deaths in a row is a
suspect: sent alone next time, and given up if the worker dies again with it.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from rowmill.core import tallies
from rowmill.core.amounts import Spent
from rowmill.core.counts import Counters, ProviderReport
from rowmill.core.reports import WorkerView
from rowmill.core.rows import Shard
from rowmill.ipc import messages, processes
from rowmill.ipc.messages import Assign, Drain, Heartbeat, Setup
from rowmill.store.in_flight import BoardReading, read_board
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.hosts import HERE, Host

_Row = tuple[int, int]  # a row in a step: the step, from 0, and the row's number

WORKER_MODULE = "rowmill.worker.live.process"
BATCH_WORKER_MODULE = "rowmill.worker.batch.process"

_SUSPECT_DEATHS = 2  # deaths with a row in flight until it is sent alone
_POISON_DEATHS = 3  # and until it is given up
_FRUITLESS_DEATHS = 6  # in a row without a row done: more than isolating one poison row takes

_SILENT_S = 30.0  # a worker beats four times a second; this long without is a hang
# Until it is ready a process may stand still for so long, and use so much CPU: where many start on few processors, each
# takes its time, and one that is at work does not hang.
_START_S = 60.0

# state -> states that may follow
_LIFE = {
    "starting": {"working", "draining", "gone"},
    "working": {"draining", "gone"},
    "draining": {"gone"},
    "gone": set[str](),
}


@dataclass(eq=False, repr=False)
class Member:
    """One worker process."""

    place: int
    incarnation: int
    child: processes.Child
    heard: float  # monotonic time of its last message, or of its start
    state: str = "starting"
    dismissed: bool = False  # ended by the pool before it was ready for any work
    unwanted: bool = False  # ended by the pool because the user wants it so, whatever is in flight
    wants: bool = False
    shards: dict[int, Shard] = field(default_factory=dict)
    heartbeat: Heartbeat | None = None
    board: BoardReading | None = None  # what it has left, once it is buried
    rss: int = 0
    cpu_s: float = 0.0
    cpu_share: float = 0.0
    starts: bool = False  # it is on its way, as it was last measured
    stopped: bool = False  # by somebody, as it was last seen silent
    defect: str | None = None  # what it said of its end, where a defect ended it
    host: Host = HERE
    step: int = 0  # of the run, that it is at work on

    def __repr__(self) -> str:
        return f"<worker {self.place}: {self.state}, shards {sorted(self.shards)}>"

    def become(self, state: str) -> None:
        """Move to another state; an impossible move is a defect."""
        if state not in _LIFE[self.state]:
            raise ValueError(f"worker {self.place} cannot go from {self.state} to {state}")
        self.state = state

    def view(self) -> WorkerView:
        """Return the worker as the progress display shows it."""
        in_flight = self.heartbeat.in_flight if self.heartbeat else 0
        pid = self.child.process.pid or 0
        lag_ms = self.heartbeat.lag_ms if self.heartbeat else 0.0
        return WorkerView(self.place, pid, self.state, in_flight, self.rss, self.cpu_share, lag_ms, self.host.name)


@dataclass
class Death:
    """What a worker left behind."""

    member: Member
    shards: list[Shard]  # that it had not sealed
    board: BoardReading  # what was in flight, and what was answered but not yet on disk
    how: str
    wanted: bool = False  # it did not die: the user has ended it

    @property
    def defect(self) -> str | None:
        """The defect that ended it, where it was one."""
        return self.member.defect

    @property
    def report(self) -> str:
        """The death in a line."""
        member = self.member
        return (
            f"worker {member.place} (pid {member.child.process.pid}{member.host.where}) died: {self.how}; "
            f"{len(self.board.in_flight)} requests in flight, {len(self.shards)} shards go to others"
        )


class Pool:
    """The workers, by place.

    read: boards of workers that have been buried, until `forget_boards`.
    """

    def __init__(self, directory: RunDirectory, *, batch: bool = False) -> None:
        """Make an empty pool; `batch`: of workers of batches."""
        self._directory = directory
        self._module = BATCH_WORKER_MODULE if batch else WORKER_MODULE
        self._incarnations = 0
        self._deaths_of: Counter[_Row] = Counter()  # deaths in a row with it in flight
        self._fruitless = 0
        self._rows_at_death = 0
        self.members: list[Member] = []
        self.deaths = 0
        self.quarantined: set[_Row] = set()
        self.read: list[Path] = []

    def __repr__(self) -> str:
        return f"<{self.members}, {self.deaths} deaths>"

    def start(self, place: int, now: float, host: Host = HERE, step: int = 0) -> Member:
        """Start a worker process in this place, for a step of the run, on this machine or one of a cluster.

        It waits for its `Setup`.
        """
        child = host.start(self._module, f"rowmill-worker-{place}", self._incarnations)
        member = Member(place, self._incarnations, child, now, host=host, step=step)
        self._incarnations += 1
        self.members.append(member)
        return member

    def set_up(self, member: Member, setup: Setup) -> None:
        """Give a started worker what it needs to know."""
        messages.send(member.child.pipe, setup)

    def assign(self, member: Member, shard: Shard) -> None:
        """Hand a shard to a worker that wants one."""
        rows = range(shard.first_row, shard.first_row + shard.rows)
        known = [
            (row, deaths) for (step, row), deaths in self._deaths_of.items() if step == member.step and row in rows
        ]
        member.wants = False
        member.shards[shard.number] = shard
        suspects = tuple(row for row, deaths in known if _SUSPECT_DEATHS <= deaths < _POISON_DEATHS)
        poison = tuple(row for row, deaths in known if deaths >= _POISON_DEATHS)
        self.quarantined.update((member.step, row) for row in poison)
        messages.send(member.child.pipe, Assign(shard, suspects, poison))

    def drain(self, seconds: float, host: Host | None = None) -> None:
        """Tell all workers, or those of one host, to finish what is in flight and exit.

        Those that have not begun are ended at once.
        """
        for member in self.members:
            if host is not None and member.host is not host:
                continue
            if member.state == "starting":
                member.become("draining")
                member.dismissed = True  # with nothing to finish, and coming up takes longer than many a run
                member.child.process.kill()
            elif member.state == "working":
                member.become("draining")
                messages.send(member.child.pipe, Drain(seconds))

    def bury(self, member: Member, rows_done: int) -> Death | None:
        """Take a worker whose process has ended out of the pool. None where it ended as it was told to.

        `rows_done`: rows of the run with an outcome now, to tell a worker that dies at work from one that cannot work.
        """
        process = member.child.process
        process.join()
        member.child.pipe.close()
        expected = member.dismissed or (member.state == "draining" and process.exitcode == 0)
        member.become("gone")
        self.members.remove(member)
        left = member.board = read_board(self._directory.board_path(member.incarnation))
        self.read.append(self._directory.board_path(member.incarnation))
        in_flight = left.in_flight
        if left.counts:
            _hear_last(member, left)
        if expected:
            return None
        if member.unwanted:
            return Death(member, list(member.shards.values()), left, "stopped", wanted=True)
        self.deaths += 1
        if member.host.lost:
            return Death(member, list(member.shards.values()), left, process.end)  # it says nothing about any row
        for row in in_flight:
            self._deaths_of[member.step, row] += 1
        ranges = [range(shard.first_row, shard.first_row + shard.rows) for shard in member.shards.values()]
        # A row given up is a row done. Now and not when its shard is handed out: another may be given up before that.
        given_up = any(
            self._deaths_of[member.step, row] == _POISON_DEATHS
            for row in in_flight
            if any(row in rows for rows in ranges)
        )
        self._fruitless = 0 if given_up or rows_done > self._rows_at_death else self._fruitless + 1
        self._rows_at_death = rows_done
        if not given_up:  # which it died of, whatever others do
            for (step, row), deaths in list(self._deaths_of.items()):
                if step != member.step or row in in_flight or deaths >= _SUSPECT_DEATHS:
                    continue
                if any(row in rows for rows in ranges):
                    del self._deaths_of[step, row]  # this time the worker died without it
        return Death(member, list(member.shards.values()), left, process.end)

    def forget_boards(self) -> None:
        """Remove the boards of those that were buried, once what they say is written down."""
        while self.read:
            self.read.pop().unlink(missing_ok=True)

    @property
    def cannot_work(self) -> bool:
        """Whether workers keep dying without getting a row done."""
        return self._fruitless >= _FRUITLESS_DEATHS

    def kill_silent(self, now: float) -> list[Member]:
        """Kill workers that have not been heard of for too long; their ends are then seen like any other.

        One that somebody has stopped (SIGSTOP, a debugger) does not hang: it goes on when it is told to.
        """
        for member in self.members:
            if member.starts:
                member.heard = now
                member.starts = False
        silent = [
            member
            for member in self.members
            if member.state != "draining"
            and now - member.heard > (_START_S if member.state == "starting" else _SILENT_S)
        ]
        killed = []
        for member in silent:
            member.heard = now
            member.stopped = member.child.process.is_stopped()
            if not member.stopped:
                member.child.process.kill()
                killed.append(member)
        return killed

    def wake(self) -> None:
        """Have stopped workers go on: a terminal that closes wakes the supervisor alone."""
        for member in self.members:
            member.child.process.wake()

    def slept(self, now: float) -> None:
        """Give every worker its whole time again: the supervisor itself did not run, and could hear nobody."""
        for member in self.members:
            member.heard = now

    def stop_all(self) -> None:
        """Kill every worker at once because the user wants it so: none of them counts as dead."""
        for member in self.members:
            member.unwanted = True
        self.kill_all()

    def kill_all(self) -> None:
        """Kill every worker at once."""
        for member in self.members:
            member.child.process.kill()

    def lags(self) -> dict[int, float]:
        """Return how late the loop of each worker at work is, in milliseconds, by place."""
        return {
            each.place: each.heartbeat.lag_ms for each in self.members if each.state == "working" and each.heartbeat
        }

    def notices(self) -> tuple[str, ...]:
        """Return what the workers are held back by, as short lines."""
        stopped = [
            f"worker {each.place} (pid {each.child.process.pid}) is stopped: kill -CONT lets it go on"
            for each in self.members
            if each.stopped
        ]
        waiting = sum(
            each.heartbeat.waiting for each in self.members if each.heartbeat and each.heartbeat.retries_short
        )
        if not waiting:
            return tuple(stopped)
        return (*stopped, f"retry budget used up: {waiting:,} rows wait (retry.share)")

    def measure(self, elapsed_s: float) -> None:
        """Read memory and CPU of every worker; `elapsed_s` since the last time."""
        for member in self.members:
            usage = member.child.process.usage()
            if usage is None:
                continue
            member.starts = member.state == "starting" and member.cpu_s < usage.cpu_s < _START_S
            member.rss = usage.rss
            member.cpu_share = (usage.cpu_s - member.cpu_s) / elapsed_s if elapsed_s > 0 else 0.0
            member.cpu_s = usage.cpu_s


def _hear_last(member: Member, left: BoardReading) -> None:
    """Complete what a worker has told last by what it has counted since."""
    last = member.heartbeat
    counters = Counters() if last is None else Counters.total([last.counters])
    reports = [ProviderReport() for _ in left.providers] if last is None else last.providers
    before = tallies.told(counters, reports)
    more = tallies.beyond(dict(left.counts), before)
    if not more:
        return
    providers = [
        msgspec.structs.replace(each, wasted=Spent.total([each.wasted]), doubtful=Spent.total([each.doubtful]))
        for each in reports
    ]
    tallies.add(more, counters, dict(enumerate(providers)))
    if last is None:
        last = Heartbeat(
            counters=counters,
            in_flight=0,
            in_flight_max=0,
            waiting=0,
            next_due_s=None,
            rss_max=0,
            cpu_s=0.0,
            shards={},
            providers=providers,
            lag_ms=0.0,
            retries_short=False,
        )
    member.heartbeat = msgspec.structs.replace(last, counters=counters, providers=providers)
