"""Appending and committing outcomes, and what happens when the disk refuses."""

import asyncio
import errno
import gc
import os
import resource
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rowmill.core.counts import Totals
from rowmill.core.errors import MachineError
from rowmill.core.rows import Shard
from rowmill.files.output.jsonl import Lines
from rowmill.store import durable
from rowmill.store.checkpoint import Checkpoint

Append = Callable[..., None]
Line = Callable[..., bytes]
MakeShard = Callable[..., Shard]


def test_a_new_checkpoint_is_a_durable_header_and_no_rows(tmp_path: Path, shard: MakeShard) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(3, first_row=10, number=2))
        assert (tmp_path / "c").read_bytes()[9:] == b'{"rowmill":2,"shard":[2,10,3,1000,1300,12648430,0]}\n'
        assert checkpoint.acknowledged == Totals()
        assert not checkpoint.complete
        assert not any(checkpoint.is_done(index) for index in (10, 11, 12))
        await checkpoint.close()

    asyncio.run(run())


def test_a_row_is_done_at_once_but_acknowledged_only_by_the_commit(
    tmp_path: Path, shard: MakeShard, append: Append
) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(2, first_row=10))
        append(checkpoint, 11, failed=True)
        assert checkpoint.is_done(11)
        assert not checkpoint.is_done(10)
        assert checkpoint.acknowledged == Totals()
        assert checkpoint.pending_bytes > 200
        assert await checkpoint.commit() == Totals(rows=1, failed=1, requests=3)
        assert checkpoint.pending_bytes == 0
        append(checkpoint, 10)
        assert not checkpoint.complete
        assert await checkpoint.commit() == Totals(rows=1, requests=1, prompt_tokens=3, completion_tokens=4)
        assert checkpoint.acknowledged == Totals(2, 1, 3, 4, 4)
        assert checkpoint.complete
        await checkpoint.close()

    asyncio.run(run())


def test_records_on_disk_have_the_agreed_form(tmp_path: Path, shard: MakeShard, append: Append, line: Line) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(2))
        append(checkpoint, 1)
        await checkpoint.commit()
        append(checkpoint, 0, failed=True)
        await checkpoint.close()

    asyncio.run(run())
    records = (tmp_path / "c").read_bytes().splitlines(keepends=True)
    assert all(record[:9] == b"%08x " % zlib.crc32(record[9:-1]) for record in records)
    starts = [sum(map(len, records[:number])) for number in range(len(records))]
    assert [record[9:-1] for record in records[1:]] == [
        b'{"group":0,"synced":%d}' % starts[1],
        b'{"row":1,"attempts":1,"requests":1,"ms":250,"provider":"ma\\"in","failed":false,"usage":[3,4],"line":'
        + line(1)
        + b"}",
        b'{"group":1,"synced":%d}' % starts[3],
        b'{"row":0,"attempts":2,"requests":3,"ms":250,"provider":"ma\\"in","failed":true,"usage":[0,0],"line":'
        + line(0, failed=True)
        + b"}",
        b'{"group":2,"synced":%d}' % starts[5],
    ]
    assert all(msgspec.json.decode(record[9:-1]) for record in records)


def test_a_commit_of_nothing_writes_nothing(tmp_path: Path, shard: MakeShard) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(2))
        size = (tmp_path / "c").stat().st_size
        assert await checkpoint.commit() == Totals()
        assert (tmp_path / "c").stat().st_size == size
        await checkpoint.close()

    asyncio.run(run())


def test_opening_and_closing_again_and_again_does_not_grow_the_file(
    tmp_path: Path, shard: MakeShard, append: Append
) -> None:
    async def run() -> None:
        sizes = []
        for index in (0, None, None):
            checkpoint = await Checkpoint.open(tmp_path / "c", shard(2))
            if index is not None:
                append(checkpoint, index)
            await checkpoint.close()
            await checkpoint.close()
            sizes.append((tmp_path / "c").stat().st_size)
        assert len(set(sizes)) == 1

    asyncio.run(run())


@pytest.mark.parametrize("index", [9, 13, 10])
def test_a_row_of_another_shard_or_a_row_twice_is_a_defect(
    tmp_path: Path, shard: MakeShard, append: Append, index: int
) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(3, first_row=10))
        append(checkpoint, 10)
        before = checkpoint.pending_bytes
        with pytest.raises((ValueError, IndexError)):
            append(checkpoint, index)
        assert checkpoint.pending_bytes == before
        assert await checkpoint.commit() == Totals(1, 0, 3, 4, 1)
        await checkpoint.close()

    asyncio.run(run())


def test_a_line_that_is_two_lines_is_a_defect(tmp_path: Path, shard: MakeShard) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(3))
        with pytest.raises(ValueError, match="not one line"):
            checkpoint.append(
                0,
                attempts=1,
                requests=1,
                ms=1,
                provider="p",
                failed=False,
                prompt_tokens=0,
                completion_tokens=0,
                line=b"{\n}",
            )
        await checkpoint.close()

    asyncio.run(run())


def fail_sync(fd: int) -> None:  # no disk here fails on request
    raise OSError(errno.EIO, os.strerror(errno.EIO))


class SlowDisk:
    """Lets each sync through only when told to, and counts what began. `failing`: and then fails it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, failing: bool = False) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.syncs = 0
        self._real = fail_sync if failing else durable.sync_data
        monkeypatch.setattr(durable, "sync_data", self)

    def __call__(self, fd: int) -> None:
        self.syncs += 1
        self.begun.release()
        assert self.may_end.acquire(timeout=20)
        self._real(fd)

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=20)


def test_nothing_is_acknowledged_before_the_sync_has_returned(
    tmp_path: Path, shard: MakeShard, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(3))
        disk = SlowDisk(monkeypatch)
        append(checkpoint, 0)
        first = asyncio.ensure_future(checkpoint.commit())
        await disk.has_begun()
        append(checkpoint, 1)  # while the first group is on its way: belongs to the next
        append(checkpoint, 2)
        second = asyncio.ensure_future(checkpoint.commit())
        await asyncio.sleep(0)
        assert checkpoint.acknowledged == Totals()
        assert (disk.syncs, first.done(), second.done()) == (1, False, False)
        disk.may_end.release()
        assert (await first).rows == 1
        assert checkpoint.acknowledged.rows == 1
        await disk.has_begun()
        disk.may_end.release()
        assert (await second).rows == 2
        assert checkpoint.complete
        disk.may_end.release()
        await checkpoint.close()

    asyncio.run(run())


async def cut_off(checkpoint: Checkpoint, disk: SlowDisk) -> None:
    """Begin a commit, and cancel its caller while it is on its way to the disk."""
    commit = asyncio.ensure_future(checkpoint.commit())
    await disk.has_begun()
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit


def test_a_cancelled_commit_runs_to_its_end_and_the_next_one_waits_for_it(
    tmp_path: Path, shard: MakeShard, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(3))
        disk = SlowDisk(monkeypatch)
        append(checkpoint, 0)
        await cut_off(checkpoint, disk)
        append(checkpoint, 1)
        second = asyncio.ensure_future(checkpoint.commit())
        await asyncio.sleep(0)
        assert disk.syncs == 1
        for _ in range(3):
            disk.may_end.release()
        assert (await second).rows == 1
        assert checkpoint.acknowledged.rows == 2
        await checkpoint.close()
        again = await Checkpoint.open(tmp_path / "c", shard(3))
        assert again.acknowledged == checkpoint.acknowledged
        assert again.cut_bytes == 0
        disk.may_end.release()
        await again.close()

    asyncio.run(run())


def test_a_commit_that_fails_after_its_caller_is_gone_is_told_by_close_and_by_nothing_else(
    tmp_path: Path, shard: MakeShard, append: Append, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(3))
        disk = SlowDisk(monkeypatch, failing=True)
        append(checkpoint, 0)
        await cut_off(checkpoint, disk)
        disk.may_end.release()
        with pytest.raises(MachineError, match=r"^cannot write the checkpoint .*/c: Input/output error; check"):
            await checkpoint.close()

    asyncio.run(run())
    gc.collect()
    assert caplog.records == []  # "Task exception was never retrieved", with a traceback


def test_a_failed_sync_is_never_tried_again_and_its_group_is_not_trusted_later(
    tmp_path: Path, shard: MakeShard, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = 0

    def fail(fd: int) -> None:
        nonlocal syncs
        syncs += 1
        fail_sync(fd)

    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(3))
        append(checkpoint, 0)
        await checkpoint.commit()
        with monkeypatch.context() as patch:
            patch.setattr(durable, "sync_data", fail)
            append(checkpoint, 1)
            for _ in range(3):
                with pytest.raises(MachineError, match=r"^cannot write the checkpoint .*/c: Input/output error; check"):
                    await checkpoint.commit()
            append(checkpoint, 2)
            for refused in (checkpoint.commit, checkpoint.close):
                with pytest.raises(MachineError):
                    await refused()
            await checkpoint.close()
        assert syncs == 1
        assert checkpoint.acknowledged.rows == 1
        again = await Checkpoint.open(tmp_path / "c", shard(3))
        assert [again.is_done(index) for index in range(3)] == [True, False, False]
        await again.close()

    asyncio.run(run())


def test_a_write_that_is_cut_short_ends_the_checkpoint_and_keeps_what_was_acknowledged(
    tmp_path: Path, shard: MakeShard, append: Append, line: Line
) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(3))
        append(checkpoint, 0)
        await checkpoint.commit()
        size = (tmp_path / "c").stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        append(checkpoint, 1, text="x" * 1000)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 500, hard))
            with pytest.raises(MachineError, match="File too large; raise the limit on file sizes"):
                await checkpoint.commit()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (tmp_path / "c").stat().st_size == size + 500
        for refused in (checkpoint.commit, checkpoint.close):
            with pytest.raises(MachineError):
                await refused()
        again = await Checkpoint.open(tmp_path / "c", shard(3))
        assert again.cut_bytes > 0
        assert [again.is_done(index) for index in range(3)] == [True, False, False]
        append(again, 1)
        append(again, 2)
        await again.commit()
        await again.seal(tmp_path, Lines())
        await again.close()

    asyncio.run(run())
    assert (tmp_path / "000000.sealed").read_bytes().startswith(b"\n".join(map(line, range(3))) + b"\n")


def test_a_full_disk_stops_cleanly_and_resumes_when_there_is_room(
    small_disk: Path, shard: MakeShard, append: Append
) -> None:
    async def run() -> None:
        (small_disk / "filler").write_bytes(bytes(150_000))
        checkpoint = await Checkpoint.open(small_disk / "c", shard(100))

        async def fill_the_disk() -> None:
            for index in range(100):
                append(checkpoint, index, text="x" * 5000)
                await checkpoint.commit()

        with pytest.raises(MachineError, match="No space left on device; free disk space and run the same command"):
            await fill_the_disk()
        acknowledged = checkpoint.acknowledged.rows
        assert 5 < acknowledged < 30
        for refused in (checkpoint.commit, checkpoint.close):
            with pytest.raises(MachineError):
                await refused()
        (small_disk / "filler").unlink()
        again = await Checkpoint.open(small_disk / "c", shard(100))
        assert all(again.is_done(index) for index in range(acknowledged))
        append(again, 99)
        await again.commit()
        await again.close()

    asyncio.run(run())


def test_a_disk_without_room_for_a_new_checkpoint_says_so(small_disk: Path, shard: MakeShard) -> None:
    def fill() -> None:
        with (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    with pytest.raises(OSError, match="No space"):
        fill()
    with pytest.raises(MachineError, match=r"cannot open the checkpoint .* free disk space"):
        asyncio.run(Checkpoint.open(small_disk / "c", shard(3)))
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_closing_commits_what_is_pending(tmp_path: Path, shard: MakeShard, append: Append) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(3))
        append(checkpoint, 2)
        await checkpoint.close()
        assert checkpoint.acknowledged.rows == 1
        again = await Checkpoint.open(tmp_path / "c", shard(3))
        assert again.is_done(2)
        await again.close()

    asyncio.run(run())


def test_memory_does_not_hold_the_lines_of_committed_rows(tmp_path: Path, shard: MakeShard, append: Append) -> None:
    import tracemalloc

    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(2000))
        tracemalloc.start()
        try:
            for index in range(2000):
                append(checkpoint, index, text="x" * 1000)
                if index % 100 == 99:
                    await checkpoint.commit()
            assert tracemalloc.get_traced_memory()[0] < 100_000
        finally:
            tracemalloc.stop()
        await checkpoint.close()

    asyncio.run(run())
