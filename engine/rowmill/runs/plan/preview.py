"""A request body as a person reads it: a member a line, a message a line, long texts and lists cut to their start.

A screen is seen by others, and copied into issues: what is named like a key is not shown.
"""

from typing import Any

import msgspec

from rowmill.core.config.hidden import hidden

_TEXT = 400  # characters of a text
_LINE = 700  # of a line
_MEMBERS = 4  # of a list
_BODY = 4000  # characters in all


def shortened(body: bytes) -> str:
    """Return the body as JSON over several lines, where nothing had to be cut; a body that is no JSON as it stands."""
    try:
        members = hidden(msgspec.json.decode(body, type=dict[str, Any]))
        lines = [f"  {_line(name)}: {_value(_short(value))}" for name, value in members.items()]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _cut(body.decode(errors="replace"), _BODY)
    return _cut("{\n" + ",\n".join(lines) + "\n}", _BODY)


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return _cut(value, _TEXT)
    if isinstance(value, list):
        shown = [_short(each) for each in value[:_MEMBERS]]
        return shown if len(value) <= _MEMBERS else [*shown, f"... ({len(value):,} in all)"]
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    return value


def _value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"    {_line(each)}" for each in value) + "\n  ]"
    return _line(value)


def _line(value: Any) -> str:
    return _cut(msgspec.json.format(msgspec.json.encode(value), indent=0).decode(), _LINE)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"
