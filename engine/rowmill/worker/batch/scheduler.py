"""All parts of a run, side by side: cut off the input, taken through their tries, and asked again for what is missing.

The run by batches ends in one of these ways: every row has an outcome; the budget covers no more (`End`); the provider
takes no more (`End`); somebody has cancelled the batches (`End`); or the deadline is near, and what is left is the live
API's (`HandOver`).
"""

import asyncio
from collections.abc import Coroutine
from math import inf
from typing import Any

from rowmill.core.counts import BatchView
from rowmill.core.errors import ExitCode
from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.worker.batch.client import Clock, End
from rowmill.worker.batch.files import BatchFiles
from rowmill.worker.batch.lifecycle import BatchLifecycle, Held
from rowmill.worker.batch.reservations import BatchReservations
from rowmill.worker.batch.session import NEAR

_AHEAD = 0.5  # of the tokens that may be enqueued, as many make a part: while one is worked on, the next one waits
_AHEAD_PARTS = 4  # on this disk and not yet created: further files would fill it for nothing
_WAITING = frozenset({"built", "uploading", "uploaded"})
_LEAST_PART = 0.005  # of all requests so far


class HandOver(Exception):
    """The deadline is near; the text says what is left for the live API."""


class BatchScheduler:
    """Runs the batches of one run."""

    def __init__(
        self,
        *,
        journal: BatchJournal,
        lifecycle: BatchLifecycle,
        files: BatchFiles,
        reservations: BatchReservations,
        clock: Clock,
        retry_failed: bool = False,
    ) -> None:
        """`retry_failed`: rows that have failed are done again, and have all their attempts again."""
        self._journal = journal
        self._lifecycle = lifecycle
        self._session = lifecycle.session
        self._files = files
        self._reservations = reservations
        self._clock = clock
        self._retry_failed = retry_failed
        self._tasks: dict[asyncio.Task[None], int | None] = {}  # and the part that each is of; None: it cuts parts
        self._over: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
        self._building = asyncio.Lock()
        self._try_over = asyncio.Event()  # so that the budget may have room again
        self._moved = asyncio.Event()  # a try has come to another phase

    def __repr__(self) -> str:
        parts = sorted(part for part in self._tasks.values() if part is not None)
        cutting = ", cutting" if None in self._tasks.values() else ""
        return f"<BatchScheduler {self._session.stage.name}: parts {parts}{cutting}>"

    async def run(self) -> None:
        """Work until every row has an outcome. Raises `End` or `HandOver` where that is not by batches."""
        self._start(None, self._cut())
        for t in self._journal.current():
            if self._retry_failed or not _done(t):
                self._start(t.part, self._part(t, again=self._retry_failed))
        leaving = asyncio.ensure_future(self._leave())
        try:
            while self._tasks:
                task = await self._over.get()
                del self._tasks[task]
                if not task.cancelled():  # which only `_leave` does here
                    task.result()
        finally:
            for task in (leaving, *self._tasks):
                task.cancel()
            await asyncio.gather(leaving, *self._tasks, return_exceptions=True)
        if self._session.held:
            raise End(
                ExitCode.INTERRUPTED,
                "the batches were cancelled; run the same command again to ask for what is left",
            )
        if self._session.switched:
            for t in self._journal.current():
                if t.open:  # so that it counts as what may be billed
                    self._journal.given_up(t, NEAR, self._clock.time())
            raise HandOver(f"{self._session.why}: what is left goes to the live API")

    def switch(self, wait_s: float, why: str = NEAR) -> None:
        """Cancel what is under way, take in what ends within so long, and leave the rest to the live API."""
        self._session.switch(wait_s, why)
        self._lifecycle.quota.close()
        self._try_over.set()
        self._moved.set()

    @property
    def views(self) -> list[BatchView]:
        """The batches that are not collected."""
        return [
            self._lifecycle.views[t.part] for t in self._journal.current() if t.part in self._lifecycle.views and t.open
        ]

    def _start(self, part: int | None, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks[task] = part
        task.add_done_callback(self._over.put_nowait)

    async def _leave(self) -> None:
        """After a switch, break off whatever still waits for the provider once the time for that is over."""
        await self._session.time_is_up()
        for task, part in self._tasks.items():
            if part not in self._lifecycle.at_hand:  # what is at hand is sooner taken in than asked for again
                task.cancel()

    # Parts

    async def _cut(self) -> None:
        """Make part after part of the rows that are in none yet."""
        current = self._journal.current()
        number = len(current)
        first = max((t.end_row for t in current), default=0)
        while self._session.sends:
            built = await self._build(number, 1, first, None)
            if built is None:
                return
            t, more = built
            self._start(t.part, self._part(t))
            if not more:
                return
            number, first = number + 1, t.end_row
            while self._session.sends and sum(t.phase in _WAITING for t in self._journal.current()) >= _AHEAD_PARTS:
                self._moved.clear()
                await self._moved.wait()

    async def _part(self, t: Try, *, again: bool = False) -> None:
        """Take a part through its tries until all of its rows have an outcome.

        again: its failed rows have been taken back, so that there is one more try than there would be.
        """
        while True:
            if t.open and not await self._to_end(t):
                return
            # Only now: the last shard that is sealed ends the run, and what its batch has cost must be noted by then.
            await self._files.seal(t)
            if not self._session.sends or (_done(t) and not again):
                return
            number = t.number + 1
            counted_from = number if again else t.counted_from
            again = False
            following = await self._build(t.part, number, t.first_row, t.end_row, counted_from=counted_from)
            if following is None:
                return
            t, _ = following

    async def _to_end(self, t: Try) -> bool:
        """Take a try's steps until it is over. Whether it is: in this session it may come to no end."""
        try:
            while t.open:
                await self._lifecycle.advance(t)
                self._moved.set()
        except Held:
            return False
        except End as end:
            if not self._session.switched:
                raise
            # Whatever the provider says of batches now: what is left has somewhere else to go.
            if t.open:
                self._journal.given_up(t, str(end), self._clock.time())
            return False
        finally:
            self._try_over.set()
            self._moved.set()
        return True

    async def _build(
        self, part: int, number: int, first: int, end: int | None, *, counted_from: int = 1
    ) -> tuple[Try, bool] | None:
        """Write the file of a try, waiting for the budget to have room. None where there is nothing to ask for.

        Returned with the try is whether it has left rows that had no room.
        """
        async with self._building:
            while self._session.sends:
                self._try_over.clear()  # before the look at the budget: what is settled during the build counts as well
                room = self._reservations.room()
                limit = self._lifecycle.quota.limit
                tokens = inf if limit is None else limit * _AHEAD
                built = await self._files.build(first, end, self._lifecycle.path(part, number), tokens, room)
                if built.requests and not (built.full == "amount" and built.requests < self._least()):
                    t = Try(
                        part=part,
                        number=number,
                        first_row=first,
                        end_row=built.end_row if end is None else end,
                        requests=built.requests,
                        rows=built.rows,
                        size=built.size,
                        crc=built.crc,
                        tokens=built.tokens,
                        reserved=built.reserved,
                        asked_to=built.end_row,
                        counted_from=counted_from,
                        since=self._clock.time(),
                    )
                    return self._journal.built(t), built.full is not None
                if built.full != "amount":
                    return None
                # Until what is under way has left some of the budget.
                if not self._try_over.is_set() and not any(t.open for t in self._journal.current()):
                    raise End(ExitCode.BUDGET, self._reservations.refusal(built.need))
                await self._try_over.wait()
        return None

    def _least(self) -> float:
        """Return how many requests a batch must have that only the budget keeps small: the last cents buy little."""
        return _LEAST_PART * sum(t.requests for t in self._journal.tries.values() if t.open or t.creations)


def _done(t: Try) -> bool:
    """Whether no row of the try's part is left to be asked for."""
    return t.phase == "collected" and t.left == 0
