"""CSV as RFC 4180 has it, but with LF at the ends of records: a header, then a record for each row.

A field is quoted where it holds a comma, a quote or a line break. null is the empty field, as is the empty text.
Numbers are as JSON writes them; true and false too. A vector is a JSON list. With `output.escape_formulas` a text that
a spreadsheet would run, as `=HYPERLINK(...)` in a reply, has a "'" before it; names of columns too.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from rowmill.core.config.sections import OutputConfig
from rowmill.core.output_codec import Join, OutputCodec
from rowmill.core.rows import Layout
from rowmill.files.output import vectors
from rowmill.files.output.table import ResultTable

_BREAKS = frozenset("\t\r\n")
_BEGINNINGS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")  # the wide ones too: some programs read them as the others
_SPACES = " \u00a0\u3000\ufeff\u200b\x00"
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)


class CsvRecords(OutputCodec):
    """CSV in one file."""

    def __init__(self, config: OutputConfig, layout: Layout) -> None:
        self._table = ResultTable(config, layout, typed=False)
        self._vectors = layout.vectors
        self._escapes = config.escape_formulas
        self.key = f"csv:{self._table.digest('escaped') if self._escapes else self._table.digest()}"

    def load(self) -> None:
        """Import numpy, where there are vectors."""
        if self._vectors:
            vectors.load()

    def encode(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        """Yield the records of some rows at a time."""
        columns = self._table.columns
        vector = self._table.vector
        for _, values in self._table.batches(lines):
            if self._escapes:
                values = [of_column if n == vector else _escaped(of_column) for n, of_column in enumerate(values)]  # noqa: PLW2901 - the same, fit for a spreadsheet
            fields = [
                _lists(of_column) if number == vector else _fields(of_column, column.type)
                for number, (of_column, column) in enumerate(zip(values, columns, strict=True))
            ]
            yield "".join([f"{','.join(record)}\n" for record in zip(*fields, strict=True)]).encode()

    def join(self) -> Join:
        """Begin a file with the header."""
        names: list[Any] = [column.name for column in self._table.columns]
        return Join(",".join(map(quoted, _escaped(names) if self._escapes else names)).encode() + b"\n")


def quoted(text: str) -> str:
    """Return a text as a field."""
    # Four searches in C; one with a pattern takes fifteen times as long for a text of 500 characters.
    if "," in text or '"' in text or "\n" in text or "\r" in text:
        return f'"{text.replace(chr(34), chr(34) * 2)}"'
    return text


def _escaped(values: list[Any]) -> list[Any]:
    """Return the values with "'" before each text that a spreadsheet would run; texts that are numbers stay."""
    return [f"'{each}" if type(each) is str and is_formula(each) else each for each in values]


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may take a text for a formula, as OWASP lists how they begin, spaces before it or not."""
    # One that begins by a tab or a line break is among them whatever follows: what they strip, another one follows.
    begun = text.lstrip(_SPACES)
    return text[:1] in _BREAKS or (begun[:1] in _BEGINNINGS and not _NUMBER.fullmatch(begun))


def _fields(values: list[Any], kind: str) -> list[str]:
    if kind == "bool":
        return [
            "" if each is None else quoted(each) if type(each) is str else "true" if each else "false"
            for each in values
        ]
    if kind in {"string", "json"}:
        return ["" if each is None else quoted(each) for each in values]
    return ["" if each is None else quoted(each) if type(each) is str else repr(each) for each in values]


def _lists(values: list[bytes | None]) -> list[str]:
    return ["" if each is None else quoted(each.decode()) for each in vectors.texts(values)]
