"""Prompts with `{column}` in them, compiled once: rendering one is a few string operations.

"{{" and "}}" stand for braces. A text column is put in as it is, a number or truth value as JSON, null as nothing,
an object or a list as compact JSON.
"""

import string
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.errors import ConfigError


class Template:
    """A compiled prompt template."""

    def __init__(self, text: str, key: str) -> None:
        """Compile the text; `key` names it in errors. Raises `ConfigError` where it is no template."""
        self.columns: list[str] = []  # in order of first use
        self._pieces: list[str | int] = []  # literal text, or an index into columns
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ConfigError(f"{key}: {error}; write {{{{ and }}}} for plain braces") from None
        for literal, column, spec, conversion in parsed:
            if literal:
                self._pieces.append(literal)
            if column is None:
                continue
            if not column or spec or conversion:
                raise ConfigError(
                    f"{key}: {{{column}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}} is no "
                    "column name; write {column}, and {{ and }} for plain braces"
                )
            if column not in self.columns:
                self.columns.append(column)
            self._pieces.append(self.columns.index(column))

    def render(self, values: Sequence[Any]) -> str:
        """Return the text for the values of `columns`, in that order."""
        return "".join([
            piece if type(piece) is str else value if type(value := values[piece]) is str else _text(value)  # type: ignore[index]  # narrowed by the line itself
            for piece in self._pieces
        ])  # fmt: skip


def _text(value: Any) -> str:
    if value is None:
        return ""
    return msgspec.json.encode(value).decode()
