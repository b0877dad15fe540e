"""Parquet files that are joined without being decoded are read by those who had no part in it."""

import io
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from rowmill.files.output.parquet_join import ParquetJoin
from tests.files.output.conftest import MemorySection

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string()), ("list", pa.list_(pa.float32()))])


def file_of(first: int, rows: int, **options: Any) -> bytes:
    numbers = range(first, first + rows)
    texts = [None if n % 7 == 0 else "text " * (n % 5) for n in numbers]
    lists = [None if n % 3 == 0 else [float(n)] * (n % 4) for n in numbers]
    table = pa.Table.from_arrays(
        [pa.array(c, t) for c, t in zip((numbers, texts, lists), SCHEMA.types, strict=True)], schema=SCHEMA
    )
    sink = io.BytesIO()
    parquet.write_table(table, sink, **options)
    return sink.getvalue()


def empty() -> bytes:
    return file_of(0, 0) + b"\n"


def joined(files: list[bytes]) -> bytes:
    join = ParquetJoin(empty)
    made = join.begin()
    for data in files:
        offset, count = join.add(MemorySection(data + b"\n"))
        made += data[offset : offset + count]
    return made + join.end()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"compression": "zstd", "use_dictionary": False},
    {"row_group_size": 3},
    {"write_page_index": True, "compression": "none"},
    {"data_page_version": "2.0", "store_schema": False},
]


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5), options=st.sampled_from(OPTIONS))
def test_any_files_are_one_with_all_their_rows(sizes: list[int], options: dict[str, Any]) -> None:
    files = [file_of(sum(sizes[:number]), size, **options) for number, size in enumerate(sizes)]
    data = joined(files)
    expected = pa.concat_tables([parquet.read_table(pa.BufferReader(each)) for each in files])
    read = parquet.ParquetFile(pa.BufferReader(data), page_checksum_verification=False)
    assert read.read().equals(expected)
    assert read.metadata.num_rows == sum(sizes)
    for number in range(read.num_row_groups):  # each by itself, by its own offsets
        read.read_row_group(number)
    assert pl.read_parquet(io.BytesIO(data)).to_dicts() == expected.to_pylist()


def test_statistics_are_those_of_the_row_groups_and_a_page_index_is_left_out() -> None:
    data = joined([file_of(number * 10, 10, write_page_index=True) for number in range(4)])
    metadata = parquet.ParquetFile(pa.BufferReader(data)).metadata
    ranges = [metadata.row_group(number).column(0).statistics for number in range(4)]
    assert [(each.min, each.max) for each in ranges] == [(0, 9), (10, 19), (20, 29), (30, 39)]
    assert not any(metadata.row_group(number).column(0).has_offset_index for number in range(4))
    assert not any(metadata.row_group(number).column(0).has_column_index for number in range(4))
    found = pl.scan_parquet(io.BytesIO(data)).filter(pl.col("n") == 25).collect()
    assert found["n"].to_list() == [25]


def test_a_file_of_many_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowmill.files.output.parquet_join._MAX_ORDINAL", 100)
    part = file_of(0, 1)
    data = joined([part] * 300)
    read = parquet.ParquetFile(pa.BufferReader(data))
    assert read.num_row_groups == 300
    assert read.read().num_rows == 300


def test_no_file_at_all_is_one_without_rows() -> None:
    table = parquet.read_table(pa.BufferReader(joined([])))
    assert table.schema.names == SCHEMA.names
    assert table.num_rows == 0


def test_a_footer_that_is_larger_than_what_is_read_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowmill.files.output.parquet_join._GUESS_BYTES", 20)
    assert parquet.read_table(pa.BufferReader(joined([file_of(0, 5), file_of(5, 5)]))).num_rows == 10


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"{}", "does not end as a Parquet file"),
        (lambda data: data[:-1], "does not end as a Parquet file"),
        (lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1", "does not end as a Parquet file"),
        (lambda data: data[:-8] + b"\x02\0\0\0PAR1", "footer"),
        (lambda data: data[:-8] + bytes(9) + b"\x09\0\0\0PAR1", "footer lacks"),
        (lambda data: data[:-8] + b"\x29\x2c\0\0\x16\x02\x19\x1c\0\0\x09\0\0\0PAR1", "footer"),
    ],
)
def test_what_is_no_parquet_file_is_refused(damage: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParquetJoin(empty).add(MemorySection(damage(file_of(0, 5)) + b"\n"))


def test_files_with_other_columns_are_refused() -> None:
    sink = io.BytesIO()
    parquet.write_table(pa.table({"n": [1]}), sink)
    join = ParquetJoin(empty)
    join.add(MemorySection(file_of(0, 1) + b"\n"))
    with pytest.raises(ValueError, match="other columns"):
        join.add(MemorySection(sink.getvalue() + b"\n"))
