"""Thrift's compact protocol: read and written again, bytes are the same."""

import io
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from rowmill.files.output import thrift
from rowmill.files.output.thrift import read_struct, write_struct


def test_the_footers_of_real_files_come_out_as_they_went_in() -> None:
    table = pa.table({"a": [1, None, 3], "b": ["x", "y" * 300, None], "c": [[1.5], None, []], "d": [True, None, False]})
    for options in ({}, {"version": "1.0", "compression": "none"}, {"write_page_index": True, "store_schema": False}):
        sink = io.BytesIO()
        parquet.write_table(table, sink, row_group_size=1, **options)
        data = sink.getvalue()
        footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
        assert write_struct(read_struct(footer)) == footer


STRUCTS: st.SearchStrategy[thrift.Struct] = st.deferred(
    lambda: st.dictionaries(st.integers(-3, 40), VALUES, max_size=3)
)
VALUES: st.SearchStrategy[tuple[int, Any]] = st.deferred(
    lambda: st.one_of(
        st.sampled_from([(thrift.TRUE, None), (thrift.FALSE, None)]),
        st.tuples(st.sampled_from([thrift.I16, thrift.I32, thrift.I64]), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just(thrift.BYTE), st.binary(min_size=1, max_size=1)),
        st.tuples(st.just(thrift.DOUBLE), st.binary(min_size=8, max_size=8)),
        st.tuples(st.just(thrift.BINARY), st.binary(max_size=200)),
        st.tuples(st.just(thrift.STRUCT), STRUCTS),
        st.tuples(
            st.just(thrift.LIST),
            st.one_of(
                st.tuples(st.just(thrift.I32), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20)),
                st.tuples(st.just(thrift.TRUE), st.lists(st.sampled_from([b"\1", b"\2"]), max_size=20)),
                st.tuples(st.just(thrift.STRUCT), st.lists(STRUCTS, max_size=2)),
            ),
        ),
    )
)


@given(STRUCTS)
def test_any_struct_is_read_as_it_was_written(struct: thrift.Struct) -> None:
    assert read_struct(write_struct(struct)) == struct


def test_a_struct_may_be_given_as_its_bytes() -> None:
    inner = {1: (thrift.I32, 5)}
    whole = {3: (thrift.LIST, (thrift.STRUCT, [inner, inner]))}
    assert write_struct({3: (thrift.LIST, (thrift.STRUCT, [write_struct(inner)] * 2))}) == write_struct(whole)


def test_what_ends_too_early_is_refused() -> None:
    data = write_struct({1: (thrift.BINARY, b"abc"), 2: (thrift.STRUCT, {7: (thrift.I64, 1 << 40)})})
    for length in range(len(data)):
        with pytest.raises(ValueError, match="cut short"):
            read_struct(data[:length])
    with pytest.raises(ValueError, match="value of type 15"):
        read_struct(b"\x1f\0")
