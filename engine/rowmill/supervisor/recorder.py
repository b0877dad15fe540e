"""Writes down where a session stands and what it does, second by second: for people, in files of the run directory.

It is no part of what a run promises: nothing is synced, and where it cannot be written the run goes on without it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import time

import msgspec

from rowmill.core.counts import Counters, Totals
from rowmill.core.histograms import Distributions
from rowmill.core.moments import Moment, ProviderMoment
from rowmill.core.reports import Meter, ProviderView, Snapshot, Status
from rowmill.store import durable
from rowmill.store.run_directory import RunDirectory
from rowmill.store.series import Series

_EVERY_S = 1.0
_MB = 1e6


class Recorder:
    """Makes a moment of what has changed since the last one, and has it written.

    It is told where the session stands about four times a second: what is not counted is the mean of these looks.
    """

    def __init__(
        self,
        directory: RunDirectory,
        session: str,
        *,
        log: Callable[[str], None],
        meter: Meter | None = None,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        """`session`: its id. `log` is told, once, where nothing can be written; `meter`, all that this is told."""
        self._series = Series(directory.series)
        self._status = directory.status
        self._session = session
        self._log = log
        self._meter = meter
        self._wall_clock = wall_clock
        self._spread = Distributions()
        self._looks: list[Snapshot] = []
        self._at = 0.0  # of the session, when the last moment ended
        self._totals: Totals | None = None  # then
        self._counters = Counters()
        self._usd = 0.0
        self._usd_by: dict[str, float] = {}
        self._providers: dict[str, ProviderView] = {}
        self._failed = False

    def __repr__(self) -> str:
        return f"<{len(self._looks)} looks since {self._at:.1f} s>"

    def measured(self, spread: Distributions, spreads: Sequence[Distributions] = ()) -> None:
        """Take in what a worker has measured: in all, and of each provider of each step where there are several."""
        self._spread.add(spread)
        if self._meter is not None:
            self._meter.measured(spread, spreads)

    def look(self, snapshot: Snapshot, *, last: bool = False) -> None:
        """Take in where the session stands; write it down where a second has gone by, or it is the last look."""
        if self._meter is not None:
            self._meter.look(snapshot)
        if self._totals is None:  # what earlier sessions had come to is theirs
            self._totals = snapshot.totals
            self._usd, self._usd_by = _usd(snapshot), _usd_by(snapshot)
            self._write(snapshot, None)
        self._looks.append(snapshot)
        if last or snapshot.elapsed_s - self._at >= _EVERY_S:
            self._write(snapshot, self._moment(snapshot))
            self._begin(snapshot)
        if last:
            self._series.close()

    def _write(self, snapshot: Snapshot, moment: Moment | None) -> None:
        status = Status(at=round(self._wall_clock(), 3), session=self._session, snapshot=snapshot)
        with self._told_once():
            durable.replace_unsynced(self._status, msgspec.json.encode(status))
        if moment is not None:
            with self._told_once():
                self._series.append(moment)

    @contextmanager
    def _told_once(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._log(f"its progress cannot be written down: {error.strerror}; the run goes on without it")

    def _begin(self, snapshot: Snapshot) -> None:
        self._looks.clear()
        self._spread = Distributions()
        self._at = snapshot.elapsed_s
        self._totals = snapshot.totals
        self._counters = snapshot.counters
        self._usd, self._usd_by = _usd(snapshot), _usd_by(snapshot)
        self._providers = {view.name: view for view in snapshot.providers}

    def _moment(self, now: Snapshot) -> Moment:
        assert self._totals is not None
        looks, before = self._looks, self._counters
        faults = {name: count - before.faults.get(name, 0) for name, count in now.counters.faults.items()}
        workers = now.workers
        return Moment(
            at=round(self._wall_clock(), 3),
            seconds=round(max(now.elapsed_s - self._at, 0.001), 3),
            session=self._session,
            # Shards that another session had begun are found again one after the other: they are no new rows.
            rows=now.counters.rows - before.rows,
            failed=max(0, min(now.totals.failed - self._totals.failed, now.counters.rows - before.rows)),
            requests=now.counters.requests - before.requests,
            retries=now.counters.retries - before.retries,
            faults={name: count for name, count in faults.items() if count},
            usd=max(0.0, _usd(now) - self._usd),
            usd_by=self._usd_of_models(now),
            in_flight=_mean([look.in_flight for look in looks]),
            allowed=_mean([look.allowed for look in looks]),
            waiting=_mean([look.waiting for look in looks]),
            workers=_mean([len(look.workers) for look in looks]),
            cpu=round(sum(worker.cpu_share for worker in workers), 3),
            rss_mb=round(sum(worker.rss_bytes for worker in workers) / _MB, 1),
            lag_ms=max((worker.lag_ms for worker in workers), default=0.0),
            providers={view.name: self._of_provider(view) for view in now.providers},
            spread=self._spread,
        )

    def _usd_of_models(self, now: Snapshot) -> dict[str, float]:
        spent = _usd_by(now)
        more = {model: usd - self._usd_by.get(model, 0.0) for model, usd in spent.items()} if len(spent) > 1 else {}
        return {model: usd for model, usd in more.items() if usd > 0}

    def _of_provider(self, view: ProviderView) -> ProviderMoment:
        before = self._providers.get(view.name)
        looks = [each for look in self._looks for each in look.providers if each.name == view.name]
        return ProviderMoment(
            requests=view.requests - (before.requests if before else 0),
            answered=view.answered - (before.answered if before else 0),
            limited=view.limited - (before.limited if before else 0),
            prompt_tokens=view.prompt_tokens - (before.prompt_tokens if before else 0),
            completion_tokens=view.completion_tokens - (before.completion_tokens if before else 0),
            in_flight=_mean([look.in_flight for look in looks]),
            allowed=_mean([look.allowed for look in looks]),
            requests_per_s=view.requests_per_s,
            tokens_per_s=view.tokens_per_s,
            state=view.state,
        )


def _usd(snapshot: Snapshot) -> float:
    return (snapshot.cost.usd or 0.0) if snapshot.cost is not None else 0.0


def _usd_by(snapshot: Snapshot) -> dict[str, float]:
    spent: dict[str, float] = {}
    for line in () if snapshot.cost is None else snapshot.cost.lines:
        spent[line.model] = spent.get(line.model, 0.0) + (line.usd or 0.0)
    return spent


def _mean(values: list[int]) -> float:
    return round(sum(values) / len(values), 2)
