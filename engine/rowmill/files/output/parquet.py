"""Parquet: the columns of the table with their types, in one file or in a directory of files.

An input's columns that are kept have the types that they had there, and the schema stands in the file where Parquet
itself has no word for them, as for zones and durations (see `arrow_columns`). Other column types: "string" and "json"
are strings, "int64", "double" and "bool" what they say; a vector is a list of float32, made from its bytes without a
number in between. A list and not one of a fixed length, which Parquet does not know: all sections have one schema,
however long their vectors.

A section is a whole Parquet file of its shard's rows, then a newline; joining copies row groups (see `parquet_join`).
So a shard makes at least one row group. It has up to 20,000 rows, and an input of any size makes some 200 of them, so
the groups of a large input are large, and those of a small one few.

Choices, measured on rows of 1 KB: zstd takes 0.6 us a row more than snappy and leaves 300 bytes of them against 550.
Vectors are as they are: they do not repeat themselves, and zstd of split bytes takes 6 us of 8 KB to save a seventh.
Statistics are only of numbers, by which a reader can skip a row group; of texts they would repeat whole replies.
"""

import io
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

from rowmill.core.config.sections import OutputConfig
from rowmill.core.errors import InputError
from rowmill.core.output_codec import OutputCodec
from rowmill.core.rows import Layout
from rowmill.files.output import vectors
from rowmill.files.output.arrow_columns import ArrowColumn, type_of
from rowmill.files.output.parquet_join import ParquetJoin
from rowmill.files.output.table import ResultTable

_GROUP_BYTES = 1 << 23  # of lines; also what a worker holds of a shard while it is sealed, about three times over
_UNIQUE = frozenset({"index", "id", "output", "error_message", "prompt_tokens", "completion_tokens", "ms"})
_VECTOR = "list.element"  # Parquet's name for what is in a list


class Parquet(OutputCodec):
    """Parquet files of one run."""

    def __init__(self, config: OutputConfig, layout: Layout) -> None:
        self._table = ResultTable(config, layout, typed=True)
        self._arrow: _ArrowEncoder | None = None
        # Another version may encode otherwise, and rows must not depend on when they were sealed.
        self.key = f"parquet:{self._table.digest(version('pyarrow'))}"
        self.directory_suffix = ".parquet" if config.path.endswith("/") else None

    def load(self) -> None:
        """Import pyarrow, which takes a fifth of a second."""
        self._arrow = _ArrowEncoder(self._table)

    def encode(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        """Yield a Parquet file, row group by row group."""
        if self._arrow is None:
            self.load()
        assert self._arrow is not None
        return self._arrow.encode(self._table.batches(lines))

    def join(self) -> ParquetJoin:
        """Begin a file."""
        return ParquetJoin(lambda: b"".join(self.encode(iter(()))))


class _ArrowEncoder:
    """The schema, and the values that follow it, in Arrow's terms."""

    def __init__(self, table: ResultTable) -> None:
        _import_without_pandas()
        import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
        from pyarrow import parquet

        self._pa: Any = pa
        self._writer = parquet.ParquetWriter
        kinds = {
            "string": pa.string(),
            "json": pa.string(),
            "int64": pa.int64(),
            "double": pa.float64(),
            "bool": pa.bool_(),
        }
        columns = table.columns
        self._arrow = {n: ArrowColumn(type_of(c.arrow)) for n, c in enumerate(columns) if c.arrow}
        types = [
            pa.list_(pa.float32()) if n == table.vector else type_of(c.arrow) if c.arrow else kinds[c.type]
            for n, c in enumerate(columns)
        ]
        self._schema = pa.schema([pa.field(c.name, kind) for c, kind in zip(columns, types, strict=True)])
        self._vector = table.vector
        self._numpy: Any = vectors.load() if table.vector is not None else None
        paths = [f"{c.name}.{_VECTOR}" if n == table.vector else c.name for n, c in enumerate(columns)]
        text = [
            n != table.vector and c.type in {"string", "json"} and n not in self._arrow for n, c in enumerate(columns)
        ]
        plain = [n for n in range(len(columns)) if n != table.vector and n not in self._arrow]
        self._options: dict[str, Any] = {
            "compression": {
                **dict.fromkeys(_leaves(self._schema) if self._arrow else (), "zstd"),
                **{path: "none" if n == table.vector else "zstd" for n, path in enumerate(paths)},
            },
            "use_dictionary": [path for n, path in enumerate(paths) if text[n] and path not in _UNIQUE],
            "write_statistics": [path for n, path in enumerate(paths) if not text[n] and n in plain],
            "store_schema": bool(self._arrow),  # else Parquet's own types say it all
        }

    def encode(self, batches: Iterator[tuple[int, list[list[Any]]]]) -> Iterator[bytes]:
        sink = io.BytesIO()
        with self._writer(self._pa.PythonFile(sink, mode="w"), self._schema, **self._options) as writer:
            group: list[Any] = []
            size = total = 0
            for line_bytes, values in batches:
                group.append(self._batch(values))
                size += line_bytes
                if size >= _GROUP_BYTES:
                    self._write(writer, group)
                    yield sink.getvalue()
                    sink.seek(0)
                    sink.truncate()
                    total += size
                    size = 0
            if group:
                self._write(writer, group)
        yield sink.getvalue()
        yield b"\n"
        if total + size >= _GROUP_BYTES // 4:  # of less it is not worth half a millisecond
            self._pa.default_memory_pool().release_unused()

    def _write(self, writer: Any, group: list[Any]) -> None:
        table = self._pa.Table.from_batches(group, self._schema)
        writer.write_table(table, row_group_size=table.num_rows)
        group.clear()

    def _batch(self, values: list[list[Any]]) -> Any:
        pa = self._pa
        arrays = [
            self._vectors(of_column)
            if number == self._vector
            else self._kept(number, values)
            if number in self._arrow
            else pa.array(of_column, kind)
            for number, (of_column, kind) in enumerate(zip(values, self._schema.types, strict=True))
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _kept(self, number: int, values: list[list[Any]]) -> Any:
        """Return a column of the input as it was there."""
        column, name, raws = self._arrow[number], self._schema.names[number], values[number]
        try:
            return column.array(raws)
        except ValueError as error:
            row = values[self._schema.names.index("index")][column.place_of_misfit(raws)]
            raise InputError(
                f"row {row}: the input's column {name!r} is {self._schema.types[number]}, and this is none: {error}. "
                'Set output.format = "jsonl" (or "csv") and run the same command again: no reply is asked for twice'
            ) from None

    def _vectors(self, values: list[bytes | None]) -> Any:
        """Return lists of float32 on the vectors' own bytes."""
        pa, np = self._pa, self._numpy
        data = b"".join(each for each in values if each is not None)
        ends = np.cumsum([0, *(0 if each is None else len(each) // 4 for each in values)], dtype=np.int32)
        there = np.packbits([each is not None for each in values], bitorder="little")
        floats = pa.Array.from_buffers(pa.float32(), len(data) // 4, [None, pa.py_buffer(data)])
        buffers = [pa.py_buffer(there.tobytes()), pa.py_buffer(ends.tobytes())]
        return pa.Array.from_buffers(pa.list_(pa.float32()), len(values), buffers, children=[floats])


def _leaves(schema: Any) -> list[str]:
    """Return the paths of the columns that Parquet has for a schema: of a list, those of what is in it."""
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(schema.empty_table(), sink)
    found = parquet.read_metadata(sink).schema
    return [found.column(number).path for number in range(len(found))]


class _WithoutPandas:
    """Has pyarrow not import pandas, where that is installed: 0.3 s and 40 MB in every worker.

    It does so when it first makes an array, to know whether it was given one of theirs, and asks no second time. To
    turn a table into one of pandas' it still imports it.
    """

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _import_without_pandas() -> None:
    import pyarrow as pa

    hook: Any = _WithoutPandas()
    sys.meta_path.insert(0, hook)
    try:
        pa.array([None])
    finally:
        sys.meta_path.remove(hook)
