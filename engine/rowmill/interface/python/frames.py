"""Tables as Python has them -> rows, and answers back beside them: DataFrames, Series, Tables.

No library is imported for it: whoever hands in a DataFrame has imported its library.
"""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from rowmill.core import extras
from rowmill.core.errors import InputError
from rowmill.interface.python import more_tables
from rowmill.interface.python.answer_columns import AnswerColumn, texts
from rowmill.interface.python.arrow_rows import BLOCK, ArrowRows, names_of, of_one_zone, values_of
from rowmill.interface.python.row_lines import TEXT, of_interest

_DOUBLE = 8  # bytes
_INEXACT = ("Float32", "Float16", "'ns'", "Time")  # in the names of polars' types
_ARROW = {"Table", "RecordBatch", "Array", "ChunkedArray", "StringArray", "LargeStringArray", "StringViewArray"}
_TABLES = {
    (library, kind) for library in ("pandas", "polars") for kind in ("DataFrame", "Series", "LazyFrame")
} | {("pyarrow", "RecordBatchReader"), ("datasets", "Dataset")}  # fmt: skip
_TO_KNOWN = ("to_pandas", "toPandas", "compute", "df")  # how other libraries make a DataFrame of pandas


class Rows(Protocol):
    """Rows with columns, of whatever library."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of its columns."""

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, Any]]:
        """Go through the rows. wanted: the columns whose values are looked at; None: all. Others are null."""


class Source(Rows, Protocol):
    """A table of rows that is in this process."""

    def chosen(self, places: Sequence[int]) -> "Source":
        """Return what has these rows alone."""

    def __len__(self) -> int:
        """Return how many rows there are."""

    def joined(self, answers: Sequence[AnswerColumn]) -> Any:
        """Return a table of the same kind with the columns added."""


def source(rows: Any) -> Source | None:
    """Return what reads a table and gives it back; None for anything else, which is read row by row.

    Raises `InputError` for what is neither.
    """
    library, kind = _kind(type(rows))
    if library == "pandas" and kind in ("DataFrame", "Series"):
        return _Pandas(rows)
    if library == "polars" and kind in ("DataFrame", "Series"):
        return _Polars(rows)
    if library == "polars" and kind == "LazyFrame":
        raise InputError("rowmill.map: a LazyFrame has no rows yet: pass frame.collect()")
    if library == "pyarrow" and kind in _ARROW:
        return ArrowRows(rows)
    if (other := more_tables.source(rows, library, kind)) is not None:
        return other
    kind = type(rows).__name__
    if not isinstance(rows, Mapping) and hasattr(rows, "columns") and hasattr(rows, "dtypes"):
        # Gone through, it gives the names of its columns: every one of them would be asked about.
        hint = next((each for each in _TO_KNOWN if hasattr(rows, each)), "to_pandas")
        raise InputError(f"rowmill.map: a {kind} of {type(rows).__module__.partition('.')[0]}: pass rows.{hint}()")
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        hint = "; one row is a list too: [row]" if isinstance(rows, str | Mapping) else ""
        raise InputError(f"rowmill.map: rows must be a table or an iterable of rows, not one {kind}{hint}")
    return None


def _kind(kind: type) -> tuple[str, str]:
    """Return the library and the name of what a type is: of a class that is derived from a table those of the table."""
    for each in kind.__mro__:
        library = each.__module__.partition(".")[0]
        if (library, each.__name__) in _TABLES or (library == "pyarrow" and each.__name__ in _ARROW):
            return library, each.__name__
    return kind.__module__.partition(".")[0], kind.__name__


class _Pandas:
    def __init__(self, rows: Any) -> None:
        self._frame = rows.to_frame(TEXT) if _kind(type(rows))[1] == "Series" else rows
        self.columns: Sequence[str] = names_of(self._frame.columns)

    def __len__(self) -> int:
        return len(self._frame)

    def chosen(self, places: Sequence[int]) -> "_Pandas":
        """Return what has these rows alone."""
        return _Pandas(self._frame.iloc[list(places)])

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, Any]]:
        """Go through the rows."""
        chosen = of_interest(self.columns, wanted)
        for start in range(0, len(self._frame), BLOCK):
            block = self._frame.iloc[start : start + BLOCK]
            nothing = [None] * len(block)
            cells = [
                _cells(block.iloc[:, place]) if name in chosen else nothing for place, name in enumerate(self.columns)
            ]
            for values in zip(*cells, strict=True) if cells else [()] * len(block):
                yield dict(zip(self.columns, values, strict=True))

    def joined(self, answers: Sequence[AnswerColumn]) -> Any:
        pandas: Any = sys.modules["pandas"]
        # Numbers that may be absent need a type that knows absence: floats would turn 7 into 7.0.
        types = {
            "int64": "Int64", "double": "Float64", "bool": "boolean", "date": "datetime64[s]",
            "datetime": "datetime64[us]", "duration": "timedelta64[us]",
        }  # fmt: skip
        added = {}
        for name, kind, values in answers:
            cells, aware = of_one_zone(kind, values)
            dtype = "datetime64[us, UTC]" if aware else types.get(kind, object)
            try:
                added[name] = pandas.Series(cells, index=self._frame.index, dtype=dtype)
            except (TypeError, ValueError, OverflowError):  # with and without a zone; of a serializer's own type
                added[name] = pandas.Series(values, index=self._frame.index, dtype=object)
        return self._frame.assign(**added)


class _Polars:
    def __init__(self, rows: Any) -> None:
        self._frame = rows.to_frame(TEXT) if _kind(type(rows))[1] == "Series" else rows
        self.columns: Sequence[str] = self._frame.columns

    def __len__(self) -> int:
        return len(self._frame)

    def chosen(self, places: Sequence[int]) -> "_Polars":
        """Return what has these rows alone."""
        return _Polars(self._frame[list(places)])

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, Any]]:
        """Go through the rows."""
        chosen = of_interest(self.columns, wanted)
        for start in range(0, len(self._frame), BLOCK):
            block = self._frame.slice(start, BLOCK)
            nothing = [None] * len(block)
            cells = [_of_polars(block[name]) if name in chosen else nothing for name in self.columns]
            for values in zip(*cells, strict=True) if cells else [()] * len(block):
                yield dict(zip(self.columns, values, strict=True))

    def joined(self, answers: Sequence[AnswerColumn]) -> Any:
        polars: Any = sys.modules["polars"]
        types = {
            "int64": polars.Int64, "double": polars.Float64, "bool": polars.Boolean, "string": polars.String,
            "date": polars.Date, "time": polars.Time, "duration": polars.Duration("us"),
            "datetime": polars.Datetime("us"),
        }  # fmt: skip

        def series(name: str, kind: str, values: list[Any]) -> Any:
            cells, aware = of_one_zone(kind, values)
            if kind in types:
                try:
                    return polars.Series(name, cells, dtype=polars.Datetime("us", "UTC") if aware else types[kind])
                except (TypeError, ValueError, OverflowError, polars.exceptions.PolarsError):  # as with pandas
                    return polars.Series(name, texts(values), dtype=polars.String)
            if kind == "vector":
                cells = [None if value is None else polars.Series(value) for value in values]
                return polars.Series(name, cells, dtype=polars.List(polars.Float32))
            try:
                made = polars.Series(name, values)
                if _holds(made.to_list(), values):  # it drops members that the first values do not have
                    return made
            except (TypeError, ValueError, OverflowError, polars.exceptions.PolarsError):  # values that are not alike
                pass
            return polars.Series(name, texts(values), dtype=polars.String)

        return self._frame.with_columns([series(*each) for each in answers])


def _holds(cell: Any, value: Any) -> bool:
    """Whether a cell is a value, but for null in the place of members that it does not have."""
    if isinstance(value, dict):
        return isinstance(cell, dict) and all(key in cell and _holds(cell[key], each) for key, each in value.items())
    if isinstance(value, list):
        return isinstance(cell, list) and len(cell) == len(value) and all(map(_holds, cell, value))
    return bool(cell == value)


def _cells(column: Any) -> list[Any]:
    """Return the values of a column of pandas. NaN, NaT and NA are all the absence of one; a list is none of them."""
    kind = column.dtype
    if (of_arrow := getattr(kind, "pyarrow_dtype", None)) is not None:
        pyarrow: Any = sys.modules["pyarrow"]
        chunks = pyarrow.chunked_array([pyarrow.array(column.array)], of_arrow).chunks
        return [value for chunk in chunks for value in values_of(chunk)]
    absent = column.isna()
    if getattr(kind, "kind", "") == "f" and kind.itemsize < _DOUBLE:  # the scalars of numpy know their digits
        floats = column.to_numpy(f"float{8 * kind.itemsize}", na_value=float("nan"))
        return [None if is_absent else value for value, is_absent in zip(floats, absent, strict=True)]
    found: list[Any] = column.astype(object).where(~absent, None).tolist()
    return found


def _of_polars(column: Any) -> list[Any]:
    """Return the values of a Series, by way of Arrow where Python's would have other digits."""
    if any(each in repr(column.dtype) for each in _INEXACT):
        extras.need("pyarrow", f"rowmill.map: polars' columns of {column.dtype}")
        try:
            return values_of(column.to_arrow())
        except Exception:  # noqa: BLE001, S110 - integers of 128 bits and objects are nothing that Arrow has
            pass
    found: list[Any] = column.to_list()
    return found
