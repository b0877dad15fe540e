"""A run directory with an input, and what a worker of batches makes of it: as many processes as a test wants."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Sequence
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import uvloop

from rowmill.core.amounts import Amount
from rowmill.core.config.sections import InputConfig, TaskConfig
from rowmill.core.counts import Totals
from rowmill.core.rows import Shard
from rowmill.files.input.inputs import find
from rowmill.files.output.jsonl import Lines
from rowmill.store.batch_journal import Try
from rowmill.store.framing import FRAME_BYTES
from rowmill.store.in_flight import InflightBoard
from rowmill.store.run_directory import RunDirectory
from rowmill.tasks.factory import open_task
from rowmill.worker.batch.collect import collect
from rowmill.worker.batch.collected import Collected, Rules
from rowmill.worker.batch.parts import Built, PartLimits, PartWriter
from rowmill.worker.batch.results import Results
from rowmill.worker.batch.shards import ShardAccess
from rowmill.worker.defects import Defects
from rowmill.worker.outcome_writer import OutcomeWriter

T = TypeVar("T")
ENDLESS = Amount(inf, inf, inf)
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def run(story: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(story)


def limits(**more: Any) -> PartLimits:
    everything: dict[str, Any] = {"requests": 50_000, "size": 1 << 28, "rows": inf, "tokens": inf, "amount": ENDLESS}
    return PartLimits(**everything | more)


def estimate(tokens: int, reply: int = 0) -> Amount:
    return Amount(1, tokens + max(10, reply), (tokens + max(10, reply)) / 1000)


class Part(NamedTuple):
    """A part's file, and what it holds."""

    built: Built
    path: Path
    lines: list[dict[str, Any]]

    @property
    def ids(self) -> list[str]:
        return [line["custom_id"] for line in self.lines]


class Process:
    """What one process has in memory."""

    def __init__(self, disk: "RunOnDisk", *, retry_failed: bool = False, include: tuple[str, ...] = ()) -> None:
        self.disk = disk
        self.sealed: dict[int, Totals] = {}
        self.notes: list[str] = []
        self.synced = 0
        self.on_synced: Callable[[], None] = lambda: None
        self.want: Callable[[], None] = lambda: None
        board = InflightBoard.create(disk.folder / "board", 0)
        self.writer = OutcomeWriter(
            task=disk.task,
            board=board,
            include=frozenset(include),
            on_recorded=lambda _full: None,
            defects=Defects(lambda _text: None),
        )
        self.shards = ShardAccess(
            inputs=disk.inputs,
            directory=disk.directory,
            task=disk.task,
            columns=None if "input" in include else disk.task.columns,
            codec=Lines(),
            writer=self.writer,
            retry_failed=retry_failed,
            want=self._on_want,
            on_sealed=self._on_sealed,
            on_synced=self._on_synced,
            note=self.notes.append,
        )
        for shard in disk.shards:
            if not disk.directory.sealed_path(shard).exists():
                self.shards.add(shard)
        self.shards.no_more = True

    def _on_sealed(self, number: int, totals: Totals) -> None:
        assert number not in self.sealed, "told twice"
        self.sealed[number] = totals

    def _on_want(self) -> None:
        self.want()

    def _on_synced(self) -> None:
        self.synced += 1
        self.on_synced()

    async def build(
        self, first_row: int = 0, end_row: int | None = None, name: str = "part.jsonl", **more: Any
    ) -> Part:
        """Write a part's file."""
        path = self.disk.folder / name
        kept = {"url": "/v1/chat/completions", "estimate": estimate, "asks": 3, "rewrite": None, "finish": None}
        options = {key: more.pop(key, value) for key, value in kept.items()}
        built = await PartWriter(self.shards, path, limits(**more), **options).build(first_row, end_row)
        return Part(built, path, [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]])

    async def collect(
        self,
        part: Part,
        *files: Path,
        number: int = 1,
        earlier: Sequence[int] = (),
        completed: bool = True,
        most: int = 6,
        asks: int = 3,
        end_row: int | None = None,
        once: Sequence[int] = (),
        **more: Any,
    ) -> Collected:
        built = part.built
        t = Try(
            part=0,
            number=number,
            first_row=built.first_row,
            end_row=built.end_row if end_row is None else end_row,
            requests=built.requests,
            rows=built.rows,
            size=built.size,
            crc=built.crc,
            tokens=built.tokens,
            reserved=built.reserved,
            asked_to=built.end_row,
            counted_from=1,
            phase="ended",
            status="completed" if completed else "expired",
        )
        rules = Rules(provider="main", attempts=most, asks=asks, secrets=("sk-secret",), **more)
        async with Results.read(files) as results:
            return await collect(self.shards, t, results, rules, file=part.path, earlier=earlier, once=frozenset(once))


class RunOnDisk:
    """An input and its run directory."""

    def __init__(
        self, folder: Path, rows: Sequence[Any], *, shard_rows: int = 10, path: Path | None = None, **task: Any
    ) -> None:
        """`rows`: objects, or bytes for lines that are none; None of them where the input is at `path` already."""
        self.folder = folder
        config = InputConfig(path=str(path or folder / "in.jsonl"), id=task.pop("id", "id"))
        if path is None:
            lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
            (folder / "in.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        whole_reply, parts = task.pop("whole_reply", False), task.pop("parts", ())
        self.directory = RunDirectory(folder / "run")
        for name in ("checkpoints", "sealed", "spool", "boards"):
            (folder / "run" / name).mkdir(parents=True, exist_ok=True)
        found = find(config)
        self.shards: list[Shard] = list(found.plan(self.directory.spool, shard_bytes=1 << 23, shard_rows=shard_rows))
        self.inputs = found.parts(self.directory.spool)
        self.rows = sum(shard.rows for shard in self.shards)
        settings = {"model": "m", "prompt": "{text}"} | task
        self.task = open_task(
            TaskConfig(**settings), config, input_format=found.format, whole_reply=whole_reply, parts=parts
        )

    def process(self, **more: Any) -> Process:
        return Process(self, **more)

    def records(self) -> dict[int, dict[str, Any]]:
        """Read what the checkpoints have: row -> its record, each a row's only one."""
        found: dict[int, dict[str, Any]] = {}
        for record in self._records():
            if "retry" in record:
                found = {row: each for row, each in found.items() if not each["failed"]}
            if "row" in record:
                assert record["row"] not in found, "a second outcome"
                found[record["row"]] = record
        return found

    def replies(self, row: int) -> list[dict[str, Any]]:
        return [record for record in self._records() if record.get("reply") == row]

    def _records(self) -> Iterable[dict[str, Any]]:
        for path in sorted(self.directory.checkpoints.glob("*.checkpoint")):
            for line in path.read_bytes().splitlines():
                yield json.loads(line[FRAME_BYTES:])

    def output(self) -> list[bytes]:
        """Read the lines of all sealed shards."""
        lines = []
        for shard in self.shards:
            path = self.directory.sealed_path(shard)
            if path.exists():
                lines += path.read_bytes().split(b"\n")[: shard.rows]
        return lines


def texts(count: int) -> list[dict[str, Any]]:
    return [{"id": f"row-{number}", "text": f"question {number}"} for number in range(count)]


def completion(content: Any, *, tokens: tuple[int, int] = (10, 7), cached: int = 0) -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps(content)
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    if cached:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}  # type: ignore[assignment]  # JSON
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "c-1", "model": "m-1", "choices": [choice], "usage": usage}


def answered(custom_id: str, body: Any) -> dict[str, Any]:
    return replied(custom_id, 200, body)


def replied(custom_id: str, status: int, body: Any) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "q", "body": body}
    return {"id": "b", "custom_id": custom_id, "response": response, "error": None}


def refused(custom_id: str, status: int, message: str = "no", code: str | None = None) -> dict[str, Any]:
    return replied(custom_id, status, {"error": {"message": message, "code": code}})


def unasked(custom_id: str, code: str = "batch_expired") -> dict[str, Any]:
    error = {"code": code, "message": "This request could not be executed"}
    return {"id": "b", "custom_id": custom_id, "response": None, "error": error}


def written(path: Path, lines: Iterable[Any]) -> Path:
    """Write a result file; bytes stand in it as they are."""
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return path


def question(line: dict[str, Any]) -> str:
    """Return what a line asks last."""
    content: str = line["body"]["messages"][-1]["content"]
    return content
