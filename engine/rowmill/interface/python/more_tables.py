"""Tables that come by way of Arrow: relations of DuckDB, readers of record batches, Datasets of Hugging Face.

As with the others no library is imported that the program has not imported already.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rowmill.core import extras
from rowmill.core.errors import InputError
from rowmill.interface.python.answer_columns import AnswerColumn
from rowmill.interface.python.arrow_rows import BLOCK, ArrowRows, arrow_rows

if TYPE_CHECKING:
    from rowmill.interface.python.frames import Source


def source(rows: Any, library: str, kind: str) -> "Source | None":
    """Return what reads such a table; None where it is none. Raises `InputError` for what has to be made one first."""
    if library == "pyarrow" and kind == "RecordBatchReader":
        return ArrowRows(rows.read_all())
    if library in {"duckdb", "_duckdb"} and kind == "DuckDBPyRelation":
        return _DuckDB(rows)
    if library == "datasets" and kind == "Dataset":
        return _HuggingFace(rows)
    if library == "datasets" and kind in {"DatasetDict", "IterableDatasetDict"}:
        raise InputError(
            f"rowmill.map: a {kind} has several Datasets: pass one, as dataset[{next(iter(rows), 'train')!r}]"
        )
    return None


class _DuckDB:
    """A relation; the answers come back as one of the same connection."""

    def __init__(self, rows: Any, table: Any = None) -> None:
        extras.need("pyarrow", "rowmill.map: relations of DuckDB")
        self._relation = rows
        self._rows = ArrowRows(rows.to_arrow_table()) if table is None else table
        self.columns: Sequence[str] = self._rows.columns

    def __len__(self) -> int:
        return len(self._rows)

    def chosen(self, places: Sequence[int]) -> "_DuckDB":
        """Return what has these rows alone."""
        return _DuckDB(self._relation, self._rows.chosen(places))

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, Any]]:
        """Go through the rows."""
        return self._rows.rows(wanted)

    def joined(self, answers: Sequence[AnswerColumn]) -> Any:
        """Return a relation with the columns added."""
        rowmill_answers = self._rows.joined(answers)
        assert rowmill_answers is not None
        # DuckDB finds the table by the name of the variable, and keeps it as long as the relation lives.
        return self._relation.query("rowmill_rows", "SELECT * FROM rowmill_answers")


class _HuggingFace:
    """A Dataset. Its rows stay on the disk where they are, and pass through this process some at a time."""

    def __init__(self, rows: Any) -> None:
        self._dataset = rows
        self.columns: Sequence[str] = rows.column_names

    def __len__(self) -> int:
        return len(self._dataset)

    def chosen(self, places: Sequence[int]) -> "_HuggingFace":
        """Return what has these rows alone."""
        return _HuggingFace(self._dataset.select(list(places)))

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, Any]]:
        """Go through the rows."""
        plain = self._dataset.with_format("arrow")
        for start in range(0, len(self._dataset), BLOCK):
            yield from arrow_rows(plain[start : start + BLOCK], self.columns, wanted)

    def joined(self, answers: Sequence[AnswerColumn]) -> Any:
        """Return a Dataset with the columns added."""
        pyarrow: Any = sys.modules["pyarrow"]
        if not len(self):  # its library leaves out what is empty
            return sys.modules["datasets"].Dataset(ArrowRows(self._dataset.with_format("arrow")[:]).joined(answers))
        # With a column of places, for a table without any has no rows.
        places = pyarrow.table({"": pyarrow.array(range(len(self)), "int64")})
        added = ArrowRows(places).joined(answers).drop_columns([""])
        made = sys.modules["datasets"].Dataset(added)
        return sys.modules["datasets"].concatenate_datasets([self._dataset, made], axis=1)
