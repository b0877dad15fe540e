"""Arrow's values become Python's without another digit, whatever they stand in and wherever a slice begins."""

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.arrow_values import is_exact, values

NS = [1_700_000_000_123_456_789, None, -1, 1_700_000_000_123_456_000]
STRUCT = pa.struct([("f", pa.float32()), ("t", pa.timestamp("ns", "UTC")), ("n", pa.int64())])
ROWS: list[Any] = [{"f": 0.1, "t": 5, "n": 1}, None, {"f": None, "t": None, "n": 2}]
SHOWN: list[Any] = [
    {"f": 0.1, "t": "1970-01-01T00:00:00.000000005Z", "n": 1},
    None,
    {"f": None, "t": None, "n": 2},
]


@pytest.mark.parametrize(
    ("given_", "kind", "expected"),
    [
        ([0.1, None, 3.4e38, -0.0], pa.float32(), [0.1, None, 3.4e38, -0.0]),
        ([np.float16(0.1), None], pa.float16(), [0.1, None]),
        (NS[:3], pa.timestamp("ns"), ["2023-11-14T22:13:20.123456789", None, "1969-12-31T23:59:59.999999999"]),
        (NS[:1], pa.timestamp("ns", "Europe/Berlin"), ["2023-11-14T23:13:20.123456789+01:00"]),
        (NS[3:], pa.timestamp("ns"), [dt.datetime(2023, 11, 14, 22, 13, 20, 123456)]),  # noqa: DTZ001 - it has none
        ([1001, None, -1, 0], pa.duration("ns"), ["PT0.000001001S", None, "-PT0.000000001S", dt.timedelta()]),
        ([1, None, 1000], pa.time64("ns"), ["00:00:00.000000001", None, dt.time(microsecond=1)]),
        (ROWS, STRUCT, SHOWN),
        ([[0.1], None, [], [0.2, None]], pa.list_(pa.float32()), [[0.1], None, [], [0.2, None]]),
        ([[0.1], None, [], [0.2, None]], pa.large_list(pa.float32()), [[0.1], None, [], [0.2, None]]),
        ([[0.1], None, [], [0.2, None]], pa.list_view(pa.float32()), [[0.1], None, [], [0.2, None]]),
        ([[0.1, 0.7], None, [0.2, None]], pa.list_(pa.float32(), 2), [[0.1, 0.7], None, [0.2, None]]),
        ([[("a", 0.1)], None, [("b", 0.2), ("c", None)], []], pa.map_(pa.string(), pa.float32()),
         [{"a": 0.1}, None, {"b": 0.2, "c": None}, {}]),
        ([[ROWS, None], None, []], pa.list_(pa.list_(STRUCT)), [[SHOWN, None], None, []]),
        ([1, None], pa.int64(), [1, None]),
        ([0.1, None, 0.1], pa.dictionary(pa.int8(), pa.float32()), [0.1, None, 0.1]),
    ],
    ids=str,
)  # fmt: skip
def test_values_have_the_digits_that_they_had(given_: list[Any], kind: pa.DataType, expected: list[Any]) -> None:
    array = pa.array(given_, kind)
    assert values(array) == expected
    for start in range(len(expected) + 1):
        for count in range(len(expected) - start + 1):
            assert values(array.slice(start, count)) == expected[start : start + count]


def test_what_python_has_as_it_is_is_left_to_it() -> None:
    assert is_exact(pa.struct([("a", pa.list_(pa.timestamp("us"))), ("b", pa.decimal128(9, 2))]))
    assert not is_exact(pa.list_(pa.struct([("a", pa.map_(pa.string(), pa.float32()))])))


def test_a_map_with_a_key_twice_is_none_that_json_has() -> None:
    with pytest.raises(KeyError):
        values(pa.array([[("a", 0.5), ("a", 0.5)]], pa.map_(pa.string(), pa.float32())))


@given(st.lists(st.floats(width=32, allow_nan=False) | st.none()))
def test_any_float_of_32_bits_is_the_shortest_that_is_the_same(floats: list[float | None]) -> None:
    found = values(pa.array(floats, pa.float32()))
    assert [None if value is None else np.float32(value) for value in found] == floats
    assert all(value is None or len(repr(value)) <= len(repr(float(str(np.float32(value))))) for value in found)
