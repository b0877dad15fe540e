"""What is done, how fast, and what the report of the session will say.

Totals come from what workers have on disk, by shard, so that nothing is counted twice when a shard moves to another
worker; counters come from the worker processes and are kept when these end.
"""

import calendar
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from uuid import uuid4

import msgspec

from rowmill.core.counts import BatchView, Counters, Totals
from rowmill.core.reports import Cost, MachineView, NodeFigures, SessionReport, Snapshot, StepFigures
from rowmill.ipc.messages import Heartbeat
from rowmill.store.seal import Sealed
from rowmill.supervisor.hosts import Host
from rowmill.supervisor.pool import Member, Pool
from rowmill.supervisor.providers import Providers
from rowmill.supervisor.step_sums import StepSums

_SPEED_WINDOW_S = 5.0
_SAME_ROWS = 3
# Classes of failures that all rows meet where an endpoint or what it is asked for is wrong; others are of their rows.
_OF_THE_ENDPOINT = frozenset(
    {
        "invalid_request",
        "payment_required",
        "auth",
        "forbidden",
        "not_found",
        "server_error",
        "timeout",
        "connection",
        "bad_reply",
    }
)
_LONG_AGO_S = 1e9
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"  # UTC


class Progress:
    """The figures of one session of a run."""

    def __init__(
        self, now: float, notices: Iterable[str] = (), before: Totals | None = None, *, steps: Sequence[str] = ("",)
    ) -> None:
        """`before`: what earlier sessions had come to, where all of it still stands; shown until it is found again.

        `steps`: the names of the run's.
        """
        self._before = before or Totals()
        self._began = now
        self.id = uuid4().hex[:12]  # of the session
        self._started = _utc()
        self._allowed_max = 0
        self._steps = StepSums(steps)
        self._ended = Counters()  # of workers that are gone
        self._ended_work = 0  # rows of theirs, in whatever step
        self._speed: deque[tuple[float, int]] = deque([(now, 0)])
        self._workers_max = 0
        self._worker_rss_max = 0
        self._ended_cpu_s = 0.0
        self._in_flight_max: dict[int, int] = {}  # by place in the pool
        self._notices = list(notices)
        self._rows_on: Counter[Host] = Counter()  # of workers that are gone
        self.total_rows: int | None = None
        self.rows_per_s = 0.0  # now
        self.shards_sealed = 0
        self.shards_merged = 0
        self._refusal = ""  # the latest that a worker told
        self.billed_twice = 0  # requests that went with workers that died, and may have been answered

    def heartbeat(self, member: Member, heartbeat: Heartbeat) -> None:
        """Take in what a worker says of itself."""
        member.heartbeat = heartbeat
        self._worker_rss_max = max(self._worker_rss_max, heartbeat.rss_max)
        self._refusal = next((each.refusal for each in heartbeat.providers if each.refusal), self._refusal)
        self._in_flight_max[member.place] = max(self._in_flight_max.get(member.place, 0), heartbeat.in_flight_max)
        for number, totals in heartbeat.shards.items():
            if number in member.shards:
                self._steps.opened(member.step, number, totals)

    def left(self, step: int, number: int, totals: Totals) -> None:
        """Keep what a shard has come to of which nothing more is to be done in this session."""
        self._steps.opened(step, number, totals)

    def sealed(self, step: int, sealed: Sealed) -> None:
        """Count a shard that is finished in a step."""
        self._steps.sealed(step, sealed)
        self.shards_sealed += step + 1 == self._steps.count

    def ended(self, member: Member, billed: int) -> None:
        """Keep the figures of a worker that is gone; `billed` requests that may have been answered went with it."""
        if member.heartbeat is not None:
            self._ended.add(self._of_run(member.step, member.heartbeat.counters))
            self._ended_work += member.heartbeat.counters.rows
            self._ended_cpu_s += member.heartbeat.cpu_s
            self._rows_on[member.host] += member.heartbeat.counters.rows
        self.billed_twice += billed

    @property
    def totals(self) -> Totals:
        """Acknowledged rows of the whole run, earlier sessions included: of several steps those of the last one.

        With what all steps have taken.
        """
        return self._steps.totals

    @property
    def work(self) -> Totals:
        """The same, with the rows of every step counted."""
        return self._steps.work

    @property
    def total_work(self) -> int | None:
        """The rows of the input, as often as there are steps; None until they are counted."""
        return None if self.total_rows is None else self.total_rows * self._steps.count

    @property
    def steps(self) -> tuple[StepFigures, ...] | msgspec.UnsetType:
        """What each of several steps has come to."""
        return self._steps.figures

    def none_answered(self, failures: Mapping[str, int]) -> str | None:
        """Return why a finished run with so many failed rows by class is none: all have met the same. None: it is one.

        A row or two may be bad themselves.
        """
        totals = self.totals
        if totals.failed < max(_SAME_ROWS, totals.rows) or not failures.keys() <= _OF_THE_ENDPOINT or len(failures) > 1:
            return None
        why = self._refusal or next(iter(failures), "")
        return f"no row was answered: all {totals.failed:,} failed: {why}"

    def counters(self, pool: Pool) -> Counters:
        """Return this session's counters, of workers at work and gone. The rows of several steps are the last one's."""
        counters = Counters()
        counters.add(self._ended)
        for member in pool.members:
            if member.heartbeat is not None:
                counters.add(self._of_run(member.step, member.heartbeat.counters))
        return counters

    def _of_run(self, step: int, counters: Counters) -> Counters:
        """Return what a worker of a step has counted, without its rows where they have further steps to go."""
        return counters if step + 1 == self._steps.count else msgspec.structs.replace(counters, rows=0, failed=0)

    def open_rows(self, member: Member) -> int:
        """Return the rows without an outcome of the shards that a worker has."""
        return sum(shard.rows - self._steps.open_rows(member.step, number) for number, shard in member.shards.items())

    def rows_on(self, pool: Pool) -> Counter[Host]:
        """Return the rows that came to an outcome on each machine in this session."""
        rows = Counter(self._rows_on)
        for member in pool.members:
            if member.heartbeat is not None:
                rows[member.host] += member.heartbeat.counters.rows
        return rows

    def snapshot(
        self,
        pool: Pool,
        providers: Providers,
        now: float,
        *,
        draining: bool,
        notices: tuple[str, ...] = (),
        cost: Cost | None = None,
        batches: tuple[BatchView, ...] = (),
        parts: tuple[int, int] | None = None,
        machine: MachineView | None = None,
    ) -> Snapshot:
        """Return where the run stands. `parts`: in batch mode, those collected and those so far."""
        self._allowed_max = max(self._allowed_max, providers.allowed)
        heartbeats = [member.heartbeat for member in pool.members if member.heartbeat is not None]
        counters = self.counters(pool)
        totals = self.totals
        if totals.rows < self._before.rows:
            totals = self._before  # shards that were open then are opened again one after the other
        self._workers_max = max(self._workers_max, len(pool.members))
        # A row is done once every step is done with it: of several steps, one row of each is one row.
        steps = self._steps.count
        work = self._ended_work + sum(heartbeat.counters.rows for heartbeat in heartbeats)
        rate = self.rows_per_s = self._rate(now, work) / steps
        left = None if self.total_work is None else (self.total_work - max(totals.rows, self.work.rows)) / steps
        due = [heartbeat.next_due_s for heartbeat in heartbeats if heartbeat.next_due_s is not None]
        return Snapshot(
            elapsed_s=now - self._began,
            total_rows=self.total_rows,
            totals=totals,
            session_rows=counters.rows,
            rows_per_s=rate,
            eta_s=None if left is None or rate <= 0 else left / rate,
            in_flight=sum(heartbeat.in_flight for heartbeat in heartbeats),
            allowed=providers.allowed,
            waiting=sum(heartbeat.waiting for heartbeat in heartbeats),
            next_due_s=min(due) if due else None,
            counters=counters,
            shards_sealed=self.shards_sealed,
            shards_merged=self.shards_merged,
            workers=tuple(member.view() for member in pool.members),
            deaths=pool.deaths,
            draining=draining,
            providers=providers.views(now),
            notices=notices,
            cost=cost,
            batches=batches,
            parts=parts,
            cpu_s=self._ended_cpu_s + sum(heartbeat.cpu_s for heartbeat in heartbeats),
            machine=machine,
            steps=self.steps,
        )

    def _rate(self, now: float, rows: int) -> float:
        if not rows:
            self._speed.clear()  # processes start, and the first reply takes its time: no speed of rows
        self._speed.append((now, rows))
        while len(self._speed) > 2 and self._speed[0][0] < now - _SPEED_WINDOW_S:  # noqa: PLR2004 - two ends of a slope
            self._speed.popleft()
        then, before = self._speed[0]
        return (rows - before) / (now - then) if now > then else 0.0

    def report(
        self,
        pool: Pool,
        providers: Providers,
        now: float,
        *,
        exit_code: int,
        stopped_by: str | None,
        own_cpu_s: float,
        own_rss: int,
        notices: Iterable[str],
        mode: str = "live",
        batches: Iterable[BatchView] = (),
        nodes: Iterable[NodeFigures] = (),
    ) -> SessionReport:
        """Sum the session up."""
        counters = self.counters(pool)
        elapsed = now - self._began
        return SessionReport(
            id=self.id,
            started=self._started,
            ended=_utc(),
            exit_code=exit_code,
            stopped_by=stopped_by,
            elapsed_s=round(elapsed, 3),
            rows=counters.rows,
            rows_per_s=round(counters.rows / elapsed, 1) if elapsed > 0 else 0.0,
            counters=counters,
            in_flight_max=sum(self._in_flight_max.values()),
            allowed=self._allowed_max,
            workers=self._workers_max,
            deaths=pool.deaths,
            quarantined=len(pool.quarantined),
            billed_twice_max=counters.maybe_billed_twice + self.billed_twice,
            cpu_s=round(own_cpu_s + self._ended_cpu_s, 3),
            rss_max_bytes={"supervisor": own_rss, "worker": self._worker_rss_max},
            providers=providers.figures(now),
            notices=[*self._notices, *notices],
            mode=mode,
            batches=list(batches),
            nodes=list(nodes),
            cpu_of={"supervisor": round(own_cpu_s, 3), "workers": round(self._ended_cpu_s, 3)},
        )


def seconds_since(moment: str) -> float:
    """Return how long ago a session's start or end was.

    0 for one in the future, as after a change of the clock; very long for what is no moment, as in a damaged report.
    """
    try:
        return max(0.0, time.time() - calendar.timegm(time.strptime(moment, _MOMENT)))
    except ValueError:
        return _LONG_AGO_S


def _utc() -> str:
    return time.strftime(_MOMENT, time.gmtime())
