"""JSON that is not one object a line: an array of objects, objects over several lines, an object that holds the array.

Values are found by the standard library's scanner, and each is passed on as it stands in the file, but on one line: a
number keeps its digits. Memory holds a block and the longest value, whatever the file's size. What is no JSON ends the
reading, for it cannot be told where the next row would begin.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from rowmill.core.errors import InputError
from rowmill.files.input.jsonl import LONGEST_LINE

_BLOCK = 1 << 18  # bytes a read
_LOOK = 1 << 20  # characters of an object that are looked at to tell whether it holds the rows
_MOST = LONGEST_LINE  # characters of one value: no request could hold it
_PACK = 1 << 17  # bytes of rows that are passed on together
_OF_NUMBERS = ("", *"0123456789.eE+-")  # with which a number may go on: the text may end within it
_SPACE = " \t\r\n\x1e"  # the last one stands between values of JSON text sequences
_CONVERSATIONS = frozenset({"messages", "conversations", "conversation", "turns"})  # lists that a row itself has

# Where values begin and end is what is looked for, and what members are called: what a number comes to takes time that
# grows with the square of its digits, and beyond some thousand Python refuses it.
_scan = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len).raw_decode


# Of pandas: {"a":{"0":..., {"0":{"a":..., {"columns":[...],"index":[...],"data":[[...
_BY_COLUMNS = re.compile(
    r'\s*\{\s*(?:"(?:[^"\\]|\\.)*"\s*:\s*\{\s*"0"\s*:|"0"\s*:\s*\{|"columns"\s*:\s*\[.{0,100000}?\]\s*,\s*"index"\s*:\s*\[)',
    re.DOTALL,
)


def blocks(stream: BinaryIO, path: str, encoding: str) -> Iterator[bytes]:
    """Yield the rows as JSON lines, some at a time. Raises `InputError`."""
    lines: list[bytes] = []
    size = 0
    for row in _Values(stream, path, encoding).rows():
        line = row.replace("\n", " ").replace("\r", " ").encode(errors="surrogateescape")
        lines.append(line)
        size += len(line)
        if size >= _PACK:
            yield b"\n".join(lines) + b"\n"
            lines, size = [], 0
    if lines:
        yield b"\n".join(lines) + b"\n"


def is_spread(text: str, *, whole: bool, document: bool) -> bool:
    """Tell by its first text whether a file is of this kind, and not one object a line.

    whole: the text is all of the file. document: the file is named as one JSON document, so that one object in it may
    hold the rows.
    """
    text = text.lstrip("\ufeff" + _SPACE)
    if text[:1] not in ("{", "["):
        return False
    line, newline, rest = text.partition("\n")
    second = rest.lstrip(_SPACE).partition("\n")[0]
    alone = whole and not second
    try:
        value = _whole(line)
    except (ValueError, RecursionError):
        return _goes_on(text, line, second, whole=whole, document=document and not newline)
    if isinstance(value, list):
        if not value:
            return alone and document
        return all(isinstance(each, dict) for each in value) and not _is_object(second)
    return alone and document and rows_member(value) is not None


def _goes_on(text: str, line: str, second: str, *, whole: bool, document: bool) -> bool:
    """Tell whether a first line that is no JSON by itself becomes JSON with what follows."""
    if line.strip() in ("{", "["):
        return True
    if _is_object(second):
        return False  # one broken line among whole ones
    if text[0] == "[":
        return True
    try:
        _scan(text)
    except json.JSONDecodeError as error:
        # A first line that is longer than the text: a row, unless the file is named as a document.
        return not whole and _is_cut(error, text) and (bool(second) or document)
    except RecursionError:
        return False
    return True


def _whole(line: str) -> Any:
    """Return the value that is all of a line, but for its numbers. Raises `ValueError` where there is more, or none."""
    line = line.strip()
    value, end = _scan(line)
    if end < len(line):
        raise ValueError("there is more")
    return value


def _is_object(line: str) -> bool:
    try:
        return isinstance(_whole(line), dict)
    except (ValueError, RecursionError):
        return False


def rows_member(value: Any) -> str | None:
    """Return the member of an object that holds rows, where there is exactly one; a conversation is a row's own."""
    if not isinstance(value, dict):
        return None
    found = [
        name
        for name, member in value.items()
        if isinstance(member, list) and member and all(isinstance(each, dict) for each in member)
    ]
    return found[0] if len(found) == 1 and found[0].lower() not in _CONVERSATIONS else None


def holds_columns(text: str) -> bool:
    """Tell by the first text of a document whether it holds a table by columns, by numbers of rows or split up."""
    return _BY_COLUMNS.match(text) is not None and "\n{" not in text


def _is_cut(error: json.JSONDecodeError, text: str) -> bool:
    """Tell whether more text could mend what is wrong."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(text) - 12  # of "\ud83d\ude00"


class _Values:
    """Reads the values of one file. `text` is what is held of it, from `at` on not yet read."""

    def __init__(self, stream: BinaryIO, path: str, encoding: str) -> None:
        self._stream = stream
        self._path = path
        self._encoding = encoding
        utf8 = codecs.lookup(encoding).name == "utf-8"
        self._decoder = codecs.getincrementaldecoder("utf-8-sig" if utf8 else encoding)("surrogateescape")
        self._text = ""
        self._at = 0
        self._kept: int | None = None  # text from there on may be wanted again
        self._lines = 0  # before the text
        self._ended = False

    def rows(self) -> Iterator[str]:
        """Yield the rows as they stand in the file. Raises `InputError`."""
        first = True
        while (sign := self._next()) is not None:
            if sign == "[":
                yield from self._array()
            elif first and sign == "{" and self._holds_rows():
                yield from self._members()
            else:
                yield self._value()[1]
            first = False
            if self._next() == ",":  # as some write it between objects
                self._at += 1

    def _array(self) -> Iterator[str]:
        self._at += 1
        while (sign := self._next()) != "]":
            if sign is None:
                raise self._wrong("the array is not closed")
            yield self._value()[1]
            sign = self._next()
            if sign == ",":
                self._at += 1
            elif sign not in ("]", None):
                raise self._wrong("a comma is missing between two elements")
        self._at += 1

    def _holds_rows(self) -> bool:
        """Tell whether the object that begins here is all there is, and holds the rows: of a long one, maybe."""
        while True:
            try:
                value, end = _scan(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not _is_cut(error, self._text):
                    return False  # told when it is read
                if len(self._text) - self._at >= _LOOK:
                    return True
                self._fill()
                continue
            except RecursionError:
                return False
            return self._sign_at(end, self._at) is None and rows_member(value) is not None

    def _members(self) -> Iterator[str]:
        """Yield the elements of the one array of objects that this object has; the object itself where it has none."""
        self._kept = self._at
        self._at += 1
        found: str | None = None
        while (sign := self._next()) != "}":
            if sign != '"':
                raise self._wrong("the object is not closed" if sign is None else "a member has no name")
            name = self._value()[0]
            if self._next() != ":":
                raise self._wrong(f"member {str(name)[:50]!r} has no value")
            self._at += 1
            if (
                self._next() == "["
                and str(name).lower() not in _CONVERSATIONS
                and self._sign_at(self._at + 1, self._at) == "{"
            ):
                if found is not None:
                    raise self._wrong(f"{found!r} and {str(name)[:50]!r} both hold objects: which are the rows?")
                found, self._kept = str(name)[:50], None
                yield from self._array()
            else:
                self._value()
            if (sign := self._next()) == ",":
                self._at += 1
            elif sign not in ("}", None):
                raise self._wrong("a comma is missing between two members")
        self._at += 1
        if found is None:
            assert self._kept is not None, "no array was found"
            yield self._text[self._kept : self._at]
        self._kept = None

    def _sign_at(self, place: int, back: int) -> str | None:
        """Return the next sign from a place on, and go back."""
        kept = self._kept
        self._kept = back if kept is None else kept
        behind = back - self._kept
        self._at = place
        sign = self._next()
        self._at = self._kept + behind
        if kept is None:
            self._kept = None
        return sign

    def _next(self) -> str | None:
        """Go to the next character that is no space, and return it; None at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in _SPACE:
                at += 1
            self._at = at
            if at < len(text):
                return text[at]
            if self._ended:
                return None
            self._fill()

    def _value(self) -> tuple[Any, str]:
        """Return the value that begins here, and its text."""
        while True:
            try:
                value, end = _scan(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not _is_cut(error, self._text):
                    raise self._wrong(error.msg, error.pos) from None
            except RecursionError:
                raise self._wrong("objects within objects, too deep to be read") from None
            else:
                closed = self._text[end - 1] in '}]"' or self._text[end : end + 1] not in _OF_NUMBERS
                if closed or self._ended:
                    raw = self._text[self._at : end]
                    self._at = end
                    return value, raw
            if len(self._text) - self._at > _MOST:
                raise self._wrong(f"a value of more than {_MOST >> 20} million characters")
            self._fill()

    def _fill(self) -> None:
        """Read on, as much again as is held: a long value is then scanned a few times only."""
        start = self._at if self._kept is None else self._kept
        self._lines += self._text.count("\n", 0, start)
        held = self._text[start:]
        self._at -= start
        if self._kept is not None:
            self._kept = 0
        data = self._stream.read(max(_BLOCK, len(held)))
        self._ended = not data
        try:
            self._text = held + self._decoder.decode(data, final=self._ended)
        except UnicodeError:
            self._text = held
            raise self._wrong(f"is no {self._encoding} behind that; set input.encoding to what it is") from None

    def _wrong(self, what: str, place: int | None = None) -> InputError:
        line = self._lines + self._text.count("\n", 0, self._at if place is None else place) + 1
        return InputError(
            f"{self._path}: line {line}: no JSON as it goes on: {what[:1].lower()}{what[1:]}; mend the file there, "
            "or write one object a line (.jsonl), where a bad row is one failed row"
        )
