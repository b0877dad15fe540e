"""Shards: open one at a time, what is recorded safe at the end, complete ones sealed once."""

import asyncio
from contextlib import aclosing, suppress
from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest

import rowmill.worker.batch.shards
from rowmill.core.counts import Totals
from rowmill.core.errors import RunDirectoryError
from rowmill.core.wire import Answer, Failure
from rowmill.transport import faults
from rowmill.worker.job import Job, OpenShard
from tests.worker.batch.run_on_disk import Process, RunOnDisk, run, texts

_ANSWER = Answer(b'"a"', b'"stop"', b'"m"', b"null", 10, 7)


def record(process: Process, opened: OpenShard, row: int, *, failed: bool = False) -> None:
    line = b'{"id":"row-%d","text":"question"}' % row
    job = Job(row, line, len(line), opened, requests=1, started=monotonic())
    if failed:
        process.writer.failure(job, Failure(fault=faults.INVALID_REQUEST, message="no"), monotonic())
        return
    job.request = process.disk.task.build(line)
    job.provider = type("Named", (), {"name": "main"})()
    process.writer.result(job, _ANSWER, monotonic())


async def fill(process: Process, number: int, *rows: int, failed: bool = False) -> None:
    async with process.shards.open(process.disk.shards[number]) as opened:
        for row in rows:
            record(process, opened, row, failed=failed)


def test_one_shard_is_open_at_a_time(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(4), shard_rows=2)
        process = disk.process()
        seen = []

        async def work(number: int) -> None:
            async with process.shards.open(disk.shards[number]):
                seen.append(("open", number))
                assert repr(process.shards) == f"<ShardAccess 2 shards, sealed [], open {number}>"
                for _ in range(5):
                    await asyncio.sleep(0)
                seen.append(("close", number))

        await asyncio.gather(work(0), work(1))
        assert seen == [("open", 0), ("close", 0), ("open", 1), ("close", 1)]

    run(story())


def test_a_shard_is_sealed_once_its_last_row_is_recorded(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(4), shard_rows=2)
        process = disk.process()
        await fill(process, 0, 1)
        assert process.sealed == {}
        assert process.shards.acknowledged == {0: Totals(1, 0, 10, 7, 1)}
        await fill(process, 0, 0)
        assert process.sealed == {0: Totals(2, 0, 20, 14, 2)}
        assert process.shards.acknowledged == {}
        assert process.shards.sealed(disk.shards[0])
        assert repr(process.shards) == "<ShardAccess 2 shards, sealed [0], open none>"
        assert [line[:10] for line in disk.output()] == [b'{"index":0', b'{"index":1']
        assert process.shards.rows == 2
        await fill(process, 0)  # somebody had waited for it
        assert process.shards.acknowledged == {}

    run(story())


def test_parts_that_end_in_the_same_shards_at_once_seal_each_once(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(6), shard_rows=2)
        process = disk.process()
        process.shards._may_seal = lambda _: False  # their batches are not over
        for number in range(3):
            await fill(process, number, 2 * number, 2 * number + 1)
        del process.shards.acknowledged[2]  # it was added, and is not looked at yet
        process.shards._may_seal = lambda _: True
        await asyncio.gather(process.shards.seal_range(0, 6), process.shards.seal_range(0, 4))
        assert process.sealed == {0: Totals(2, 0, 20, 14, 2), 1: Totals(2, 0, 20, 14, 2)}

    run(story())


def test_what_an_earlier_session_has_left_is_told_and_sealed(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(6), shard_rows=2)
        first = disk.process()
        await fill(first, 0, 0, 1)
        await fill(first, 1, 2)
        disk.directory.sealed_path(disk.shards[0]).unlink()  # killed between the last group and the seal
        process = disk.process()
        for shard in disk.shards:
            await process.shards.seal_if_complete(shard)
        assert process.sealed == {0: Totals(2, 0, 20, 14, 2)}
        assert process.shards.acknowledged == {1: Totals(1, 0, 10, 7, 1), 2: Totals()}
        assert process.shards.rows == 0
        assert not disk.directory.checkpoint_path(disk.shards[2]).exists()

    run(story())


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_was_recorded_before_a_break_is_on_the_disk(tmp_path: Path, cancelled: bool) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(4))
        process = disk.process()

        async def work() -> None:
            async with process.shards.open(disk.shards[0]) as opened:
                record(process, opened, 2)
                if not cancelled:
                    raise KeyError
                await asyncio.Event().wait()

        task = asyncio.ensure_future(work())
        for _ in range(1000):
            await asyncio.sleep(0.001 if process.writer.pending_rows == 0 and not task.done() else 0)
            if process.writer.pending_rows:
                break
        task.cancel()
        with suppress(KeyError, asyncio.CancelledError):
            await task
        assert list(disk.records()) == [2]
        assert (process.writer.pending_bytes, process.writer.pending_rows, process.shards.rows) == (0, 0, 1)
        await fill(process, 0, 3)
        assert process.shards.acknowledged[0].rows == 2

    run(story())


def test_groups_go_to_the_disk_while_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rowmill.worker.batch.shards, "GROUP_BYTES", 1000)

    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(2000), shard_rows=5000)
        process = disk.process()
        async with (
            process.shards.open(disk.shards[0]) as opened,
            aclosing(process.shards.read(opened, 0, 2000)) as blocks,
        ):
            async for first, lines in blocks:
                for row in range(first, first + len(lines)):
                    record(process, opened, row)
        assert process.synced == 8  # steps of 256 rows
        assert process.sealed[0].rows == 2000

    run(story())


def test_the_loop_turns_to_other_things_while_rows_are_read(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(5000), shard_rows=5000)
        process = disk.process()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with process.shards.open(disk.shards[0]) as opened:
            task = asyncio.ensure_future(other())
            sizes = []
            async with aclosing(process.shards.read(opened, 0, 5000)) as blocks:
                async for _, lines in blocks:
                    sizes.append(turns)
                    assert len(lines) <= 256
            task.cancel()
        assert all(after > before for before, after in pairwise(sizes))
        assert len(sizes) >= 5000 // 256

    run(story())


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_range_of_rows_is_read_whatever_the_input_is(tmp_path: Path, kind: str) -> None:
    path = None
    if kind == "parquet":
        import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
        import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above

        path = tmp_path / "in.parquet"
        pq.write_table(pa.Table.from_pylist(texts(900)), path)

    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(900), shard_rows=600, path=path)
        process = disk.process()
        found: dict[int, bytes] = {}
        for shard, first, end in process.shards.stretches(300, 700):
            assert shard is not None
            async with (
                process.shards.open(shard) as opened,
                aclosing(process.shards.read(opened, first, end)) as blocks,
            ):
                async for row, lines in blocks:
                    found |= dict(enumerate(lines, row))
        assert list(found) == list(range(300, 700))
        assert all(b'"row-%d"' % row in line for row, line in found.items())

    run(story())


def test_an_input_that_has_changed_is_refused_also_behind_the_range(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(20), shard_rows=20)
        data = bytearray((tmp_path / "in.jsonl").read_bytes())
        data[-5] ^= 1
        (tmp_path / "in.jsonl").write_bytes(data)
        shards = disk.process().shards
        async with shards.open(disk.shards[0]) as opened, aclosing(shards.read(opened, 0, 5)) as blocks:
            with pytest.raises(RunDirectoryError, match="changed while the run"):
                _ = [row async for row, _ in blocks]

    run(story())


def test_a_range_falls_into_stretches_of_shards_and_of_sealed_ones(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(10), shard_rows=2)
        earlier = disk.process()
        await fill(earlier, 1, 2, 3)
        process = disk.process()  # shard 1 is not assigned any more
        await fill(process, 3, 6, 7)
        found = [(shard and shard.number, first, end) for shard, first, end in process.shards.stretches(1, 10)]
        assert found == [(0, 1, 2), (None, 2, 4), (2, 4, 6), (None, 6, 8), (4, 8, 10)]
        assert list(process.shards.stretches(2, 4)) == [(None, 2, 4)]
        assert [await process.shards.shard_from(row) for row in (0, 2, 9, 10)] == [
            *(disk.shards[n] for n in (0, 2, 4)),
            None,
        ]
        assert [(each and each.number, *rows) for each, *rows in process.shards.stretches(8, 11)][1:] == [
            (None, 10, 11)
        ]

    run(story())


def test_failures_are_taken_back_at_a_process_s_first_look_and_never_after(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(3))
        await fill(disk.process(), 0, 0, 1, failed=True)
        process = disk.process(retry_failed=True)
        await process.shards.seal_if_complete(disk.shards[0])
        assert disk.records() == {}
        await fill(process, 0, 0, failed=True)
        await fill(process, 0, 1)
        assert {row: each["failed"] for row, each in disk.records().items()} == {0: True, 1: False}
        await fill(disk.process(), 0)  # one that is not to retry
        assert len(disk.records()) == 2

    run(story())
