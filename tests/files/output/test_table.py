"""Any line becomes the same values in CSV and in Parquet, under names that all differ."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from rowmill.core.config.sections import OutputConfig
from rowmill.core.errors import InputError
from rowmill.core.rows import Column, Layout
from rowmill.core.wire import Answer, Failure, FaultClass
from rowmill.files.output import open_codec
from rowmill.files.output.table import ResultTable
from rowmill.store.output_lines import failure_line, result_line

Joined = Callable[..., bytes]
Made = Callable[..., bytes]

FAULT = FaultClass("timeout", retryable=True, scope="row", spends_attempt=True, lowers_concurrency=True, unhealthy=True)
KEPT = Layout(
    input_columns=(
        Column("text"), Column("n", "int64"), Column("x", "double"), Column("yes", "bool"), Column("any", "json"),
    ),
    fields=(Column("label"), Column("score", "int64"), Column("more", "json")),
)  # fmt: skip

TEXT = st.text(st.characters(codec=None) | st.sampled_from('",\n\r\\\0\ufeff\ud83d\ude00é'), max_size=8)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2), max_leaves=4
)
INT64 = st.none() | st.integers(-(2**63), 2**63 - 1)
REPLY = JSON | st.fixed_dictionaries({}, optional={"label": TEXT, "score": INT64, "more": JSON})
ROWS = st.fixed_dictionaries(
    {
        "id": SCALAR,
        "output": REPLY,
        "reason": SCALAR,
        "usage": JSON | st.fixed_dictionaries({"input_tokens": JSON, "completion_tokens": INT64, "x": JSON}),
        "failed": st.booleans(),
        "input": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "text": TEXT | JSON,
                "n": INT64,
                "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
                "yes": st.none() | st.booleans(),
                "any": JSON,
            },
        ),
        "ascii": st.booleans(),
    }
)


def dumped(value: Any, *, ascii_only: bool) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def message_of(row: dict[str, Any]) -> str:
    return "failed" + (row["id"] if isinstance(row["id"], str) else "")


def line_of(index: int, row: dict[str, Any]) -> bytes:
    parts = {name: dumped(row[name], ascii_only=row["ascii"]) for name in ("id", "output", "reason", "usage", "input")}
    include = b',"input":' + parts["input"]
    if row["failed"]:
        return failure_line(index, parts["id"], Failure(fault=FAULT, message=message_of(row), status=500), include)
    answer = Answer(parts["output"], parts["reason"], b'"m"', parts["usage"], 0, 0)
    return result_line(index, parts["id"], answer, include)


def clean(value: Any) -> Any:
    """Give a JSON value as UTF-8 can hold it: with the escape where half a surrogate pair stood."""
    if isinstance(value, str):
        paired: str = json.loads(json.dumps(value))
        return paired.encode(errors="backslashreplace").decode()
    if isinstance(value, list):
        return [clean(each) for each in value]
    if isinstance(value, dict):
        return {clean(name): clean(each) for name, each in value.items()}
    return value


def assert_text(cell: str | None, value: Any) -> None:
    """Hold that the cell of a column of strings has the value."""
    if value is None or isinstance(value, str):
        assert cell == clean(value)
    else:
        assert cell is not None
        assert json.loads(cell) == clean(value)


def assert_json(cell: str | None, value: Any) -> None:
    assert (None if cell is None else json.loads(cell)) == clean(value)


def count(value: Any) -> int | None:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    return int(value) if whole and -(2**63) <= value < 2**63 else None


def assert_row(
    cells: dict[str, Any],
    index: int,
    row: dict[str, Any],
    assert_any: Callable[[Any, Any], None],
    seen: Callable[[Any], Any],
) -> None:
    """Hold that the cells are the row's; `seen` says what the format makes of a value."""
    failed = row["failed"]
    output = None if failed else row["output"]
    usage = row["usage"] if isinstance(row["usage"], dict) and not failed else {}
    kept = row["input"] or {}
    members = output if isinstance(output, dict) else {}
    assert cells["index"] == index
    assert_text(cells["id"], seen(row["id"]))
    assert_text(cells["output"], seen(output))
    assert cells["error"] == ("timeout" if failed else None)
    assert cells["error_status"] == (500 if failed else None)
    assert_text(cells["error_message"], message_of(row) if failed else None)
    assert_text(cells["finish_reason"], None if failed else seen(row["reason"]))
    assert cells["prompt_tokens"] == count(usage.get("input_tokens"))
    assert cells["completion_tokens"] == count(usage.get("completion_tokens"))
    assert_text(cells["text"], seen(kept.get("text")))
    for name in ("n", "x", "yes"):
        assert cells[name] == kept.get(name)
    assert_any(cells["any"], seen(kept.get("any")))
    assert_text(cells["label"], seen(members.get("label")))
    assert_any(cells["more"], seen(members.get("more")))


@settings(max_examples=60, deadline=None)  # the first example imports pyarrow
@given(rows=st.lists(ROWS, min_size=1, max_size=5), cut=st.integers(0, 5))
def test_parquet_gives_back_what_any_lines_held(joined: Joined, rows: list[dict[str, Any]], cut: int) -> None:
    lines = [line_of(index, row) for index, row in enumerate(rows)]
    codec = open_codec(OutputConfig(path="o.parquet", include=["input"]), KEPT)
    table = parquet.read_table(pa.BufferReader(joined(codec, [lines[:cut], lines[cut:]])))
    for index, (cells, row) in enumerate(zip(table.to_pylist(), rows, strict=True)):
        assert_row(cells, index, row, assert_json, lambda value: value)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=5), cut=st.integers(0, 5))
def test_csv_gives_back_what_any_lines_held(joined: Joined, rows: list[dict[str, Any]], cut: int) -> None:
    lines = [line_of(index, row) for index, row in enumerate(rows)]
    config = OutputConfig(path="o.csv", include=["input"])
    text = joined(open_codec(config, KEPT), [lines[:cut], lines[cut:]]).decode()
    types = {column.name: column.type for column in ResultTable(config, KEPT, typed=False).columns}
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    for index, (record, row) in enumerate(zip(read, rows, strict=True)):
        cells = {name: from_csv(field, types[name]) for name, field in record.items()}
        assert_row(cells, index, row, assert_text, lambda value: None if value == "" else value)


def from_csv(field: str, kind: str) -> Any:
    if not field:
        return None  # CSV has no null
    return field if kind in {"string", "json"} else json.loads(field)


def columns_of(layout: Layout, *include: str) -> list[str]:
    config = OutputConfig(path="o.csv", include=list(include))  # type: ignore[arg-type]  # as a configuration has them
    return [column.name for column in ResultTable(config, layout, typed=True).columns]


FIXED = [
    "index", "id", "output", "error", "error_code", "error_status", "error_message", "finish_reason", "model",
    "prompt_tokens", "completion_tokens",
]  # fmt: skip


def test_kept_columns_stand_first_and_members_of_the_reply_last() -> None:
    layout = Layout(input_columns=(Column("b"), Column("a")), fields=(Column("z"), Column("y")))
    meta = ["provider", "attempts", "requests", "ms"]
    assert columns_of(layout, "input", "meta") == ["b", "a", *FIXED, *meta, "z", "y"]
    assert columns_of(layout, "input") == ["b", "a", *FIXED, "z", "y"]
    assert columns_of(layout) == [*FIXED, "z", "y"]


def test_no_two_columns_have_one_name() -> None:
    layout = Layout(
        input_columns=(Column("id"), Column("input.id"), Column("provider"), Column("label")),
        fields=(Column("output"), Column("label"), Column("input.id"), Column("provider")),
    )
    assert columns_of(layout, "input") == [
        "input.id", "input.input.id", "provider", "label", *FIXED,
        "output.output", "output.label", "output.input.id", "output.provider",
    ]  # fmt: skip
    assert columns_of(layout, "input", "meta")[2] == "input.provider"


@pytest.mark.parametrize("path", ["o.csv", "o.parquet"])
def test_columns_whose_names_json_escapes_are_found(path: str, joined: Joined, result: Made, tmp_path: object) -> None:
    layout = Layout(input_columns=(Column('q"uote'), Column("back\\slash\n"), Column("caf\u00e9"), Column("id")))
    include = b',"input":' + json.dumps({column.name: f"<{column.name}>" for column in layout.input_columns}).encode()
    data = joined(
        open_codec(OutputConfig(path=path, include=["input"]), layout), [[result(0, b'"x"', include=include)]]
    )
    (row,) = (
        parquet.read_table(pa.BufferReader(data)).to_pylist()
        if path == "o.parquet"
        else csv.DictReader(io.StringIO(data.decode(), newline=""))
    )
    for name in ('q"uote', "back\\slash\n", "caf\u00e9"):
        assert row[name] == f"<{name}>"
    assert (row["input.id"], row["id"] or None) == ("<id>", None)


def values(layout: Layout, lines: list[bytes], *, typed: bool = True) -> list[dict[str, Any]]:
    table = ResultTable(OutputConfig(path="", include=["input", "meta"]), layout, typed=typed)
    rows = []
    for _, columns in table.batches(iter(lines)):
        rows += [
            dict(zip((column.name for column in table.columns), row, strict=True)) for row in zip(*columns, strict=True)
        ]
    return rows


def test_a_reply_that_is_the_text_of_an_object_has_members_too(result: Made) -> None:
    layout = Layout(fields=(Column("label"), Column("score", "double")))
    (row,) = values(layout, [result(0, json.dumps('{"label": "a", "score": 1}').encode())])
    assert (row["output"], row["label"], row["score"]) == ('{"label": "a", "score": 1}', "a", 1.0)


def test_a_member_of_another_type_is_null_where_there_are_types_and_text_where_there_are_none(result: Made) -> None:
    layout = Layout(fields=(Column("n", "int64"), Column("x", "double"), Column("yes", "bool"), Column("label")))
    reply = b'{"n":18446744073709551616,"x":"high","yes":1,"label":[1, 2]}'
    (row,) = values(layout, [result(0, reply)])
    assert [row[name] for name in ("n", "x", "yes", "label")] == [None, None, None, "[1, 2]"]
    assert row["output"] == reply.decode()
    (row,) = values(layout, [result(0, reply)], typed=False)
    assert [row[name] for name in ("n", "x", "yes", "label")] == ["18446744073709551616", "high", "1", "[1, 2]"]


def test_whole_numbers_are_integers_however_they_are_written(result: Made) -> None:
    layout = Layout(fields=(Column("n", "int64"),))
    rows = values(layout, [result(0, b'{"n":%b}' % number) for number in (b"1.0", b"1e3", b"-0", b"2.5")])
    assert [row["n"] for row in rows] == [1, 1000, 0, None]


def test_an_input_value_of_another_type_is_refused_with_what_to_do(result: Made) -> None:
    layout = Layout(input_columns=(Column("n", "int64"),))
    line = result(7, b'"x"', row_id=b'"index\\":"', include=b',"input":{"n":"seven"}')
    with pytest.raises(
        InputError, match=r"row 7: the input's column 'n' holds 'seven', which is no int64\. Set output"
    ):
        values(layout, [line])
    assert values(layout, [line], typed=False)[0]["n"] == "seven"


def test_meta_is_in_columns(result: Made) -> None:
    meta = b',"meta":{"provider":"p","attempts":2,"requests":3,"ms":40}'
    (row,) = values(Layout(), [result(0, b'"x"', include=meta)])
    assert [row[name] for name in ("provider", "attempts", "requests", "ms")] == ["p", 2, 3, 40]


def test_tokens_go_by_the_names_of_either_api(result: Made) -> None:
    line = result(0, b'"x"').replace(b"prompt_tokens", b"input_tokens").replace(b"completion_tokens", b"output_tokens")
    (row,) = values(Layout(), [line])
    assert (row["prompt_tokens"], row["completion_tokens"]) == (3, 4)


def test_values_come_some_rows_at_a_time(result: Made) -> None:
    table = ResultTable(OutputConfig(path=""), Layout(), typed=True)
    lines = [result(index, b'"%b"' % (b"x" * 1000)) for index in range(2000)]
    sizes = [size for size, _ in table.batches(iter(lines))]
    assert max(sizes) < 300_000
    assert sum(sizes) == sum(map(len, lines))
