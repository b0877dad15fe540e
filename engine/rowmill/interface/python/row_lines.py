"""Rows as Python has them -> JSON lines: of each the columns that are asked for, digit for digit.

Numbers keep their digits, dates and times are ISO 8601, bytes base64, NaN and whatever else says that nothing is there
null. What JSON cannot have, as half a surrogate pair, makes a `BROKEN` line of its row, as a file's row would be: one
bad row costs one row. Columns that nobody asks for are not looked at.
"""

import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any

import msgspec

from rowmill.core.errors import InputError
from rowmill.core.rows import BROKEN

TEXT = "text"  # the column that a row of one text has

_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError)  # half a surrogate pair is a ValueError
_AS_TEXT = frozenset({"ipaddress", "fractions", "pandas"})  # libraries whose values are what they say of themselves
_DOUBLE = 8  # bytes


class NoValue:
    """Stands for a value that its library cannot give."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def lines(rows: Iterable[Any], wanted: Collection[str] | None = None) -> Iterator[bytes]:
    """Turn each row into a line of JSON: an object as it is, a text as {"text": ...}.

    wanted: the columns that are asked for; None: all. A row that lacks one of them has the names of its others too,
    with null, for messages. Raises `InputError` with the row's number for what is neither an object nor a text.
    """
    for number, row in enumerate(rows):
        try:
            members = _members({TEXT: row} if isinstance(row, str) else row, wanted)
            line = _encode(row if members is None else _of_interest(members, wanted))
        except _UNWRITABLE as error:
            line = _broken(members, wanted, error)
        if not line.startswith((b"{", BROKEN)):
            raise InputError(f"rowmill.map: row {number} is a {type(row).__name__}; rows are mappings or texts")
        yield line + b"\n"


def of_interest(columns: Collection[str], wanted: Collection[str] | None) -> Collection[str]:
    """Return those columns of a table whose values are looked at."""
    return columns if wanted is None else [name for name in columns if name in wanted]


def _members(row: Any, wanted: Collection[str] | None) -> Mapping[Any, Any] | None:
    """Return a row's columns; None where only its encoder knows them, if it has any."""
    if isinstance(row, Mapping):
        return row
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    if isinstance(row, tuple) and (names := getattr(row, "_fields", None)) is not None:  # as of DataFrame.itertuples
        return dict(zip(names, row, strict=True))
    if isinstance(row, msgspec.Struct):
        names = zip(type(row).__struct_encode_fields__, type(row).__struct_fields__, strict=True)
        return {encoded: getattr(row, name) for encoded, name in names}
    if (dump := getattr(row, "model_dump", None)) is not None:  # pydantic's
        try:
            dumped: Mapping[Any, Any] = dump(mode="json", include=None if wanted is None else set(wanted))
        except ValueError as error:
            dumped = dict.fromkeys(wanted or [TEXT], NoValue(str(error)))
        return dumped
    return None


def _of_interest(members: Mapping[Any, Any], wanted: Collection[str] | None) -> dict[Any, Any]:
    if wanted is None:
        return {name: _ordered(value) for name, value in members.items()}
    found = {name: _ordered(members[name]) for name in wanted if name in members}
    if len(found) < len(wanted):  # a name may be no text: the column "1" is that of the key 1
        found = {str(name): _ordered(value) if str(name) in wanted else None for name, value in members.items()}
    return found


def _broken(members: Mapping[Any, Any] | None, wanted: Collection[str] | None, error: Exception) -> bytes:
    """Return the line of a row that cannot be written, with what can be of it."""
    reason, rest = str(error), b""
    if members is not None:
        sound = {}
        for name, value in _of_interest(members, wanted).items():
            try:
                _encode({name: value})
            except _UNWRITABLE as of_column:
                reason = f"column {name!r} cannot be written as JSON: {of_column}"
            else:
                sound[name] = value
        rest = BROKEN + _encode(sound)
    return BROKEN + " ".join(reason.split()).replace("\0", " ").encode(errors="backslashreplace") + rest


def _ordered(value: Any) -> Any:
    """Give sets an order: the same rows are to be the same lines in another process."""
    if type(value) in {set, frozenset}:
        return sorted(value, key=_encode)
    return value


def _plain(value: Any) -> Any:
    """Turn what the libraries put into cells into what JSON has."""
    library = type(value).__module__.partition(".")[0]
    if isinstance(value, NoValue):
        raise ValueError(value.reason)  # noqa: TRY004 - it is about what the value was to be
    if library == "numpy":
        return _of_numpy(value)
    if type(value).__name__ in {"NaTType", "NAType"}:
        return None
    for name in ("tolist", "isoformat"):  # arrays and Series; pandas' time stamps
        if (convert := getattr(value, name, None)) is not None:
            return convert()
    if (convert := getattr(value, "model_dump", None)) is not None:  # pydantic's
        return convert(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, AbstractSet):
        return sorted(value, key=_encode)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if library in _AS_TEXT:
        return str(value)
    raise TypeError(f"{type(value).__name__} {value!r:.40}")


def _of_numpy(value: Any) -> Any:
    """Return a scalar or an array of numpy as Python has it, but with the digits that it has."""
    kind, size = value.dtype.kind, value.dtype.itemsize
    if kind == "f" and size != _DOUBLE:  # the shortest number that is the same in so many bits
        if not value.ndim:
            return _number(str(value))
        return [_of_numpy(each) for each in value]
    if kind in "Mm":
        if value.ndim:
            return list(value)
        text = str(value)
        return None if text == "NaT" else text if kind == "M" else _duration(value)
    if kind == "c":
        raise TypeError(f"{type(value).__name__} {value!r:.40}")
    return value.tolist()


def _number(text: str) -> Any:
    if text.lstrip("+-") in {"nan", "inf"}:
        return None
    return msgspec.Raw(text.replace("e+", "e").encode())


def _duration(value: Any) -> Any:
    nanos = int(value.astype("timedelta64[ns]").astype("int64"))
    micros, rest = divmod(nanos, 1000)
    if not rest:
        return timedelta(microseconds=micros)
    seconds, rest = divmod(abs(nanos), 10**9)
    return f"{'-' * (nanos < 0)}PT{seconds}.{rest:09}S"


_encode = msgspec.json.Encoder(enc_hook=_plain, decimal_format="number").encode
