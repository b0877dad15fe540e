"""Rows with what was asked and what came back, as text for a terminal."""

import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from rowmill.core.plain_text import one_line, stripped
from rowmill.interface.ui import figures
from rowmill.runs.answered import Line

_NAMES = ("messages", "input", "prompt")  # of the request, where what was asked stands
_LEAST = 40


def reply_text(line: Line, width: int, *, most: int | None = None) -> str:
    """Return a row: its number and id, the prompt as it was sent, the reply or why there is none.

    most: characters of each text; None: the whole.
    """
    return "\n".join(_lines(line, max(_LEAST, width), most))


def _lines(line: Line, width: int, most: int | None) -> Iterator[str]:
    error = line.get("error")
    name = "" if line.get("id") in (None, line["index"]) else f"  id {one_line(_text(line['id']))}"
    how = "" if line.get("finish_reason") in (None, "stop") else f"  {one_line(_text(line['finish_reason']))}"
    yield f"row {line['index']}{name}{how}"
    for role, text in _asked(line.get("prompt")):
        yield from _block(role, text, width, most)
    if isinstance(error, dict):
        words = [str(error["class"]), *(f"HTTP {error['status']}" for _ in [0] if error.get("status"))]
        yield from _block("failed", f"{', '.join(words)}: {error.get('message') or ''}", width, most)
        if error.get("reply") is not None:
            yield from _block("reply", _text(error["reply"]), width, most)
    else:
        yield from _block("reply", _text(line.get("output")), width, most)


def _asked(body: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(body, dict):
        return
    value = next((body[name] for name in _NAMES if name in body), None)
    if isinstance(body.get("instructions"), str):
        yield "system", body["instructions"]
    if isinstance(value, list) and value and all(isinstance(each, dict) and "role" in each for each in value):
        for message in value:
            yield str(message["role"]), _content(message.get("content"))
    elif value is not None:
        yield "asked", _text(value)


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(_text(part.get("text", part)) if isinstance(part, dict) else _text(part) for part in content)
    return _text(content)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _block(name: str, text: str, width: int, most: int | None) -> Iterator[str]:
    """Yield the text under its name; it cannot move the cursor or change colours."""
    text = text if most is None else figures.clipped(text, most)
    first = f"  {one_line(name):<8} "
    for part in text.splitlines() or [""]:
        for piece in textwrap.wrap(stripped(part), width - len(first), replace_whitespace=False) or [""]:
            yield (first + piece).rstrip()
            first = " " * len(first)
