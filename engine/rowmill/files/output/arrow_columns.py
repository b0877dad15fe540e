"""JSON of the input's rows -> values of the Arrow types that the input's columns had.

The input wrote decimals, dates, times and bytes as texts (see `files.input.tables`); here they are read back, so that a
Parquet file of results has the input's columns as they were: of the same types, to the last digit.
"""

import base64
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from rowmill.core import far_times

Converter = Callable[[Any], Any]

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = re.compile(r"[+-]?\d{4,}-\d\d-\d\d")
_TIMESTAMP = re.compile(rf"({_DAY.pattern})T(\d\d):(\d\d):(\d\d)(?:\.(\d{{1,9}}))?Z?")
_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?")
_DURATION = re.compile(r"(-?)P(?:(\d+)D)?(?:T(\d+)(?:\.(\d{1,9}))?S)?")
_WRONG = (ValueError, TypeError, OverflowError, LookupError, AttributeError, InvalidOperation, msgspec.MsgspecError)


def type_of(arrow: bytes) -> Any:
    """Return the type that a column carries."""
    import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

    return pa.ipc.read_schema(pa.py_buffer(arrow)).field(0).type


class ArrowColumn:
    """Makes the arrays of one column."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._convert = _converter(kind)

    def array(self, raws: list[msgspec.Raw]) -> Any:
        """Return the values as an array; null is null. Raises `ValueError` where one is of no such type."""
        import pyarrow as pa

        try:
            return pa.array([self._value(raw) for raw in raws], self._kind)
        except _WRONG as error:
            raise ValueError(str(error)) from None

    def place_of_misfit(self, raws: list[msgspec.Raw]) -> int:
        """Return which of these values is of no such type."""
        for place, raw in enumerate(raws):
            try:
                self.array([raw])
            except ValueError:
                return place
        return 0

    def _value(self, raw: msgspec.Raw) -> Any:
        value = msgspec.json.decode(raw)
        return None if value is None else self._convert(value)


def _converter(kind: Any) -> Converter:
    """Return what turns a value of JSON, which is not null, into what an array of the type is made of."""
    import pyarrow as pa

    types = pa.types
    if types.is_struct(kind):
        members = [(field.name, _or_none(_converter(field.type))) for field in kind]
        return lambda value: {name: convert(value.get(name)) for name, convert in members}
    if types.is_map(kind):
        key, item = _key(_converter(kind.key_type), kind.key_type), _or_none(_converter(kind.item_type))
        return lambda value: [(key(name), item(each)) for name, each in value.items()]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        element = _or_none(_converter(kind.value_type))
        return lambda value: [element(each) for each in _of(list, value)]
    if types.is_decimal(kind):
        return lambda value: Decimal(str(value))
    if types.is_integer(kind):
        return _integer
    if types.is_floating(kind):
        return _float
    if types.is_date(kind):
        return _day
    if types.is_timestamp(kind):
        return lambda value: _timestamp(value, kind.unit)
    if types.is_time(kind):
        return lambda value: _time(value, kind.unit)
    if types.is_duration(kind):
        return lambda value: _duration(value, kind.unit)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return lambda value: base64.b64decode(value, validate=True)
    if types.is_boolean(kind):
        return lambda value: _of(bool, value)
    return lambda value: _of(str, value)


def _or_none(convert: Converter) -> Converter:
    return lambda value: None if value is None else convert(value)


def _key(convert: Converter, kind: Any) -> Converter:
    """Return what turns the name of a member into the key of a map: a number stands in a name as JSON has it."""
    import pyarrow as pa

    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return lambda name: convert(msgspec.json.decode(name))
    return convert


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.60} is no {kind.__name__}")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.60} is no whole number")
    return value


def _float(value: Any) -> float:
    number = float(value)
    if type(value) is int and int(number) != value:
        raise ValueError(f"{value} is no float of 64 bits")
    return number


def _day(value: str) -> int:
    return far_times.days_of(_matched(_DAY, value)[0])


def _timestamp(value: str, unit: str) -> int:
    day, hours, minutes, seconds, fraction = _matched(_TIMESTAMP, value).groups()
    return _counted(far_times.days_of(day) * 86_400 + _seconds(hours, minutes, seconds), fraction, unit)


def _time(value: str, unit: str) -> int:
    hours, minutes, seconds, fraction = _matched(_TIME, value).groups()
    return _counted(_seconds(hours, minutes, seconds), fraction, unit)


def _seconds(hours: str, minutes: str, seconds: str) -> int:
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)


def _duration(value: str, unit: str) -> int:
    sign, days, seconds, fraction = _matched(_DURATION, value).groups()
    count = _counted(int(days or 0) * 86_400 + int(seconds or 0), fraction, unit)
    return -count if sign else count


def _matched(pattern: re.Pattern[str], value: str) -> re.Match[str]:
    found = pattern.fullmatch(value)
    if found is None:
        raise ValueError(f"{value!r:.60} is not of its column's type")
    return found


def _counted(seconds: int, fraction: str | None, unit: str) -> int:
    """Return how many of a unit these are. Raises `ValueError` where they are no whole number of it."""
    nanos = int((fraction or "").ljust(9, "0"))
    parts, rest = divmod(nanos * _UNITS[unit], 10**9)
    if rest:
        raise ValueError(f"a fraction of .{fraction} s has more digits than its column's unit, {unit}")
    return seconds * _UNITS[unit] + parts
