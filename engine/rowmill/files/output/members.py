"""The members of JSON objects as values of typed columns.

An object whose members are of their columns' types, as nearly all are, is decoded in one call into a Struct that is
made for the columns. Any other is taken apart, member by member.
"""

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from rowmill.core.rows import Column

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
NULL = msgspec.Raw(b"null")
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)

_TYPES: dict[str, Any] = {
    "string": str | None,
    "int64": Int64 | None,
    "double": float | None,
    "bool": bool | None,
    "json": msgspec.Raw,
}
_ODD = frozenset({b'"NaN"', b'"Infinity"', b'"-Infinity"'})  # see `core.odd_floats`
_QUOTE = ord('"')

_decode_text = msgspec.json.Decoder(str).decode
_decode_number = msgspec.json.Decoder(int | float).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
_ESCAPE_BYTES = 6  # of one character, as \ud83d


class Misfit(Exception):
    """A value that is not of its column's type."""


def json_text(raw: msgspec.Raw) -> str | None:
    """Return a value as JSON text; null is None."""
    data = bytes(raw)
    return None if data == b"null" else str(data, "utf-8", "replace")


def plain_text(raw: msgspec.Raw) -> str | None:
    """Return a string as its text, null as None, and any other value as JSON text."""
    data = bytes(raw)
    if data[0] == _QUOTE:
        try:
            return _decode_text(data)
        except UNREADABLE:
            return _decode_text(repaired(data))
    return None if data == b"null" else str(data, "utf-8", "replace")


def fitted(raw: msgspec.Raw, kind: str) -> Any:
    """Return a value as its column's type holds it, None for null; "json" stays raw. Raise `Misfit` where it cannot."""
    if kind == "json":
        return raw
    if kind == "string":
        return plain_text(raw)
    data = bytes(raw)
    if data == b"null":
        return None
    if kind == "double" and data in _ODD:
        return float(data.strip(b'"'))
    if kind == "bool":
        if data in {b"true", b"false"}:
            return data == b"true"
        raise Misfit
    try:
        number = _decode_number(data)
        if kind == "double":
            return float(number)
    except (*UNREADABLE, OverflowError):
        raise Misfit from None
    if number != int(number) or not -(2**63) <= number < 2**63:
        raise Misfit
    return int(number)  # 1.0 is an integer to JSON Schema, and 1e3 is one


def repaired(line: bytes) -> bytes:
    """Return JSON that msgspec reads: escapes of half a surrogate pair become text, bytes that are no UTF-8 U+FFFD."""
    return _ESCAPE.sub(_escaped, str(line, "utf-8", "replace").encode())


def _escaped(match: re.Match[bytes]) -> bytes:
    found = match.group()
    return b"\\" + found if len(found) == _ESCAPE_BYTES else found


class Members:
    """Reads objects into the values of columns.

    type: what an object is decoded into; None where JSON escapes the name of a column, so that only `take_apart` knows
        it. empty: an object without members. getters: for each column what takes its value out of an object.
    """

    def __init__(self, columns: Sequence[Column], misfit: Callable[[Column, msgspec.Raw], Any]) -> None:
        """`misfit` returns what stands for a value that is not of its column's type, or raises."""
        self._columns = columns
        self._misfit = misfit
        names = [f"c{number}" for number in range(len(columns))]
        fields = [
            (name, _TYPES[column.type], NULL if column.type == "json" else None)
            for name, column in zip(names, columns, strict=True)
        ]
        self.getters = [attrgetter(name) for name in names]
        self.type: type[msgspec.Struct] | None
        try:
            renamed = {name: column.name for name, column in zip(names, columns, strict=True)}
            self._made = self.type = msgspec.defstruct("Members", fields, rename=renamed, gc=False)
        except ValueError:
            self._made, self.type = msgspec.defstruct("Members", fields, gc=False), None
        self.empty = self._made()
        self._decode = None if self.type is None else msgspec.json.Decoder(self.type).decode

    def read(self, data: bytes) -> Any:
        """Return the members of an object; none of what is no object."""
        if self._decode is not None:
            try:
                return self._decode(data)
            except UNREADABLE:
                pass
        return self.take_apart(data)

    def take_apart(self, data: bytes) -> Any:
        """Do as `read` does, for an object that is not as it should be."""
        try:
            members = _decode_members(data)
        except UNREADABLE:
            try:
                members = _decode_members(repaired(data))
            except UNREADABLE:
                return self.empty
        return self._made(*(self._fitted(members.get(column.name, NULL), column) for column in self._columns))

    def _fitted(self, raw: msgspec.Raw, column: Column) -> Any:
        try:
            return fitted(raw, column.type)
        except Misfit:
            return self._misfit(column, raw)
