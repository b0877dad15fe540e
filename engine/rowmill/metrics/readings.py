"""What the figures of a run are now: a value for each label of each metric, read from the last snapshot."""

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rowmill.core.histograms import Buckets, Distributions, bucket_of
from rowmill.core.reports import Cost, ProviderView, RunReport, Snapshot, StepFigures
from rowmill.core.version import __version__
from rowmill.metrics import catalogue
from rowmill.metrics.catalogue import Family
from rowmill.metrics.labels import Labels

_MOST_WORKERS = 256  # that have series of their own; of more the cluster's own figures tell
_STATES = ("open", "holding", "recovering", "failing", "closed")
_WORKER_STATES = ("starting", "working", "draining")
_CAUSES = ("disk", "memory", "providers", "cpu", "rate", "retries", "concurrency")
# Of batches: what providers call it, and what is done here.
_STATUSES = (
    *("validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"),
    *("building", "uploading", "waiting", "collecting"),
)
_MS = 1000.0

Value = tuple[str, ...]  # of the labels, in the family's order


class Distribution(NamedTuple):
    """A histogram's point."""

    counts: tuple[int, ...]  # of each bound, and of what is above the last
    total: float  # of the values


Scalars = dict[Value, float]


class MeteredProvider(NamedTuple):
    """A provider as one step of a run asks it; most runs have no other step."""

    name: str
    word: str  # the conventions' for it
    model: str  # asked for; empty where rows name theirs
    operation: str  # the conventions' word for what is asked


class MeteredRun(NamedTuple):
    """What the figures are of."""

    run: str
    input: str  # a file's name, without the way to it
    providers: tuple[MeteredProvider, ...]  # of each step, in their order
    faults: tuple[str, ...] = ()  # the classes that there are: of each is told that there was none, too


def distribution(buckets: Buckets, total: float, bounds: Sequence[float], scale: float) -> Distribution:
    """Return the counts of values by these bounds. scale: what a bound is multiplied by, to be one of a bucket.

    Of tokens, which are whole, "at most 63" is "less than 64"; of times, which are not, the bound itself makes no odds.
    """
    edges = [bucket_of(round(bound * scale) + (scale == 1)) for bound in bounds]
    counts = [0] * (len(bounds) + 1)
    for bucket, count in buckets.items():
        counts[bisect_right(edges, bucket)] += count
    return Distribution(tuple(counts), total)


class Readings:
    """The values of all metrics at one time."""

    def __init__(self) -> None:
        self.scalars: dict[Family, Scalars] = {}
        self.histograms: dict[Family, dict[Value, Distribution]] = {}

    def __repr__(self) -> str:
        return f"<{sum(map(len, self.scalars.values()))} values, {sum(map(len, self.histograms.values()))} histograms>"

    def add(self, family: Family, value: float | None, *labels: str) -> None:
        """Add a value; None where it is not known, which is no 0. What has the same labels is added up."""
        if value is not None:
            values = self.scalars.setdefault(family, {})
            values[labels] = values.get(labels, 0) + value


def read(
    subject: MeteredRun,
    snapshot: Snapshot,
    spreads: Sequence[Distributions],
    whole: Distributions,
    labels: Mapping[str, Labels],
    *,
    before: Cost | None,
    mode: str,
    session: str,
    started: float,
    ended: tuple[RunReport, int] | None,
) -> Readings:
    """Read everything.

    spreads, whole: what was measured of each provider in each step, and in all. before: what the run had cost when the
    session began. started: Unix time. ended: the report, and the exit code, once there are.
    """
    found = Readings()
    report = ended[0] if ended is not None else None
    cost = snapshot.cost if report is None else report.cost
    _counted(found, snapshot, dict.fromkeys(subject.faults, 0) | snapshot.counters.faults)
    for view in snapshot.providers:
        _of_provider(found, view, labels["provider"](view.name), over=report is not None)
    if mode == "batch":
        _batch_tokens(found, cost, before, labels["provider"])
    _measured(found, subject, spreads, whole, labels)
    _run(found, snapshot, report, labels["error.type"])
    _costs(found, cost, labels)
    _steps(found, (snapshot if report is None else report).steps or (), cost, labels["step"])
    _machine(found, snapshot)
    _batches(found, snapshot)
    found.add(catalogue.BUILD, 1, __version__)
    found.add(catalogue.SESSION, 1, subject.run, session, mode)
    found.add(catalogue.STARTED, started)
    found.add(catalogue.DRAINING, snapshot.draining)
    found.add(catalogue.FINISHED, report is not None and report.finished)
    found.add(catalogue.ENDED, report is not None)
    found.add(catalogue.EXIT_CODE, None if ended is None else ended[1])
    for cause in _CAUSES:
        found.add(catalogue.SLOWED, report is None and cause == snapshot.slowed_cause, cause)
    return found


def _counted(found: Readings, snapshot: Snapshot, faults: Mapping[str, int]) -> None:
    counters = snapshot.counters
    found.add(catalogue.ROWS, max(0, counters.rows - counters.failed), "answered")
    found.add(catalogue.ROWS, counters.failed, "failed")
    found.add(catalogue.SHARED, counters.cached, "cache")
    found.add(catalogue.SHARED, counters.duplicates, "duplicate")
    found.add(catalogue.RETRIES, counters.retries)
    found.add(catalogue.REASKED, counters.reasked)
    found.add(catalogue.DOUBTFUL, counters.maybe_billed_twice)
    found.add(catalogue.PACKED, counters.packed)
    for fault, count in faults.items():
        found.add(catalogue.FAULTS, count, fault)
    found.add(catalogue.DEATHS, snapshot.deaths)
    found.add(catalogue.SEALED, snapshot.shards_sealed)
    found.add(catalogue.MERGED, snapshot.shards_merged)
    found.add(catalogue.CPU, snapshot.cpu_s, "workers")
    found.add(catalogue.CPU, time.process_time(), "supervisor")


def _of_provider(found: Readings, view: ProviderView, name: str, *, over: bool) -> None:
    found.add(catalogue.REQUESTS, view.requests, name)
    found.add(catalogue.REPLIES, view.answered, name)
    found.add(catalogue.LIMITED, view.limited, name)
    found.add(catalogue.TOKENS_USED, view.prompt_tokens, name, "input")
    found.add(catalogue.TOKENS_USED, view.completion_tokens, name, "output")
    found.add(catalogue.IN_FLIGHT, view.in_flight, name)
    found.add(catalogue.ALLOWED, 0 if over else view.allowed, name)
    found.add(catalogue.LEASED_REQUESTS, view.requests_per_s, name)
    found.add(catalogue.LEASED_TOKENS, view.tokens_per_s, name)
    found.add(catalogue.HELD, view.held_s or 0.0, name)
    for state in _STATES:
        found.add(catalogue.STATE, view.state == state, name, state)


def _batch_tokens(found: Readings, cost: Cost | None, before: Cost | None, provider: Labels) -> None:
    """Add what batches took in this session: it is told in their cost alone, which is of all sessions."""
    for cost_of, sign in ((cost, 1), (before, -1)):
        for line in cost_of.lines if cost_of is not None else ():
            if line.mode == "batch":
                name = provider(line.provider)
                found.add(catalogue.TOKENS_USED, sign * line.spent.prompt_tokens, name, "input")
                found.add(catalogue.TOKENS_USED, sign * line.spent.completion_tokens, name, "output")


def _measured(
    found: Readings,
    subject: MeteredRun,
    spreads: Sequence[Distributions],
    whole: Distributions,
    labels: Mapping[str, Labels],
) -> None:
    summed: dict[Value, Distributions] = {}
    for (name, word, model, operation), spread in zip(subject.providers, spreads, strict=True):
        of = (labels["provider"](name), operation, labels["gen_ai.provider.name"](word), labels["model"](model))
        summed.setdefault(of, Distributions()).add(spread)  # of steps that ask alike
    for asked, spread in summed.items():
        durations = found.histograms.setdefault(catalogue.DURATION, {})
        durations[asked] = _seconds(spread.latency_ms, spread.sums.get("latency_ms", 0.0))
        usage = found.histograms.setdefault(catalogue.USAGE, {})
        for kind, field in (("input", "prompt_tokens"), ("output", "completion_tokens")):
            total = spread.sums.get(field, 0.0)
            usage[(*asked, kind)] = distribution(getattr(spread, field), total, catalogue.TOKENS, 1)
    for family, field in ((catalogue.SLOT_WAIT, "slot_wait_ms"), (catalogue.RATE_WAIT, "rate_wait_ms")):
        found.histograms[family] = {(): _seconds(getattr(whole, field), whole.sums.get(field, 0.0))}


def _seconds(buckets: Buckets, total_ms: float) -> Distribution:
    return distribution(buckets, round(total_ms / _MS, 6), catalogue.SECONDS, _MS)


def _run(found: Readings, snapshot: Snapshot, report: RunReport | None, fault: Labels) -> None:
    totals = snapshot.totals if report is None else report.totals
    found.add(catalogue.INPUT_ROWS, snapshot.total_rows if report is None else report.rows)
    found.add(catalogue.RUN_ROWS, max(0, totals.rows - totals.failed), "answered")
    found.add(catalogue.RUN_ROWS, totals.failed, "failed")
    found.add(catalogue.RUN_REQUESTS, totals.requests)
    found.add(catalogue.RUN_TOKENS, totals.prompt_tokens, "input")
    found.add(catalogue.RUN_TOKENS, totals.completion_tokens, "output")
    found.add(catalogue.SPEED, snapshot.rows_per_s if report is None else 0.0)
    found.add(catalogue.REMAINING, snapshot.eta_s if report is None else None)
    found.add(catalogue.WAITING, snapshot.waiting)
    for name, count in (report.failures if report is not None else {}).items():
        found.add(catalogue.RUN_FAILED, count, fault(name))


def _costs(found: Readings, cost: Cost | None, labels: Mapping[str, Labels]) -> None:
    if cost is None:
        return
    for line in cost.lines:
        of = (labels["provider"](line.provider), labels["model"](line.model), line.mode)
        found.add(catalogue.RUN_COST, line.usd, *of)
        found.add(catalogue.RUN_BILLED, line.spent.prompt_tokens, *of, "input")
        found.add(catalogue.RUN_BILLED, line.spent.cached_tokens, *of, "cached_input")
        found.add(catalogue.RUN_BILLED, line.spent.completion_tokens, *of, "output")
    found.add(catalogue.PROJECTED, cost.projected_usd)
    found.add(catalogue.LOST, cost.lost_usd)
    found.add(catalogue.RESERVED, cost.reserved_usd)
    for source, usd in (("cache", cost.spared_usd), ("packing", cost.packed_usd), ("batch", cost.batch_usd)):
        found.add(catalogue.SAVED, usd, source)
    found.add(catalogue.UNPRICED, len(cost.unpriced))
    found.add(catalogue.BUDGET_USD, cost.max_usd)
    found.add(catalogue.BUDGET_TOKENS, cost.max_tokens)
    found.add(catalogue.BUDGET_REQUESTS, cost.max_requests)


def _steps(found: Readings, steps: Sequence[StepFigures], cost: Cost | None, name: Labels) -> None:
    for step in steps:
        of = name(step.name)
        found.add(catalogue.STEP_ROWS, step.rows - step.failed - step.left_out, of, "answered")
        found.add(catalogue.STEP_ROWS, step.failed, of, "failed")
        found.add(catalogue.STEP_ROWS, step.left_out, of, "left_out")
        found.add(catalogue.STEP_REQUESTS, step.requests, of)
        found.add(catalogue.STEP_TOKENS, step.prompt_tokens, of, "input")
        found.add(catalogue.STEP_TOKENS, step.completion_tokens, of, "output")
        found.add(catalogue.STEP_COST, None if cost is None else cost.usd_of_step(step.name), of)


def _machine(found: Readings, snapshot: Snapshot) -> None:
    for state in _WORKER_STATES:
        found.add(catalogue.WORKERS, sum(worker.state == state for worker in snapshot.workers), state)
    for worker in snapshot.workers:
        if worker.number < _MOST_WORKERS:
            name = str(worker.number)
            found.add(catalogue.WORKER_CPU, worker.cpu_share, name)
            found.add(catalogue.WORKER_MEMORY, worker.rss_bytes, name)
            found.add(catalogue.WORKER_LAG, worker.lag_ms / _MS, name)
    if snapshot.machine is not None:
        found.add(catalogue.MEMORY_USED, snapshot.machine.memory_used)
        for disk in snapshot.machine.disks:
            found.add(catalogue.DISK_FREE, disk.free, disk.of)
            found.add(catalogue.DISK_FLOOR, disk.floor, disk.of)


def _batches(found: Readings, snapshot: Snapshot) -> None:
    if snapshot.parts is None:
        return
    collected, parts = snapshot.parts
    found.add(catalogue.BATCH_PARTS, collected, "collected")
    found.add(catalogue.BATCH_PARTS, parts - collected, "open")
    for status in _STATUSES:
        found.add(catalogue.BATCHES, 0, status)
    for batch in snapshot.batches:
        found.add(catalogue.BATCHES, 1, batch.status if batch.status in _STATUSES else "other")
        found.add(catalogue.BATCH_REQUESTS, batch.completed, "completed")
        found.add(catalogue.BATCH_REQUESTS, batch.failed, "failed")
        found.add(catalogue.BATCH_REQUESTS, batch.requests - batch.completed - batch.failed, "open")


class Rising:
    """Counters over all sessions of one command, none of which ever falls."""

    def __init__(self) -> None:
        self._before: dict[Family, Scalars] = {}  # what the sessions before have come to
        self._last: dict[Family, Scalars] = {}

    def __repr__(self) -> str:
        return f"<{sum(map(len, self._last.values()))} counters>"

    def raised(self, found: Readings) -> None:
        """Put what a counter has come to in the place of what it counts in this session."""
        for family in {**found.scalars, **self._last}:
            if family.kind != "counter":
                continue
            values = found.scalars.setdefault(family, {})
            before, last = self._before.get(family, {}), self._last.setdefault(family, {})
            for labels in (*values, *(each for each in last if each not in values)):
                value = values.get(labels, 0) + before.get(labels, 0)
                last[labels] = values[labels] = max(value, last.get(labels, 0))

    def next_session(self) -> None:
        """Begin to count from 0 again what the next session does; what was counted stays."""
        self._before = {family: dict(values) for family, values in self._last.items()}
