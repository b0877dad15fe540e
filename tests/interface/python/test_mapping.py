"""Which rows a `rowmill.map` asks, what it refuses before it asks anything, and what comes back of no rows."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]  # it has no types
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pydantic
import pytest

import rowmill
from rowmill.core.config import Config
from rowmill.core.errors import DefectError
from rowmill.interface.python import answer_columns, frames, mapping
from rowmill.interface.python.answers import Report, Result, ResultList, report_of, with_report
from rowmill.interface.python.row_lines import lines
from tests.interface.python.test_calls import ended


class Label(pydantic.BaseModel):
    label: str
    n: int


RELATION: Any = duckdb.sql("SELECT 'x' || range AS text, range AS n FROM range(5)")
TABLES: dict[str, Any] = {
    "pandas": pd.DataFrame({"text": [f"x{n}" for n in range(5)], "n": range(5)}, index=[9, 8, 7, 6, 5]),
    "polars": pl.DataFrame({"text": [f"x{n}" for n in range(5)], "n": range(5)}),
    "pyarrow": pa.table({"text": [f"x{n}" for n in range(5)], "n": range(5)}),
    "duckdb": RELATION,
    "datasets": datasets.Dataset.from_dict({"text": [f"x{n}" for n in range(5)], "n": range(5)}),
}


def cells(table: Any) -> list[dict[str, Any]]:
    """Return the rows of any table."""
    found: list[dict[str, Any]]
    match table:
        case pd.DataFrame():
            found = table.to_dict("records")  # type: ignore[assignment]  # its keys are names here
        case pl.DataFrame():
            found = table.to_dicts()
        case datasets.Dataset():
            found = table.to_list()
        case pa.Table():
            found = table.to_pylist()
        case _:
            found = table.to_arrow_table().to_pylist()
    return found


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_each_kind_gives_its_rows_and_gets_its_columns(kind: str) -> None:
    table = frames.source(TABLES[kind])
    assert table is not None
    assert list(table.columns) == ["text", "n"]
    assert next(iter(lines(table.rows(["text"]), ["text"]))) == b'{"text":"x0"}\n'
    results: list[Result[Any]] = [Result(index=n, output=f"y{n}") for n in range(5)]
    made = with_report(table.joined(answer_columns.answers(results, ())), report())
    assert type(made) is type(TABLES[kind])
    assert cells(made) == [{"text": f"x{n}", "n": n, "output": f"y{n}", "error": None} for n in range(5)]
    assert report_of(made) == report()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "limit: must be a number of rows, 1 or more, not 0"),
        ({"sample": 1.5}, "sample: must be a number of rows"),
        ({"limit": True}, "limit: must be a number"),
        ({"limit": 1, "sample": 1}, "leave out one of them"),
        ({"retry_failed": True}, "retry_failed: name the run_dir"),
        ({"fresh": True}, "fresh: name the run_dir"),
        ({"fresh": True, "run_dir": "a", "retry_failed": True}, "leave out one of them"),
        ({"run_dir": 3}, "run_dir: must be a path, not 3"),
        ({"prefix": 3}, "prefix: must be a text, not 3"),
        ({"batch_size": 3}, 'it is workers={"concurrency": ...} for requests at once, rows_per_request'),
        ({"overwrite": True}, "it is fresh"),
        ({"verbose": True}, "it is progress"),
        ({"schema": 7}, "7 is no type that pydantic takes"),
        ({"schema": "nowhere:Label"}, "there is no module nowhere"),
        ({"schema": Label, "api": "embeddings"}, 'task.schema: needs task.api "chat.completions" or "responses"'),
        ({"schema": Label, "params": {"response_format": {}}}, "is made from task.schema; remove it here"),
        ({"temperature": 1}, r'it is a member of the request: params={"temperature": ...}'),
        ({"rpm": 1}, "it is requests_per_minute"),
        ({"response_model": Label}, "it is schema"),
        ({"promt": "x"}, "did you mean prompt?"),
        ({"modle": "x"}, "did you mean model?"),
        ({"zzzz": 1}, "options are api, "),
        ({"workers": 4}, 'workers: must be a dict, as workers={"count": ...}, not 4'),
        ({"cache": "disk"}, "cache: must be a dict, as cache={\"use\": ...}, not 'disk'"),
        ({"prices": [1]}, 'prices: must be a dict, as prices={"gpt-x": ...}'),
        ({"provider": {"name": "a"}}, "provider: must be a list of dicts"),
        ({"provider": 7}, "provider: must be a list of dicts"),
        ({"provider": ["a"]}, "provider: must be a list of dicts"),
        ({"include": ["price"]}, "include: 'price': must be a list of any of reasoning, .*usage, cost"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(options: dict[str, Any], said: str) -> None:
    def rows() -> Iterator[str]:
        raise AssertionError("looked at")
        yield

    with pytest.raises(rowmill.ConfigError) as error:
        rowmill.map(rows(), **{"model": "m", **options})
    assert all(part in str(error.value) for part in said.split(".*"))
    assert "\n" not in str(error.value)


def test_what_is_wrong_is_told_in_the_words_of_the_call(tmp_path: Path) -> None:
    """And not by the files and keys that are made of it."""
    with pytest.raises(rowmill.InputError, match=r"^rowmill\.map: no column 'txt', .*did you mean 'text'"):
        rowmill.map(["x"], prompt="{txt}", model="m", base_url="http://127.0.0.1:1/v1")
    with pytest.raises(rowmill.InputError, match="no such file; pass the path of the file"):
        rowmill.map(tmp_path / "rows.csv", model="m", base_url="http://127.0.0.1:1/v1")
    with pytest.raises(rowmill.RunDirectoryError, match=r"could be retried: start it without retry_failed$"):
        rowmill.map(["x"], run_dir=tmp_path / "none", retry_failed=True, model="m", base_url="http://127.0.0.1:1/v1")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_answers_that_nobody_was_given_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Whatever comes between the end of the run and its result."""

    def broken_off(*_: object, **__: object) -> Any:
        raise error

    def ask(config: Config, *_: object) -> Report:
        Path(config.output.path).write_text('{"index":0,"output":"yes"}\n')
        return report()

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(mapping, "_ask", ask)
    assert [each.output for each in rowmill.map(["x"], model="m")] == ["yes"]
    assert list(tmp_path.iterdir()) == [], "what was given back is not kept"
    monkeypatch.setattr(answer_columns, "answers", broken_off)
    monkeypatch.setattr(answer_columns, "check_names", lambda *_: None)
    with pytest.raises(error) as raised:
        rowmill.map(pd.DataFrame({"text": ["x"]}), model="m")
    (kept,) = tmp_path.iterdir()
    assert raised.value.__notes__ == [
        f"rowmill.map: all rows are done and kept; the same call with run_dir={str(kept)!r} has them"
    ]


@pytest.mark.parametrize("asked", [False, True])
def test_answers_are_kept_where_a_defect_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    def broken(config: Config, *_: object, **__: object) -> Any:
        (config.run_dir / "checkpoints").mkdir(parents=True)
        if asked:
            (config.run_dir / "checkpoints" / "000000.checkpoint").write_bytes(b"paid for")
        raise DefectError("a defect of Rowmill: KeyError: 'a'")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(mapping, "run_config", broken)
    with pytest.raises(DefectError) as raised:
        rowmill.map(["x"], model="m")
    kept = [
        f"rowmill.map: what is done is kept; the same call with run_dir={str(each)!r} goes on from there"
        for each in tmp_path.iterdir()
    ]
    assert getattr(raised.value, "__notes__", []) == kept
    assert len(kept) == asked


def test_a_columns_name_that_a_model_has_too_is_refused() -> None:
    with pytest.raises(rowmill.InputError, match="a column 'label' already"):
        rowmill.map(pd.DataFrame({"label": ["x"]}), schema=Label, model="m", prompt="{label}")
    with pytest.raises(rowmill.InputError, match="DatasetDict has several Datasets: pass one, as dataset"):
        rowmill.map(datasets.DatasetDict({"train": TABLES["datasets"]}), model="m")


def test_the_name_of_a_file_is_told_to_be_a_path(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\na\n")
    with pytest.raises(rowmill.InputError, match=r"pass pathlib\.Path\("):
        rowmill.map(str(tmp_path / "rows.csv"), model="m")


@pytest.mark.parametrize("kind", TABLES)
def test_of_no_rows_no_rows_come_back(kind: str) -> None:
    table = frames.source(TABLES[kind])
    assert table is not None
    none = table.chosen([])
    empty = {
        "pandas": TABLES["pandas"].iloc[:0], "polars": TABLES["polars"].head(0), "pyarrow": TABLES["pyarrow"][:0],
        "duckdb": RELATION.filter("n > 9"), "datasets": TABLES["datasets"].select([]),
    }[kind]  # fmt: skip
    assert len(none) == 0
    made = rowmill.map(empty, schema=Label, prefix="new_", model="m")
    assert type(made) is type(TABLES[kind])
    assert cells(made) == []
    names = made.column_names if kind in {"pyarrow", "datasets"} else list(made.columns)
    assert names == ["text", "n", "new_label", "new_n", "new_error"]


def test_of_an_empty_iterable_an_empty_list_comes_back() -> None:
    made = rowmill.map(iter(()), schema=Label, model="m")
    assert (made, made.report, made.outputs, made.failed) == ([], None, [], [])
    assert asyncio.run(_none()) == []


async def _none() -> ResultList[Label]:
    return await rowmill.amap([], schema=Label, model="m")


@pytest.mark.parametrize("error", [KeyError("a"), StopIteration(), KeyboardInterrupt()], ids=repr)
def test_what_a_generator_raises_is_raised_and_nothing_is_left(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def rows() -> Iterator[str]:
        yield "a"
        raise error

    with pytest.raises((type(error), RuntimeError)):  # Python makes the one of StopIteration
        rowmill.map(rows(), model="m")
    assert not list(tmp_path.iterdir())


def report() -> Report:
    return Report.of(ended(0, finished=True)[0])


def test_a_report_is_with_every_kind_of_result() -> None:
    assert report_of(ResultList([], report())) == report()
    assert report_of(ResultList()) is None
    frame = with_report(pd.DataFrame({"a": [1]}), report())
    assert frame.attrs["rowmill"]["totals"]["rows"] == 3
    assert report_of(frame.head()) == report(), "pandas takes it along"
    assert report_of(with_report(pl.DataFrame({"a": [1]}), None)) is None
    others: list[Any] = [pd.DataFrame(), pl.DataFrame(), pa.table({}), [], None]
    for other in others:
        with pytest.raises(rowmill.InputError, match="has no report"):
            report_of(other)


def test_a_frame_with_a_report_can_be_written_to_a_file(tmp_path: Path) -> None:
    with_report(pd.DataFrame({"a": [1]}), report()).to_parquet(tmp_path / "a.parquet")
    assert report_of(pd.read_parquet(tmp_path / "a.parquet")) == report()
