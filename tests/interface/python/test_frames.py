"""Rows of Python's libraries become lines of JSON, and answers come back beside them, row for row."""

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pytest

from rowmill.core.config.sections import ReplyPart
from rowmill.core.errors import InputError
from rowmill.core.rows import Column
from rowmill.interface.python import answer_columns, frames
from rowmill.interface.python.answers import Result, RowError
from rowmill.interface.python.row_lines import lines

RESULTS: list[Result[Any]] = [
    Result(index=0, output="yes"),
    Result(index=1, error=RowError("timeout", "too late")),
    Result(index=2, output="no"),
]
FIELDS = (Column("label"), Column("n", "int64"), Column("share", "double"), Column("ok", "bool"), Column("any", "json"))
STRUCTURED: list[Result[Any]] = [
    Result(index=0, output={"label": "a", "n": 7.0, "share": 1, "ok": True, "any": [1, "x"]}),
    Result(index=1, error=RowError("invalid_output", "no JSON")),
    Result(index=2, output={"label": "b", "n": 8, "share": 0.5, "ok": False, "any": {"z": None}}),
]


class Places(pd.DataFrame):
    """A table with something more, as geopandas makes one."""

    _metadata: ClassVar[list[str]] = ["crs"]
    crs: str

    @property
    def _constructor(self) -> type["Places"]:
        return Places


class Own(pl.DataFrame):
    """A table of somebody who has derived one."""


class Foreign(list[str]):
    """A table of a library that nobody here knows: gone through, it is the names of its columns."""

    columns = ("a",)
    dtypes = ("object",)

    def compute(self) -> None:
        """Make a DataFrame of pandas."""


def rows_of(rows: Any) -> list[Any]:
    table = frames.source(rows)
    return [json.loads(line) for line in lines(rows if table is None else table.rows(None))]


def joined(rows: Any, results: list[Result[Any]], fields: tuple[Column, ...] = (), prefix: str = "") -> Any:
    table = frames.source(rows)
    assert table is not None
    return table.joined(answer_columns.answers(results, fields, prefix=prefix))


def test_a_class_that_is_derived_from_a_table_is_one() -> None:
    """Taken for an iterable it was asked about the names of its columns."""
    places = Places({"a": ["x", "y", "z"]})
    places.crs = "EPSG:4326"
    assert rows_of(places) == rows_of(Own({"a": ["x", "y", "z"]})) == [{"a": "x"}, {"a": "y"}, {"a": "z"}]
    with_answers = joined(places, RESULTS)
    assert (type(with_answers), with_answers.crs, with_answers["output"][2]) == (Places, "EPSG:4326", "no")
    assert joined(Own({"a": ["x", "y", "z"]}), RESULTS).columns == ["a", "output", "error"]


def test_a_pandas_frame_gives_its_rows_whatever_is_absent_as_null() -> None:
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "real": [0.5, float("nan"), 2.0],
            "text": ["x", None, "z"],
            "day": pd.to_datetime(pd.Series(["2026-01-02", None, "2026-01-04"], index=[30, 10, 20])),
            "list": [[1], None, [np.float32(2)]],
            "kind": pd.Categorical(["u", "v", "u"]),
        },
        index=[30, 10, 20],
    )
    assert rows_of(frame) == [
        {"whole": 1, "real": 0.5, "text": "x", "day": "2026-01-02T00:00:00", "list": [1], "kind": "u"},
        {"whole": None, "real": None, "text": None, "day": None, "list": None, "kind": "v"},
        {"whole": 3, "real": 2.0, "text": "z", "day": "2026-01-04T00:00:00", "list": [2.0], "kind": "u"},
    ]


def test_a_polars_frame_and_an_arrow_table_give_their_rows() -> None:
    columns = {"n": [1, None, 3], "day": [date(2026, 1, 2), None, None], "nested": [{"a": [1]}, None, {"a": []}]}
    expected = [
        {"n": 1, "day": "2026-01-02", "nested": {"a": [1]}},
        {"n": None, "day": None, "nested": None},
        {"n": 3, "day": None, "nested": {"a": []}},
    ]
    assert rows_of(pl.DataFrame(columns)) == rows_of(pa.table(columns)) == expected
    assert rows_of(pa.table(columns).to_batches()[0]) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda texts: pd.Series(texts, name="any"),
        lambda texts: pl.Series("any", texts),
        pa.array,
        lambda texts: pa.chunked_array([texts[:2], texts[2:]]),
        iter,
    ],
)
def test_texts_of_every_kind_are_rows_with_a_text(make: Callable[[list[str]], Any]) -> None:
    assert rows_of(make(["p", "q", "r"])) == [{"text": "p"}, {"text": "q"}, {"text": "r"}]


def test_any_iterable_of_mappings_is_rows() -> None:
    rows = ({"n": number, "price": Decimal("1.50"), "deep": [np.int64(number)]} for number in range(2))
    assert rows_of(rows) == [{"n": 0, "price": 1.5, "deep": [0]}, {"n": 1, "price": 1.5, "deep": [1]}]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"a": 1}, ["b"]], "row 1 is a list; rows are mappings or texts"),
        ([{"a": 1}, None], "row 1 is a NoneType"),
    ],
)
def test_what_is_no_row_is_named_by_its_number(rows: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        list(lines(rows))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("one text", "not one str"),
        ({"a": 1}, r"not one dict; one row is a list too: \[row\]"),
        (Foreign(["a"]), r"a Foreign of tests: pass rows.compute\(\)"),
        (7, "not one int"),
        (pl.LazyFrame({"a": [1]}), r"frame.collect\(\)"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are named 'a'"),
    ],
)
def test_what_is_no_rows_is_refused(rows: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        frames.source(rows)


def test_pandas_gets_its_columns_on_its_own_index() -> None:
    frame = pd.DataFrame({"a": ["x", "y", "z"]}, index=[30, 10, 20])
    done = joined(frame, RESULTS)
    assert list(done.columns) == ["a", "output", "error"]
    assert done.loc[30, "output"] == "yes"
    assert done.loc[10, "error"] == "timeout: too late"
    assert list(frame.columns) == ["a"], "the frame that was handed in stays as it was"
    fields = joined(frame, STRUCTURED, FIELDS, "new_")
    assert list(fields.columns) == ["a", "new_label", "new_n", "new_share", "new_ok", "new_any", "new_error"]
    assert [str(fields[name].dtype) for name in ("new_n", "new_share", "new_ok")] == ["Int64", "Float64", "boolean"]
    assert fields.loc[20, "new_n"] == 8
    assert fields.loc[30, "new_any"] == [1, "x"]


def test_polars_and_arrow_get_typed_columns() -> None:
    columns = {"a": ["x", "y", "z"]}
    expected = {
        "a": ["x", "y", "z"],
        "label": ["a", None, "b"],
        "n": [7, None, 8],
        "share": [1.0, None, 0.5],
        "ok": [True, None, False],
        "any": ['[1,"x"]', None, '{"z":null}'],  # values that are not alike stay JSON
        "error": [None, "invalid_output: no JSON", None],
    }
    frame = joined(pl.DataFrame(columns), STRUCTURED, FIELDS)
    table = joined(pa.table(columns), STRUCTURED, FIELDS)
    assert frame.to_dict(as_series=False) == table.to_pydict() == expected
    assert frame.schema["n"] == pl.Int64
    assert table.schema.field("share").type == pa.float64()
    assert joined(pa.array(columns["a"]), RESULTS).to_pydict()["output"] == ["yes", None, "no"]
    assert joined(pl.Series(columns["a"]), RESULTS).columns == ["text", "output", "error"]


def test_no_part_of_an_output_that_is_no_text_is_dropped() -> None:
    calls = [{"id": "c", "function": {"name": "f"}}]
    several = [["a", "b"], calls, {"content": "a", "tool_calls": calls}, [*calls, {"id": "d", "more": 1}], None]
    for outputs in (several, several[1:2] + several[3:], [several[2], {"content": "b", "refusal": "no"}]):
        results: list[Result[Any]] = [Result(index=index, output=output) for index, output in enumerate(outputs)]
        columns = {"a": ["x"] * len(outputs)}
        polars, arrow = joined(pl.DataFrame(columns), results), joined(pa.table(columns), results)
        for cells in (polars["output"].to_list(), arrow["output"].to_pylist()):
            for cell, output in zip(cells, outputs, strict=True):
                assert frames._holds(json.loads(cell) if isinstance(cell, str) else cell, output)


def test_parts_of_replies_are_columns_of_text() -> None:
    first = Result(index=0, output="a", reasoning="hm", message={"content": "a", "x": [1]}, tool_calls=[{"id": "c"}])
    results = [first, Result(index=1, error=RowError("timeout"))]
    expected = {
        "a": ["x", "y"], "output": ["a", None], "error": [None, "timeout: "], "reasoning": ["hm", None],
        "tool_calls": ['[{"id":"c"}]', None], "message": ['{"content":"a","x":[1]}', None],
    }  # fmt: skip
    for rows in (pd.DataFrame({"a": ["x", "y"]}), pl.DataFrame({"a": ["x", "y"]}), pa.table({"a": ["x", "y"]})):
        table = frames.source(rows)
        assert table is not None
        parts: list[ReplyPart] = ["reasoning", "tool_calls", "message"]
        answer_columns.check_names(table.columns, (), "", parts)
        made = table.joined(answer_columns.answers(results, (), parts=parts))
        found = made.to_pydict() if isinstance(rows, pa.Table) else {name: list(made[name]) for name in made.columns}
        assert found == expected


def test_vectors_become_columns_of_float32() -> None:
    vectors = [np.array([0.5, 1], "float32"), None, np.array([2, 3], "float32")]
    results = [Result(index=index, output=vector) for index, vector in enumerate(vectors)]
    assert joined(pl.DataFrame({"a": [1, 2, 3]}), results).schema["output"] == pl.List(pl.Float32)
    assert joined(pa.table({"a": [1, 2, 3]}), results).schema.field("output").type == pa.list_(pa.float32())
    assert joined(pd.DataFrame({"a": [1, 2, 3]}), results).loc[2, "output"].dtype == "float32"


def test_fields_are_told_from_the_columns_that_stand_beside_them() -> None:
    results: list[Result[Any]] = [Result(index=0, output={"error": "of the field", "reasoning": "r", "output": "o"})]
    fields = (Column("error"), Column("reasoning"), Column("output"))
    for rows in (pd.DataFrame({"a": ["x"]}), pl.DataFrame({"a": ["x"]}), pa.table({"a": ["x"]})):
        table = frames.source(rows)
        assert table is not None
        made = table.joined(answer_columns.answers(results, fields, prefix="n_", parts=["reasoning"]))
        assert [str(name) for name in getattr(made, "column_names", made.columns)] == [
            "a", "n_output.error", "n_output.reasoning", "n_output", "n_error", "n_reasoning"
        ]  # fmt: skip
        assert next(iter(made["n_output.error"])) in ("of the field", pa.scalar("of the field"))


def test_integers_beyond_64_bits_are_kept() -> None:
    results = [Result(index=0, output={"n": 2**70})]
    for rows in (pl.DataFrame({"a": [1]}), pa.table({"a": [1]})):
        assert int(joined(rows, results, (Column("n", "int64"),))["n"][0]) == 2**70 or str(2**70)


def test_a_column_that_is_there_already_is_refused_and_a_prefix_helps() -> None:
    table = frames.source(pd.DataFrame({"output": ["x"]}))
    assert table is not None
    with pytest.raises(InputError, match='prefix="new_"'):
        answer_columns.check_names(table.columns, (), "")
    answer_columns.check_names(table.columns, (), "second_")
    answer_columns.check_names(table.columns, (Column("label"),), "")


def test_a_result_says_what_came_of_its_row() -> None:
    assert [repr(result) for result in RESULTS[:2]] == [
        "Result(index=0, output='yes')",
        "Result(index=1, error='timeout: too late')",
    ]
