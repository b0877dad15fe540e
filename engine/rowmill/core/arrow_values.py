"""Arrow values that Python's own values would change: floats of 32 and 16 bits, and nanoseconds.

0.1 in 32 bits is 0.10000000149011612 as a float of Python; here it becomes 0.1, the shortest number that is the same in
32 bits. Timestamps, times and durations with nanoseconds become texts in ISO 8601; without, what Python has for them.
Dates, timestamps and durations that Python has not, as those beyond the year 9999, are texts where they are asked for.
"""

from collections.abc import Callable
from datetime import datetime, time
from itertools import islice
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]

from rowmill.core import far_times

Make = Callable[[pa.Array], list[Any]]
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second
_THOUSAND = 1000  # nanoseconds a microsecond
_DAY_NS = 86_400 * 10**9


def is_exact(kind: pa.DataType) -> bool:
    """Tell whether Python's values of this type are what it holds."""
    return _maker(kind) is None and not any(not is_exact(child) for child in _children(kind))


def values(array: pa.Array, *, far: bool = False) -> list[Any]:
    """Return the values, None for null. Raises what pyarrow does for those that Python has not.

    far: dates, timestamps and durations are texts, whatever their year.
    """
    kind = array.type
    types = pa.types
    if is_exact(kind) and not far:
        found: list[Any] = array.to_pylist(maps_as_pydicts="strict" if "map<" in str(kind) else None)
        return found
    if (make := (_far_maker(kind) if far else None) or _maker(kind)) is not None:
        return make(array)
    if types.is_dictionary(kind):
        return values(array.dictionary_decode(), far=far)
    if not _children(kind):
        return array.to_pylist()  # type: ignore[no-any-return]
    if types.is_struct(kind):
        columns = [values(column, far=far) for column in array.flatten()]  # of a struct that is null they are null
        names = [field.name for field in kind]
        rows = zip(*columns, strict=True)
        return [
            dict(zip(names, row, strict=True)) if there else None
            for row, there in zip(rows, array.is_valid().to_pylist(), strict=True)
        ]
    if types.is_map(kind):
        return [None if row is None else _object(row) for row in _lists(array, _entries(array, far=far))]
    return _lists(array, values(array.flatten(), far=far))


def holds_floats(kind: pa.DataType) -> bool:
    """Tell whether there are floats in values of a type."""
    return pa.types.is_floating(kind) or any(map(holds_floats, _children(kind)))


def has_odd(array: pa.Array) -> bool:
    """Tell whether there is NaN or an infinity somewhere in floats, however they are nested."""
    kind = array.type
    if pa.types.is_floating(kind):
        return not pc.all(pc.is_finite(array), min_count=0).as_py()
    if pa.types.is_dictionary(kind):
        return has_odd(array.dictionary)
    if pa.types.is_map(kind):
        return has_odd(array.keys) or has_odd(array.items)
    if pa.types.is_struct(kind):
        return any(map(has_odd, array.flatten()))
    return bool(_children(kind)) and has_odd(array.flatten())


def _children(kind: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_dictionary(kind):
        return [kind.value_type]
    return [kind.field(number).type for number in range(kind.num_fields)]


def _maker(kind: pa.DataType) -> Make | None:
    """Return what makes the values of a type that is not exact by itself; None for one that is, or has children."""
    types = pa.types
    if types.is_float32(kind) or types.is_float16(kind):
        return _floats
    if types.is_timestamp(kind) and kind.unit == "ns":
        return _timestamps
    if types.is_time64(kind) and kind.unit == "ns":
        return _times
    if types.is_duration(kind) and kind.unit == "ns":
        return _durations
    return None


def _far_maker(kind: pa.DataType) -> Make | None:
    """Return what makes texts of dates, timestamps and durations; None for any other type."""
    types = pa.types
    if types.is_date(kind):
        return lambda array: _each(array.cast(pa.date32()).cast(pa.int32()), far_times.day_text)
    if types.is_timestamp(kind):
        zone = "" if kind.tz is None else "Z"
        parts = UNITS[kind.unit]
        return lambda array: _each(array.cast(pa.int64()), lambda count: far_times.moment_text(count, parts) + zone)
    if types.is_duration(kind):
        nanos = 10**9 // UNITS[kind.unit]
        return lambda array: _each(array.cast(pa.int64()), lambda count: _duration(count * nanos))
    return None


def _each(counts: pa.Array, make: Callable[[int], str]) -> list[Any]:
    return [None if count is None else make(count) for count in counts.to_pylist()]


def _floats(array: pa.Array) -> list[Any]:
    if pa.types.is_float16(array.type):  # Arrow writes it as one of 32 bits
        return [None if each is None else float(str(each)) for each in _of_numpy(array, "float16")]
    shortest: list[Any] = array.cast(pa.string()).cast(pa.float64()).to_pylist()
    return shortest


def _of_numpy(array: pa.Array, dtype: str) -> list[Any]:
    import numpy as np

    halves = array.cast(pa.float32()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.dtype(dtype))
    return [half if there else None for half, there in zip(halves, array.is_valid().to_pylist(), strict=True)]


def _timestamps(array: pa.Array) -> list[Any]:
    zone = array.type.tz
    exact, rests = _apart(array, pa.timestamp("us", zone))
    return [_with_rest(value, rest) for value, rest in zip(exact, rests, strict=True)]


def _times(array: pa.Array) -> list[Any]:
    exact, rests = _apart(array, pa.time64("us"))
    return [_with_rest(value, rest) for value, rest in zip(exact, rests, strict=True)]


def _durations(array: pa.Array) -> list[Any]:
    exact, rests = _apart(array, pa.duration("us"))
    counts = array.cast(pa.int64()).to_pylist()
    return [value if not rest else _duration(count) for value, rest, count in zip(exact, rests, counts, strict=True)]


def _apart(array: pa.Array, kind: pa.DataType) -> tuple[list[Any], list[int]]:
    """Return the values in whole microseconds, rounded down, and the nanoseconds that are left of each."""
    counts = array.cast(pa.int64())
    numbers = counts.to_pylist()
    rests = [0 if number is None else number % _THOUSAND for number in numbers]
    micros = pa.array([None if number is None else number // _THOUSAND for number in numbers], pa.int64())
    return micros.cast(kind).to_pylist(), rests


def _with_rest(value: Any, rest: int) -> Any:
    if not rest or value is None:
        return value
    assert isinstance(value, datetime | time)
    text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
    offset = value.isoformat(timespec="microseconds")[len(text) :]
    return f"{text}{rest:03}{'Z' if offset == '+00:00' else offset}"


def _duration(count: int) -> str:
    days, rest = divmod(abs(count), _DAY_NS)
    seconds, nanos = divmod(rest, 10**9)
    return f"{'-' * (count < 0)}P{f'{days}D' if days else ''}T{seconds}{f'.{nanos:09}' if nanos else ''}S"


def _entries(array: pa.Array, *, far: bool) -> list[Any]:
    """Return the keys and values of all maps that are not null, one behind the other."""
    ends = array.offsets.to_pylist()
    span = slice(ends[0], ends[-1]) if ends else slice(0, 0)
    return list(zip(values(array.keys[span], far=far), values(array.items[span], far=far), strict=True))


def _object(entries: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(entries)
    if len(found) != len(entries):
        raise KeyError("a map has the same key twice")
    return found


def _lists(array: pa.Array, flat: list[Any]) -> list[Any]:
    """Cut the values of all lists into those of each."""
    if pa.types.is_map(array.type):
        ends = array.offsets.to_pylist()
        there = array.is_valid().to_pylist()
        return [
            flat[start - ends[0] : end - ends[0]] if is_there else None
            for start, end, is_there in zip(ends, ends[1:], there, strict=False)
        ]
    rest = iter(flat)
    lengths = _lengths(array)
    return [None if length is None else list(islice(rest, length)) for length in lengths]


def _lengths(array: pa.Array) -> list[int | None]:
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        return [kind.list_size if there else None for there in array.is_valid().to_pylist()]
    found: list[int | None] = array.value_lengths().to_pylist()
    return found
