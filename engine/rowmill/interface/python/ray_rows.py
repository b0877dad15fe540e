"""A `ray.data.Dataset` as rows: its blocks stay in the cluster, and pass through this process one at a time.

No library is imported for it: whoever hands in a Dataset has imported Ray.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any

from rowmill.interface.python.answer_columns import AnswerColumn, texts
from rowmill.interface.python.answers import Result
from rowmill.interface.python.arrow_rows import arrow_rows, names_of


def is_dataset(rows: Any) -> bool:
    """Tell whether these are rows of Ray Data."""
    kind = type(rows)
    return kind.__module__.startswith("ray.data") and kind.__name__ in {"Dataset", "MaterializedDataset"}


class RayRows:
    """The rows of a Dataset, in the order of its blocks."""

    def __init__(self, dataset: Any) -> None:
        """Have the Dataset made: its blocks are in the cluster's memory then, or where that spills to."""
        self._ray: Any = sys.modules["ray"]
        self._blocks: list[Any] = dataset.materialize().to_arrow_refs()
        self._rows: list[int] = []  # of each block
        schema = dataset.schema()
        self.columns: Sequence[str] = [] if schema is None else names_of(schema.names)

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, Any]]:
        """Go through the rows. wanted: the columns whose values are looked at; None: all. Others are null."""
        self._rows.clear()
        for block in self._blocks:
            table = self._ray.get(block)
            self._rows.append(table.num_rows)
            yield from arrow_rows(table, self.columns, wanted)

    def with_answers(
        self, results: Iterator[Result[Any]], columns: Callable[[Sequence[Result[Any]]], Sequence[AnswerColumn]]
    ) -> Any:
        """Return a Dataset with the answers beside the rows. They are joined in the cluster, block by block."""
        join = self._ray.remote(num_cpus=1)(_joined)
        blocks = []
        for block, rows in zip(self._blocks, self._rows, strict=True):
            answers = [_plain(each) for each in columns(list(islice(results, rows)))]
            blocks.append(join.remote(block, answers))
        return sys.modules["ray.data"].from_arrow_refs(blocks)


def _plain(answer: AnswerColumn) -> tuple[str, str, list[Any]]:
    """Return a column as a node without this package can take it. Values that are not alike are JSON text."""
    if answer.type == "vector":
        return answer.name, "vector", [None if value is None else value.tolist() for value in answer.values]
    if answer.type in {"json", "datetime", "decimal"}:  # blocks have one type, and each knows only its own values
        return answer.name, "string", texts(answer.values)
    return answer.name, answer.type, answer.values


def _joined(table: Any, answers: list[tuple[str, str, list[Any]]]) -> Any:
    """Put columns beside those of a block. Runs in the cluster."""
    import pyarrow as pa  # type: ignore[import-untyped]

    types = {
        "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_(), "vector": pa.list_(pa.float32()),
        "date": pa.date32(), "time": pa.time64("us"), "duration": pa.duration("us"),
    }  # fmt: skip
    for name, kind, values in answers:
        table = table.append_column(name, pa.array(values, types.get(kind, pa.string())))
    return table


_joined.__module__ = "__main__"  # sent by value: a node needs no package for it
