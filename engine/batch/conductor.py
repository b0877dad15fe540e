"""All parts of a run, side by side: cut off the input, taken through their tries, and asked again for what is missing.

The run by batches ends in one of these ways: every row has an outcome; the budget covers no more (`End`); the provider
takes no more (`End`); somebody has cancelled the batches (`End`); or the deadline is near, and what is left is the live
API's (`HandOver`).
"""

import asyncio
from collections.abc import Coroutine, Iterator
from math import inf
from pathlib import Path
from typing import Any, Protocol

from engine.batch.calls import Clock, End
from engine.batch.parts import Built
from engine.batch.steps import Steps
from engine.errors import ExitCode
from engine.records import Amount, BatchView
from engine.store.batch_journal import BatchJournal, Try

_AHEAD = 0.5  # of the tokens that may be enqueued, as many make a part: while one is worked on, the next one waits
_LEAST_PART = 0.005  # of all requests so far


class HandOver(Exception):
    """The deadline is near; the text says what is left for the live API."""


class Bench(Protocol):
    """Where rows become a part's file."""

    async def build(self, first_row: int, end_row: int | None, path: Path, tokens: float, amount: Amount) -> Built:
        """Write the requests of the rows without an outcome, of so many tokens and so much of the budget at most.

        `end_row`: exclusive; None: as far as the limits and the input go.
        """


class Money(Protocol):
    """What the budget has left for batches."""

    def room(self) -> Amount:
        """Return what may still be reserved; inf where nothing is limited."""

    def refusal(self, need: Amount) -> str:
        """Say why a request that needs so much is not covered, and what to raise."""


class Conductor:
    """Runs the batches of one run."""

    def __init__(
        self,
        *,
        journal: BatchJournal,
        steps: Steps,
        bench: Bench,
        money: Money,
        clock: Clock,
        retry_failed: bool = False,
    ) -> None:
        """`retry_failed`: rows that have failed are done again, and have all their attempts again."""
        self._journal = journal
        self._steps = steps
        self._bench = bench
        self._money = money
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._building = asyncio.Lock()
        self._settled = asyncio.Event()  # a try is over, so that the budget may have room again
        self._cancelled = False  # by somebody else than this run
        self._retry_failed = retry_failed

    async def run(self) -> None:
        """Work until every row has an outcome. Raises `End` or `HandOver` where that is not by batches."""
        self._start(self._cut())
        for t in self._journal.current():
            if self._retry_failed or not _done(t):
                self._start(self._part(t, again=self._retry_failed))
        try:
            while self._tasks:
                done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                self._tasks -= done
                for task in done:
                    task.result()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._steps.switched is not None:
            raise HandOver("the deadline is near: what is left goes to the live API")
        if self._cancelled:
            raise End(
                ExitCode.INTERRUPTED,
                "the batches were cancelled; run the same command again to ask for what is left",
            )

    def switch(self, wait_s: float) -> None:
        """Cancel what is under way, wait for it so long, and leave the rest to the live API."""
        self._steps.switch(self._clock.time() + wait_s)
        self._settled.set()

    @property
    def views(self) -> list[BatchView]:
        """The batches that are not collected."""
        return [
            self._steps.views[t.part] for t in self._journal.current() if t.part in self._steps.views and not _done(t)
        ]

    def _start(self, step: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(step))

    @property
    def _stopping(self) -> bool:
        return self._cancelled or self._steps.switched is not None

    # Parts

    async def _cut(self) -> None:
        """Make part after part of the rows that are in none yet."""
        current = self._journal.current()
        number = len(current)
        first = max((t.end_row for t in current), default=0)
        while not self._stopping:
            t, built = await self._build(number, 1, first, None, attempts=0)
            if t is not None:
                self._start(self._part(t))
                number += 1
            if built is None or built.full is None:
                return
            first = built.end_row

    async def _part(self, t: Try, *, again: bool = False) -> None:
        """Take a part through its tries until all of its rows have an outcome.

        again: its failed rows have been taken back, so that there is one more try than there would be.
        """
        while True:
            while t.phase not in ("collected", "given_up"):
                await self._steps.advance(t)
            self._settled.set()
            if t.status == "cancelled" and not t.cancelling:
                self._cancelled = True
            if self._stopping or (_done(t) and not again):
                return
            # Only a batch that ran to its end has tried its rows; those of another were not looked at.
            attempts = 0 if again else t.attempts + (t.status == "completed" and t.phase == "collected")
            again = False
            following, _ = await self._build(t.part, t.number + 1, t.first_row, t.end_row, attempts=attempts)
            if following is None:
                return
            t = following

    async def _build(
        self, part: int, number: int, first: int, end: int | None, *, attempts: int
    ) -> tuple[Try | None, Built | None]:
        """Write the file of a try, waiting for the budget to have room. No try where there is nothing to ask for."""
        async with self._building:
            while not self._stopping:
                limit = self._steps.token_limit
                path = self._steps.path(part, number)
                built = await self._bench.build(
                    first, end, path, inf if limit is None else limit * _AHEAD, self._money.room()
                )
                if built.requests and not (built.full == "amount" and built.requests < self._least()):
                    t = self._journal.built(
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
                        attempts=attempts,
                        now=self._clock.time(),
                    )
                    return t, built
                if built.full != "amount":
                    return None, built
                await self._room(built.need)
        return None, None

    def _least(self) -> float:
        """Return how many requests a batch must have that only the budget keeps small: the last cents buy little."""
        return _LEAST_PART * sum(t.requests for t in self._journal.tries.values() if t.creations)

    async def _room(self, need: Amount) -> None:
        """Wait until what is under way has left some of the budget; raise `End` where nothing is."""
        if not any(self._open(part=None)):
            raise End(ExitCode.BUDGET, self._money.refusal(need))
        self._settled.clear()
        await self._settled.wait()

    def _open(self, part: int | None) -> Iterator[Try]:
        """Return the tries that are not over."""
        return (t for t in self._journal.current() if t.phase not in ("collected", "given_up") and t.part != part)


def _done(t: Try) -> bool:
    """Whether no row of the try's part is left to be asked for."""
    return t.phase == "collected" and t.left == 0
