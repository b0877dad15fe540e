"""What supervisor and workers say to each other: small values over one pipe a worker, never a row.

A message is a MessagePack-encoded tagged Struct, and small enough that a pipe takes it whole, but for the results of
shared requests, which pass between a worker on a node and its agent.
"""

from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from rowmill.core.amounts import Amount, Price, Spent
from rowmill.core.config import Config
from rowmill.core.counts import BatchView, Counters, DeadEnd, ProviderReport, Totals
from rowmill.core.histograms import Distributions
from rowmill.core.leases import Lease
from rowmill.core.request_form import RequestForm
from rowmill.core.rows import InputPart, Layout, Shard, StepOfRun
from rowmill.core.wire import Endpoint


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


class Setup(_Message, frozen=True):
    """Supervisor to worker, first: everything a worker needs to know. Holds the keys; goes nowhere else."""

    worker: int  # number of its place in the pool; a successor has the same
    config: Config  # as prepared: formats and schema are settled
    parts: list[InputPart]
    layout: Layout
    endpoints: list[Endpoint]  # of the providers, in the configuration's order
    slots: int  # requests in flight that leases will allow at most
    workers: int  # in the pool
    run_dir: str
    supervisor: int  # its process id
    incarnation: int  # how many workers the session has started before; names the board of what is in flight
    claimant: int  # names the worker among all of the run's that have shared requests
    salvage: bool
    retry_failed: bool  # rows that have failed are to be done again
    prices: list[Price | None] = []  # of the providers; None where unknown
    capped: bool = False  # there is a budget: nothing is sent but what an `Allow` covers
    left: Amount | None = None  # of it, for the batches of the whole run; None: no limit
    run: str = ""  # its id
    session: str = ""  # its id
    told: Counters = msgspec.field(default_factory=Counters)  # of batches: by workers before, in all sessions
    until: float | None = None  # Unix time by which all answers are to be there; None: no deadline
    carried: bool = False  # what is written counts once somebody has carried it to where the supervisor is
    step: StepOfRun | None = None  # that it is at work on; None where there is only one
    cached: int = 0  # where claims are carried: serial of the last reply that the persistent store had before
    forms: "list[UseForm]" = []  # that are known by now

    @property
    def run_directory(self) -> Path:
        """The run directory."""
        return Path(self.run_dir)


class Assign(_Message, frozen=True):
    """Supervisor to worker: this shard is yours until it is sealed or you are gone."""

    shard: Shard
    suspects: tuple[int, ...] = ()  # rows that were in flight at several deaths: to be sent alone
    quarantined: tuple[int, ...] = ()  # rows that killed a worker when sent alone: to be recorded as failed
    part: InputPart | None = None  # where its rows lie, where it is not as the setup says


class Leases(_Message, frozen=True):
    """Supervisor to worker: what may be sent from now on. Answered by a `Leased` for each."""

    leases: list[Lease]


class Allow(_Message, frozen=True):
    """Supervisor to worker: so much more may be spent. What is reserved for a request is taken from it."""

    amount: Amount


class Recall(_Message, frozen=True):
    """Supervisor to worker: hand back what is not spent. Answered by a `Short`."""


class NoMore(_Message, frozen=True):
    """Supervisor to a worker of batches that wants a shard: there is none any more, and all are planned."""


class Drain(_Message, frozen=True):
    """Supervisor to worker: admit nothing more, finish what is in flight within so many seconds, exit."""

    seconds: float


class Durable(_Message, frozen=True):
    """To a worker whose records are carried: up to this end of a checkpoint they are on the disk, or why not."""

    number: int
    end: int
    problem: str | None = None


class ClaimsAnswer(_Message, frozen=True):
    """To a worker whose claims are carried: what has come of the keys it asked for. Those not named are taken."""

    held: list[bytes]
    results: list[tuple[bytes, bytes]]  # key, encoded result


class UseForm(_Message, frozen=True):
    """Supervisor to worker: this provider wants its requests so, as another worker has found out.

    model: of those that name it. None: of all, where rows do not name theirs.
    """

    provider: int
    form: RequestForm
    model: str | None = None


class Ready(_Message, frozen=True):
    """Worker to supervisor: set up and waiting for shards."""


class Want(_Message, frozen=True):
    """Worker to supervisor: room for another shard. Answered by an `Assign` once there is one."""


class Leased(_Message, frozen=True):
    """Worker to supervisor: this lease is in force, and the one before is not any more."""

    provider: int
    serial: int
    returned: tuple[float, float]  # credit of requests and tokens that goes back; a debt is below 0


class RateLimited(_Message, frozen=True):
    """Worker to supervisor, at once: the provider has answered 429. All workers are to hold back."""

    provider: int
    wait_s: float | None  # its Retry-After
    slow_down: bool


class Tripped(_Message, frozen=True):
    """Worker to supervisor, at once: so many failures in a row that the worker has stopped sending to this provider."""

    provider: int
    reason: str
    dead_end: DeadEnd = ""
    ago_s: float = 0.0  # when the request was sent that has failed


class Closed(_Message, frozen=True):
    """Worker to supervisor: what failed at this provider would fail every row. The worker sends it nothing more."""

    provider: int
    reason: str


class Formed(_Message, frozen=True):
    """Worker to supervisor: the provider has refused the form of a request; from now on it is asked in this one.

    model: as `UseForm` has it.
    """

    provider: int
    form: RequestForm
    reason: str
    model: str | None = None


class Heartbeat(_Message, frozen=True):
    """Worker to supervisor, four times a second: alive, and how far."""

    counters: Counters
    in_flight: int
    in_flight_max: int
    waiting: int
    next_due_s: float | None
    rss_max: int  # bytes; the peak of the process so far
    cpu_s: float  # used by the process so far
    shards: dict[int, Totals]  # acknowledged totals of every open shard
    providers: list[ProviderReport]
    lag_ms: float  # how late the event loop is
    retries_short: bool  # since the last one the retry budget held a row back
    spent: Amount = Amount()  # of what was allowed
    reserved: Amount = Amount()  # of it, for requests in flight
    spread: Distributions = msgspec.field(default_factory=Distributions)  # of what was measured since the last one
    spreads: list[Distributions] = []  # of it, what was measured of each provider, where there are several


class ClaimsAsk(_Message, frozen=True):
    """Worker whose claims are carried: results and keys given back, then keys to be claimed (`ClaimsAnswer`)."""

    published: list[tuple[bytes, bytes]] = []
    released: list[bytes] = []
    keys: list[bytes] = []


class Appended(_Message, frozen=True):
    """Worker whose records are carried: these bytes of the shard's checkpoint are written. Answered by a `Durable`."""

    number: int
    start: int
    end: int


class ShardSealed(_Message, frozen=True):
    """Worker to supervisor: this shard's sealed file is on disk."""

    number: int
    totals: Totals


class ShardLeft(_Message, frozen=True):
    """Worker to supervisor: of this shard nothing is to be done in this session any more, though it is not complete."""

    number: int
    totals: Totals


class Short(_Message, frozen=True):
    """Worker to supervisor: what was allowed does not cover the next request. All that is left of it goes back."""

    left: Amount
    need: Amount  # of the next request; nothing where it was recalled


class BatchHeartbeat(_Message, frozen=True):
    """Worker of batches to supervisor, with every beat: how its batches stand, over all sessions of the run."""

    batches: list[BatchView]  # those that are not collected
    parts: int  # so far
    collected: int
    spent: Spent  # of what is collected
    wasted: Spent  # of it, by replies that were no use
    reserved: Amount  # for what is not
    doubtful: Amount = Amount()  # what those may have cost that were given up


class HandedOver(_Message, frozen=True):
    """Worker of batches to supervisor: the deadline is near; what is left is for the live API. The worker drains."""

    reason: str


class Note(_Message, frozen=True):
    """Worker to supervisor: a line for the log. once: it is about the run, and one worker's word is enough."""

    text: str
    once: bool = False


class Defective(_Message, frozen=True):
    """Worker to supervisor, last: a defect ends this worker. Its rows go to others, as those of any that dies."""

    reason: str


class Stop(_Message, frozen=True):
    """Worker to supervisor: the run cannot go on. The worker drains and exits."""

    exit_code: int
    reason: str


ToWorker = Setup | Assign | Leases | Allow | Recall | NoMore | Drain | Durable | ClaimsAnswer | UseForm
ToSupervisor = (
    Ready
    | Want
    | Leased
    | RateLimited
    | Tripped
    | Closed
    | Formed
    | Heartbeat
    | Short
    | BatchHeartbeat
    | HandedOver
    | Appended
    | ClaimsAsk
    | ShardSealed
    | ShardLeft
    | Note
    | Defective
    | Stop
)

encode = msgspec.msgpack.Encoder().encode
_for_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_for_supervisor: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor)


def to_worker(data: bytes) -> ToWorker:
    """Decode a message to a worker, for who carries it."""
    return _for_worker.decode(data)


def to_supervisor(data: bytes) -> ToSupervisor:
    """Decode a message to the supervisor, for who carries it."""
    return _for_supervisor.decode(data)


def send(pipe: Connection, message: ToWorker | ToSupervisor) -> bool:
    """Send one message. False when the other end is gone: its reader will notice by itself."""
    try:
        pipe.send_bytes(encode(message))
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def receive_in_worker(pipe: Connection) -> ToWorker | None:
    """Receive one message from the supervisor; None when it is gone."""
    try:
        return _for_worker.decode(pipe.recv_bytes())
    except (EOFError, OSError):  # OSError: it was killed in the middle of a message, or the connection was reset
        return None


def receive_in_supervisor(pipe: Connection) -> ToSupervisor | None:
    """Receive one message from a worker; None when it is gone."""
    try:
        return _for_supervisor.decode(pipe.recv_bytes())
    except (EOFError, OSError):  # OSError: it was killed in the middle of a message, or the connection was reset
        return None
