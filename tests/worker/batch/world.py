"""A run by batches in virtual time: rows, their outcomes, a real journal, a provider in memory; many sessions of it."""

import asyncio
import json
import random
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rowmill.core.amounts import Amount, Price, Spent
from rowmill.core.config.sections import BatchConfig
from rowmill.core.wire import Failure
from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.transport import faults
from rowmill.worker.batch.client import BatchClient, End
from rowmill.worker.batch.collected import Collected
from rowmill.worker.batch.lifecycle import BatchLifecycle
from rowmill.worker.batch.parts import Built
from rowmill.worker.batch.reservations import BatchReservations
from rowmill.worker.batch.scheduler import BatchScheduler, HandOver
from tests.worker.batch.provider_in_memory import USAGE, Life, Provider
from tests.worker.batch.virtual_time import VirtualClock

RUN = "run-1"
PRICE = Price(input=2.0, output=8.0, cached_input=1.0)


class Killed(BaseException):
    """The process is no more: nothing that it would have done later happens."""


class FilesInMemory:
    """Rows by number. A row's outcome stays, as in a checkpoint, whatever becomes of the process."""

    url = "/v1/chat/completions"

    def __init__(self, world: "World", reservations: BatchReservations) -> None:
        self._world = world
        self._reservations = reservations

    async def build(self, first_row: int, end_row: int | None, path: Path, tokens: float, amount: Amount) -> Built:
        world, estimate = self._world, self._reservations.estimator()
        world.point("a file is built")
        lines: list[bytes] = []
        reserved, need, tokens_in, full, row = Amount(), Amount(), 0, None, first_row
        last = world.rows if end_row is None else end_row
        while row < last:
            if row not in world.outcomes:
                need = estimate(world.tokens)
                after = reserved + need
                if len(lines) >= world.config.max_requests:
                    full = "requests"
                elif lines and tokens_in + world.tokens > tokens:
                    full = "tokens"
                elif after.requests > amount.requests or after.tokens > amount.tokens or after.usd > amount.usd:
                    full = "amount"
                if full is not None:
                    break
                reserved, tokens_in = after, tokens_in + world.tokens
                lines.append(json.dumps({"custom_id": f"r{row}", "tokens": world.tokens}).encode() + b"\n")
            row += 1
            if row % 20 == 0:
                await asyncio.sleep(0)
        if world.build_s:
            await world.clock.sleep(world.build_s)
        size = _written(path, lines)
        world.point("a file was built")
        return Built(
            first_row=first_row,
            end_row=row,
            requests=len(lines),
            rows=len(lines),
            size=size,
            crc=0,
            tokens=tokens_in,
            reserved=reserved,
            full=full,  # type: ignore[arg-type]  # one of the words
            need=need,
        )

    async def seal(self, t: Try) -> None:
        self._world.point("a part is sealed")

    async def collect(
        self, t: Try, earlier: list[int], file: Path, files: list[Path], once: frozenset[int]
    ) -> Collected:
        world, found = self._world, Collected()
        world.point("results are taken in")
        sent = {line["custom_id"] for line in _lines(file)}
        results = {line["custom_id"]: line["response"] for path in files for line in _lines(path)}
        found.spent = Spent()
        await world.clock.sleep(world.collect_s)
        for row in range(t.first_row, t.end_row):
            response = results.get(f"r{row}")
            if response is not None and response["status_code"] == 200:
                found.spent.add(Spent(1, USAGE[0], 0, USAGE[1]))
            if row in world.outcomes:
                continue
            if response is not None and response["status_code"] == 200:
                world.outcomes[row] = "answered"
                found.answered += 1
            elif response is not None and response["status_code"] == 401:
                found.closed = Failure(fault=faults.TABLE["auth"], message="the key is no more")
                found.left += 1
            elif response is not None and response["status_code"] == 400:
                world.outcomes[row] = f"failed: {response['body']['error']['message']}"
                found.failed += 1
            elif response is None and (t.status != "completed" or f"r{row}" not in sent):
                found.left += 1
            elif sum(asked_to > row for asked_to in earlier) + 1 >= world.attempts:
                world.outcomes[row] = "failed: too often"
                found.failed += 1
            else:
                found.left += 1
            await asyncio.sleep(0)
        world.point("results were taken in")
        return found


def _written(path: Path, lines: list[bytes]) -> int:
    return path.write_bytes(b"".join(lines))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


class _Journal(BatchJournal):
    point: Callable[[str], None]

    def _append(self, event: str, state: Try) -> None:
        self.point(f"{event} is noted")
        super()._append(event, state)
        self.point(f"{event} was noted")


class Session:
    """One process, as long as it lives."""

    def __init__(self, world: "World", journal: BatchJournal) -> None:
        self.world = world
        self.journal = journal
        config, clock, note = world.config, world.clock, world.notes.append
        self.reservations = BatchReservations(journal, world.left, world.price, world.most_output)
        self.files = world.files_for(self)
        api: Any = world.provider  # a double of `BatchApi`
        self.client = BatchClient(api, provider="main", config=config, clock=clock, note=note)
        self.lifecycle = BatchLifecycle(
            journal=journal, client=self.client, files=self.files, folder=world.folder, run=RUN
        )
        self.scheduler = BatchScheduler(
            journal=journal,
            lifecycle=self.lifecycle,
            files=self.files,
            reservations=self.reservations,
            clock=clock,
            retry_failed=world.retry_failed,
        )


class World:
    """What outlives a process.

    after: what happens in a session so many seconds after its start. outcomes: of rows. points: what has happened, in
    order; at the `kill_at`th the process is killed. check: called at each of them, to check what must always hold.
    files_for: where the rows of a session are.
    """

    def __init__(self, folder: Path, rows: int, *lives: Life, **config: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder / "batches"
        self.rows = rows
        self.tokens = 10
        self.attempts = 3
        self.build_s = 0.0
        self.collect_s = 0.0
        self.config = BatchConfig(**{"max_requests": 40} | config)
        self.left: Amount | None = None
        self.price: Price | None = PRICE
        self.most_output = 20
        self.retry_failed = False
        self.outcomes: dict[int, str] = {}
        self.notes: list[str] = []
        self.points: list[str] = []
        self.kill_at = -1
        self.check: Callable[[], None] = lambda: None
        self.after: list[tuple[float, Callable[[Session], None]]] = []
        self.clock = VirtualClock()
        self.provider = Provider(self.clock, self.point, *lives)
        self.files_for: Callable[[Session], Any] = lambda session: FilesInMemory(self, session.reservations)
        self.last: Session | None = None
        self.loop: asyncio.AbstractEventLoop
        self._dead = False
        random.seed(0)  # of the pauses between two looks

    def point(self, name: str) -> None:
        if self._dead:
            raise Killed
        self.check()
        self.points.append(name)
        if len(self.points) - 1 == self.kill_at:
            self._dead = True
            raise Killed

    def session(self, *, stop_after: float = inf) -> None:
        """Run a process until it ends by itself, is killed, or is stopped. Raises `End`, `HandOver` or `Killed`."""
        self._dead = False
        # What is synced makes no difference to a process that is killed; hundreds of them are here.
        with patch("os.fsync"), patch("os.fdatasync"):
            self.clock.run(self._session(stop_after))

    async def _session(self, stop_after: float) -> None:
        journal = _Journal.open(self.folder / "journal", RUN)
        journal.point = self.point
        session = self.last = Session(self, journal)
        loop = self.loop = asyncio.get_running_loop()
        for seconds, act in self.after:
            loop.call_later(seconds, act, session)
        work = loop.create_task(session.scheduler.run())
        try:
            if stop_after < inf:
                await asyncio.wait((work,), timeout=stop_after)
                work.cancel()
                await asyncio.wait((work,))
                if not work.cancelled():
                    work.result()
            else:
                await work
        finally:
            journal.close()

    def ends(self, **how: Any) -> End | HandOver | Killed | None:
        """Run a process and return how it has ended; None where every row has its outcome."""
        try:
            self.session(**how)
        except (End, HandOver, Killed) as end:
            return end
        return None

    # What came of it

    @property
    def tries(self) -> list[Try]:
        return list(BatchJournal.read(self.folder / "journal").tries.values())

    @property
    def phases(self) -> list[tuple[int, int, str, str | None]]:
        return [(t.part, t.number, t.phase, t.status) for t in self.tries]

    @property
    def all_answered(self) -> bool:
        return self.outcomes == dict.fromkeys(range(self.rows), "answered")

    @property
    def asked_once(self) -> bool:
        """Whether every request was done exactly once by a batch."""
        billed = self.provider.billed(inf)
        return set(billed) == {f"r{row}" for row in range(self.rows)} and set(billed.values()) == {1}

    def doubled(self) -> list[str]:
        """Return the rows that are in two batches that go on."""
        rows = [row for batch in self.provider.live() for row in batch.rows]
        return sorted({row for row in rows if rows.count(row) > 1})
