"""Texts of rows, servers and configurations, as a report has them: cut, and fit for JSON."""

from contextlib import suppress
from typing import Any

import msgspec

_MORE = "…"


def cut(text: str, most: int) -> str:
    """Return the text, or its beginning with a mark that it goes on. Half a surrogate pair is replaced."""
    if len(text) > most:
        text = text[: most - 1] + _MORE
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def told(value: Any, most: int) -> str:
    """Return a value as text: what is no text, as JSON."""
    if isinstance(value, str):
        return cut(value, most)
    for written in (msgspec.json.encode, repr):
        with suppress(msgspec.MsgspecError, ValueError, OverflowError, RecursionError, TypeError):
            text = written(value)
            return cut(text.decode() if isinstance(text, bytes) else text, most)
    return f"({type(value).__name__})"  # as a whole number of more digits than Python writes


def told_or_none(value: Any, most: int) -> str | None:
    """Return the same; None stays."""
    return None if value is None else told(value, most)
