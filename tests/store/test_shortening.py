"""A last row that goes on is another one: its shard's checkpoint keeps the others, and nothing of it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rowmill.core.errors import RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.recovery import recover
from rowmill.store.shortening import shortened

Append = Callable[..., None]
MakeShard = Callable[..., Shard]
ROWS = 9


def test_a_checkpoint_without_the_last_row_keeps_the_others(crashed: Path, shard: MakeShard, append: Append) -> None:
    planned = shard(ROWS)

    async def last() -> None:
        checkpoint = await Checkpoint.open(crashed, planned)
        append(checkpoint, ROWS - 1)
        await checkpoint.close()

    asyncio.run(last())
    now = msgspec.structs.replace(planned, rows=ROWS - 1, end=planned.end - 1, crc=1)
    for _ in range(2):  # killed behind it, it is called again
        shortened(crashed, planned, now)
    found = recover(crashed, now, salvage=False)
    assert list(found.index.missing()) == []
    assert (found.totals.rows, found.totals.failed, found.broken_bytes) == (ROWS - 1, 1, 0)
    with pytest.raises(RunDirectoryError, match="of another shard"):
        shortened(crashed, planned, msgspec.structs.replace(now, end=planned.end - 2))
    shortened(crashed.with_name("none"), planned, now)


def test_replies_and_a_retry_of_the_others_stay(crashed: Path, shard: MakeShard, append: Append) -> None:
    planned = shard(ROWS)

    async def more() -> None:
        checkpoint = await Checkpoint.open(crashed, planned)
        checkpoint.forget_failed()
        for row in (4, ROWS - 1):
            checkpoint.append_reply(row, 1, (1, 1), "no JSON", b'"?"')
        await checkpoint.close()

    asyncio.run(more())
    now = msgspec.structs.replace(planned, rows=ROWS - 1, end=planned.end - 1, crc=1)
    shortened(crashed, planned, now)
    found = recover(crashed, now, salvage=False)
    assert list(found.index.missing()) == [(4, 4)], "it had failed, and is asked for again"
    assert [(row, len(replies)) for row, replies in found.replies.items()] == [(4, 1)]


def test_nothing_is_left_of_a_shard_of_one_row(tmp_path: Path, shard: MakeShard, append: Append) -> None:
    async def one_row() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(1))
        append(checkpoint, 0)
        await checkpoint.close()

    asyncio.run(one_row())
    longer = msgspec.structs.replace(shard(1), rows=3, end=99)
    shortened(tmp_path / "c", shard(1), longer)
    assert recover(tmp_path / "c", longer, salvage=False).totals.rows == 0
