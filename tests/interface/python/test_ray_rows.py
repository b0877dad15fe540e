"""Answers beside the blocks of a Dataset of Ray: each column is of one type in all of them, whatever single rows hold.

The store and the tasks of a cluster are played here, in one process; a real one is that of the end-to-end tests.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pydantic
import pytest

import rowmill
from rowmill.core.config import Config
from rowmill.interface.python import answer_columns, mapping
from rowmill.interface.python.answer_columns import AnswerColumn
from rowmill.interface.python.answers import Result
from rowmill.interface.python.ray_rows import RayRows
from tests.interface.python.test_calls import ended

Columns = Callable[[Sequence[Result[Any]]], Sequence[AnswerColumn]]


class Dataset:
    """Blocks in the order of their rows."""

    def __init__(self, blocks: list[Any]) -> None:
        self.blocks = blocks

    def materialize(self) -> "Dataset":
        return self

    def to_arrow_refs(self) -> list[Any]:
        return self.blocks

    def schema(self) -> Any:
        return SimpleNamespace(names=self.blocks[0].column_names)


Dataset.__module__ = "ray.data.dataset"


def remote(**_: Any) -> Callable[[Any], Any]:
    return lambda work: SimpleNamespace(remote=work)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Play the cluster."""
    ray = SimpleNamespace(put=lambda value: value, get=lambda value: value, remote=remote)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", SimpleNamespace(from_arrow_refs=Dataset))


@pytest.fixture
def blocks(cluster: None) -> Callable[[list[int], Sequence[Any], Columns], list[Any]]:
    """Give the blocks that come back of blocks with so many rows, for these outputs."""

    def answered(sizes: list[int], outputs: Sequence[Any], columns: Columns) -> list[Any]:
        rows = RayRows(Dataset([pa.table({"n": pa.array(range(size), "int64")}) for size in sizes]))
        assert len(list(rows.rows(None))) == len(outputs)
        results: Iterator[Result[Any]] = (Result(index=index, output=output) for index, output in enumerate(outputs))
        made: list[Any] = rows.with_answers(results, columns).blocks
        assert len({block.schema for block in made}) == 1, "a Dataset has one type for a column"
        return made

    return answered


def of_type(kind: answer_columns.ColumnType) -> Columns:
    return lambda results: [AnswerColumn("a", kind, [result.output for result in results])]


BIG = 2**70


@pytest.mark.parametrize(
    ("kind", "outputs", "type_", "held"),
    [
        ("int64", [1, 2, 3, 4, 5], pa.int64(), [1, 2, 3, 4, 5]),
        ("int64", [1, 2, 3, 4, None], pa.int64(), [1, 2, 3, 4, None]),
        # What a model's own serializer makes of a number, and integers of any length.
        ("int64", [1, None, 3, BIG, 5], pa.string(), ["1", None, "3", str(BIG), "5"]),
        ("double", [1.5, 2, BIG, 4.0, "5 USD"], pa.string(), ["1.5", "2.0", str(BIG), "4.0", '"5 USD"']),
        ("json", [1, "two", [3], {"n": 4}, None], pa.string(), ["1", '"two"', "[3]", '{"n":4}', None]),
        ("int64", [None] * 5, pa.int64(), [None] * 5),
    ],
)
def test_a_value_that_its_column_cannot_hold_costs_no_block(
    blocks: Callable[..., list[Any]], kind: answer_columns.ColumnType, outputs: list[Any], type_: Any, held: list[Any]
) -> None:
    made = pa.concat_tables(blocks([2, 0, 2, 1], outputs, of_type(kind)))
    assert made.schema.field("a").type == type_
    assert made["a"].to_pylist() == held
    assert made["n"].to_pylist() == [0, 1, 0, 1, 0]


def test_a_block_in_which_every_row_failed_has_the_type_of_the_others(blocks: Callable[..., list[Any]]) -> None:
    vector = np.asarray([0.5, 1.0], "float32")
    made = blocks([1, 2], [None, vector, None], lambda results: answer_columns.answers(results, ()))
    assert [block["output"].to_pylist() for block in made] == [[None], [[0.5, 1.0], None]]


def test_texts_among_other_values_are_json_in_every_block(blocks: Callable[..., list[Any]]) -> None:
    made = blocks([1, 2], ["two", "three", 4], lambda results: answer_columns.answers(results, ()))
    assert [block["output"].to_pylist() for block in made] == [['"two"'], ['"three"', "4"]]


class Price(pydantic.BaseModel):
    usd: int


@pytest.mark.usefixtures("cluster")
def test_what_only_the_program_refuses_is_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(config: Config, *_: object) -> rowmill.Report:
        lines = [b'{"index":0,"output":{"usd":1}}', b'{"index":1,"output":{"usd":"much"}}']
        Path(config.output.path).write_bytes(b"\n".join(lines) + b"\n")
        return rowmill.Report.of(ended(0, finished=True)[0])

    monkeypatch.setattr(mapping, "_ask", ask)
    made = rowmill.map(Dataset([pa.table({"text": ["a"]}), pa.table({"text": ["b"]})]), schema=Price, model="m")
    assert [block["usd"].to_pylist() for block in made.blocks] == [[1], [None]]
    report = rowmill.report_of(made)
    assert report is not None
    assert (report.totals.failed, report.failures) == (1, {"invalid_output": 1})
