"""What supervisor and workers say to each other: small values over one pipe a worker, never a row.

A message is a MessagePack-encoded tagged Struct, and always small enough that a pipe takes it whole.
"""

from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from engine.config import Config
from engine.flow.rate import Lease
from engine.records import Counters, Endpoint, Shard, Totals


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


class Setup(_Message, frozen=True):
    """Supervisor to worker, first: everything a worker needs to know. Holds the key; goes nowhere else."""

    worker: int  # number of its place in the pool; a successor has the same
    config: Config
    endpoint: Endpoint
    lease: Lease
    run_dir: str
    supervisor: int  # its process id
    incarnation: int  # how many workers the run has started before; names the board of what is in flight
    salvage: bool

    @property
    def run_directory(self) -> Path:
        """The run directory."""
        return Path(self.run_dir)


class Assign(_Message, frozen=True):
    """Supervisor to worker: this shard is yours until it is sealed or you are gone."""

    shard: Shard
    suspects: tuple[int, ...] = ()  # rows that were in flight at several deaths: to be sent alone
    quarantined: tuple[int, ...] = ()  # rows that killed a worker when sent alone: to be recorded as failed


class Drain(_Message, frozen=True):
    """Supervisor to worker: admit nothing more, finish what is in flight within so many seconds, exit."""

    seconds: float


class Ready(_Message, frozen=True):
    """Worker to supervisor: set up and waiting for shards."""


class Want(_Message, frozen=True):
    """Worker to supervisor: room for another shard. Answered by an `Assign` once there is one."""


class Beat(_Message, frozen=True):
    """Worker to supervisor, four times a second: alive, and how far."""

    counters: Counters
    in_flight: int
    in_flight_max: int
    waiting: int
    next_due_s: float | None
    rss_max: int  # bytes; the peak of the process so far
    cpu_s: float  # used by the process so far
    shards: dict[int, Totals]  # acknowledged totals of every open shard


class ShardSealed(_Message, frozen=True):
    """Worker to supervisor: this shard's sealed file is on disk."""

    number: int
    totals: Totals


class Note(_Message, frozen=True):
    """Worker to supervisor: a line for the log."""

    text: str


class Stop(_Message, frozen=True):
    """Worker to supervisor: the run cannot go on. The worker drains and exits."""

    exit_code: int
    reason: str


ToWorker = Setup | Assign | Drain
ToSupervisor = Ready | Want | Beat | ShardSealed | Note | Stop

_encode = msgspec.msgpack.Encoder().encode
_for_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_for_supervisor: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor)


def send(pipe: Connection, message: ToWorker | ToSupervisor) -> bool:
    """Send one message. False when the other end is gone: its reader will notice by itself."""
    try:
        pipe.send_bytes(_encode(message))
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
