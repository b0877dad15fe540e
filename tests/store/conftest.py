"""What the store's tests share: rows with lines of their own, and shards made of them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rowmill
from rowmill.core.rows import Shard
from rowmill.core.wire import Answer, Failure, FaultClass
from rowmill.files.output.jsonl import Lines
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.output_lines import failure_line, result_line
from rowmill.store.seal import Sealed

_FAULT = FaultClass(
    "bad_reply", retryable=True, scope="row", spends_attempt=True, lowers_concurrency=False, unhealthy=True
)


def _line(index: int, *, failed: bool = False, text: str = "", include: bytes = b"") -> bytes:
    row_id = b'"row-%d"' % index
    if failed:
        failure = Failure(fault=_FAULT, message=f"no reply for {index}{text}", code="boom", status=200)
        return failure_line(index, row_id, failure, include)
    answer = Answer(b'"answer %d%b"' % (index, text.encode()), b'"stop"', b'"m"', b'{"total_tokens":%d}' % index, 3, 4)
    return result_line(index, row_id, answer, include)


def _append(checkpoint: Checkpoint, index: int, *, failed: bool = False, text: str = "") -> None:
    checkpoint.append(
        index,
        attempts=2 if failed else 1,
        requests=3 if failed else 1,
        ms=250,
        provider='ma"in',
        failed=failed,
        prompt_tokens=0 if failed else 3,
        completion_tokens=0 if failed else 4,
        line=_line(index, failed=failed, text=text),
    )


@pytest.fixture(scope="session")
def line() -> Callable[..., bytes]:
    """Give the output line of a row, by index: `line(7)`, `line(7, failed=True, text="...")`."""
    return _line


@pytest.fixture(scope="session")
def append() -> Callable[..., None]:
    """Append a row's outcome to a checkpoint: `append(checkpoint, 7, failed=True)`."""
    return _append


@pytest.fixture(scope="session")
def shard() -> Callable[..., Shard]:
    """Make a shard: `shard(rows, first_row=0, number=0)`."""

    def make(rows: int, first_row: int = 0, number: int = 0) -> Shard:
        return Shard(number, first_row, rows, first_row * 100, (first_row + rows) * 100, 0xC0FFEE)

    return make


@pytest.fixture(scope="session")
def seal() -> Callable[..., Sealed]:
    """Seal a shard whose rows are recorded in reverse: `seal(directory, shard, failed={3}, text="...")`."""

    def make(directory: Path, shard: Shard, failed: frozenset[int] = frozenset(), text: str = "") -> Sealed:
        async def run() -> Sealed:
            checkpoint = await Checkpoint.open(directory / f"{shard.number}.checkpoint", shard)
            for index in reversed(range(shard.first_row, shard.first_row + shard.rows)):
                _append(checkpoint, index, failed=index in failed, text=text)
            await checkpoint.commit()
            sealed = await checkpoint.seal(directory, Lines())
            await checkpoint.close()
            return sealed

        return asyncio.run(run())

    return make


@pytest.fixture
def child() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a Python program in a process of its own, its stdout in a pipe. What is left of it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> "subprocess.Popen[str]":
        root = str(Path(rowmill.__file__).parents[1])
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def crashed(tmp_path: Path, shard: Callable[..., Shard], append: Callable[..., None]) -> Path:
    """Give the checkpoint of a process that died after three groups: rows 0-2, 3-5 and 6-7 of nine."""

    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(9))
        for group in ((0, 1, 2), (3, 4, 5), (6, 7)):
            for index in group:
                append(checkpoint, index, failed=index == 4)
            await checkpoint.commit()
        checkpoint._log.close()  # what a kill leaves: no last group record

    asyncio.run(run())
    return tmp_path / "c"
