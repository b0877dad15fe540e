"""What Parquet and Arrow files hold comes out of a Parquet output as it went in: types, zones and digits."""

import datetime as dt
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.config.sections import OutputConfig
from rowmill.core.errors import InputError
from rowmill.core.rows import Layout
from rowmill.files.input.table_columns import columns_of
from rowmill.files.input.tables import LineEncoder
from rowmill.files.output import open_codec

NS = 1_700_000_000_123_456_789
DEEP = pa.list_(pa.struct([("m", pa.map_(pa.int64(), pa.decimal128(9, 2))), ("t", pa.timestamp("ns", "Asia/Tokyo"))]))
KEPT: list[tuple[list[Any], pa.DataType]] = [
    ([Decimal("1.10"), None, Decimal("-0.01")], pa.decimal128(9, 2)),
    ([Decimal("1." + "1" * 40), None], pa.decimal256(60, 40)),
    ([2**64 - 1, 0, None], pa.uint64()),
    ([255, None], pa.uint8()),
    ([-128, None], pa.int8()),
    ([0.1, None, 3.4e38], pa.float32()),
    ([np.float16(0.1), None], pa.float16()),
    ([NS, -1, None], pa.timestamp("ns", "Europe/Berlin")),
    ([NS // 1000, -1, None], pa.timestamp("us")),
    ([NS // 10**6, None], pa.timestamp("ms", "UTC")),
    ([dt.date(2024, 2, 29), None, dt.date(1, 1, 1)], pa.date32()),
    ([1001, None], pa.time64("ns")),
    ([1001, None], pa.time64("us")),
    ([1001, None], pa.time32("ms")),
    ([NS, -1, None], pa.duration("ns")),
    ([1500, None], pa.duration("ms")),
    ([b"\xff\x00", b"", None], pa.binary()),
    ([b"\xff\x00", None], pa.binary(2)),
    ([[1, None], [], None], pa.list_(pa.int32())),
    ([[0.1, None], None], pa.large_list(pa.float32())),
    ([["a", "b"], None], pa.list_(pa.string(), 2)),
    ([{"a": 1, "b": "x"}, {"a": None, "b": None}, None], pa.struct([("a", pa.uint16()), ("b", pa.string())])),
    ([[("k", 1)], [], None], pa.map_(pa.string(), pa.int16())),
    ([[{"m": [(7, Decimal("1.10"))], "t": NS}, None], [], None], DEEP),
    ([None, None], pa.null()),
    ([10**15, -(10**14), 0, None], pa.timestamp("ms", "Europe/Berlin")),
    ([2**62, -(2**62)], pa.timestamp("ms")),
    ([10**7, -719529, -(10**8), None], pa.date32()),
    ([2**53, -(2**53)], pa.duration("s")),
    ([[10**15, None]], pa.list_(pa.timestamp("ms"))),
]
INFINITE = [float("inf"), float("-inf"), float("nan"), 0.5, None]
ODD: list[tuple[list[Any], pa.DataType]] = [
    (INFINITE, pa.float64()),
    (INFINITE, pa.float32()),
    ([None if each is None else np.float16(each) for each in INFINITE], pa.float16()),
    ([INFINITE, [], None], pa.list_(pa.float32())),
    ([{"a": each} for each in INFINITE], pa.struct([("a", pa.float64())])),
    ([[("k", each)] for each in INFINITE], pa.map_(pa.string(), pa.float64())),
]


def written(table: pa.Table, *others: pa.Table, path: str = "out.parquet", result: Any, joined: Any) -> bytes:
    """Return an output that keeps the rows of these tables, each of them a shard."""
    tables = [table, *others]
    config = OutputConfig(path=path, include=["input"])
    codec = open_codec(config, Layout(input_columns=columns_of(*(each.schema for each in tables))))
    shards, index = [], 0
    for each in tables:
        encoder = LineEncoder(each.schema)
        rows = [line for batch in each.to_batches() for lines in encoder.lines(batch) for line in lines]
        shards.append([result(index + n, b'"x"', include=b',"input":' + row) for n, row in enumerate(rows)])
        index += len(rows)
    data: bytes = joined(codec, shards)
    return data


@pytest.mark.parametrize(("values", "kind"), KEPT, ids=[str(kind) for _, kind in KEPT])
def test_a_column_comes_out_as_it_went_in(
    values: list[Any], kind: pa.DataType, result: Callable[..., bytes], joined: Callable[..., bytes]
) -> None:
    table = pa.table({"x": pa.array(values, kind)})
    # What Parquet makes of a type by itself, as seconds, is none of ours.
    sink = io.BytesIO()
    pq.write_table(table, sink)
    expected = pq.read_table(sink)
    found = pq.read_table(io.BytesIO(written(table, table, result=result, joined=joined)))
    assert found.schema.field("x").type == expected.schema.field("x").type == kind
    assert found.column("x").combine_chunks().equals(pa.concat_arrays(expected.column("x").chunks * 2))
    assert found.column("output").to_pylist() == ["x"] * len(values) * 2


@pytest.mark.parametrize(("values", "kind"), ODD, ids=[str(kind) for _, kind in ODD])
def test_what_json_has_not_is_null_to_all_but_parquet(
    values: list[Any], kind: pa.DataType, result: Callable[..., bytes], joined: Callable[..., bytes]
) -> None:
    table = pa.table({"x": pa.array(values, kind)})
    found = pq.read_table(io.BytesIO(written(table, result=result, joined=joined)))
    assert found.schema.field("x").type == kind
    assert str(found.column("x").to_pylist()) == str(table.column("x").to_pylist())
    for batch in table.to_batches():
        for line in next(LineEncoder(table.schema).lines(batch)):
            assert "NaN" not in str(msgspec.json.decode(line))
            json.loads(line, parse_constant=pytest.fail)


def test_a_row_without_input_is_null_in_every_column(
    result: Callable[..., bytes], joined: Callable[..., bytes]
) -> None:
    kinds = {f"c{number}": kind for number, (_, kind) in enumerate(KEPT)}
    codec = open_codec(
        OutputConfig(path="out.parquet", include=["input"]), Layout(input_columns=columns_of(pa.schema(kinds)))
    )
    data = joined(codec, [[result(0, b'"x"', include=b',"input":null'), result(1, b'"x"', include=b',"input":{}')], []])
    found = pq.read_table(io.BytesIO(data))
    assert found.schema.types[: len(kinds)] == list(kinds.values())
    assert all(found.column(name).null_count == 2 for name in kinds)
    assert pq.read_table(io.BytesIO(joined(codec, []))).schema == found.schema, "a file without rows"


@pytest.mark.parametrize(
    ("one", "other", "kind", "expected"),
    [
        (pa.array([1], pa.int32()), pa.array([2**40], pa.int64()), pa.int64(), [1, 2**40]),
        (pa.array([1], pa.int64()), pa.array([0.5]), pa.float64(), [1.0, 0.5]),
        (pa.array([1], pa.timestamp("us", "UTC")), pa.array([NS], pa.timestamp("ns", "Europe/Berlin")),
         pa.timestamp("ns", "UTC"), None),
        (pa.array([None]), pa.array([[1]]), pa.list_(pa.int64()), [None, [1]]),
        (pa.array([Decimal("1.1")], pa.decimal128(5, 1)), pa.array([Decimal("1.10")], pa.decimal128(9, 2)),
         pa.decimal128(9, 2), [Decimal("1.10")] * 2),
        (pa.array([1]), pa.array(["a"]), pa.string(), ["1", '"a"']),
        (pa.array([2**64 - 1], pa.uint64()), pa.array([-1]), pa.string(), ["18446744073709551615", "-1"]),
        (pa.array([b"a"]), pa.array(["a"]), pa.string(), ['"YQ=="', '"a"']),
    ],
    ids=str,
)  # fmt: skip
def test_parts_whose_types_differ_get_one_that_holds_both(  # noqa: PLR0917 - two are fixtures
    one: pa.Array,
    other: pa.Array,
    kind: pa.DataType,
    expected: list[Any] | None,
    result: Callable[..., bytes],
    joined: Callable[..., bytes],
) -> None:
    tables = pa.table({"x": one, "a": [1]}), pa.table({"b": ["late"], "x": other})
    found = pq.read_table(io.BytesIO(written(*tables, result=result, joined=joined)))
    assert found.schema.field("x").type == kind
    assert expected is None or found.column("x").to_pylist() == expected
    assert found.column("a").to_pylist() == [1, None]
    assert found.column("b").to_pylist() == [None, "late"]


def test_a_value_that_no_type_of_the_parts_holds_is_told_with_its_row(
    result: Callable[..., bytes], joined: Callable[..., bytes]
) -> None:
    tables = pa.table({"x": pa.array([0.5], pa.float32())}), pa.table({"x": [2**53 + 1]})
    with pytest.raises(
        InputError, match=r"row 1: the input's column 'x' is double, and this is none: 9007199254740993 "
    ):
        written(*tables, result=result, joined=joined)
    lines = written(*tables, path="out.csv", result=result, joined=joined).splitlines()
    assert [line.split(b",")[0] for line in lines] == [b"x", b"0.5", b"9007199254740993"]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=1), st.sampled_from(["s", "ms", "us", "ns"]))
@settings(max_examples=60, deadline=None)
def test_any_duration_and_any_time_stamp_that_python_has_comes_back(values: list[int | None], unit: str) -> None:
    from rowmill.files.output.arrow_columns import ArrowColumn

    for kind in (pa.duration(unit), pa.timestamp(unit, "UTC")):
        encoder = LineEncoder(pa.schema({"x": kind}))
        column = ArrowColumn(kind)
        for value in values:
            batch = pa.record_batch({"x": pa.array([value], kind)})
            ((line,),) = encoder.lines(batch)
            if line[:1] == b"{":
                assert column.array([msgspec.Raw(line[5:-1])]).cast(pa.int64()).to_pylist() == [value]
