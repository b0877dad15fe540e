"""Rows with what was asked and what came back, as text for a terminal."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from rowmill.core.plain_text import stripped
from rowmill.interface.ui import figures
from rowmill.interface.ui.cells import Style, painted, wrapped
from rowmill.runs.answered import Line, asked_in

_LEAST = 40  # columns, however narrow the terminal is
_NAME = 80  # characters of an id, and of why a reply ended
_ROLE = 16  # of who says a message
_LINES = 12  # of a text that is clipped
_NUMBERS, _FIRST = 16, 3  # a list of more numbers is told by its first ones
_DATA_URL = re.compile(r"(data:[\w.+/-]*(?:;[\w.=+-]+)*;base64,)([A-Za-z0-9+/=_-]{100,})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{200,}={0,2}")


def reply_text(line: Line, width: int, *, most: int | None = None, colour: bool = False) -> str:
    """Return a row: its number and id, the prompt as it was sent, the reply or why there is none.

    most: characters of each text; None: the whole.
    """
    return "\n".join(_lines(line, max(_LEAST, width), most, colour=colour))


def _lines(line: Line, width: int, most: int | None, *, colour: bool) -> Iterator[str]:
    def block(name: str, text: str, style: Style) -> Iterator[str]:
        return _block(name, text, width, most, style if colour else None)

    error = line.get("error")
    name = "" if line.get("id") in (None, line["index"]) else f"  id {figures.clipped(_text(line['id']), _NAME)}"
    how = (
        ""
        if line.get("finish_reason") in (None, "stop")
        else f"  finish_reason {figures.clipped(_text(line['finish_reason']), _NAME)}"
    )
    yield painted(f"row {line['index']}", "bold", colour=colour) + name + how
    for role, content in asked_in(line.get("prompt")):
        yield from block(role or "asked", _text(content) if role is None else _content(content), "dim")
    if isinstance(error, dict):
        words = [str(error["class"]), *(f"HTTP {error['status']}" for _ in [0] if error.get("status"))]
        yield from block("failed", f"{', '.join(words)}: {error.get('message') or ''}", "red")
        if error.get("reply") is not None:
            yield from block("reply", _text(error["reply"]), "green")
    else:
        yield from block("reply", _replied(line.get("output")), "green")


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(_text(part.get("text", part)) if isinstance(part, dict) else _text(part) for part in content)
    return _text(content)


def _replied(output: Any) -> str:
    """Return what a reply says; one that is kept whole, as a batch's output has it, by its messages."""
    choices = output.get("choices") if isinstance(output, dict) else None
    if isinstance(choices, list) and choices:
        said = [each.get("message") if isinstance(each, dict) else None for each in choices]
        if all(isinstance(each, dict) and isinstance(each.get("content"), str) for each in said):
            return "\n".join(_text(each["content"]) for each in said if each is not None)
    return _text(output)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _DATA_URL.sub(_told_url, value)
    short = _short(value)
    return short if isinstance(short, str) else msgspec.json.format(msgspec.json.encode(short), indent=2).decode()


def _short(value: Any) -> Any:
    """Return the value with a few words for what nobody reads: long vectors, images, sound."""
    if isinstance(value, dict):
        return {str(name): _short(each) for name, each in value.items()}
    if isinstance(value, list):
        if len(value) > _NUMBERS and all(isinstance(each, int | float) or each is None for each in value):
            first = ", ".join(msgspec.json.encode(each).decode() for each in value[:_FIRST])
            return f"{len(value):,} numbers: {first}, ..."
        return [_short(each) for each in value]
    if isinstance(value, str):
        found = _BASE64.fullmatch(value)
        return _DATA_URL.sub(_told_url, value) if found is None else f"{_volume(value)} of base64"
    return value


def _told_url(found: re.Match[str]) -> str:
    return f"{found[1]}... ({_volume(found[2])})"


def _volume(base64: str) -> str:
    return figures.volume(len(base64) * 3 // 4)


def _clipped(text: str, most: int) -> str:
    """Return the beginning of a text: so many characters at most, and few lines."""
    lines = text[: most + 1].splitlines()
    if len(text) <= most and len(lines) <= _LINES:
        return text
    return "\n".join(lines[:_LINES])[: most - 3] + "..."


def _block(name: str, text: str, width: int, most: int | None, style: Style | None) -> Iterator[str]:
    """Yield the text under its name; it cannot move the cursor or change colours."""
    text = text if most is None else _clipped(text, most)
    name = f"{figures.clipped(name, _ROLE):<8}"
    indent = len(name) + 3
    first = f"  {painted(name, style, colour=style is not None)} "
    for part in text.splitlines() or [""]:
        for piece in wrapped(stripped(part.expandtabs(4)), width - indent):
            yield (first + piece).rstrip()
            first = " " * indent
