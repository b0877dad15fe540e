"""Whatever a cell holds becomes the JSON that it is, and what cannot costs its own row, if anybody asks for it."""

import dataclasses
import datetime as dt
import enum
import ipaddress
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pydantic
import pytest

from rowmill.core.rows import BROKEN
from rowmill.interface.python import frames
from rowmill.interface.python.row_lines import lines

BERLIN = dt.timezone(dt.timedelta(hours=1))


class Kind(enum.Enum):
    TEXT = "text"
    SHARE = 1.5


@dataclasses.dataclass
class Row:
    text: str
    price: Decimal
    other: Any = None


class Model(pydantic.BaseModel):
    text: str
    price: Decimal
    other: Any = None


class Struct(msgspec.Struct):
    text: str
    price: Decimal
    other: Any = None


def cells_of(rows: Any, wanted: list[str] | None = None) -> list[str]:
    """Return the value of column x of each row, as its JSON text."""
    table = frames.source(rows)
    found = lines(rows if table is None else table.rows(wanted), wanted)
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    return [bytes(decode(line)["x"]).decode() for line in found]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1.10"), "1.10"),
        (Decimal("12345678901234567890.1234567890"), "12345678901234567890.1234567890"),
        (2**70, "1180591620717411303424"),
        (float("nan"), "null"),
        (np.float32(0.1), "0.1"),
        (np.float32(1e20), "1e20"),
        (np.float16(0.1), "0.1"),
        (np.float64(0.1), "0.1"),
        (np.float32("nan"), "null"),
        (np.longdouble("0.5"), "0.5"),
        (np.array([0.1, np.nan], "float32"), "[0.1,null]"),
        (np.array([[0.1], [0.2]], "float16"), "[[0.1],[0.2]]"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.bool_(True), "true"),
        (np.str_("é"), '"é"'),
        (np.datetime64("2026-01-02T00:00:00.123456789"), '"2026-01-02T00:00:00.123456789"'),
        (np.datetime64("2026-01-02"), '"2026-01-02"'),
        (np.array(["2026-01-02", "NaT"], "datetime64[D]"), '["2026-01-02",null]'),
        (np.timedelta64(1500, "ms"), '"PT1.5S"'),
        (np.timedelta64(1, "ns"), '"PT0.000000001S"'),
        (pd.Timestamp("2026-01-02T00:00:00.123456789"), '"2026-01-02T00:00:00.123456789"'),
        (pd.Timestamp("2026-01-02", tz="Europe/Berlin"), '"2026-01-02T00:00:00+01:00"'),
        (pd.NaT, "null"),
        (pd.NA, "null"),
        (pd.Period("2026-01"), '"2026-01"'),
        (dt.datetime(2026, 1, 2, 3, 4, 5, 6, BERLIN), '"2026-01-02T03:04:05.000006+01:00"'),
        (dt.date(2026, 1, 2), '"2026-01-02"'),
        (dt.timedelta(seconds=1.5), '"PT1.5S"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Kind.TEXT, '"text"'),
        (Kind.SHARE, "1.5"),
        (b"ab", '"YWI="'),
        ((1, "a"), '[1,"a"]'),
        pytest.param({"b", "a"}, '["a","b"]', id="a set"),
        (frozenset([2, 1]), "[1,2]"),
        (Path("a/b"), '"a/b"'),
        (ipaddress.ip_address("::1"), '"::1"'),
        ({"k": Row("t", Decimal("1.10"))}, '{"k":{"text":"t","price":1.10,"other":null}}'),
        ([Model(text="t", price=Decimal("1.10"))], '[{"text":"t","price":"1.10","other":null}]'),
    ],
    ids=repr,
)
def test_a_value_of_a_mapping_is_what_it_is(value: Any, text: str) -> None:
    assert cells_of([{"x": value}]) == [text]


@pytest.mark.parametrize(
    ("series", "texts"),
    [
        (pd.Series([0.1, None], dtype="float32"), ["0.1", "null"]),
        (pd.Series([0.1, None], dtype="Float32"), ["0.1", "null"]),
        (pd.Series([0.1, None], dtype=pd.ArrowDtype(pa.float32())), ["0.1", "null"]),
        (pd.Series([[0.1], None], dtype=pd.ArrowDtype(pa.list_(pa.float32()))), ["[0.1]", "null"]),
        (pd.Series([Decimal("1.10"), None], dtype=pd.ArrowDtype(pa.decimal128(9, 2))), ["1.10", "null"]),
        (pd.Series([Decimal("1.10"), pd.NaT, float("nan")], dtype=object), ["1.10", "null", "null"]),
        (pd.Series([2**62 + 1, None], dtype="Int64"), ["4611686018427387905", "null"]),
        (pd.Series([2**64 - 1], dtype="uint64"), ["18446744073709551615"]),
        (pd.Series(pd.Categorical(["007", None])), ['"007"', "null"]),
        (pd.Series(pd.to_datetime(["2026-01-02T00:00:00.123456789", "NaT"])),
         ['"2026-01-02T00:00:00.123456789"', "null"]),
        (pl.Series([0.1, None], dtype=pl.Float32), ["0.1", "null"]),
        (pl.Series([[0.1], None], dtype=pl.List(pl.Float32)), ["[0.1]", "null"]),
        (pl.Series([{"a": 0.1}], dtype=pl.Struct({"a": pl.Float32})), ['{"a":0.1}']),
        (pl.Series([Decimal("1.10")], dtype=pl.Decimal(38, 2)), ["1.10"]),
        (pl.Series([2**100], dtype=pl.Int128), ["1267650600228229401496703205376"]),
        (pl.Series(["007"], dtype=pl.Categorical), ['"007"']),
        (pl.Series(["007"], dtype=pl.Enum(["007"])), ['"007"']),
        (pl.Series([1_700_000_000_123_456_789], dtype=pl.Int64).cast(pl.Datetime("ns")),
         ['"2023-11-14T22:13:20.123456789"']),
        (pl.Series([1], dtype=pl.Int64).cast(pl.Time), ['"00:00:00.000000001"']),
        (pa.array([0.1, None], pa.float32()), ["0.1", "null"]),
        (pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", "UTC")), ['"2023-11-14T22:13:20.123456789Z"']),
        (pa.array([Decimal("1.10")], pa.decimal256(60, 2)), ["1.10"]),
        (pa.array([[("k", 0.1)]], pa.map_(pa.string(), pa.float32())), ['{"k":0.1}']),
    ],
    ids=lambda value: str(getattr(value, "dtype", getattr(value, "type", ""))),
)  # fmt: skip
def test_a_cell_of_a_table_is_what_it_is(series: Any, texts: list[str]) -> None:
    if isinstance(series, pa.Array):
        assert cells_of(pa.table({"x": series})) == texts
    else:
        assert cells_of(series.rename("x").to_frame()) == texts


@pytest.mark.parametrize(
    "row",
    [
        Row("t", Decimal("1.10")),
        Model(text="t", price=Decimal("1.10")),
        Struct("t", Decimal("1.10")),
        *pd.DataFrame({"text": ["t"], "price": [Decimal("1.10")]}).itertuples(),
    ],
)
def test_objects_with_members_are_rows(row: Any) -> None:
    assert [json.loads(line) for line in lines([row], ["text"])] == [{"text": "t"}]
    assert [json.loads(line)["price"] for line in lines([row])] in ([1.1], ["1.10"])


BAD: list[Any] = ["a\ud800", object(), 10**5000, 1j, [object()]]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: type(bad).__name__)
def test_what_cannot_be_written_costs_its_row_and_only_where_it_is_asked_for(bad: Any) -> None:
    rows = [{"id": 7, "x": "fine", "y": bad}, {"id": 8, "x": bad, "y": 1}]
    first, second = lines(rows, ["x", "id"])
    assert first == b'{"x":"fine","id":7}\n'
    assert second.startswith(BROKEN + b"column 'x' cannot be written as JSON: ")
    assert second.endswith(BROKEN + b'{"id":8}\n'), "its id is kept"
    assert second.count(b"\n") == 1
    if not isinstance(bad, int):
        table = frames.source(pd.DataFrame(rows, dtype=object))
        assert table is not None
        assert list(lines(table.rows(["x", "id"]), ["x", "id"])) == [first, second]


def test_an_arrow_value_that_python_cannot_have_costs_its_row() -> None:
    text = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.array([0, 1, 3, 4], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff\xfeb")]
    )
    table = frames.source(pa.table({"x": text, "y": pa.array([0, 0, 10**15], pa.timestamp("s"))}))
    assert table is not None
    found = list(lines(table.rows(["x"]), ["x"]))
    assert (found[0], found[2]) == (b'{"x":"a"}\n', b'{"x":"b"}\n')
    assert found[1].startswith(BROKEN + b"column 'x' cannot be written as JSON: ")
    assert [line.startswith(BROKEN) for line in lines(table.rows(None))] == [False, True, True]


def test_a_row_that_lacks_what_is_asked_for_names_what_it_has() -> None:
    assert list(lines([{"a": object(), "b": 1}], ["b", "c"])) == [b'{"a":null,"b":1}\n']
    assert list(lines([{1: "x", 2: "y"}], ["1"])) == [b'{"1":"x","2":null}\n']
