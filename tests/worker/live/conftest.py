"""A dispatcher at work: on a real uvloop, a real checkpoint and a real board, behind a wire that follows a script."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

import pytest
import uvloop

from rowmill.core.config import TaskConfig
from rowmill.core.leases import Lease, Share
from rowmill.core.rows import Shard
from rowmill.core.wire import Failure, FaultClass, Reply
from rowmill.flow.retry import RetryBudget, RetryPolicy
from rowmill.ipc.messages import Closed, Formed, Note, RateLimited, ToSupervisor, Tripped
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.framing import FRAME_BYTES
from rowmill.store.in_flight import InflightBoard, read_board
from rowmill.tasks import Task
from rowmill.tasks.chat import Chat
from rowmill.tasks.plain import PlainTask
from rowmill.worker.defects import Defects
from rowmill.worker.finish_rules import FinishRules
from rowmill.worker.job import OpenShard
from rowmill.worker.live.dispatcher import Dispatcher
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.reservations import Reservations
from rowmill.worker.outcome_writer import OutcomeWriter

T = TypeVar("T")
Result = Reply | Failure

SECRET = "sk-very-secret"


def reply(status: int = 200, body: bytes | None = None, **headers: str) -> Reply:
    """Make a reply; without a body a valid completion. `retry_after` stands for the header `retry-after`."""
    if body is None:
        message = {"role": "assistant", "content": "done"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        body = json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, lambda name: found.get(name.lower()))


class Wire:
    """The transport of the tests. Without a rule every request waits for the test to answer it.

    rule: gives the result of the row's nth try (from 1), or something to await for it.
    """

    def __init__(self, rule: Callable[[int, int], Result | Awaitable[Result]] | None = None) -> None:
        self.rule = rule
        self.open: dict[int, asyncio.Future[Result]] = {}  # row -> the request that waits for an answer
        self.sent: list[tuple[int, bytes]] = []
        self.times: list[float] = []
        self.tries: Counter[int] = Counter()
        self.in_flight_max = 0
        self.seen_beside: dict[int, int] = {}  # row -> most requests in flight, its own included, while it was

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return len(self.open)

    @property
    def rows(self) -> list[int]:
        """The rows of all requests, in order."""
        return [row for row, _ in self.sent]

    async def send(self, body: bytes) -> Result:
        row = int(json.loads(body)["messages"][-1]["content"].split()[1])
        self.sent.append((row, body))
        self.times.append(asyncio.get_running_loop().time())
        self.tries[row] += 1
        assert row not in self.open, "one row, two requests at a time"
        waiting: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.open[row] = waiting
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        for other in self.open:
            self.seen_beside[other] = max(self.seen_beside.get(other, 0), self.in_flight)
        try:
            if self.rule is None:
                return await waiting
            result = self.rule(row, self.tries[row])
            return result if isinstance(result, Reply | Failure) else await result
        finally:
            self.open.pop(row, None)

    async def close(self) -> None:
        pass

    def answer(self, row: int, result: Result | None = None) -> None:
        """Answer the row's open request; with a valid completion where nothing else is given."""
        self.open.pop(row).set_result(result or reply())


class Quick(RetryPolicy):
    """The real policy with its waits shortened, and written down."""

    def __init__(self, attempts: int, scale: float) -> None:
        super().__init__(attempts, Random(0))
        self._scale = scale
        self.waits: list[float] = []  # seconds, as the real policy would have had them

    def wait_s(
        self, failure: Failure, *, tries: int, attempts: int, age_s: float = 0.0, own: bool = False
    ) -> float | None:
        wait = super().wait_s(failure, tries=tries, attempts=attempts, age_s=age_s, own=own)
        if wait is None:
            return None
        self.waits.append(wait)
        return wait * self._scale


class Told:
    """What the supervisor was told, by kind."""

    def __init__(self) -> None:
        self.refused: list[RateLimited] = []
        self.tripped: list[Tripped] = []
        self.closed: list[Closed] = []
        self.formed: list[Formed] = []
        self.notes: list[Note] = []

    def __call__(self, message: ToSupervisor) -> None:
        match message:
            case RateLimited():
                self.refused.append(message)
            case Tripped():
                self.tripped.append(message)
            case Closed():
                self.closed.append(message)
            case Formed():
                self.formed.append(message)
            case Note():
                self.notes.append(message)
            case _:
                raise AssertionError(message)


class Work:
    """Everything around one dispatcher, with one shard."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        writer: OutcomeWriter,
        *,
        shard: OpenShard,
        wire: Wire,
        board: Path,
        retry: Quick,
        told: Told,
        providers: list[Provider],
        calls: list[bool],
        notes: list[str],
    ) -> None:
        self.dispatcher = dispatcher
        self.writer = writer
        self.shard = shard
        self.wire = wire
        self.board = board
        self.retry = retry
        self.told = told
        self.providers = providers
        self._serial = 1
        self.calls = calls  # of on_recorded
        self.notes = notes  # of defects

    @property
    def rows(self) -> int:
        return self.shard.shard.rows

    def feed(self, first: int = 0, count: int | None = None, *, padding: int = 0) -> None:
        """Feed rows, as a reader of the input would."""
        last = self.rows if count is None else first + count
        lines = [b'{"id":"r%d","text":"row %d %b"}' % (row, row, b"x" * padding) for row in range(first, last)]
        self.dispatcher.feeder.feed(self.shard, first, lines)

    def lease(self, in_flight: int, provider: int = 0, **more: Any) -> None:
        """Give the worker another lease, as the supervisor would."""
        self._serial += 1
        self.dispatcher.apply([Lease(provider, self._serial, time.monotonic() + 1000, in_flight, **more)])

    def synced(self) -> None:
        """Tell that all of what is recorded is on disk, as a committer would."""
        self.writer.synced(self.writer.pending_bytes, self.writer.pending_rows)
        self.dispatcher.synced()

    @property
    def recorded(self) -> int:
        """Rows with an outcome, on disk or not."""
        return sum(self.shard.checkpoint.is_done(row) for row in range(self.rows))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Let the loop run until the condition holds."""
        end = time.monotonic() + 20
        pause_s = 0.0005
        while not condition():
            assert time.monotonic() < end, f"not within 20 s; {self.recorded} of {self.rows} rows recorded"
            await asyncio.sleep(0 if self.wire.in_flight and self.wire.rule else pause_s)
            pause_s = min(pause_s * 1.02, 0.02)  # a minute of the clock of a test is not a hundred thousand looks

    async def settled(self) -> None:
        """Let the loop run until nothing more happens by itself."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def done(self) -> None:
        """Wait until every row has its outcome."""
        await self.until(lambda: self.recorded == self.rows)

    def in_flight_rows(self) -> list[int]:
        """Read what a supervisor would read after the death of this worker."""
        return sorted(read_board(self.board).in_flight)

    async def outcomes(self) -> dict[int, dict[str, Any]]:
        """Put everything on disk and read it back: row -> its checkpoint record."""
        await self.shard.checkpoint.commit()
        found: dict[int, dict[str, Any]] = {}
        for line in self.shard.checkpoint.path.read_bytes().splitlines():
            record = json.loads(line[FRAME_BYTES:])
            if "row" in record:
                assert record["row"] not in found, "a second outcome"
                found[record["row"]] = record
        return found


class Start(Protocol):
    def __call__(
        self,
        rows: int,
        wire: Wire | None = ...,
        *,
        concurrency: int = ...,
        attempts: int = ...,
        scale: float = ...,
        requests: Share | None = ...,
        tokens: Share | None = ...,
        providers: Callable[[Wire], list[Provider]] = ...,
        budget: RetryBudget | None = ...,
        streak: int = ...,
        include: tuple[str, ...] = ...,
        task: Task = ...,
        suspects: tuple[int, ...] = ...,
        quarantined: tuple[int, ...] = ...,
        reservations: Reservations | None = ...,
        rules: FinishRules | None = ...,
    ) -> AbstractAsyncContextManager[Work]: ...


@pytest.fixture
def work(tmp_path: Path) -> Start:
    """Give what starts a dispatcher in an `async with`, whose end drains it."""
    return at_work(tmp_path)


TASK: Task = PlainTask(Chat(), TaskConfig(model="m", prompt="{text}"), "id")


def only(wire: Wire) -> list[Provider]:
    """Make the one provider of most tests."""
    return [Provider(0, "main", wire, secrets=(SECRET,))]


def at_work(folder: Path) -> Start:
    @asynccontextmanager
    async def start(
        rows: int,
        wire: Wire | None = None,
        *,
        concurrency: int = 4,
        attempts: int = 3,
        scale: float = 0.0005,
        requests: Share | None = None,
        tokens: Share | None = None,
        providers: Callable[[Wire], list[Provider]] = only,
        budget: RetryBudget | None = None,
        streak: int = 1000,
        include: tuple[str, ...] = (),
        task: Task = TASK,
        suspects: tuple[int, ...] = (),
        quarantined: tuple[int, ...] = (),
        reservations: Reservations | None = None,
        rules: FinishRules | None = None,
    ) -> AsyncIterator[Work]:
        wire = wire or Wire()
        shard = Shard(0, 0, rows, 0, rows * 10, 0)
        checkpoint = await Checkpoint.open(folder / "0.checkpoint", shard)
        opened = OpenShard(shard, checkpoint, frozenset(suspects), frozenset(quarantined))
        board = InflightBoard.create(folder / "0.board", concurrency)
        retry = Quick(attempts, scale)
        told = Told()
        calls: list[bool] = []
        notes: list[str] = []
        defects = Defects(notes.append)
        writer = OutcomeWriter(
            task=task, board=board, include=frozenset(include), on_recorded=calls.append, defects=defects
        )
        made = providers(wire)
        dispatcher = Dispatcher(
            task=task,
            providers=made,
            retry=retry,
            budget=budget or RetryBudget(1.0, 1e6, time.monotonic()),
            board=board,
            slots=concurrency,
            streak=streak,
            asks=3,
            writer=writer,
            tell=told,
            rng=Random(0),
            defects=defects,
            on_idle=lambda: None,
            reservations=reservations,
            rules=rules,
        )
        expires = time.monotonic() + 1000
        dispatcher.apply([Lease(each.number, 1, expires, concurrency, requests, tokens) for each in made])
        try:
            yield Work(
                dispatcher,
                writer,
                shard=opened,
                wire=wire,
                board=folder / "0.board",
                retry=retry,
                told=told,
                providers=made,
                calls=calls,
                notes=notes,
            )
            assert not dispatcher.ended.done(), "a slot has ended"
        finally:
            await dispatcher.drained(0.0)
            await checkpoint.close()
            board.close()

    return start


def run(story: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine on the loop that workers use."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(story)


def failure(fault: FaultClass, message: str = "of the test", **more: Any) -> Failure:
    """Make a failure of the wire."""
    return Failure(fault=fault, message=message, **more)
