"""Tables of Arrow as rows, and answers as columns of Arrow: what pyarrow holds, and what comes by way of it.

No library is imported for it: whoever hands in a Table has imported pyarrow.
"""

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC
from typing import Any

from rowmill.core.errors import InputError
from rowmill.interface.python.answer_columns import AnswerColumn, texts
from rowmill.interface.python.row_lines import TEXT, NoValue, of_interest

BLOCK = 8192  # rows of a table turned into objects at a time: a table of millions is not doubled in memory


class ArrowRows:
    """A Table of pyarrow, or what makes one."""

    def __init__(self, rows: Any) -> None:
        pyarrow: Any = sys.modules["pyarrow"]
        if isinstance(rows, pyarrow.RecordBatch):
            rows = pyarrow.Table.from_batches([rows])
        elif not isinstance(rows, pyarrow.Table):
            rows = pyarrow.table({TEXT: rows})
        self._table = rows
        self.columns: Sequence[str] = names_of(rows.column_names)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def chosen(self, places: Sequence[int]) -> "ArrowRows":
        """Return what has these rows alone."""
        return ArrowRows(self._table.take(sys.modules["pyarrow"].array(places, "int64")))

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, Any]]:
        """Go through the rows."""
        yield from arrow_rows(self._table, self.columns, wanted)

    def joined(self, answers: Sequence[AnswerColumn]) -> Any:
        """Return a Table with the columns added."""
        table = self._table
        for answer in answers:
            table = table.append_column(answer.name, arrow_column(answer))
        return table


def arrow_column(answer: AnswerColumn) -> Any:
    """Return the values as an Array; as JSON text where they are not alike, or not what the column's type holds."""
    pyarrow: Any = sys.modules["pyarrow"]
    types = {
        "int64": pyarrow.int64(), "double": pyarrow.float64(), "bool": pyarrow.bool_(), "string": pyarrow.string(),
        "vector": pyarrow.list_(pyarrow.float32()), "date": pyarrow.date32(), "time": pyarrow.time64("us"),
        "datetime": pyarrow.timestamp("us"), "duration": pyarrow.duration("us"),
    }  # fmt: skip
    zoned, aware = of_one_zone(answer.type, answer.values)
    try:
        return pyarrow.array(zoned, pyarrow.timestamp("us", "UTC") if aware else types.get(answer.type))
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        return pyarrow.array(texts(answer.values), pyarrow.string())


def arrow_rows(table: Any, columns: Sequence[str], wanted: Collection[str] | None) -> Iterator[dict[str, Any]]:
    """Go through the rows of a Table with these columns; see `frames.Rows`."""
    chosen = of_interest(columns, wanted)
    for batch in table.to_batches(max_chunksize=BLOCK):
        nothing = [None] * batch.num_rows
        cells = [
            values_of(column) if name in chosen else nothing
            for name, column in zip(columns, batch.columns, strict=True)
        ]
        for values in zip(*cells, strict=True) if cells else [()] * batch.num_rows:
            yield dict(zip(columns, values, strict=True))


def values_of(column: Any) -> list[Any]:
    """Return the values of an Array; what is none stands as `NoValue`."""
    from rowmill.core import arrow_values  # it imports pyarrow, as whoever hands in a table has done

    try:
        return arrow_values.values(column)
    except (ValueError, KeyError, OverflowError, ArithmeticError) as error:
        if len(column) == 1:
            return [NoValue(" ".join(str(error).split()))]
    return [value for place in range(len(column)) for value in values_of(column.slice(place, 1))]


def names_of(columns: Iterable[Any]) -> list[str]:
    """Return the names of a table's columns. Raises `InputError` where two have one."""
    names = [str(name) for name in columns]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"rowmill.map: two columns are named {twice!r}; rename one")
    return names


def of_one_zone(kind: str, values: list[Any]) -> tuple[list[Any], bool]:
    """Return times as of UTC where each says of which zone it is, and whether it does. A column has one zone."""
    there = [value for value in values if value is not None]
    if kind != "datetime" or not there or any(getattr(value, "tzinfo", None) is None for value in there):
        return values, False
    return [None if value is None else value.astimezone(UTC) for value in values], True
