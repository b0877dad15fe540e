"""One worker of a node, as its agent has it: what passes between it and the driver, and what is changed on the way."""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from rowmill.cluster.node_input import NodeInput, OtherBytesError
from rowmill.cluster.wire import PIECE_BYTES, Arrived, Claimed, Group, Idle, Lacking, Passed, Unable, Up, Whole
from rowmill.core.errors import ExitCode, RowmillError
from rowmill.core.leases import Lease
from rowmill.core.plain_text import clipped, one_line
from rowmill.core.rows import InputPart, Shard
from rowmill.ipc import messages
from rowmill.ipc.channel import Channel
from rowmill.ipc.messages import (
    Appended,
    Assign,
    ClaimsAsk,
    Drain,
    Durable,
    Heartbeat,
    Leases,
    Ready,
    Setup,
    ShardLeft,
    ShardSealed,
    Stop,
    Want,
)
from rowmill.ipc.processes import Child
from rowmill.store.cache import kept_replies
from rowmill.store.run_directory import RunDirectory

# What is wrong with the machine, or lacks there, is the node's; the other reasons are everybody's.
_OF_A_NODE = (ExitCode.MACHINE, ExitCode.USAGE)
_UNHURRIED = (messages.Leased, messages.Note, Heartbeat)


class NodeWorker:
    """One worker process, and what is carried for it.

    beats: it has sent a heartbeat; lag_ms: how late its loop was, as the last one says.
    """

    def __init__(
        self,
        number: int,
        child: Child,
        directory: RunDirectory,
        *,
        given: NodeInput,
        parts: list[InputPart],
        tell: Callable[..., None],
    ) -> None:
        """`given`: the input as this node has it; `parts`: as the driver has it."""
        self.number = number
        self.child = child
        self.beats = False
        self.lag_ms = 0.0
        self._directory = directory
        self._given = given
        self._parts = parts
        self._tell = tell
        self._salvage = False
        self._home = ""  # the run directory of the driver
        self._shards: dict[int, Shard] = {}
        self._carried: dict[int, int] = {}  # shard -> bytes of its checkpoint that the driver has
        self._ahead: deque[Assign] = deque()  # are there before they are wanted
        self._wants = False
        self._board = b""
        self._over = False
        self._channel = Channel(child.pipe)

    def __repr__(self) -> str:
        return f"<worker {self.number}: shards {sorted(self._shards)}>"

    # To the worker

    def hear(self, data: bytes, behind_s: float, factor: float) -> None:
        """Pass a message of the supervisor's on. `behind_s`: what its clock lacks; `factor`: see `_leases`."""
        message = messages.to_worker(data)
        if isinstance(message, Setup):
            self._salvage = message.salvage
            self._home = message.run_dir
            cache = message.config.cache
            # Replies are kept on each node by itself; what is asked now, all nodes share.
            cached = kept_replies.prepare(Path(cache.dir).expanduser()) if cache.use == "disk" else 0
            message = msgspec.structs.replace(
                message, cached=cached, run_dir=str(self._directory.path), supervisor=os.getpid(), carried=True
            )
        elif isinstance(message, Leases):
            message = Leases([_here(lease, behind_s, factor) for lease in message.leases])
        elif isinstance(message, Assign):
            reading = self._given.take(message.shard.number)
            if reading is None:
                self._assigned(message)
            else:
                reading.add_done_callback(partial(self._on_read, message, data))
            return
        self._channel.send(messages.encode(message))

    def _on_read(self, message: Assign, data: bytes, reading: asyncio.Task[None]) -> None:
        if self._over or reading.cancelled():
            return
        error = reading.exception()
        if error is None:
            self._assigned(message)
        else:
            why = str(error) or "it takes too long"
            every = not isinstance(error, OtherBytesError)
            self._tell(Lacking(self.number, data, clipped(one_line(why)), every), pressing=True)

    def _assigned(self, message: Assign) -> None:
        """Have a shard ready before it is wanted: the way to the supervisor and back takes a while."""
        shard = message.shard
        self._shards[shard.number] = shard
        path = self._directory.checkpoint_path(shard)
        self._carried[shard.number] = 0 if self._salvage or not path.exists() else path.stat().st_size
        self._ahead.append(msgspec.structs.replace(message, part=self._given.part(shard)))
        self._give()

    def _give(self) -> None:
        if self._wants and self._ahead:
            self._wants = False
            self._channel.send(messages.encode(self._ahead.popleft()))
            self._say(messages.encode(Want()))  # the next one ahead

    def arrived(self, item: Arrived) -> None:
        """Tell the worker that a group is on the driver's disk."""
        if item.problem is None:
            self._carried[item.shard] = item.end
        self._channel.send(messages.encode(Durable(item.shard, item.end, item.problem)))

    # From the worker

    def read(self) -> bool:
        """Take the messages that are there; False at the end."""
        received = self._channel.receive()
        for data in received or ():
            self._take(data)
        return received is not None

    def _take(self, data: bytes) -> None:
        message = messages.to_supervisor(data)
        match message:
            case Appended():
                self._carry(message)
                return
            case ClaimsAsk():
                self._tell(Claimed(self.number, message))
                return
            case Want():
                self._wants = True
                self._give()
                if self._wants:
                    self._tell(Idle(self.number), pressing=True)
                return
            case Ready():
                self._say(data)
                self._say(messages.encode(Want()), pressing=True)
                return
            case Heartbeat():
                self.beats = True
                self.lag_ms = message.lag_ms
            case ShardSealed(number=number):
                path = self._directory.sealed_path(self._forget(number))
                self._tell(_carried_away(self.number, number, path, data), path.stat().st_size)
                return
            case ShardLeft(number=number):
                self._discard(number)
            case Stop(exit_code=code, reason=reason):
                if code != ExitCode.MACHINE:
                    reason = self._at_home(reason)
                if code in _OF_A_NODE:
                    self._tell(Unable(self.number, code, reason), pressing=True)
                    return
                data = messages.encode(Stop(code, reason))
        self._say(data, pressing=not isinstance(message, _UNHURRIED))

    def _say(self, data: bytes, *, pressing: bool = False) -> None:
        self._tell(Passed(self.number, data), pressing=pressing)

    def _at_home(self, text: str) -> str:
        """Name what is wrong with the driver's files as they are called there, and not the copies of a node."""
        for shard in self._shards.values():
            text = text.replace(str(self._given.path(shard)), self._parts[shard.part].path)
        return text.replace(str(self._directory.path), self._home)

    def _carry(self, appended: Appended) -> None:
        start = min(self._carried[appended.number], appended.start)
        with self._directory.checkpoint_path(self._shards[appended.number]).open("rb") as file:
            data = os.pread(file.fileno(), appended.end - start, start)
        self._tell(Group(self.number, appended.number, start, data))

    def _forget(self, number: int) -> Shard:
        """Let go of a shard, of which the sealed file stays."""
        shard = self._shards.pop(number)
        self._carried.pop(number, None)
        self._given.forget(number)
        self._directory.checkpoint_path(shard).unlink(missing_ok=True)
        return shard

    def _discard(self, number: int) -> None:
        self._directory.sealed_path(self._forget(number)).unlink(missing_ok=True)

    def give_up(self, error: RowmillError) -> None:
        """End the worker, and the run: it was to be told what this node cannot do."""
        self._tell(Unable(self.number, error.exit_code, str(error)), pressing=True)
        self._channel.send(messages.encode(Drain(0.0)))

    def board(self) -> bytes | None:
        """Return what the board says, where that is something new."""
        try:
            data = self._directory.board_path(self.number).read_bytes()
        except OSError:
            return None
        if data == self._board:
            return None
        self._board = data
        return data

    def hang_up(self) -> None:
        """Close the pipe: the worker is left alone, and drains."""
        self._channel.close()
        self.child.pipe.close()

    def let_go(self) -> None:
        """Forget everything of a worker that has ended."""
        self._over = True
        self.hang_up()
        for number in list(self._shards):
            self._discard(number)
        self._directory.board_path(self.number).unlink(missing_ok=True)


def _carried_away(worker: int, number: int, path: Path, word: bytes) -> Iterator[Up]:
    """Yield a sealed shard piece by piece, and the worker's word of it; then the file is gone.

    Raises OSError where it cannot be read: then the driver gives the node up, and another one does the shard again.
    """
    with path.open("rb", buffering=0) as file:
        data, start = file.read(PIECE_BYTES), 0
        while data:
            following = file.read(PIECE_BYTES)
            yield Whole(number, data, start, last=not following)
            data, start = following, start + len(data)
    path.unlink()
    yield Passed(worker, word)


def _here(lease: Lease, behind_s: float, factor: float) -> Lease:
    """Return a lease in this node's time, with as much in flight as the node can still take."""
    in_flight = lease.in_flight if factor >= 1.0 or not lease.in_flight else int(lease.in_flight * factor)
    if factor > 0 and lease.in_flight:
        in_flight = max(1, in_flight)
    return msgspec.structs.replace(
        lease,
        expires=lease.expires + behind_s,
        paused_until=lease.paused_until + behind_s if lease.paused_until else 0.0,
        in_flight=in_flight,
    )
