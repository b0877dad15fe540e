"""Several rows in one request: formed as rows are read, taken apart where a reply or a failure demands it.

A pack is a `Job` with members. It is sent, retried and paced like a row; only its end is told to each member by
itself. What is taken apart becomes smaller packs, down to packs of one row, which end like a row.
"""

from collections.abc import Sequence

from rowmill.tasks.api import PACK_BYTES
from rowmill.worker.job import Job


class Packer:
    """Gathers rows, in their order, until there are enough for a request."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._members: list[Job] = []
        self._size = 0

    def take(self, jobs: Sequence[Job]) -> list[Job]:
        """Take rows that have been read; returns the packs that this fills."""
        packs = []
        for job in jobs:
            if self._members and self._size + job.size > PACK_BYTES:
                packs += self.flush()
            self._members.append(job)
            self._size += job.size
            if len(self._members) >= self._rows:
                packs += self.flush()
        return packs

    def flush(self) -> list[Job]:
        """Return the rows that are left as a pack: no more come soon."""
        members, self._members, self._size = self._members, [], 0
        return [packed(members)] if members else []


def packed(members: list[Job]) -> Job:
    """Make a pack of these rows."""
    for member in members:
        member.become("packed")
    first = members[0]
    size = sum(job.size for job in members)
    return Job(first.index, b"", size, first.shard, alone=first.alone, started=first.started, members=members)


def repacked(pack: Job, members: list[Job], rows: int) -> list[Job]:
    """Make packs of at most so many rows out of members of this one, which is done. They may go where it may go."""
    pack.become("done")
    packs = [packed(members[start : start + rows]) for start in range(0, len(members), rows)]
    for each in packs:
        each.provider, each.fallback, each.first = pack.provider, pack.fallback, pack.first
    return packs


def tell(pack: Job, member: Job, *, requests: int) -> None:
    """Give a member what it needs to be recorded. `requests` of the pack's count as the member's."""
    member.provider = pack.provider
    member.attempts = pack.attempts
    member.started = pack.started
    member.requests += requests
