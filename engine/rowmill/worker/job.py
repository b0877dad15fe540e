"""What a worker has in hand: the shards it is working on, and the rows of theirs that are on their way.

Where a row is, and where it may go from there, is the table `_MOVES`; an impossible move is an error. So no row is
recorded twice, or sent while it waits somewhere else, whatever a reply, a lease or a shutdown does meanwhile:

    ready       read, or put back: the next ones to be sent
    following   another row asks the very same, and its reply answers both
    packed      goes out in one request with others: where that one is, its pack tells
    paced       built, and waits for the rate
    waiting     for its next try
    bound       waits for the one provider that may still be asked
    aside       waits until nothing else is in flight
    in flight   on the wire
    done        recorded; of a pack: its rows are, or are in other packs now
"""

from typing import Literal, Protocol

import msgspec

from rowmill.core.rows import Shard
from rowmill.core.wire import Answer, Failure, FaultClass, Request
from rowmill.store.checkpoint import Checkpoint

RowState = Literal["ready", "following", "packed", "paced", "waiting", "bound", "aside", "in flight", "done"]
ShardState = Literal["open", "sealing", "sealed", "left"]

# state -> states that may follow. One that is taken up and cannot be sent after all is put back where it was.
_MOVES: dict[RowState, frozenset[RowState]] = {
    "ready": frozenset({"ready", "following", "packed", "paced", "bound", "aside", "in flight", "done"}),
    "following": frozenset({"ready", "done"}),
    "packed": frozenset({"packed", "done"}),
    "paced": frozenset({"paced", "aside", "in flight", "done"}),
    "waiting": frozenset({"paced", "bound", "aside", "in flight", "done"}),
    "bound": frozenset({"bound", "aside", "in flight", "done"}),
    "aside": frozenset({"paced", "aside", "bound", "in flight", "done"}),
    "in flight": frozenset({"ready", "waiting", "bound", "aside", "done"}),
    "done": frozenset(),
}

_SHARD_MOVES: dict[ShardState, frozenset[ShardState]] = {
    "open": frozenset({"sealing", "left"}),
    "sealing": frozenset({"sealed"}),
    "sealed": frozenset(),
    "left": frozenset(),
}


class _To(dict[RowState, RowState]):
    """The moves to one state. `job.state = IN_FLIGHT[job.state]` is `become` without the call, for the hot path."""

    def __init__(self, state: RowState) -> None:
        super().__init__({before: state for before, after in _MOVES.items() if state in after})
        self._state = state

    def __missing__(self, before: RowState) -> RowState:
        raise ValueError(f"a row cannot go from {before} to {self._state}")


READY, FOLLOWING, IN_FLIGHT, DONE = _To("ready"), _To("following"), _To("in flight"), _To("done")


class Asked(Protocol):
    """The provider that a row was sent to, as far as those that record it must know it."""

    @property
    def number(self) -> int:
        """Its place in the configuration."""

    @property
    def name(self) -> str:
        """Its name there."""


class OpenShard:
    """A shard that this worker is working on."""

    def __init__(
        self,
        shard: Shard,
        checkpoint: Checkpoint,
        suspects: frozenset[int],
        quarantined: frozenset[int],
        only: frozenset[int] | None = None,
    ) -> None:
        """`only`: of the rows without an outcome, those that are to be done; None: all of them."""
        self.shard = shard
        self.checkpoint = checkpoint
        self.suspects = suspects
        self.quarantined = quarantined
        self.only = only
        # Of its rows without an outcome, some are no new ones, or not to be done, or not as others.
        self.is_odd = bool(suspects or quarantined or checkpoint.replies) or only is not None
        self.state: ShardState = "open"
        self._recovered = checkpoint.acknowledged.rows
        self._recovered_failed = checkpoint.acknowledged.failed

    def __repr__(self) -> str:
        return (
            f"<shard {self.shard.number}: {self.state}, {self.checkpoint.acknowledged.rows} of {self.shard.rows} rows>"
        )

    @property
    def left(self) -> bool:
        """Whether what is to be done of it is on disk, and others of its rows are without an outcome still."""
        return self.only is not None and not self.checkpoint.complete and self.new_rows == len(self.only)

    def become(self, state: ShardState) -> None:
        """Move to another state; an impossible move is a defect."""
        if state not in _SHARD_MOVES[self.state]:
            raise ValueError(f"shard {self.shard.number} cannot go from {self.state} to {state}")
        self.state = state

    @property
    def new_rows(self) -> int:
        """Rows on disk since this worker has the shard."""
        return self.checkpoint.acknowledged.rows - self._recovered

    @property
    def new_failed(self) -> int:
        """Of them, failed ones."""
        return self.checkpoint.acknowledged.failed - self._recovered_failed


class Fallback(msgspec.Struct, frozen=True, gc=False):
    """Why a row may go to one provider only: it has failed for good where it went first."""

    failure: Failure  # with which it is recorded if nobody is left to ask instead
    options: tuple[int, ...]  # providers, by number, that may be asked if this one refuses it too


class SecondAsk(msgspec.Struct, gc=False):
    """A row is asked once more because its reply ended too soon."""

    answer: Answer | None  # that reply, with which the row ends where nothing better comes; None: it was none
    cap: int = 0  # tokens that the reply may have now; 0: as before


class Job(msgspec.Struct, gc=False):
    """One row on its way, or several that go out in one request."""

    index: int
    line: bytes  # empty where there are `members`
    size: int  # bytes of its line, or of its members' lines
    shard: OpenShard
    state: RowState = "ready"
    alone: bool = False  # to be sent with nothing else in flight
    request: Request | None = None
    requests: int = 0  # sent so far
    attempts: int = 0  # of the failed ones, those that count against the row
    first: float = 0.0  # when it was sent for the first time
    started: float = 0.0  # and for the last time; before that, when it was read
    debit: int = 0  # tokens that were debited for it then
    reserved: tuple[float, float] = (0.0, 0.0)  # tokens and dollars, where there is a budget
    put_off: bool = False  # its next try is at the time that the server named
    provider: Asked | None = None  # where it was sent to last; with a fallback, where it is to be sent
    fallback: Fallback | None = None
    members: "list[Job] | None" = None  # rows that go out in this one's request, where the task packs (see `packs`)
    key: bytes = b""  # of its request, where replies are shared (see `dedup`)
    asked: int = 0  # replies that were no valid answer
    once: bool = False  # it has failed in a way for which it is tried again once at most
    spent: tuple[int, ...] = ()  # prompt and completion tokens that these have cost; empty for none
    second: SecondAsk | None = None

    def __repr__(self) -> str:
        what = f"row {self.index}" if self.members is None else f"pack of rows {[each.index for each in self.members]}"
        at = f" at {self.provider.name}" if self.provider is not None else ""
        tries = f", {self.requests} sent, {self.attempts} failed" if self.requests else ""
        return f"<{what}: {self.state}{at}{tries}>"

    def ends_with(self, fault: FaultClass) -> bool:
        """Take note of a failure, and tell whether it is one too many of those that are tried again once at most."""
        before = self.once
        self.once = before or fault.once
        return before and fault.once

    def become(self, state: RowState) -> None:
        """Move to another state; an impossible move is a defect."""
        if state not in _MOVES[self.state]:
            raise ValueError(f"row {self.index} cannot go from {self.state} to {state}")
        self.state = state
