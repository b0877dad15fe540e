"""Thrift's compact protocol, in which the footer of a Parquet file is written: bytes <-> values.

A struct is a dict from field number to (type, value), in the order of the numbers, or the bytes of one; a list is (type
of its elements, elements). What a field means is not known here, so whatever a later version of Parquet adds is kept.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)
_STOP = 0
_INTEGERS = {I16, I32, I64}
_FIXED_BYTES = {BYTE: 1, DOUBLE: 8, UUID: 16}
_LONG_LIST = 15  # a list with as many elements, or more, has their count in bytes of its own
_MORE = 0x80  # of a byte of a number that another one follows
_LONG_DELTA = 15  # a field whose number is further from the one before it is written in full

Struct = dict[int, tuple[int, Any]]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise ValueError("its footer is cut short")
        self._at += count
        return piece

    def varint(self) -> int:
        result = shift = 0
        while True:
            (byte,) = self.take(1)
            result |= (byte & 0x7F) << shift
            if byte < _MORE:
                return result
            shift += 7

    def integer(self) -> int:
        coded = self.varint()
        return (coded >> 1) ^ -(coded & 1)

    def value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self.integer()
        if kind in _FIXED_BYTES:
            return self.take(_FIXED_BYTES[kind])
        if kind == BINARY:
            return self.take(self.varint())
        if kind == STRUCT:
            return self.struct()
        if kind in {LIST, SET}:
            return self.elements()
        raise ValueError(f"its footer has a value of type {kind}")

    def elements(self) -> tuple[int, list[Any]]:
        (head,) = self.take(1)
        count, kind = head >> 4, head & 0x0F
        if count == _LONG_LIST:
            count = self.varint()
        # In a list a truth value is a byte of its own; in a struct it is the type of the field.
        return kind, [self.take(1) if kind in {TRUE, FALSE} else self.value(kind) for _ in range(count)]

    def struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while True:
            (head,) = self.take(1)
            if head == _STOP:
                return fields
            delta, kind = head >> 4, head & 0x0F
            number = number + delta if delta else self.integer()
            fields[number] = kind, (None if kind in {TRUE, FALSE} else self.value(kind))


def read_struct(data: bytes) -> Struct:
    """Read a struct from the beginning of the bytes. Raise ValueError where there is none."""
    return _Reader(data).struct()


def write_struct(fields: Struct) -> bytes:
    """Return the bytes of a struct."""
    out = bytearray()
    _write_struct(out, fields)
    return bytes(out)


def _write_struct(out: bytearray, fields: Struct) -> None:
    before = 0
    for number, (kind, value) in fields.items():
        delta = number - before
        before = number
        if 0 < delta <= _LONG_DELTA:
            out.append(delta << 4 | kind)
        else:
            out.append(kind)
            _write_integer(out, number)
        _write_value(out, kind, value)
    out.append(_STOP)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        _write_integer(out, value)
    elif kind in _FIXED_BYTES:
        out += value
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT and isinstance(value, bytes):
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in {LIST, SET}:
        inner, elements = value
        if len(elements) < _LONG_LIST:
            out.append(len(elements) << 4 | inner)
        else:
            out.append(_LONG_LIST << 4 | inner)
            _write_varint(out, len(elements))
        for element in elements:
            if inner in {TRUE, FALSE}:
                out += element
            else:
                _write_value(out, inner, element)


def _write_integer(out: bytearray, value: int) -> None:
    _write_varint(out, value << 1 ^ value >> 63)


def _write_varint(out: bytearray, value: int) -> None:
    while value >= _MORE:
        out.append(value & 0x7F | _MORE)
        value >>= 7
    out.append(value)
