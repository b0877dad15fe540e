"""Texts that fit a regular expression or a format of JSON Schema.

The expressions are those that schemas use: literals, classes, groups, the first of several alternatives, and
repetitions. What goes beyond (look-around, back references) is given up, and so is a text that does not fit after all.

Why not the package rstr: its texts for `[^...]` differ from process to process whatever the seed, it cannot write
`{101,}`, and nothing keeps its texts between two lengths.
"""

import re
import string
from collections.abc import Callable
from uuid import UUID

Draw = Callable[[int], int]  # Draw(n): a number from 0 to n - 1

_WIDE = 7  # repetitions beyond the least of an open-ended quantifier: texts of different questions differ
_MOST = 200  # repetitions that are written at all
_LETTERS = string.ascii_lowercase
_KINDS = {"d": string.digits, "w": _LETTERS + string.digits, "s": " ", "D": _LETTERS, "W": "-", "S": _LETTERS}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r"}
_FORMATS = {
    "date": "{date}",
    "time": "{time}",
    "date-time": "{date}T{time}",
    "duration": "PT{small}S",
    "email": "{number:x}@example.com",
    "hostname": "h{number:x}.example.com",
    "uri": "https://example.com/{number:x}",
    "iri": "https://example.com/{number:x}",
    "uri-reference": "/{number:x}",
    "ipv4": "192.0.2.{host}",
    "ipv6": "2001:db8::{small:x}",
    "uuid": "{uuid}",
}


def formatted(name: str, number: int) -> str | None:
    """Write a text of this format that follows from a number of 64 bits; None where the format is not known."""
    small = number & 0xFFFF
    date = f"20{small % 30:02}-{number % 12 + 1:02}-{number % 28 + 1:02}"
    time = f"{number % 24:02}:{small % 60:02}:{number % 60:02}Z"
    uuid = UUID(int=number << 64 | number, version=4)
    text = _FORMATS.get(name)
    return text and text.format(number=number, small=small, date=date, time=time, host=small % 254 + 1, uuid=uuid)


def fitting(pattern: str, draw: Draw, low: int, high: int | None) -> str | None:
    """Write a text of `low` to `high` characters that the pattern fits; None where that is beyond this module."""
    for wide in (_WIDE, low, 0):
        try:
            text = _Writer(pattern, draw, wide).text()
            if re.search(pattern, text) and low <= len(text) and (high is None or len(text) <= high):
                return text
        except (_BeyondError, re.error):
            return None
    return None


class _BeyondError(Exception):
    """The pattern has something that is not written here."""


class _Writer:
    """One pass over a pattern by recursive descent. Mutable state: the place in it."""

    def __init__(self, pattern: str, draw: Draw, wide: int) -> None:
        self._pattern = pattern
        self._draw = draw
        self._wide = wide
        self._at = 0

    def text(self) -> str:
        text = self._alternatives()
        if self._at < len(self._pattern):
            raise _BeyondError
        return text

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self, only: str = "") -> str:
        """Take the next character; one of these only, or nothing."""
        char = self._peek()
        if only and (not char or char not in only):
            return ""
        if not char:
            raise _BeyondError
        self._at += 1
        return char

    def _alternatives(self) -> str:
        first = self._sequence()
        while self._take("|"):
            self._sequence()
        return first

    def _sequence(self) -> str:
        parts: list[str] = []
        while self._peek() not in {"", "|", ")"}:
            start = self._at
            part = self._atom()
            times = self._times()
            after = self._at
            for count in range(times):
                if count:  # read again, so that each repetition draws its own characters
                    self._at = start
                    part = self._atom()
                parts.append(part)
            self._at = after
        return "".join(parts)

    def _atom(self) -> str:
        match self._take():
            case "^" | "$":
                return ""
            case "(":
                return self._group()
            case "[":
                return self._pick(self._members())
            case ".":
                return self._pick(_LETTERS)
            case "\\":
                return self._pick(self._escaped())
            case "*" | "+" | "?" | "{":
                raise _BeyondError
            case char:
                return char

    def _group(self) -> str:
        if self._take("?"):
            self._take("P")
            kind = self._take()
            if kind == "<" and self._peek() not in {"=", "!"}:
                while self._take() != ">":
                    pass
            elif kind != ":":
                raise _BeyondError
        text = self._alternatives()
        if self._take() != ")":
            raise _BeyondError
        return text

    def _escaped(self) -> str:
        char = self._take()
        if char in _KINDS:
            return _KINDS[char]
        if char.isalnum():
            if char not in _CONTROLS:
                raise _BeyondError
            return _CONTROLS[char]
        return char

    def _members(self) -> str:
        """Read a class up to its end; return the characters that it holds."""
        negated = self._take("^")
        members = ""
        while (char := self._take()) != "]" or not members:
            if char == "\\":
                members += self._escaped()
            elif self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in {"]", ""}:
                self._take()
                last = self._take()
                if last == "\\":
                    last = self._escaped()[-1]
                members += "".join(map(chr, range(ord(char), min(ord(last), ord(char) + 255) + 1)))
            else:
                members += char
        if negated:
            members = "".join(char for char in _KINDS["w"] if char not in members)
        return members

    def _pick(self, members: str) -> str:
        if not members:
            raise _BeyondError
        return members[self._draw(len(members))]

    def _times(self) -> int:
        """Read a quantifier, if there is one; choose how often what it follows is written."""
        least, most = 1, 1
        if char := self._take("*+?"):
            least = 1 if char == "+" else 0
            most = 1 if char == "?" else least + self._wide
        elif (found := re.compile(r"\{(\d+)(,?)(\d*)\}").match(self._pattern, self._at)) is not None:
            self._at = found.end()
            least = int(found[1])
            most = int(found[3]) if found[3] else least + (self._wide if found[2] else 0)
        self._take("?")  # lazy: the same texts fit
        return min(most, least + self._wide, max(least, _MOST))
