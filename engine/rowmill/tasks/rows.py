"""An input line -> the values of the columns that a task names, the row's id, or what is wrong with the row.

Decoders are made for the job, so that the columns nobody asked for cost nothing.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from rowmill.core.errors import ConfigError, InputError, InvalidRow
from rowmill.core.rows import BROKEN
from rowmill.tasks import numbers

encode = numbers.encode
_Decoded = TypeVar("_Decoded")
Scalar = str | int | float | bool | None  # what an id may be
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what decoding a line of any bytes may raise

_REASON_BYTES = 1000  # of a broken line that are shown: a user's own line of any length may begin like one
_UNDECODABLE = re.compile(r'["\\\x00-\x1f]')  # the decoder matches names as they stand in the file, unescaped

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
_HALF = 6  # bytes of the escape of half a pair, as \ud83d
_MARK = "\ufdd0"  # no character, and never to be one


class ColumnUse(msgspec.Struct, frozen=True):
    """A column that a key of the configuration names."""

    column: str
    key: str
    required: bool = True  # a row without it is an invalid one
    expected: bool = True  # an input whose first rows all lack it is the wrong one


class ColumnReader:
    """Reads the rows of one task.

    columns: those that it looks at, in order of use, the id's last; None where it reads them all.
    """

    def __init__(self, uses: Sequence[ColumnUse], id_column: str | None, *, whole: bool = False) -> None:
        """`whole` reads every column. Raises `ConfigError` for a column that no decoder can name."""
        self._uses = list(uses) if id_column is None else [*uses, ColumnUse(id_column, "input.id")]
        self._id_column = id_column
        names = list(dict.fromkeys(use.column for use in self._uses))
        self.columns = None if whole else names
        self._required = list(dict.fromkeys(use.column for use in self._uses if use.required))
        self._names: list[str] = names
        self._decode_object: Callable[[bytes], dict[str, Any]] | None = None
        if whole:
            self._decode_object = numbers.decoder(dict[str, Any])
            return
        for use in self._uses:
            if _UNDECODABLE.search(use.column):
                raise ConfigError(
                    f"{use.key}: column {use.column!r}: quotes, backslashes and control characters cannot be used"
                )
        self._decode = row_decoder(names, None)

    def read(self, line: bytes) -> dict[str, Any]:
        """Return the values of the task's columns that the row has. Raises `InvalidRow` with what is wrong with it."""
        try:
            values = tolerant(self._values, line)
        except UNREADABLE as error:
            values = self._values_beside_halves(line, error)
        for column in self._required:
            if column not in values:
                raise InvalidRow(f"the row has no column {column!r}")
        return values

    def id_in(self, values: dict[str, Any]) -> bytes:
        """Return the id of a row that was read, as JSON text. Raises `InvalidRow` where it cannot be one."""
        if self._id_column is None:
            return b"null"
        value = values[self._id_column]
        if not isinstance(value, Scalar):
            raise InvalidRow(f"the id in column {self._id_column!r} is neither text nor a number")
        return encode(value)

    def id_of(self, line: bytes) -> bytes:
        """Return a row's id as JSON text, null where it cannot be read: for rows that fail before they are built."""
        if self._id_column is None:
            return b"null"
        try:
            value = tolerant(self._values, _marked(_itself(line))).get(self._id_column)
        except UNREADABLE:
            return b"null"
        return encode(value) if isinstance(value, Scalar) else b"null"

    def check(self, lines: Iterable[bytes], source: str) -> None:
        """Refuse a configuration whose columns none of these first lines has. Raises `InputError`."""
        rows = objects(lines)
        if not rows:
            return
        for use in self._uses:
            if use.expected and not any(use.column in row for row in rows):
                import difflib  # only here: workers need none

                names = list(map(str, rows[0]))
                nearest = difflib.get_close_matches(use.column, names, n=1)
                raise InputError(
                    f"{source}: no column {use.column!r}, which {use.key} names; "
                    f"{f'did you mean {nearest[0]!r}? ' if nearest else ''}the columns are {', '.join(names)}"
                )

    def _values_beside_halves(self, line: bytes, error: Exception) -> dict[str, Any]:
        """Read a line that has half of a surrogate pair somewhere: in a column that nobody names it harms nobody."""
        try:
            if (marked := _marked(line)) == line:
                raise error
            values = tolerant(self._values, marked)
        except UNREADABLE:
            raise _unreadable(line, error) from None
        for column, value in values.items():
            if _MARK.encode() in encode(value):
                raise InvalidRow(f"column {column!r} holds half a surrogate pair, which is no text")
        return values

    def _values(self, line: bytes) -> dict[str, Any]:
        if self._decode_object is not None:
            return self._decode_object(line)
        row = msgspec.structs.astuple(self._decode(line))
        return {name: value for name, value in zip(self._names, row, strict=True) if value is not msgspec.UNSET}


def input_of(line: bytes) -> bytes:
    """Return the line as JSON that can stand in an output line; null where it is no JSON."""
    try:
        return tolerant(_checked, _itself(line)).strip()
    except UNREADABLE:
        return b"null"


def objects(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return those of the lines that are JSON objects, decoded."""
    rows = []
    for line in lines:
        try:
            row = tolerant(numbers.decode, line)
        except UNREADABLE:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def row_decoder(columns: list[str], kinds: list[Any] | None) -> Callable[[bytes], msgspec.Struct]:
    """Return a decoder of rows to structs with one member for each column, c0, c1, ...; others are passed over.

    With `kinds` each column must be there and be of its type; without, a missing one is UNSET.
    """
    names = [f"c{number}" for number in range(len(columns))]
    fields = [(name, Any, msgspec.UNSET) for name in names] if kinds is None else list(zip(names, kinds, strict=True))
    row = msgspec.defstruct("Row", fields, rename=dict(zip(names, columns, strict=True)), gc=False)
    return numbers.decoder(row) if kinds is None else msgspec.json.Decoder(row).decode


def _marked(line: bytes) -> bytes:
    """Return a line with a mark in the place of each escape of half a surrogate pair, which msgspec does not read."""
    return _ESCAPE.sub(lambda found: rb"\ufdd0" if len(found[0]) == _HALF else found[0], line)


def tolerant(decode: Callable[[bytes], _Decoded], line: bytes) -> _Decoded:
    """Decode a line; where it is no JSON for NaN or an infinity in it, with null in their place.

    A byte order mark stands before it where files were put together that begin with one; it is passed over.
    """
    try:
        return decode(line)
    except UNREADABLE:
        if line.startswith(codecs.BOM_UTF8):
            return tolerant(decode, line.lstrip(codecs.BOM_UTF8))
        if (mended := numbers.without_nan(line)) is None:
            raise
    decoded = decode(mended)
    numbers.nulled.there = True
    return decoded


def _checked(line: bytes) -> bytes:
    numbers.decode(line)
    return line


def _itself(line: bytes) -> bytes:
    """Return the row as the user wrote it, where the source has passed it on as broken."""
    return line[len(BROKEN) :].partition(BROKEN)[2] if line.startswith(BROKEN) else line


def _unreadable(line: bytes, error: Exception) -> InvalidRow:
    if line.startswith(BROKEN) and (reason := line[len(BROKEN) : _REASON_BYTES].partition(BROKEN)[0]):
        return InvalidRow(reason.decode(errors="replace"))
    if not line.strip():
        return InvalidRow("the line is blank")
    return InvalidRow(f"the line is no JSON object: {error}")
