"""What is carried of a file suffices: a file of its size with these ranges and holes elsewhere reads as the file."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.rows import InputPart, Shard
from rowmill.files.input import arrow, carried, jsonl, parquet
from rowmill.files.input.shard_readers import open_reader


def copied(part: InputPart, shards: list[Shard], target: Path) -> InputPart:
    """Copy what these shards need, and nothing else."""
    with Path(part.path).open("rb") as file, target.open("wb") as copy:
        for shard in shards:
            for start, end in carried.ranges(part, shard):
                assert 0 <= start <= end <= Path(part.path).stat().st_size
                copy.seek(start)
                copy.write(os.pread(file.fileno(), end - start, start))
    return InputPart(str(target), part.kind)


def lines_of(part: InputPart, shard: Shard, columns: list[str] | None = None) -> list[bytes]:
    async def read() -> list[bytes]:
        found = []
        async with open_reader(part, shard, columns) as reader:
            while batch := await reader.read():
                found += batch
        return found

    return asyncio.run(read())


def assert_same(path: Path, kind: Any, shards: list[Shard], columns: list[str] | None = None) -> None:
    part = InputPart(str(path), kind)
    for shard in shards:
        target = path.with_name(f"{shard.number}.copy")
        assert lines_of(copied(part, [shard], target), shard, columns) == lines_of(part, shard, columns)
        target.unlink()


@given(sizes=st.lists(st.integers(0, 300), max_size=60), shard_rows=st.integers(1, 20), end=st.booleans())
@settings(max_examples=15, deadline=None)
def test_of_lines_a_shards_own_bytes_suffice(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shard_rows: int, end: bool
) -> None:
    path = tmp_path_factory.mktemp("lines") / "in.jsonl"
    text = b"\n".join(json.dumps({"n": number, "text": "x" * size}).encode() for number, size in enumerate(sizes))
    path.write_bytes(text + b"\n" * (end and bool(sizes)))
    shards = list(jsonl.plan_blocks([path.read_bytes()], shard_bytes=1 << 15, shard_rows=shard_rows))
    assert sum(shard.rows for shard in shards) == len(sizes)
    assert_same(path, "lines", shards)


def nested(count: int, first: int = 0) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table(
        {
            "n": pa.array(numbers, pa.int64()),
            "kind": pa.array([f"kind {number % 3}" for number in numbers], pa.string()),
            "text": pa.array([f"row {number} " + "word " * (number % 40) for number in numbers], pa.string()),
            "nothing": pa.nulls(count),
            "tags": pa.array([[f"t{tag}" for tag in range(number % 4)] for number in numbers], pa.list_(pa.string())),
            "deep": pa.array(
                [None if number % 5 == 0 else {"a": number, "b": [{"c": "x" * (number % 7)}]} for number in numbers],
                pa.struct([("a", pa.int64()), ("b", pa.list_(pa.struct([("c", pa.string())])))]),
            ),
        }
    )


@given(
    count=st.integers(0, 200),
    group=st.integers(1, 120),
    shard_rows=st.integers(1, 90),
    dictionary=st.sampled_from([True, False, ["kind"]]),
    statistics=st.booleans(),
    page=st.sampled_from([64, 1 << 20]),
    compression=st.sampled_from(["none", "snappy", "zstd"]),
    version=st.sampled_from(["1.0", "2.0"]),
    index=st.booleans(),
    columns=st.sampled_from([None, ["text"], ["deep", "n"], ["nowhere"]]),
)
@settings(max_examples=15, deadline=None)
def test_of_parquet_the_footer_and_the_row_groups_of_a_shard_suffice(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    count: int,
    group: int,
    shard_rows: int,
    dictionary: Any,
    statistics: bool,
    page: int,
    compression: str,
    version: str,
    index: bool,
    columns: list[str] | None,
) -> None:
    path = tmp_path_factory.mktemp("parquet") / "in.parquet"
    pq.write_table(
        nested(count),
        path,
        row_group_size=group,
        use_dictionary=dictionary,
        write_statistics=statistics,
        data_page_size=page,
        compression=compression,
        data_page_version=version,
        write_page_index=index,
    )
    shards = list(parquet.plan(path, shard_rows))
    assert sum(shard.rows for shard in shards) == count
    assert_same(path, "parquet", shards, columns)


def test_a_large_parquet_file_is_carried_by_the_row_groups_that_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    with pq.ParquetWriter(path, nested(0).schema, compression="none") as writer:
        for first in range(0, 5000, 1000):
            writer.write_table(nested(1000, first))
    part = InputPart(str(path), "parquet")
    size = path.stat().st_size
    shards = [*parquet.plan(path, 300)]
    assert max(shard.rows for shard in shards) < 1000
    for shard in shards:
        assert sum(end - start for start, end in carried.ranges(part, shard)) < 0.3 * size
    [joined] = list(parquet.plan(path, 5000))
    assert sum(end - start for start, end in carried.ranges(part, joined)) < 1.01 * size
    assert_same(path, "parquet", [shards[0], shards[-1], joined])
    # What two shards need lies in one file, in whatever order it comes.
    both = copied(part, [shards[-1], shards[0]], tmp_path / "both")
    for shard in (shards[0], shards[-1]):
        assert lines_of(both, shard) == lines_of(part, shard)


def test_a_parquet_file_that_others_wrote_is_carried_too(tmp_path: Path) -> None:
    # By a writer that has columns one behind the other in files of their own order: as each column's place is told, so
    # it is taken. Encrypted footers and the like are refused at the start of a run.
    path = tmp_path / "in.parquet"
    pq.write_table(
        nested(90),
        path,
        row_group_size=40,
        use_dictionary=False,
        column_encoding={"n": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"},
        use_byte_stream_split=False,
        store_schema=False,
        write_page_checksum=True,
        sorting_columns=[pq.SortingColumn(0)],
    )
    assert_same(path, "parquet", list(parquet.plan(path, 30)))


@given(
    count=st.integers(0, 120),
    batch=st.integers(1, 70),
    shard_rows=st.integers(1, 50),
    stream=st.booleans(),
    compression=st.sampled_from([None, "lz4"]),
)
@settings(max_examples=10, deadline=None)
def test_arrow_files_and_streams_are_carried(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    count: int,
    batch: int,
    shard_rows: int,
    stream: bool,
    compression: str | None,
) -> None:
    path = tmp_path_factory.mktemp("arrow") / "in.arrow"
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as file, make(file, nested(0).schema, options=options) as writer:
        writer.write_table(nested(count), max_chunksize=batch)
    shards = list(arrow.plan(path, shard_rows))
    assert sum(shard.rows for shard in shards) == count
    assert_same(path, "arrow", shards)


def test_a_file_is_known_again_by_its_size_its_time_and_its_ends(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"first\n" + b"x" * 200_000 + b"\nlast\n")
    os.utime(path, ns=(1, 10**18))
    first = carried.mark(str(path))
    assert first
    assert carried.mark(str(path)) == first
    elsewhere = tmp_path / "copy.jsonl"
    elsewhere.write_bytes(path.read_bytes())
    os.utime(elsewhere, ns=(5, 10**18))
    assert carried.mark(str(elsewhere)) == first
    found = {first}
    for old, new, time_ns in [
        (b"first", b"forst", 10**18),
        (b"last", b"lost", 10**18),
        (b"last", b"later", 10**18),
        (b"last", b"last", 10**18 + 1),
    ]:
        elsewhere.write_bytes(path.read_bytes().replace(old, new))
        os.utime(elsewhere, ns=(1, time_ns))
        found.add(carried.mark(str(elsewhere)))
    assert len(found) == 5
    elsewhere.write_bytes(b"")
    assert carried.mark(str(elsewhere)) not in {*found, b""}


def test_a_file_that_is_not_there_has_no_mark(tmp_path: Path) -> None:
    assert carried.mark(str(tmp_path / "nowhere")) == b""
    assert carried.mark(str(tmp_path)) == b""
