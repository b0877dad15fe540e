"""What a checkpoint keeps of rows that are asked again: replies that were no answers, and failures taken back."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from rowmill.core.counts import Totals
from rowmill.core.rows import Shard
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.recovery import recover

Append = Callable[..., None]
MakeShard = Callable[..., Shard]


@pytest.fixture
def path(tmp_path: Path, shard: MakeShard, append: Append) -> Path:
    """Give the checkpoint of a killed process: row 0 answered at the second ask, 1 asked twice, 2 failed."""

    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(4))
        checkpoint.append_reply(0, 1, (3, 4), "no number", b'"first"')
        checkpoint.append_reply(1, 1, (3, 4), "no number", b'"one, \\"line\\":"')
        append(checkpoint, 2, failed=True)
        await checkpoint.commit()
        append(checkpoint, 0)
        checkpoint.append_reply(1, 2, (5, 6), "cut", b'"two"')
        await checkpoint.commit()
        checkpoint._log.close()  # what a kill leaves: no last group record

    asyncio.run(run())
    return tmp_path / "c"


def test_replies_of_rows_without_an_outcome_are_found_again(path: Path, shard: MakeShard) -> None:
    reading = recover(path, shard(4), salvage=False)
    assert list(reading.replies) == [1]
    found = [(each.requests, each.usage, each.problem, bytes(each.output)) for each in reading.replies[1]]
    assert found == [(1, (3, 4), "no number", b'"one, \\"line\\":"'), (2, (5, 6), "cut", b'"two"')]
    assert reading.totals == Totals(rows=2, failed=1, prompt_tokens=3, completion_tokens=4, requests=4)


def test_failures_that_are_taken_back_are_missing_from_then_on(path: Path, shard: MakeShard, append: Append) -> None:
    async def run() -> tuple[Checkpoint, Totals]:
        checkpoint = await Checkpoint.open(path, shard(4))
        checkpoint.forget_failed()
        assert not checkpoint.is_done(2)
        before = Totals(**{name: getattr(checkpoint.acknowledged, name) for name in Totals.__struct_fields__})
        append(checkpoint, 2)
        await checkpoint.close()
        return checkpoint, before

    checkpoint, before = asyncio.run(run())
    assert before == Totals(rows=1, failed=0, prompt_tokens=3, completion_tokens=4, requests=4)
    reading = recover(path, shard(4), salvage=False)
    assert reading.totals == checkpoint.acknowledged
    assert reading.totals == Totals(rows=2, failed=0, prompt_tokens=6, completion_tokens=8, requests=5)
    assert reading.repeated == 0


def test_without_a_failure_nothing_is_written(tmp_path: Path, shard: MakeShard, append: Append) -> None:
    async def run() -> int:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(1))
        append(checkpoint, 0)
        await checkpoint.commit()
        checkpoint.forget_failed()
        pending = checkpoint.pending_bytes
        await checkpoint.close()
        return pending

    assert asyncio.run(run()) == 0


def test_both_kinds_of_records_survive_a_salvage(path: Path, shard: MakeShard, append: Append) -> None:
    async def take_back() -> None:
        checkpoint = await Checkpoint.open(path, shard(4))
        checkpoint.forget_failed()
        append(checkpoint, 2, text="again")
        await checkpoint.close()

    asyncio.run(take_back())
    data = bytearray(path.read_bytes())
    at = data.index(b'"answer 0')
    data[at + 1] ^= 1
    path.write_bytes(data)
    reading = recover(path, shard(4), salvage=True)
    assert (reading.totals.rows, reading.totals.failed) == (1, 0)
    assert b"answer 2again" in path.read_bytes()
    assert [each.problem for each in reading.replies[1]] == ["no number", "cut"]
    assert [bytes(each.output) for each in reading.replies[0]] == [b'"first"']
