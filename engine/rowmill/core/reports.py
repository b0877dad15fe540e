"""How a run stands and how it went: what the progress display shows, what the report keeps, and who is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from rowmill.core.amounts import Spent
from rowmill.core.counts import BatchView, Counters, Totals
from rowmill.core.errors import RunDirectoryError
from rowmill.core.histograms import Distributions
from rowmill.core.win_rates import WinRates


class ProviderView(msgspec.Struct, frozen=True, kw_only=True):
    """One provider as the progress display shows it."""

    name: str
    state: str  # "open"; "holding": it asked for silence; "failing": opened by the breaker; "recovering"; "closed"
    in_flight: int  # measured
    allowed: int  # requests that the leases allow at a time now
    requests: int  # of this session
    answered: int
    requests_per_s: float | None  # that the leases may spend; None: no limit
    tokens_per_s: float | None
    held_s: float | None = None  # seconds until the silence that it asked for ends
    limited: int = 0  # 429s of this session
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ProviderFigures(msgspec.Struct, kw_only=True):
    """What one session had of one provider."""

    state: str = "open"  # at the session's end, as in `ProviderView`
    requests: int = 0
    answered: int = 0
    limited: int = 0  # 429s
    failed: int = 0  # requests without a valid reply, 429s included
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    mean_reply_s: float | None = None
    held_s: float = 0.0  # silence that it asked for, in all
    opened: int = 0  # times that the breaker opened
    in_flight_max: int = 0
    odd_headers: int = 0  # limit headers that made no sense
    odd_usage: int = 0  # replies whose usage was impossible, and counts as an estimate
    requests_per_minute: float | None = None  # in force at the end: configured or learned
    tokens_per_minute: float | None = None


class StepFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one of several steps has come to, over all sessions of the run."""

    name: str
    rows: int  # that were its to ask, and have their outcome
    failed: int  # of them
    left_out: int  # of them, those that its condition has kept from going on
    requests: int  # that these rows took
    prompt_tokens: int
    completion_tokens: int


class CostLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one model of one provider has cost."""

    provider: str
    model: str
    mode: str  # "live" or "batch"
    spent: Spent
    usd: float | None  # None: its price is unknown
    step: str | msgspec.UnsetType = msgspec.UNSET  # of a run of several


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has cost so far, over all of its sessions."""

    usd: float | None = None  # None where the price of anything is unknown
    tokens: int = 0
    requests: int = 0
    lines: tuple[CostLine, ...] = ()
    retries_usd: float | None = None  # of it: replies that were no valid answers
    lost_usd: float | None = None  # beside it: requests that may have been billed and brought no reply, estimated
    lost: Spent = msgspec.field(default_factory=Spent)  # the same in tokens
    reserved_usd: float = 0.0  # beside it: for what is under way
    spared_usd: float | None = None  # saved by the cache and by duplicates,
    packed_usd: float | None = None  # by packing,
    batch_usd: float | None = None  # by the Batch API
    projected_usd: float | None = None  # for all rows, as far as can be told
    max_usd: float | None = None  # the budget's
    max_tokens: float | None = None
    max_requests: float | None = None
    unpriced: tuple[str, ...] = ()  # models without a known price

    def usd_of_step(self, name: str) -> float | None:
        """Return what one of several steps has cost; None where the price of anything in it is unknown."""
        spent = [line.usd for line in self.lines if line.step == name]
        return None if None in spent else sum(usd or 0.0 for usd in spent)


class WorkerView(msgspec.Struct, frozen=True):
    """One worker as the progress display and the report show it."""

    number: int
    pid: int
    state: str  # "starting", "working", "draining", "gone"
    in_flight: int
    rss_bytes: int
    cpu_share: float  # of one core over the last second; 1.0 is a whole core
    lag_ms: float = 0.0  # how late its event loop is: far above 10 the core is the limit
    node: str = ""  # of a cluster; empty: this machine


class NodeFigures(msgspec.Struct):
    """What the report says of one machine of a cluster."""

    node: str
    joined_s: float  # after the session began
    workers: int  # at most
    rows: int = 0  # that came to an outcome there
    cpu_s: float = 0.0  # of its agent
    rss_mb: float = 0.0  # likewise, at most
    carried_mb: float = 0.0  # to the driver: groups of checkpoints and sealed shards
    sent_mb: float = 0.0  # to the node: messages, and of the input what it does not read itself
    calls: int = 0  # of the agent, by the driver
    left_s: float | None = None  # after the session began; None: it was there to the end
    why: str | None = None  # it left


class DiskView(msgspec.Struct, frozen=True):
    """A file system that the run writes to. Bytes."""

    of: str  # the first of what lies there: "run", "output" or "errors"
    free: int
    floor: int  # nothing new is sent with less; 0: it may be filled up


class MachineView(msgspec.Struct, frozen=True):
    """The machine of the supervisor, as it was looked at last."""

    memory_used: float  # share of its memory, or of the control group that runs out first
    factor: float  # of the requests in flight that its memory allows
    disks: tuple[DiskView, ...]


# What holds a run back, "" where that is not known: a full disk, memory, no provider that takes requests, the workers'
# cores, a rate, the budget for retries, the requests that may be in flight.
Cause = Literal["", "disk", "memory", "providers", "cpu", "rate", "retries", "concurrency"]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands: what the progress display shows, about four times a second."""

    elapsed_s: float  # of this session
    total_rows: int | None  # None while the input is still being counted
    totals: Totals  # acknowledged rows of the whole run, earlier sessions included
    session_rows: int  # acknowledged in this session: what rows/s and ETA are figured from
    rows_per_s: float  # over the last few seconds
    eta_s: float | None
    in_flight: int  # measured: requests on the wire now
    allowed: int  # slots of all workers
    waiting: int  # rows waiting out a backoff
    next_due_s: float | None  # until the soonest of them
    counters: Counters  # of this session, all workers
    shards_sealed: int
    shards_merged: int
    workers: tuple[WorkerView, ...]
    deaths: int  # workers that died in this session
    draining: bool
    providers: tuple[ProviderView, ...] = ()
    notices: tuple[str, ...] = ()  # what holds the run back now, each as a short line: "disk nearly full, paused"
    cost: Cost | None = None  # of the whole run
    batches: tuple[BatchView, ...] = ()  # that are not collected yet
    parts: tuple[int, int] | None = None  # in batch mode: parts collected, parts so far
    slowed_by: str = ""  # why it is not faster, in a few words; empty where that cannot be told
    slowed_cause: Cause = ""  # the same as one word
    cpu_s: float = 0.0  # that workers have used in this session
    machine: MachineView | None = None  # None before it was looked at
    steps: tuple[StepFigures, ...] | msgspec.UnsetType = msgspec.UNSET  # of a run of several


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """`status.json` of the run directory: where a session stood at that time, a second ago while it is at work."""

    at: float  # seconds since 1970
    session: str  # its id
    snapshot: Snapshot


class SessionReport(msgspec.Struct, frozen=True, kw_only=True):
    """One start of the command on a run. A run that is interrupted and resumed has several."""

    started: str  # ISO 8601, UTC
    ended: str  # of one that was killed, when its figures were last written
    exit_code: int  # 137 where it was killed
    stopped_by: str | None  # one line: why it ended before its time; None where it finished
    elapsed_s: float
    rows: int  # acknowledged in this session
    rows_per_s: float
    counters: Counters
    in_flight_max: int  # highest measured in flight in each worker, summed
    allowed: int
    workers: int
    deaths: int
    quarantined: int  # rows given up because workers died on them
    billed_twice_max: int  # retries and resends of requests that the server may already have done: an upper bound
    cpu_s: float  # supervisor and workers
    rss_max_bytes: dict[str, int]  # highest of "supervisor" and of the largest "worker"
    id: str = ""  # tells it from others; those of earlier versions have none
    mode: str = "live"  # or "batch"
    providers: dict[str, ProviderFigures] = {}
    notices: list[str] = []  # what held the session back at some time, or was changed before it started
    batches: list[BatchView] = []  # that were not collected when it ended
    nodes: list[NodeFigures] = []  # of a cluster
    cpu_of: dict[str, float] = {}  # seconds of `cpu_s`: "supervisor", "workers"


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """`report.json` of the run directory. Also what `rowmill run` sums up at its end."""

    run: str
    finished: bool
    input: str
    output: str
    errors: str | None
    rows: int | None  # of the input; None where it was not counted to its end
    totals: Totals
    failures: dict[str, int]  # fault class -> rows that failed with it
    cost: Cost | None = None
    sessions: list[SessionReport]
    steps: tuple[StepFigures, ...] | msgspec.UnsetType = msgspec.UNSET  # of a run of several
    win_rates: tuple[WinRates, ...] | msgspec.UnsetType = msgspec.UNSET  # of a finished run whose steps compare


class Observer(Protocol):
    """Is told how a run stands, and what happens."""

    def show(self, snapshot: Snapshot) -> None:
        """Show where the run stands. Raises a `RowmillError` where it need not go on."""

    def log(self, line: str) -> None:
        """Show one event."""


class Meter(Protocol):
    """Is told what a session does, for whoever collects figures from outside."""

    def begin(self, session: str, mode: str) -> None:
        """Hear that a session of this id begins, by live requests or by batches."""

    def look(self, snapshot: Snapshot) -> None:
        """Take in where the session stands."""

    def measured(self, spread: Distributions, spreads: Sequence[Distributions]) -> None:
        """Take in what a worker has measured: in all, and of each provider of each step where there are several."""


def to_json(report: RunReport) -> bytes:
    """Return the report as indented JSON with a final line break."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def from_json(data: bytes) -> RunReport:
    """Read back what `to_json` wrote. Members that a later version added are passed over.

    Raises `RunDirectoryError` where it is no report.
    """
    try:
        return msgspec.json.decode(data, type=RunReport)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunDirectoryError(f"the report cannot be read: {error}; move it away and run again") from None


def report_at(path: Path) -> RunReport | None:
    """Return the report that lies there; None where none can be read: it only tells people something."""
    try:
        return from_json(path.read_bytes())
    except (RunDirectoryError, OSError, RecursionError):
        return None


def status_at(path: Path) -> Status | None:
    """Return where a session stood as it lies there; None where that cannot be read, likewise."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except (OSError, ValueError, RecursionError):
        return None
