"""From the lines that were read to rows in the backlog.

Most rows pass straight through. Passed over are those that have their outcome; set aside those that must be sent alone;
taken up where an earlier process left them those whose replies were no valid answers. Where requests are shared, only
rows that nobody else asks for go on (`dedup`); where rows are packed, they go on together (`packs`).
"""

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from rowmill.core.amounts import Spent
from rowmill.core.wire import Failure, Request
from rowmill.store.recovery import StoredReply
from rowmill.tasks import Task
from rowmill.transport import faults
from rowmill.worker import packs
from rowmill.worker.failures import failure_of
from rowmill.worker.job import Job, OpenShard
from rowmill.worker.live.backlog import Backlog
from rowmill.worker.live.parking_lot import ParkingLot
from rowmill.worker.outcome_writer import OutcomeWriter
from rowmill.worker.stored_replies import ended_in, invalid_in, invalid_output, tokens_of

if TYPE_CHECKING:
    from rowmill.worker.finish_rules import FinishRules  # only where the configuration names reasons
    from rowmill.worker.live.dedup import Dedup  # sqlite3 and all: only where requests are shared


class Feeder:
    """Takes rows in."""

    def __init__(
        self,
        *,
        task: Task,
        backlog: Backlog,
        writer: OutcomeWriter,
        parking_lot: ParkingLot,
        asks: int,
        rules: "FinishRules | None" = None,
    ) -> None:
        """`asks`: how often a row is asked until its reply is a valid answer. `rules`: see `Dispatcher`."""
        self._task = task
        self._backlog = backlog
        self._writer = writer
        self._parking_lot = parking_lot
        self._asks = asks
        self._rules = rules
        self._packer = packs.Packer(task.rows_per_request) if task.rows_per_request > 1 else None
        self._dedup: Dedup | None = None
        self.on_unbuilt: Callable[[Job, Exception], None] = _raised

    def share(self, dedup: "Dedup") -> None:
        """Ask for nothing that somebody else asks for, from now on."""
        self._dedup = dedup
        self._writer.shared = dedup

    @property
    def shared(self) -> tuple[int, int, Spent]:
        """Rows that were answered by an earlier run's replies, and as another row of this run was; what they spared."""
        dedup = self._dedup
        return (0, 0, Spent()) if dedup is None else (dedup.hits, dedup.duplicates, dedup.spared)

    async def hungry(self) -> None:
        """Wait until more rows are wanted."""
        await self._backlog.hungry()
        if self._dedup is not None:
            await self._dedup.room()

    def feed(self, shard: OpenShard, first_row: int, lines: list[bytes]) -> None:
        """Take rows that have been read; those with an outcome, or that are not to be done now, are passed over."""
        now = monotonic()
        jobs = [Job(index, line, len(line), shard, started=now) for index, line in enumerate(lines, first_row)]
        if shard.is_odd or not shard.checkpoint.lacks(first_row, len(lines)):
            jobs = [job for job in jobs if self._is_new(job)]
        size = sum([job.size for job in jobs])
        if self._dedup is not None:
            jobs = self._dedup.take(self._built(jobs), monotonic())
        if self._packer is not None:
            jobs = self._packer.take(jobs)
        if self._dedup is not None or self._packer is not None:
            size = sum(job.size for job in jobs)
        self._backlog.add(jobs, size)
        self._parking_lot.wake()

    def pass_over(self, shard: OpenShard, first_row: int, lines: list[bytes]) -> None:
        """Record those rows of another step that go no further; to be called before these lines are fed."""
        from rowmill.worker.live.handed_on import ended_in  # as `_reader` of `process`

        is_done, only = shard.checkpoint.is_done, shard.only
        for index, ended in ended_in(lines, first_row):
            if not is_done(index) and (only is None or index in only):
                self._writer.passed_over(shard, index, ended)

    def _is_new(self, job: Job) -> bool:
        """Whether a row begins as most do; any other is passed over, or goes its own way from here."""
        index, shard = job.index, job.shard
        if shard.checkpoint.is_done(index) or (shard.only is not None and index not in shard.only):
            return False
        if index in shard.quarantined:
            self._writer.failure(job, _poisonous(), monotonic())
        elif index in shard.suspects:
            job.alone = True
            self._backlog.set_aside(job if self._packer is None else packs.packed([job]))
        elif (replies := shard.checkpoint.replies.get(index)) is not None:
            self._take_up(job, replies)
        else:
            return True
        return False

    def fed(self) -> None:
        """Hear that a shard has been read to its end: what waits for more rows goes as it is."""
        if self._packer is not None:
            self._add(self._packer.flush())

    def pack(self, pack: Job, *, building: Callable[[int], None]) -> None:
        """Make the request of a pack; rows that cannot become one fail. It has none where that leaves no row.

        `building` is called with the index of each row before it is looked at.
        """
        assert pack.members is not None
        members = []
        requests = []
        for member in pack.members:
            building(member.index)
            if (request := self._request(member)) is not None:
                members.append(member)
                requests.append(request)
        pack.members = members
        try:
            pack.request = self._task.pack(requests) if members else None
        except Exception as error:  # noqa: BLE001 - as above, of all of them
            for member in members:
                self.on_unbuilt(member, error)

    def _built(self, jobs: list[Job]) -> list[Job]:
        return [job for job in jobs if self._request(job) is not None]

    def _request(self, job: Job) -> Request | None:
        if job.request is None:
            try:
                job.request = self._task.build(job.line)
            except Exception as error:  # noqa: BLE001 - it is this row's; what is not is raised again
                self.on_unbuilt(job, error)
        return job.request

    def _take_up(self, job: Job, replies: list[StoredReply]) -> None:
        """Go on with a row where an earlier process left it: replied to, but with no valid answer."""
        try:
            self._taken_up(job, replies)
        except Exception as error:  # noqa: BLE001 - as below
            self.on_unbuilt(job, error)

    def _taken_up(self, job: Job, replies: list[StoredReply]) -> None:
        last = replies[-1]
        job.requests = last.requests
        job.spent = tokens_of(replies)
        if self._packer is not None:
            # Whether it was asked in a pack is not known: it is asked by itself, as one that was wrong there would be.
            self._backlog.put_back(packs.packed([job]))
            return
        invalid = invalid_in(replies)
        job.asked = len(invalid)
        now = monotonic()
        if self._request(job) is None:
            return
        if job.asked >= self._asks:
            self._writer.failure(job, failure_of(invalid_output(last)), now)
            return
        if self._rules is not None and (found := ended_in(replies)) is not None:
            job.second = self._rules.taken_up(job, *found)
            job.attempts += 1
        for each in invalid:
            assert job.request is not None
            job.request = self._task.again(job.request, invalid_output(each))
        job.first = now
        job.put_off = True  # no retry: nothing has failed
        self._backlog.put_back(job)

    def _add(self, jobs: list[Job]) -> None:
        if jobs:
            self._backlog.add(jobs, sum(job.size for job in jobs))
            self._parking_lot.wake()

    def lead(self, jobs: list[Job]) -> None:
        """Send rows that have waited: nobody else asks for them."""
        if self._packer is not None:
            jobs = self._packer.take(jobs) + self._packer.flush()
        self._add(jobs)


def _raised(_job: Job, error: Exception) -> None:
    raise error


def _poisonous() -> Failure:
    return Failure(
        fault=faults.POISON_ROW,
        message="worker processes died several times while this row was in flight, the last time with it alone",
    )
