"""A `ray.data.Dataset` as rows: its blocks stay in the cluster, and pass through this process one at a time.

No library is imported for it: whoever hands in a Dataset has imported Ray.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from rowmill.interface.python.answer_columns import AnswerColumn, texts
from rowmill.interface.python.answers import Result
from rowmill.interface.python.arrow_rows import arrow_column, arrow_rows, names_of

_AS_TEXT = {"json", "datetime", "decimal"}  # types that values make, other ones in every block


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
        answers: list[tuple[Any, list[_Held]]] = []
        for rows in self._rows:
            table, held = _of_block(columns(list(islice(results, rows))))
            answers.append((self._ray.put(table), held))
        common = [_common(held) for held in zip(*(held for _, held in answers), strict=True)]
        blocks = []
        for block, (made, held) in zip(self._blocks, answers, strict=True):
            unlike = [place for place, each in enumerate(held) if not each.fits(common[place])]
            beside = self._ray.put(_made_alike(self._ray.get(made), held, common, unlike)) if unlike else made
            blocks.append(join.remote(block, beside))
        return sys.modules["ray.data"].from_arrow_refs(blocks)


class _Held(NamedTuple):
    """What a column of answers holds in one block, and which type it has there."""

    kind: str | None  # of an `AnswerColumn`; None where all is null
    type: Any  # of Arrow

    def fits(self, common: "_Held") -> bool:
        """Whether such a column may stand as it is among others."""
        return self.type == common.type and self.kind in {None, common.kind}


def _of_block(answers: Sequence[AnswerColumn]) -> tuple[Any, list[_Held]]:
    """Return the answers of a block as a Table, and what each of its columns holds."""
    pyarrow: Any = sys.modules["pyarrow"]
    arrays, held = [], []
    for answer in answers:
        if answer.type in _AS_TEXT:
            array = pyarrow.array(texts(answer.values), pyarrow.string())
        else:
            array = arrow_column(answer)
        is_json = answer.type != "string" and array.type == pyarrow.string()
        arrays.append(array)
        held.append(_Held(None if array.null_count == len(array) else "json" if is_json else answer.type, array.type))
    return pyarrow.Table.from_arrays(arrays, [answer.name for answer in answers]), held


def _common(held: Sequence[_Held]) -> _Held:
    """Return what a column is in all blocks: a Dataset has one type for it."""
    there = {each.kind: each for each in held if each.kind is not None}
    if len(there) > 1:
        return _Held("json", sys.modules["pyarrow"].string())
    return next(iter(there.values()), held[0])


def _made_alike(table: Any, held: Sequence[_Held], common: Sequence[_Held], places: Sequence[int]) -> Any:
    """Return the Table with the columns at these places as the other blocks have them: null, or JSON text."""
    pyarrow: Any = sys.modules["pyarrow"]
    for place in places:
        if held[place].kind is None:
            array = pyarrow.nulls(table.num_rows, common[place].type)
        else:
            array = pyarrow.array(texts(table.column(place).to_pylist()), common[place].type)
        table = table.set_column(place, table.column_names[place], array)
    return table


def _joined(table: Any, answers: Any) -> Any:
    """Put the columns of one Table beside those of another. Runs in the cluster."""
    for name, column in zip(answers.column_names, answers.columns, strict=True):
        table = table.append_column(name, column)
    return table


_joined.__module__ = "__main__"  # sent by value: a node needs no package for it
