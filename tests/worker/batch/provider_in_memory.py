"""A provider's files and batches, in memory and in virtual time; see `transport.batch_api.BatchApi`.

It outlives the sessions that talk to it. What becomes of each batch, and of each call, is scripted.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from rowmill.core.wire import Failure
from rowmill.transport import faults
from rowmill.transport.batch_api import BatchProblem, BatchState, BatchTrouble
from tests.worker.batch.virtual_time import VirtualClock

T = TypeVar("T")
USAGE = (10, 5)  # tokens of the prompt and of the reply, of each request


class Life(NamedTuple):
    """What becomes of a batch. Seconds."""

    validating: float = 10.0
    working: float = 600.0
    finalizing: float = 10.0
    end: str = "completed"  # "expired", "failed", "cancelled" (by somebody else); or the status in which it is stuck
    done: float = 1.0  # the share of its requests that is done by then
    cancelling: float = 30.0  # inf: it never ends
    problems: tuple[BatchProblem, ...] = ()
    gone: bool = False  # the provider does not know it any more
    results_gone: bool = False


def too_many() -> Life:
    return Life(end="failed", problems=(BatchProblem("token_limit_exceeded", "Enqueued token limit reached", None),))


class Batch(msgspec.Struct):
    number: int
    file_id: str
    created_at: float
    metadata: dict[str, str]
    life: Life
    requests: list[dict[str, Any]]
    tokens: int
    cancelled_at: float = inf
    results: dict[str, bytes] = {}

    @property
    def id(self) -> str:
        return f"batch_{self.number}"

    @property
    def rows(self) -> list[str]:
        return [request["custom_id"] for request in self.requests]

    def status(self, now: float) -> str:
        life, begun = self.life, self.created_at
        natural = self._natural(min(now, self.cancelled_at))
        if now < self.cancelled_at or natural in ("failed", "completed", "expired", "cancelled"):
            return natural
        return "cancelled" if now - self.cancelled_at >= life.cancelling and begun else "cancelling"

    def _natural(self, now: float) -> str:
        life, age = self.life, now - self.created_at
        ends = {"validating": life.validating, "in_progress": life.validating + life.working}
        ends["finalizing"] = ends["in_progress"] + life.finalizing
        for status, end in ends.items():
            if age < end or life.end == status:
                return status
            if life.end == "failed":
                return "failed"
        return life.end

    def live(self, now: float) -> bool:
        """Whether it goes on, and nobody has cancelled it."""
        return self.status(now) in ("validating", "in_progress", "finalizing")

    def done(self, now: float) -> int:
        """Return how many requests are done, and billed."""
        life = self.life
        if life.end == "failed":
            return 0
        worked = min(now, self.cancelled_at) - self.created_at - life.validating
        share = 1.0 if worked >= life.working else max(worked, 0.0) / life.working
        return int(min(share, 1.0) * life.done * len(self.requests) + 1e-9)


Answer = Callable[[dict[str, Any]], dict[str, Any]]


def answered(request: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": USAGE[0], "completion_tokens": USAGE[1]}
    return {"status_code": 200, "request_id": "q", "body": {"model": "m", "choices": [choice], "usage": usage}}


def refused(status: int) -> dict[str, Any]:
    return {"status_code": status, "request_id": "q", "body": {"error": {"message": "no"}}}


class Provider:
    """lives: of batches in their order; the last one is that of all others.

    fate: what becomes of a call, by its name and number: "" where nothing does; "lost" before it arrives; "unanswered"
    though it was done; "late:<seconds>" where it is done so much later; the name of a fault class where it is refused
    with that. point: called before a call arrives and after it was done; where it raises, that is what happens.
    """

    def __init__(self, clock: VirtualClock, point: Callable[[str], None], *lives: Life) -> None:
        self.clock = clock
        self.point = point
        self.lives = list(lives) or [Life()]
        self.life_of: Callable[[Batch], Life | None] = lambda batch: None
        self.fate: Callable[[str, int], str] = lambda call, number: ""
        self.answer: Answer = answered
        self.calls: Counter[str] = Counter()
        self.files: dict[str, tuple[str, bytes, float]] = {}  # id -> name, content, when it appears
        self.gone: set[str] = set()  # files that are listed, and not there
        self.batches: list[Batch] = []
        self.enqueued_limit = inf
        self.enqueued_most = 0
        self.took: float = 0.0  # seconds that a call takes

    # See `transport.batch_api.BatchApi`

    async def upload(self, path: Path, name: str) -> str:
        def store(at: float) -> str:
            file_id = f"file_{len(self.files)}"
            self.files[file_id] = name, path.read_bytes(), at
            return file_id

        return await self._call("upload", store)

    async def find_upload(self, name: str, size: int) -> str | None:
        def find(now: float) -> str | None:
            found = [
                file_id
                for file_id, (called, content, at) in self.files.items()
                if called == name and len(content) == size and at <= now
            ]
            return found[-1] if found else None

        return await self._call("find_upload", find)

    async def create(self, file_id: str, api_url: str, metadata: Mapping[str, str]) -> BatchState:
        def create(at: float) -> BatchState:
            if file_id not in self.files or file_id in self.gone:
                raise trouble("invalid_request", f"no file {file_id}", gone=True)
            number = len(self.batches)
            lines = [json.loads(line) for line in self.files[file_id][1].splitlines()]
            assert lines, "an empty file"
            tokens = sum(line.get("tokens", 10) for line in lines)
            batch = Batch(
                number, file_id, at, dict(metadata), self.lives[min(number, len(self.lives) - 1)], lines, tokens
            )
            batch.life = self.life_of(batch) or batch.life
            enqueued = sum(each.tokens for each in self.batches if each.live(at))
            if enqueued + tokens > self.enqueued_limit:
                batch.life = too_many()
            else:
                self.enqueued_most = max(self.enqueued_most, enqueued + tokens)
            self.batches.append(batch)
            return self._state(batch, at)

        return await self._call("create", create)

    async def find(self, metadata: Mapping[str, str], *, since: float) -> list[BatchState]:
        def find(now: float) -> list[BatchState]:
            found = [
                self._state(batch, now)
                for batch in self.batches
                if batch.created_at <= now
                and batch.created_at >= since - 600
                and metadata.items() <= batch.metadata.items()
                and not batch.life.gone
            ]
            return found[::-1]

        return await self._call("find", find)

    async def retrieve(self, batch_id: str) -> BatchState:
        return await self._call("retrieve", lambda now: self._state(self._batch(batch_id), now))

    async def cancel(self, batch_id: str) -> BatchState:
        def cancel(now: float) -> BatchState:
            batch = self._batch(batch_id)
            if batch.status(now) == "finalizing":
                raise trouble("invalid_request", "a batch that is finalizing cannot be cancelled")
            batch.cancelled_at = min(batch.cancelled_at, now)
            return self._state(batch, now)

        return await self._call("cancel", cancel)

    async def download(self, file_id: str, path: Path, *, requests: int, rows: int) -> int:
        def write(now: float) -> int:
            kind, number = file_id.split("_")
            batch = self.batches[int(number)]
            if batch.life.results_gone:
                raise trouble("not_found", f"no file {file_id}", gone=True)
            return path.write_bytes(self._results(batch)[kind])

        return await self._call("download", write)

    # What it has seen

    def live(self) -> Iterator[Batch]:
        """Batches that go on."""
        return (
            batch for batch in self.batches if batch.created_at <= self.clock.time() and batch.live(self.clock.time())
        )

    def billed(self, now: float | None = None) -> Counter[str]:
        """How often each request was done and billed, by its custom_id."""
        now = self.clock.time() if now is None else now
        return Counter(name for batch in self.batches for name in batch.rows[: batch.done(now)])

    # Inside

    async def _call(self, name: str, act: Callable[[float], T]) -> T:
        self.point(f"{name} is sent")
        number, self.calls[name] = self.calls[name], self.calls[name] + 1
        fate = self.fate(name, number)
        if self.took:
            await self.clock.sleep(self.took)
        if fate == "lost":
            raise trouble("connection", "connection reset")
        if fate == "hangs":
            await self.clock.sleep(86_400)
        if fate.startswith("late:"):
            act(self.clock.time() + float(fate.partition(":")[2]))
            raise trouble("timeout", "no whole reply in time")
        if fate and fate != "unanswered":
            raise trouble(fate, f"{name} is refused: {fate}")
        done = act(self.clock.time())
        self.point(f"{name} is done")
        if fate == "unanswered":
            raise trouble("connection", "connection reset")
        return done

    def _batch(self, batch_id: str) -> Batch:
        batch = self.batches[int(batch_id.removeprefix("batch_"))]
        if batch.life.gone:
            raise trouble("not_found", f"no batch {batch_id}", gone=True)
        return batch

    def _state(self, batch: Batch, now: float) -> BatchState:
        status, life = batch.status(now), batch.life
        over = status in ("completed", "expired", "cancelled")
        return BatchState(
            id=batch.id,
            status=status,
            total=len(batch.requests),
            completed=batch.done(now),
            failed=0,
            output_file_id=f"output_{batch.number}" if over and self._results(batch)["output"] else None,
            error_file_id=f"errors_{batch.number}" if over and self._results(batch)["errors"] else None,
            created_at=batch.created_at,
            problems=life.problems if status == "failed" else (),
            metadata=batch.metadata,
        )

    def _results(self, batch: Batch) -> dict[str, bytes]:
        if not batch.results:
            done, status = batch.done(self.clock.time()), batch.status(self.clock.time())
            output: list[dict[str, Any]] = []
            errors: list[dict[str, Any]] = []
            for request in batch.requests[:done]:
                response = self.answer(request)
                target = output if response["status_code"] == 200 else errors
                target.append({"custom_id": request["custom_id"], "response": response, "error": None})
            for request in batch.requests[done:] if status == "expired" else ():
                error = {"code": "batch_expired", "message": "This request could not be executed in time."}
                errors.append({"custom_id": request["custom_id"], "response": None, "error": error})
            # In no order: results never are.
            batch.results = {"output": _lines(output[::-1]), "errors": _lines(errors)}
        return batch.results


def trouble(fault: str, message: str, *, gone: bool = False) -> BatchTrouble:
    return BatchTrouble(Failure(fault=faults.TABLE[fault], message=message), gone=gone)


def _lines(results: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(result).encode() + b"\n" for result in results)
