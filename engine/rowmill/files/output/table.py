r"""The columns of a table of results, for every format that is one, and the way from output lines to their values.

In order:

- the input's columns, where they are kept
- index, id, output, error, error_code, error_status, error_message, finish_reason, model, prompt_tokens,
  completion_tokens, with `output.include = ["meta"]` provider, attempts, requests, ms, and what else it names of a
  reply, as `reasoning` and `message`: JSON text, but for the reasoning, which is a text
- the members of a structured reply

All names differ: an input column that has the name of a fixed one is called "input.<name>", a member of the reply that
has the name of either "output.<name>".

What a value becomes:

- A string is its text; in a "json" column of a table with types it is JSON text. Any other value in a column of strings
  is its JSON text as it stood in the line: an id 1.50 is "1.50", an output that is an object is `{"a": 1}`.
- null and what is missing are null, as are counts that a server reports as anything but whole numbers.
- A value that is not of its column's type is its JSON text where the table has no types. Where it has, a member of the
  reply is null ("output" has the whole reply), and a value of the input is an error that says what to do: no other
  column has it, and nothing is to be lost unseen.
- A member of an input row that has no column is not in the table. The checkpoints have it, and so has JSON Lines.
- Half of a surrogate pair, which no UTF-8 text can hold, becomes the six characters of its escape, as `\ud83d`.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NoReturn

import msgspec

from rowmill.core.config.sections import OutputConfig
from rowmill.core.errors import InputError
from rowmill.core.odd_floats import MARK, words_of
from rowmill.core.rows import Column, Layout
from rowmill.files.output.members import Members, json_text, plain_text
from rowmill.files.output.table_rows import OutputRow, OutputRowReader, RowFailure, RowMeta, RowUsage
from rowmill.files.output.vectors import decoded

FIXED = (
    Column("index", "int64"), Column("id"), Column("output"), Column("error"), Column("error_code"),
    Column("error_status", "int64"), Column("error_message"), Column("finish_reason"), Column("model"),
    Column("prompt_tokens", "int64"), Column("completion_tokens", "int64"),
)  # fmt: skip
META = (Column("provider"), Column("attempts", "int64"), Column("requests", "int64"), Column("ms", "int64"))

_BATCH_BYTES = 1 << 18  # of lines whose values are in memory as Python objects at once
_BATCH_ROWS = 1024
_VERSION = 1  # of what this module makes of a line; sections of another one are made again
_SHOWN = 60  # characters of a value in a message
_QUOTE = ord('"')


class ResultTable:
    """The columns of one run's output.

    columns: their names and types. vector: the number of the one that holds vectors, where one does.
    """

    def __init__(self, config: OutputConfig, layout: Layout, *, typed: bool) -> None:
        """`typed`: values are of their columns' types or null; otherwise a string can stand for any of them."""
        self._meta = "meta" in config.include
        self._vectors = layout.vectors
        kept = layout.input_columns if "input" in config.include else ()
        if typed:  # what a column's Arrow type is made of is any JSON
            kept = tuple(Column(each.name, "json", each.arrow) if each.arrow else each for each in kept)
        self._parts = config.parts
        parts = tuple(Column(part, "string" if part == "reasoning" else "json") for part in config.parts)
        fixed = (*FIXED, *(META if self._meta else ()), *parts)
        names = _names(fixed, kept, layout.fields)
        self._kept = [
            Column(name, column.type, column.arrow if typed else b"") for name, column in zip(names, kept, strict=False)
        ]
        self._fields = [
            Column(name, column.type) for name, column in zip(names[len(kept) :], layout.fields, strict=True)
        ]
        self.columns = (*self._kept, *fixed, *self._fields)
        self.vector = len(kept) + FIXED.index(Column("output")) if layout.vectors else None
        self._input = Members(kept, _refused if typed else _as_text) if kept else None
        self._reply = Members(layout.fields, _lost if typed else _as_text) if layout.fields else None
        self._json = json_text if typed else plain_text
        # A table with types holds what JSON cannot.
        self._marked = typed and any(each.arrow or each.type == "double" for each in kept)
        self._reader = OutputRowReader(self._input, raw_output=self._reply is not None)

    def _read_marked(self, line: bytes) -> OutputRow:
        """Read a line in which NaN and the infinities of the input are to be found again."""
        return self._reader.read(words_of(line) if MARK in line else line)

    def digest(self, *more: object) -> str:
        """Return what names all that the values depend on, and whatever else the format's bytes do."""
        named = (_VERSION, self.columns, self._vectors, more)
        return blake2b(repr(named).encode(), digest_size=6).hexdigest()

    def batches(self, lines: Iterator[bytes]) -> Iterator[tuple[int, list[list[Any]]]]:
        """Yield the values of the lines, some rows at a time: bytes of their lines, and for each column its values.

        Values are str, int, float, bool and None; vectors are bytes, and of columns with an Arrow type raw JSON. Where
        the batches end depends on the lines only.
        """
        read = self._read_marked if self._marked else self._reader.read
        rows: list[OutputRow] = []
        size = 0
        for line in lines:
            try:
                rows.append(read(line))
            except _Unfit as unfit:
                raise InputError(unfit.described(line)) from None
            size += len(line)
            if size >= _BATCH_BYTES or len(rows) == _BATCH_ROWS:
                yield size, self._values(rows)
                rows, size = [], 0
        if rows:
            yield size, self._values(rows)

    def _values(self, rows: list[OutputRow]) -> list[list[Any]]:
        values: list[list[Any]] = []
        if self._input is not None:
            inputs = [self._input.empty if row.input is None else row.input for row in rows]
            values += self._of_members(self._input, self._kept, inputs)
        ids = [row.id for row in rows]
        outputs: list[Any] = [row.output for row in rows]
        replies: list[Any] = []
        if self._reply is not None:
            outputs, replies = _taken_apart(outputs, self._reply)
        if self._vectors:
            outputs = decoded(outputs)
        errors = [_NO_ERROR if row.error is None else row.error for row in rows]
        usages = [_NO_USAGE if row.usage is None else row.usage for row in rows]
        values += (
            [row.index for row in rows],
            [each if each is None or type(each) is str else str(each) for each in ids],
            outputs,
            [error.fault for error in errors],
            [error.code for error in errors],
            [error.status for error in errors],
            [error.message for error in errors],
            [row.finish_reason for row in rows],
            [row.model for row in rows],
            [usage.prompt for usage in usages],
            [usage.completion for usage in usages],
        )
        if self._meta:
            metas = [_NO_META if row.meta is None else row.meta for row in rows]
            values += (
                [meta.provider for meta in metas],
                [meta.attempts for meta in metas],
                [meta.requests for meta in metas],
                [meta.ms for meta in metas],
            )
        for part in self._parts:
            text = plain_text if part == "reasoning" else json_text
            values.append([text(getattr(row, part)) for row in rows])
        if self._reply is not None:
            values += self._of_members(self._reply, self._fields, replies)
        return values

    def _of_members(self, members: Members, columns: list[Column], objects: list[Any]) -> Iterator[list[Any]]:
        for column, get in zip(columns, members.getters, strict=True):
            values = list(map(get, objects))
            yield list(map(self._json, values)) if column.type == "json" and not column.arrow else values


_NO_ERROR, _NO_USAGE, _NO_META = RowFailure(), RowUsage(), RowMeta()


class _Unfit(Exception):
    def __init__(self, column: Column, raw: msgspec.Raw) -> None:
        super().__init__()
        self._column = column
        self._value = plain_text(raw)

    def described(self, line: bytes) -> str:
        index = line.partition(b",")[0].rpartition(b":")[2].decode()
        value = repr(self._value)
        shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
        return (
            f"row {index}: the input's column {self._column.name!r} holds {shown}, which is no {self._column.type}. "
            'Set output.format = "jsonl" (or "csv") and run the same command again: no reply is asked for twice'
        )


def _refused(column: Column, raw: msgspec.Raw) -> NoReturn:
    raise _Unfit(column, raw)


def _lost(_column: Column, _raw: msgspec.Raw) -> None:
    return None


def _as_text(_column: Column, raw: msgspec.Raw) -> str | None:
    return plain_text(raw)


def _taken_apart(outputs: list[msgspec.Raw], members: Members) -> tuple[list[str | None], list[Any]]:
    """Return the outputs as text, and their members. A reply may be an object or a string with the text of one."""
    texts: list[str | None] = []
    objects: list[Any] = []
    for raw in outputs:
        data = bytes(raw)
        text = plain_text(raw)
        texts.append(text)
        if text is None:
            objects.append(members.empty)
        else:
            objects.append(members.read(text.encode() if data[0] == _QUOTE else data))
    return texts, objects


def _names(fixed: tuple[Column, ...], kept: tuple[Column, ...], fields: tuple[Column, ...]) -> list[str]:
    """Return the names of kept columns and of fields, all different from one another and from the fixed ones."""
    used = {column.name for column in fixed}
    names = []
    for prefix, columns in (("input.", kept), ("output.", fields)):
        for column in columns:
            name = column.name
            while name in used:
                name = prefix + name
            used.add(name)
            names.append(name)
    return names
