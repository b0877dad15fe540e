"""Sealed shards: the lines of a shard in row order, whole or not there."""

import asyncio
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from rowmill.core.counts import Totals
from rowmill.core.errors import MachineError, RunDirectoryError
from rowmill.core.output_codec import OutputCodec
from rowmill.core.rows import Shard
from rowmill.files.output.jsonl import Lines
from rowmill.store import durable
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.framing import framed
from rowmill.store.output_lines import error_line, failed_row
from rowmill.store.seal import Sealed, failures_of, read_sealed, seal_name
from tests.store.old_footers import make_old

Append = Callable[..., None]
Line = Callable[..., bytes]
MakeShard = Callable[..., Shard]
Seal = Callable[..., Sealed]


def test_lines_come_in_row_order_then_errors_then_a_footer(
    tmp_path: Path, shard: MakeShard, seal: Seal, line: Line
) -> None:
    part = shard(5, first_row=20, number=4)
    sealed = seal(tmp_path, part, failed=frozenset({20, 23}))
    output = b"".join(line(index, failed=index in {20, 23}) + b"\n" for index in range(20, 25))
    errors = b"".join(error_line(failed_row(line(index, failed=True)), 2) + b"\n" for index in (20, 23))
    totals = Totals(rows=5, failed=2, prompt_tokens=9, completion_tokens=12, requests=9)
    crc = zlib.crc32(output + errors)
    assert sealed == Sealed(2, part, len(output), len(errors), totals, "jsonl", {"bad_reply": 2}, crc)
    assert (tmp_path / seal_name(4)).read_bytes() == output + errors + framed(
        b'{"rowmill":2,"shard":[4,20,5,2000,2500,12648430,0],"output_bytes":%d,"error_bytes":%d,"totals":%b,"format":"jsonl",'
        b'"failures":{"bad_reply":2},"crc":%d}' % (len(output), len(errors), msgspec.json.encode(totals), crc)
    )
    assert read_sealed(tmp_path / "000004.sealed") == sealed


def test_a_shard_without_failed_rows_has_no_error_bytes(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    assert seal(tmp_path, shard(3)).error_bytes == 0


def test_a_shard_without_rows_is_sealed_empty(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    assert seal(tmp_path, shard(0)) == Sealed(2, shard(0), 0, 0, Totals(), "jsonl", {}, 0)
    assert read_sealed(tmp_path / "000000.sealed") == Sealed(2, shard(0), 0, 0, Totals(), "jsonl", {}, 0)


class Reversed(OutputCodec):
    """A format that writes texts backwards, in pieces, and leaves failed rows to its errors section."""

    key = "reversed:1"

    def encode(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        for line in lines:
            yield line[::-1]
            yield b""
        yield b"\n"

    def failed(self, line: bytes, attempts: int) -> bytes | None:
        return b"%d %b" % (attempts, line[:10]) if b'"index":1,' in line else None


def test_a_format_makes_both_sections_and_is_named_in_the_footer(
    tmp_path: Path, shard: MakeShard, append: Append, line: Line
) -> None:
    async def run() -> Sealed:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(3))
        for index in (2, 1, 0):
            append(checkpoint, index, failed=index > 0)
        await checkpoint.commit()
        sealed = await checkpoint.seal(tmp_path, Reversed())
        await checkpoint.close()
        return sealed

    sealed = asyncio.run(run())
    assert sealed.format == "reversed:1"
    assert read_sealed(tmp_path / "000000.sealed") == sealed
    output = b"".join(line(index, failed=index > 0)[::-1] for index in range(3)) + b"\n"
    errors = b"2 " + line(1, failed=True)[:10] + b"\n" + error_line(failed_row(line(2, failed=True)), 2) + b"\n"
    assert (sealed.output_bytes, sealed.error_bytes) == (len(output), len(errors))
    assert (tmp_path / "000000.sealed").read_bytes().startswith(output + errors)


def test_a_shard_that_is_sealed_in_another_format_replaces_the_one_before(
    tmp_path: Path, shard: MakeShard, append: Append, line: Line
) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(1))
        append(checkpoint, 0)
        await checkpoint.commit()
        await checkpoint.seal(tmp_path, Reversed())
        sealed = await checkpoint.seal(tmp_path, Lines())
        await checkpoint.close()
        assert sealed.format == "jsonl"
        assert (tmp_path / "000000.sealed").read_bytes().startswith(line(0) + b"\n")

    asyncio.run(run())


def test_large_rows_cross_the_chunks_that_are_written(tmp_path: Path, shard: MakeShard, line: Line) -> None:
    texts = ["a" * 10_000_000, "b" * 900_000, "c" * 300_000, "d"]

    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(4))
        for index in (2, 0, 3, 1):
            checkpoint.append(
                index,
                attempts=1,
                requests=1,
                ms=1,
                provider="p",
                failed=False,
                prompt_tokens=0,
                completion_tokens=0,
                line=line(index, text=texts[index]),
            )
        await checkpoint.commit()
        sealed = await checkpoint.seal(tmp_path, Lines())
        await checkpoint.close()
        assert read_sealed(tmp_path / "000000.sealed") == sealed
        lines = b"".join(line(index, text=texts[index]) + b"\n" for index in range(4))
        assert (tmp_path / "000000.sealed").read_bytes()[: sealed.output_bytes] == lines

    asyncio.run(run())


def test_a_shard_is_sealed_only_when_every_row_is_acknowledged(
    tmp_path: Path, shard: MakeShard, append: Append
) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(2))
        append(checkpoint, 0)
        append(checkpoint, 1)
        with pytest.raises(ValueError, match="has 0 of 2 rows"):
            await checkpoint.seal(tmp_path, Lines())
        await checkpoint.commit()
        await checkpoint.seal(tmp_path, Lines())
        await checkpoint.close()

    asyncio.run(run())


def test_sealing_after_a_resume_gives_the_same_bytes(
    tmp_path: Path, shard: MakeShard, seal: Seal, append: Append
) -> None:
    seal(tmp_path, shard(4), failed=frozenset({1}))

    async def run() -> None:
        for index in (3, 1, 0, 2):
            checkpoint = await Checkpoint.open(tmp_path / "again", shard(4))
            append(checkpoint, index, failed=index == 1)
            await checkpoint.close()
        checkpoint = await Checkpoint.open(tmp_path / "again", shard(4))
        (tmp_path / "b").mkdir()
        await checkpoint.seal(tmp_path / "b", Lines())
        await checkpoint.close()

    asyncio.run(run())
    assert (tmp_path / "b" / "000000.sealed").read_bytes() == (tmp_path / "000000.sealed").read_bytes()


def test_sealing_again_replaces_the_file_with_the_same_bytes(tmp_path: Path, shard: MakeShard, append: Append) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(2))
        append(checkpoint, 1)
        append(checkpoint, 0)
        await checkpoint.commit()
        first = await checkpoint.seal(tmp_path, Lines())
        data = (tmp_path / "000000.sealed").read_bytes()
        (tmp_path / ".000000.sealed.tmp").write_bytes(b"left by a kill" * 1000)
        assert await checkpoint.seal(tmp_path, Lines()) == first
        assert (tmp_path / "000000.sealed").read_bytes() == data
        await checkpoint.close()

    asyncio.run(run())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.sealed", "c"]


def test_a_seal_on_a_full_disk_leaves_nothing_and_works_when_there_is_room(
    tmp_path: Path, small_disk: Path, shard: MakeShard, append: Append
) -> None:
    async def run() -> None:
        (small_disk / "filler").write_bytes(bytes(200_000))
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(20))
        for index in range(20):
            append(checkpoint, index, text="x" * 10_000)
        await checkpoint.commit()
        with pytest.raises(MachineError, match=r"cannot write the sealed shard .* free disk space"):
            await checkpoint.seal(small_disk, Lines())
        assert os.listdir(small_disk) == ["filler"]  # noqa: PTH208 - a path method is not welcome in a coroutine
        (small_disk / "filler").unlink()
        sealed = await checkpoint.seal(small_disk, Lines())
        await checkpoint.close()
        assert read_sealed(small_disk / "000000.sealed") == sealed

    asyncio.run(run())


def test_what_is_not_sealed_reads_as_none(tmp_path: Path) -> None:
    assert read_sealed(tmp_path / "absent") is None


@pytest.mark.parametrize("place", [-1, -2, -20, -60, -150])
def test_a_flipped_bit_in_the_footer_is_refused(tmp_path: Path, shard: MakeShard, seal: Seal, place: int) -> None:
    seal(tmp_path, shard(5))
    path = tmp_path / "000000.sealed"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunDirectoryError, match=r"the sealed shard .*000000.sealed is damaged"):
        read_sealed(path)


def test_a_sealed_file_of_another_length_is_refused(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    seal(tmp_path, shard(50))
    path = tmp_path / "000000.sealed"
    data = path.read_bytes()
    for broken in (data[1:], data[5000:], data[:-1], b"x" + data, b"", b"\n", b"\0" * 9000):
        path.write_bytes(broken)
        with pytest.raises(RunDirectoryError, match="is damaged"):
            read_sealed(path)


def test_a_footer_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(framed(b'{"rowmill":9,"new":"form"}'))
    with pytest.raises(RunDirectoryError, match="of another version"):
        read_sealed(tmp_path / "f")


def test_a_shard_sealed_before_failures_were_counted_is_read_and_counted(
    tmp_path: Path, shard: MakeShard, seal: Seal
) -> None:
    sealed = seal(tmp_path, shard(50), failed=frozenset({7, 8, 49}))
    path = tmp_path / "000000.sealed"
    assert failures_of(path, sealed) == {"bad_reply": 3}
    make_old(path)
    old = read_sealed(path)
    assert old == msgspec.structs.replace(sealed, failures=None, crc=None)
    assert failures_of(path, old) == {"bad_reply": 3}


def test_of_a_footer_that_has_the_failures_the_errors_are_not_read(
    tmp_path: Path, shard: MakeShard, seal: Seal
) -> None:
    sealed = seal(tmp_path, shard(3), failed=frozenset({1}))
    (tmp_path / "000000.sealed").unlink()
    assert failures_of(tmp_path / "000000.sealed", sealed) == {"bad_reply": 1}


@pytest.mark.parametrize("damage", [b"\0", b"[", b"7", b'{"error":null,"response":null}'])
def test_failed_rows_that_cannot_be_counted_are_told_as_damage(
    tmp_path: Path, shard: MakeShard, seal: Seal, damage: bytes
) -> None:
    sealed = seal(tmp_path, shard(3), failed=frozenset({1}))
    path = tmp_path / "000000.sealed"
    make_old(path)
    data = bytearray(path.read_bytes())
    data[sealed.output_bytes : sealed.output_bytes + sealed.error_bytes] = damage.ljust(sealed.error_bytes - 1) + b"\n"
    path.write_bytes(data)
    old = read_sealed(path)
    assert old is not None
    with pytest.raises(RunDirectoryError, match=r"the sealed shard .*000000.sealed is damaged: .* Move it out"):
        failures_of(path, old)


def test_the_event_loop_goes_on_while_a_shard_is_sealed(
    tmp_path: Path, shard: MakeShard, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, loop_went_on = threading.Event(), threading.Event()

    def sync(fd: int) -> None:
        syncing.set()
        assert loop_went_on.wait(timeout=20)

    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(2))
        append(checkpoint, 0)
        append(checkpoint, 1)
        await checkpoint.commit()
        with monkeypatch.context() as patch:
            patch.setattr(durable, "sync_data", sync)
            sealing = asyncio.ensure_future(checkpoint.seal(tmp_path, Lines()))
            assert await asyncio.to_thread(syncing.wait, 20)
            assert not sealing.done()
            loop_went_on.set()
            await sealing
        await checkpoint.close()

    asyncio.run(run())
