"""What a worker has in hand: the shards it is working on, and the rows of theirs that are on their way."""

from typing import Protocol

import msgspec

from rowmill.core.rows import Shard
from rowmill.core.wire import Failure, Request
from rowmill.store.checkpoint import Checkpoint


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
        self, shard: Shard, checkpoint: Checkpoint, suspects: frozenset[int], quarantined: frozenset[int]
    ) -> None:
        self.shard = shard
        self.checkpoint = checkpoint
        self.suspects = suspects
        self.quarantined = quarantined
        self._recovered = checkpoint.acknowledged.rows

    @property
    def new_rows(self) -> int:
        """Rows on disk since this worker has the shard."""
        return self.checkpoint.acknowledged.rows - self._recovered


class Job(msgspec.Struct, gc=False):
    """One row on its way, or several that go out in one request."""

    index: int
    line: bytes  # empty where there are `members`
    size: int  # bytes of its line, or of its members' lines
    shard: OpenShard
    alone: bool = False  # to be sent with nothing else in flight
    request: Request | None = None
    requests: int = 0  # sent so far
    attempts: int = 0  # of the failed ones, those that count against the row
    first: float = 0.0  # when it was sent for the first time
    started: float = 0.0  # and for the last time
    debit: int = 0  # tokens that were debited for it then
    reserved: tuple[float, float] = (0.0, 0.0)  # tokens and dollars, where there is a budget
    put_off: bool = False  # its next try is at the time that the server named
    provider: Asked | None = None  # where it was sent to last
    bound: bool = False  # it may go nowhere else: it has failed for good where it went first
    options: tuple[int, ...] = ()  # providers, by number, that may be asked instead if this one refuses it too
    failure: Failure | None = None  # that first failure
    members: "list[Job] | None" = None  # rows that go out in this one's request, where the task packs (see `packs`)
    key: bytes = b""  # of its request, where replies are shared (see `dedup`)
    asked: int = 0  # replies that were no valid answer
    spent: tuple[int, ...] = ()  # prompt and completion tokens that these have cost; empty for none
