"""Tables become JSON lines: every type, and whatever a row holds that JSON has not."""

import datetime as dt
import decimal
import itertools
import json
import uuid
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.errors import InputError
from rowmill.core.rows import BROKEN
from rowmill.files.input.table_columns import columns_of
from rowmill.files.input.tables import (
    BATCH_ROWS,
    LineEncoder,
    check_names,
    plan_shards,
    shard_crc,
)

NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 123456)  # noqa: DTZ001 - a time without a zone is what is tested
BERLIN = pa.timestamp("ns", "Europe/Berlin")


def lines_of(table: pa.Table, *, validate: bool = False) -> list[bytes]:
    encoder = LineEncoder(table.schema, validate=validate)
    return [line for batch in table.to_batches() for lines in encoder.lines(batch) for line in lines]


@pytest.mark.parametrize(
    ("values", "kind", "expected", "column"),
    [
        (['a\n"é"', "", None], pa.string(), ['a\n"é"', "", None], "string"),
        (["x"], pa.large_string(), ["x"], "string"),
        (["x"], pa.string_view(), ["x"], "string"),
        (["x", None, "x"], pa.dictionary(pa.int8(), pa.string()), ["x", None, "x"], "string"),
        ([1, -1, None], pa.int8(), [1, -1, None], "int64"),
        ([2**63 - 1], pa.int64(), [2**63 - 1], "int64"),
        ([2**64 - 1], pa.uint64(), [2**64 - 1], "json"),
        ([1.5, float("nan"), float("inf"), None], pa.float64(), [1.5, None, None, None], "double"),
        ([0.1, None, 3.4e38, float("nan")], pa.float32(), [0.1, None, 3.4e38, None], "double"),
        ([np.float16(0.1), np.float16(0.5)], pa.float16(), [0.1, 0.5], "double"),
        ([[0.1, None], None], pa.list_(pa.float32()), [[0.1, None], None], "json"),
        ([{"a": [0.1]}, None], pa.struct({"a": pa.list_(pa.float32())}), [{"a": [0.1]}, None], "json"),
        ([[("k", 0.1)]], pa.map_(pa.string(), pa.float32()), [{"k": 0.1}], "json"),
        ([10**15, -(10**14), 0], pa.timestamp("ms", "UTC"),
         ["+33658-09-27T01:46:40Z", "-1199-02-15T14:13:20Z", "1970-01-01T00:00:00Z"], "string"),
        ([10**7, -719529, None], pa.date32(), ["+29349-01-26", "-0001-12-31", None], "string"),
        ([[10**7], []], pa.list_(pa.date32()), [["+29349-01-26"], []], "json"),
        ([{"a": 2**62}], pa.struct({"a": pa.duration("s")}), [{"a": "P53375995583650DT27904S"}], "json"),
        ([True, None], pa.bool_(), [True, None], "bool"),
        ([None], pa.null(), [None], "json"),
        ([b"\xff\x00"], pa.binary(), ["/wA="], "string"),
        ([b"\xff\x00"], pa.binary(2), ["/wA="], "string"),
        ([decimal.Decimal("1.50")], pa.decimal128(9, 2), ["1.50"], "string"),
        ([dt.date(2024, 2, 29)], pa.date32(), ["2024-02-29"], "string"),
        ([dt.time(1, 2, 3, 4)], pa.time64("ns"), ["01:02:03.000004"], "string"),
        ([1001], pa.time64("ns"), ["00:00:00.000001001"], "string"),
        ([decimal.Decimal("1." + "0" * 40)], pa.decimal256(60, 40), ["1." + "0" * 40], "string"),
        ([NOON], pa.timestamp("us"), ["2024-02-29T12:00:00.123456"], "string"),
        ([NOON], pa.timestamp("s"), ["2024-02-29T12:00:00"], "string"),
        ([1_700_000_000_123_456_789], pa.timestamp("ns"), ["2023-11-14T22:13:20.123456789"], "string"),
        ([1_700_000_000_123_456_789], BERLIN, ["2023-11-14T22:13:20.123456789Z"], "string"),
        ([1500], pa.duration("ms"), ["PT1.5S"], "string"),
        ([1500], pa.duration("ns"), ["PT0.000001500S"], "string"),
        ([[1, None], []], pa.list_(pa.int64()), [[1, None], []], "json"),
        ([[0, 1]], pa.list_(pa.timestamp("ns"), 2), [["1970-01-01T00:00:00", "1970-01-01T00:00:00.000000001"]], "json"),
        ([["x"]], pa.large_list(pa.dictionary(pa.int8(), pa.string())), [["x"]], "json"),
        ([{"a": 0, "b": None}], pa.struct({"a": BERLIN, "b": pa.string()}),
         [{"a": "1970-01-01T00:00:00Z", "b": None}], "json"),
        ([[("k", 1)], None], pa.map_(pa.string(), pa.int64()), [{"k": 1}, None], "json"),
        ([[{"m": [(1, "x")]}]], pa.list_(pa.struct({"m": pa.map_(pa.int64(), pa.string())})),
         [[{"m": {"1": "x"}}]], "json"),
    ],
    ids=str,
)  # fmt: skip
def test_every_type_has_its_json(values: list[Any], kind: pa.DataType, expected: list[Any], column: str) -> None:
    table = pa.table({"c": pa.array(values, kind)})
    for validate in (False, True):
        assert [json.loads(line) for line in lines_of(table, validate=validate)] == [{"c": value} for value in expected]
    assert [(found.name, found.type) for found in columns_of(table.schema)] == [("c", column)]


def test_extension_types_are_what_they_mean_or_what_they_are_stored_as() -> None:
    class Own(pa.ExtensionType):  # type: ignore[misc]  # the base has no type
        def __init__(self) -> None:
            super().__init__(pa.timestamp("ns"), "test.own")

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: object, serialized: object) -> "Own":
            return cls()

    own = Own()  # pyarrow holds it weakly
    key = uuid.UUID("865e7c4a-3610-44fa-8791-49298c6f89d8")
    table = pa.table(
        {
            "id": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([key.bytes], pa.binary(16))),
            "own": pa.ExtensionArray.from_storage(own, pa.array([0], pa.timestamp("ns"))),
        }
    )
    assert lines_of(table) == [b'{"id":"865e7c4a-3610-44fa-8791-49298c6f89d8","own":"1970-01-01T00:00:00"}']
    assert [column.type for column in columns_of(table.schema)] == ["string", "string"]


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)


@given(names=st.lists(NAMES, unique=True, max_size=5), data=st.data())
@settings(max_examples=40, deadline=None)
def test_rows_come_back_as_they_are_with_any_names_in_the_files_order(names: list[str], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 5))
    columns = {}
    for name in names:
        kind = data.draw(st.sampled_from([st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False), st.text()]))
        columns[name] = data.draw(st.lists(st.none() | kind, min_size=count, max_size=count))
    table = pa.table(columns)
    expected = table.to_pylist()
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines_of(table)]
    assert [list(row) for row in found] == [list(row) for row in expected]
    infinite = {float("inf"), float("-inf")}
    assert found == [{key: None if value in infinite else value for key, value in row.items()} for row in expected]


def test_columns_that_are_encoded_by_runs_are_read_and_keep_their_type() -> None:
    for values in (["a", "a", None], [0.1, 0.1, None]):
        array = pa.array(values, pa.string() if values[0] == "a" else pa.float32())
        table = pa.table({"x": pc.run_end_encode(array)})
        for validate in (False, True):
            assert [json.loads(line)["x"] for line in lines_of(table, validate=validate)] == values
        (column,) = columns_of(table.schema)
        assert (column.type, bool(column.arrow)) == (("string", False) if values[0] == "a" else ("double", True))


def test_a_value_that_python_cannot_hold_breaks_its_row_only() -> None:
    text = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.array([0, 1, 3, 4], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff\xfeb")]
    )
    when = pa.array([0, 0, 10**15], pa.timestamp("s"))
    for validate in (False, True):
        one, two, three = lines_of(pa.table({"text": text, "when": when}), validate=validate)
        assert json.loads(one) == {"text": "a", "when": "1970-01-01T00:00:00"}
        assert two.startswith(BROKEN + b"column 'text' cannot be read: ")
        assert b"utf-8" in two.lower() or b"UTF8" in two
        assert json.loads(three) == {"text": "b", "when": "+31690708-07-05T01:46:40"}
    double = pa.table({"map": pa.array([[("k", 1), ("k", 2)], [("k", 3)]], pa.map_(pa.string(), pa.int64()))})
    assert lines_of(double)[0].startswith(BROKEN + b"column 'map' cannot be read: ")
    assert lines_of(double)[1] == b'{"map":{"k":3}}'


def test_offsets_that_point_nowhere_do_not_end_the_process() -> None:
    offsets = pa.array([0, 1, 2**30, 3], pa.int32()).buffers()[1]
    wild = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abc")])
    lines = lines_of(pa.table({"c": wild}), validate=True)
    assert lines[0] == b'{"c":"a"}'
    assert lines[1].startswith(BROKEN)
    assert len(lines) == 3


def test_wide_rows_come_in_small_lists() -> None:
    encoder = LineEncoder(pa.schema({"c": pa.string()}))
    narrow = pa.record_batch({"c": ["x"] * (BATCH_ROWS + 1)})
    assert [len(lines) for lines in encoder.lines(narrow)] == [BATCH_ROWS, 1]
    wide = pa.record_batch({"c": ["x" * (400 << 10)] * 5})
    assert [len(lines) for lines in encoder.lines(wide)] == [2, 2, 1]


def test_two_columns_of_one_name_are_refused() -> None:
    schema = pa.schema([("a", pa.int8()), ("b", pa.int8()), ("a", pa.string())])
    with pytest.raises(InputError, match="rows: has two columns 'a'; rename one of them"):
        check_names("rows", schema)


@given(groups=st.lists(st.integers(0, 400), max_size=12), shard_rows=st.integers(1, 50))
def test_the_shards_are_the_rows_of_the_file_each_once(groups: list[int], shard_rows: int) -> None:
    shards = list(plan_shards(groups, 7, shard_rows))
    assert [shard.number for shard in shards] == list(range(len(shards)))
    edges = [0, *(shard.end for shard in shards)]
    assert edges[-1] == sum(groups)
    ends = {sum(groups[:count]) for count in range(len(groups) + 1)}
    for shard, start in zip(shards, edges, strict=False):
        assert (shard.start, shard.first_row, shard.rows) == (start, start, shard.end - start)
        assert shard.rows > 0
        assert shard.crc == shard_crc(7, shard.start, shard.end)
        inside = [
            rows for rows, end in zip(groups, itertools.accumulate(groups), strict=True) if end - rows <= shard.start
        ]
        assert shard.rows <= max(shard_rows, -(-inside[-1] // 16)), "a shard has more rows than it may"
        if shard.start not in ends or shard.end not in ends:
            assert max(inside) > shard_rows, "a row group was cut without need"


def test_one_great_row_group_feeds_many_workers_but_not_in_ever_more_pieces() -> None:
    def pieces(rows: int, shard_rows: int) -> list[int]:
        return [s.rows for s in plan_shards([rows], 0, shard_rows)]

    assert pieces(1000, 300) == [250] * 4
    assert pieces(60_000, 300) == [3750] * 16
    assert len(pieces(10_000_000, 300)) == 153, "beyond 65,536 rows a shard would be too much to remember"
    assert pieces(100_000, 100_000) == [100_000]
