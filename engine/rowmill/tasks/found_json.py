"""The one JSON value in a reply, with what models write around it: reasoning, a code fence, prose before and behind.

Taken is what nobody could read in two ways: the text itself, where it is JSON; else, behind any block of `<think>`,
what the one code fence with JSON holds, or the one object or list that stands in the prose. Of several the one that
fits the schema; two that differ are a guess, and so is what stands within a value that is broken or cut off.
Raw control characters, broken unicode and NaN in it are mended (see `mended`).
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from rowmill.tasks.contents import is_beside, text_of, without_thoughts
from rowmill.tasks.mended import mended, mended_text

_QUOTE = ord('"')
_FENCE = "```"
_FENCED = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)[ \t]*```", re.DOTALL | re.MULTILINE)
_BEGINS = re.compile(r'\{\s*["}]|\[\s*(?:["{\[\]\-0-9]|true|false|null)')
_MOST_VALUES = 50  # in one text: more are no reply, whatever they are

Fits = Callable[[Any], bool]


class NoJson(Exception):
    """A content that is no JSON; the text says why."""


def json_in(output: bytes, *, strict: bool = False, fits: Fits | None = None) -> tuple[bytes, Any]:
    """Return the JSON that a content (a JSON string) holds: as its author wrote it, on one line, and decoded.

    strict: take nothing but JSON, and nothing around it. fits: tells which of several values is the one.
    Raises `NoJson` with the reason.
    """
    output = text_of(output)
    if output[0] != _QUOTE:
        if output[:1] not in (b"[", b"n") and not is_beside(output):  # some servers have read it already
            return one_line(output.decode()), _decode(output)
        raise NoJson("the reply is no text")
    try:
        text = _decode_text(output)
    except UNREADABLE:
        text = _decode_text(mended(output))
    try:
        value = _decode(text)
    except UNREADABLE as error:
        if not text.strip():
            raise NoJson("the reply is empty") from None
        if strict:
            raise NoJson(f"the reply is no JSON: {error}") from None
        text, value = _only_one(text, fits, str(error))
    return one_line(text), value


def one_line(text: str) -> bytes:
    """Return JSON text on one line. A valid one has line breaks only between its values."""
    return (msgspec.json.format(text, indent=-1) if "\n" in text or "\r" in text else text.strip()).encode()


def _only_one(text: str, fits: Fits | None, problem: str) -> tuple[str, Any]:
    answer = without_thoughts(text)[0]
    if not answer.strip():
        raise NoJson("the reply is empty" if answer == text else "the reply is only reasoning")
    if (whole := _read(answer)) is not None:
        return whole
    found: list[tuple[str, Any]] = []
    if _FENCE in answer:
        fenced = [match[1] for match in _FENCED.finditer(answer)]
        if fenced and not any(each.strip() for each in fenced):
            raise NoJson("the reply is empty")
        found = [each for each in map(_read, fenced) if each is not None]
    found = found or list(_values(answer, problem))
    if len(found) > 1 and fits is not None:
        found = [each for each in found if fits(each[1])] or found
    if not found:
        raise NoJson(f"the reply is no JSON: {problem}")
    if any(value != found[-1][1] for _, value in found):
        raise NoJson(f"the reply is no JSON: it has {len(found)} values that differ, and text around them")
    return found[-1]


def _values(text: str, problem: str) -> Iterator[tuple[str, Any]]:
    """Yield the objects and lists that stand in a text. Raises `NoJson` where one of them is broken, or cut off."""
    place = 0
    for _ in range(_MOST_VALUES):
        begins = _BEGINS.search(text, place)
        if begins is None:
            return
        try:
            place = _decode_loose(text, begins.start())[1]
        except (ValueError, RecursionError):
            if begins[0][0] == "[" and "]" in text[begins.end() : begins.end() + 100]:
                place = begins.end()  # a list in prose, as of what one could choose from
                continue
            raise NoJson(f"the reply is no JSON: {problem}") from None
        if (value := _read(text[begins.start() : place])) is not None:
            yield value
    raise NoJson("the reply is no JSON: it has too many values, and text around them")


def _read(text: str) -> tuple[str, Any] | None:
    for each in (text, mended_text(text)):
        try:
            return each, _decode(each)
        except UNREADABLE:
            continue
    return None


UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
_decode = msgspec.json.Decoder().decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_loose = json.JSONDecoder(strict=False).raw_decode
