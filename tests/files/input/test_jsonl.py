"""JSON Lines by byte ranges: whatever the bytes, the shards together are the file's lines, in order, each once."""

import asyncio
import io
import tempfile
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.errors import RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.files.input import jsonl
from rowmill.files.input.jsonl import (
    SHARD_ROWS,
    ShardReader,
    plan_blocks,
    read_blocks,
    shard_bytes,
    whole_lines,
    without_blank_end,
)

BOM = b"\xef\xbb\xbf"

# Newlines, and everything that could be taken for one or for a start of file.
PIECES = [b"\n", b"\n", b"\n", b"\r\n", b"\r", b"", b"{}", b'{"a":1}', b"\xff", BOM, b"\0", b"x" * 23, b"\xe2\x80\xa8"]
files = st.lists(st.sampled_from(PIECES) | st.binary(max_size=9), max_size=60).map(b"".join)
sizes = st.integers(1, 64)


def lines_of(data: bytes) -> list[bytes]:
    """Split as a person would: the lines of the file, without their newlines."""
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def planned(data: bytes, size: int, rows: int, block: int = 1 << 20) -> list[Shard]:
    with patch.object(jsonl, "_BLOCK", block):
        return list(plan_blocks(read_blocks(io.BytesIO(data)), shard_bytes=size, shard_rows=rows))


async def read_all(path: Path, shard: Shard) -> list[bytes]:
    found = []
    async with ShardReader(path, shard) as reader:
        while lines := await reader.read():
            found += lines
        assert await reader.read() == []
    return found


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "input"


@given(data=files, size=sizes, rows=st.integers(1, 9), block=st.integers(1, 40))
def test_the_shards_are_the_files_lines_and_nothing_is_between_them(
    data: bytes, size: int, rows: int, block: int
) -> None:
    shards = planned(data, size, rows, block)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert [shard.start for shard in shards] == [0, *(shard.end for shard in shards)][: len(shards)]
    assert sum(shard.end - shard.start for shard in shards) == len(data)
    first = 0
    for shard in shards:
        part = data[shard.start : shard.end]
        assert shard.first_row == first
        assert shard.rows == len(lines_of(part))
        assert shard.crc == zlib.crc32(part)
        first += shard.rows
    assert [line for shard in shards for line in lines_of(data[shard.start : shard.end])] == lines_of(data)


@given(data=files, size=sizes, rows=st.integers(1, 9))
def test_a_shard_ends_with_the_line_that_fills_it_in_bytes_or_in_rows(data: bytes, size: int, rows: int) -> None:
    shards = planned(data, size, rows)
    for shard in shards:
        lines = lines_of(data[shard.start : shard.end])
        assert 1 <= shard.rows <= rows
        assert sum(len(line) + 1 for line in lines[:-1]) < size, "it was full before its last line"
    for shard in shards[:-1]:
        assert shard.rows == rows or shard.end - shard.start >= size, "it ended before it was full"


@given(data=files, size=sizes, rows=st.integers(1, 9), block=st.integers(1, 40))
def test_the_plan_does_not_depend_on_how_the_file_is_read(data: bytes, size: int, rows: int, block: int) -> None:
    assert planned(data, size, rows, block) == planned(data, size, rows)


@given(lines=st.lists(st.integers(0, 700), min_size=300, max_size=900), rows=st.integers(1, 700))
@settings(max_examples=25, deadline=None)
def test_the_row_limit_is_found_in_blocks_of_many_lines(lines: list[int], rows: int) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lines)
    shards = planned(data, 1 << 30, rows)
    full, rest = divmod(len(lines), rows)
    assert [shard.rows for shard in shards] == [rows] * full + [rest] * (rest > 0)


@given(data=files, rows=st.integers(1, 9), counted=st.integers(1, 9), block=sizes)
def test_every_shard_has_as_many_lines_as_it_says_wherever_a_piece_that_is_counted_ends(
    data: bytes, rows: int, counted: int, block: int
) -> None:
    with patch.object(jsonl, "_COUNTED", counted):
        shards = planned(data, 1 << 30, rows, block)
    assert [shard.rows for shard in shards] == [len(lines_of(data[shard.start : shard.end])) for shard in shards]
    assert [shard.rows for shard in shards[:-1]] == [rows] * (len(shards) - 1)


@given(
    data=files,
    blank=st.lists(st.sampled_from([b"\n", b"\r\n", b" \n", b"\t\n", b" ", b"\r"])),
    block=st.integers(1, 40),
)
def test_blank_lines_at_the_end_are_no_rows_and_those_between_others_are(
    data: bytes, blank: list[bytes], block: int
) -> None:
    whole = data + b"\n" * (not data.endswith(b"\n")) + b"".join(blank)
    blocks = (whole[start : start + block] for start in range(0, len(whole), block))
    found = b"".join(without_blank_end(blocks))
    assert whole.startswith(found)
    lines = lines_of(whole)
    while lines and not lines[-1].strip():
        lines.pop()
    assert lines_of(found) == lines
    assert not whole.removeprefix(found).strip()


def test_a_file_that_ends_as_files_do_is_taken_as_it_is() -> None:
    for data in (b"", b"{}", b"{}\n", b"{}\r\n", b'\n\n{"a":1}\n', b"{}\n\n{}"):
        assert b"".join(without_blank_end([data])) == data


@given(data=files, size=sizes, read=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_a_worker_reads_exactly_the_lines_of_its_shard(scratch: Path, data: bytes, size: int, read: int) -> None:
    scratch.write_bytes(data)
    expected = lines_of(data)
    if expected:
        expected[0] = expected[0].removeprefix(BOM)
    with patch.object(jsonl, "_READ", read):
        for shard in planned(data, size, 1000):
            found = asyncio.run(read_all(scratch, shard))
            assert found == expected[shard.first_row : shard.first_row + shard.rows]


def test_a_line_longer_than_many_blocks_is_one_row(scratch: Path) -> None:
    long = b'{"text":"' + b"y" * 100_000 + b'"}'
    data = b"{}\n" + long + b"\n{}"
    scratch.write_bytes(data)
    shards = planned(data, 50, 1000, block=1000)
    assert [shard.rows for shard in shards] == [2, 1]
    with patch.object(jsonl, "_READ", 999):
        assert asyncio.run(read_all(scratch, shards[0])) == [b"{}", long]
        assert asyncio.run(read_all(scratch, shards[1])) == [b"{}"]


def test_a_byte_order_mark_is_dropped_at_the_start_of_the_file_only(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    data = BOM + b'{"a":1}\n' + BOM + b'{"a":2}\n'
    path.write_bytes(data)
    one, two = planned(data, 1, 1000)
    assert asyncio.run(read_all(path, one)) == [b'{"a":1}']
    assert asyncio.run(read_all(path, two)) == [BOM + b'{"a":2}'], "a row of its own that is no JSON, not a changed one"


@given(data=st.lists(files, min_size=1, max_size=4), size=sizes, block=st.integers(1, 40))
def test_files_one_after_the_other_have_the_rows_that_they_have_alone(data: list[bytes], size: int, block: int) -> None:
    joined = [
        piece
        for each in data
        for piece in whole_lines(each[start : start + block] for start in range(0, len(each), block))
    ]
    rows = []
    for each in data:
        lines = lines_of(each)
        if lines and block >= len(BOM):
            lines[0] = lines[0].removeprefix(BOM)
        rows += lines
    if block < len(BOM) and any(each.startswith(BOM) for each in data):
        return  # real blocks are never that small
    shards = list(plan_blocks(joined, shard_bytes=size, shard_rows=5))
    whole = b"".join(joined)
    assert [line for shard in shards for line in lines_of(whole[shard.start : shard.end])] == rows
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert [shard.first_row for shard in shards] == [sum(each.rows for each in shards[:n]) for n in range(len(shards))]


def test_an_empty_file_has_no_shard_and_a_lone_newline_is_a_row() -> None:
    assert planned(b"", 10, 10) == []
    assert [shard.rows for shard in planned(b"\n", 10, 10)] == [1]
    assert [shard.rows for shard in planned(b"{}", 10, 10)] == [1]


@pytest.mark.parametrize("change", ["flipped", "shorter", "gone"])
def test_input_that_changed_since_it_was_planned_is_refused_by_its_rows(tmp_path: Path, change: str) -> None:
    path = tmp_path / "in.jsonl"
    data = b"".join(b'{"a":%d}\n' % number for number in range(100, 200))
    shards = planned(data, 90, 1000)
    shard = shards[3]
    if change == "flipped":
        damaged = bytearray(data)
        damaged[shard.end - 2] ^= 1
        path.write_bytes(damaged)
    elif change == "gone":
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(data[: shard.end - 3])
    with pytest.raises(
        RunDirectoryError, match=f"rows {shard.first_row} to {shard.first_row + shard.rows - 1} changed"
    ):
        asyncio.run(read_all(path, shard))
    if change == "gone":
        return
    assert asyncio.run(read_all(path, shards[2])) == lines_of(data[shards[2].start : shards[2].end])


def test_planning_200_megabytes_takes_a_few_and_the_first_shard_needs_one_block(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    size, step = 200 << 20, 99_991
    with path.open("wb") as file:  # holes and newlines: it takes little room on the disk
        file.truncate(size)
        for offset in range(step, size, step):
            file.seek(offset)
            file.write(b"\n")
    tracemalloc.start()
    try:
        with path.open("rb", buffering=0) as file:
            plan = plan_blocks(read_blocks(file), shard_bytes=shard_bytes(size), shard_rows=SHARD_ROWS)
            first = next(plan)
            assert file.tell() <= first.end + (1 << 20)
            shards = 1 + sum(1 for _ in plan)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 150 <= shards <= 250
    assert peak < 6 << 20


@given(st.integers(0, 1 << 45))
def test_shards_grow_with_the_input_between_their_bounds(size: int) -> None:
    assert 1 << 15 <= shard_bytes(size) <= 1 << 23
    assert shard_bytes(size) <= shard_bytes(size + (1 << 20))


def test_gigabytes_of_blank_lines_are_held_in_little_memory() -> None:
    """At the end they are no rows; in the middle the plan counts them, a shard for each 20,000."""
    block = b"\n" * (1 << 20)
    tracemalloc.start()
    try:
        assert b"".join(without_blank_end(block if n else b"{}" + block for n in range(100))) == b"{}\n"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20
    lines = without_blank_end([*[block] * 3, b"{}\n"])
    shards = list(plan_blocks(lines, shard_bytes=1 << 20, shard_rows=SHARD_ROWS))
    assert {shard.rows for shard in shards[:-1]} == {SHARD_ROWS}
    assert sum(shard.rows for shard in shards) == (3 << 20) + 1
