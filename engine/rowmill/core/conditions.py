"""Conditions on answered rows, as `rowmill show --where` and `step.where` have them: `score >= 3 and lang != en`."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from rowmill.core.errors import ConfigError

_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", re.DOTALL)
_BEGINNING = r"[\w.$-]+\s*[!<>=~]"  # of a condition
_CONDITION = re.compile(
    r"\s*([\w.$-]+)\s*(!=|<=|>=|==|=|<|>|~)\s*"
    rf"({_QUOTED.pattern}|\S.*?)"  # an `and` between quotes is a word as any other
    rf"\s*(?:\Z|\sand\s+(?={_BEGINNING}))",
    re.DOTALL | re.IGNORECASE,
)
# As other languages join conditions: taken for a part of the value, it would quietly leave out every row.
_JOINED_OTHERWISE = re.compile(rf"\s(or|&&|\|\|)\s+{_BEGINNING}", re.IGNORECASE)
_PLACE = re.compile(r"[0-9]{1,9}")  # in a list
OF_ROWS = ("index", "id", "output", "error", "class", "finish_reason", "model", "usage")
_NONE = object()


def condition(text: str, key: str = "--where") -> Callable[[Mapping[str, Any]], bool]:
    """Return what tells whether an output line, decoded, is as the text says. Raises `ConfigError`, naming the key.

    A name is a member of the output ("topic", "address.city"), or one of the line's own: index, id, output, class (of a
    failure), finish_reason, model, usage; or else a column of the row, where the line has that. A value is JSON, or a
    bare word. `~` looks for a part of the text.
    """
    tests = [(name, _TESTS[test], _value(value)) for name, test, value in _parts(text, key)]

    def holds(line: Mapping[str, Any]) -> bool:
        return all(test(_found(line, name), wanted) for name, test, wanted in tests)

    return holds


def names(text: str) -> list[str]:
    """Return the names in a condition that is one."""
    return [name for name, _, _ in _parts(text, "")]


def _parts(text: str, key: str) -> list[tuple[str, str, str]]:
    parts: list[tuple[str, str, str]] = []
    at = 0
    while at < len(text) or not parts:
        found = _CONDITION.match(text, at)
        if found is None:
            raise ConfigError(
                f"{key} {text or 'says nothing'}: "
                "write NAME = VALUE, with one of = != < > <= >= ~, and more of them behind `and`"
            )
        other = None if _QUOTED.fullmatch(found[3]) else _JOINED_OTHERWISE.search(found[3])
        if other is not None:
            raise ConfigError(
                f"{key} {text}: conditions are joined by `and`, and by no `{other[1]}`; "
                "a value that has it stands in quotes"
            )
        parts.append((found[1], found[2], found[3]))
        at = found.end()
    return parts


def _value(text: str) -> Any:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text


def _found(line: Mapping[str, Any], name: str) -> Any:
    """Return the member of that name; `_NONE` where there is none."""
    found = _at(line.get("output"), name)
    if found is not _NONE:
        return found
    if name == "class":
        return _at(line.get("error"), "class")
    found = _at(line, name) if name.partition(".")[0] in OF_ROWS else _NONE
    return found if found is not _NONE else _at(line.get("input"), name)


def _at(value: Any, name: str) -> Any:
    if isinstance(value, Mapping) and name in value:  # a dot may be part of a name
        return value[name]
    first, dot, rest = name.partition(".")
    if isinstance(value, Mapping) and first in value:
        return _at(value[first], rest) if dot else value[first]
    if isinstance(value, list) and _PLACE.fullmatch(first) and int(first) < len(value):
        return _at(value[int(first)], rest) if dot else value[int(first)]
    return _NONE


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) != isinstance(wanted, bool):
        return False
    return bool(found == wanted) or (isinstance(found, str) and not isinstance(wanted, str) and found == _text(wanted))


def _ordered(found: Any, wanted: Any) -> bool:
    numbers = (int, float)
    both = [isinstance(each, numbers) and not isinstance(each, bool) for each in (found, wanted)]
    return all(both) or (isinstance(found, str) and isinstance(wanted, str))


def _text(value: Any) -> str:
    if value is _NONE:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": _same,
    "==": _same,
    "!=": lambda found, wanted: not _same(found, wanted),
    "<": lambda found, wanted: _ordered(found, wanted) and found < wanted,
    ">": lambda found, wanted: _ordered(found, wanted) and found > wanted,
    "<=": lambda found, wanted: _ordered(found, wanted) and found <= wanted,
    ">=": lambda found, wanted: _ordered(found, wanted) and found >= wanted,
    "~": lambda found, wanted: _text(wanted).casefold() in _text(found).casefold(),
}
