"""Prompts with `{column}` in them, compiled once to a format: rendering a row of texts is one operation.

"{{" and "}}" stand for braces. A text column is put in as it is, a number as the file wrote it, a truth value as JSON,
null as nothing, an object or a list as compact JSON.
"""

import string
from typing import Any, Protocol

from rowmill.core.errors import ConfigError
from rowmill.tasks.numbers import encode
from rowmill.tasks.rows import ColumnUse


class TextTemplate(Protocol):
    """A text with places for columns, in whatever language it is written."""

    @property
    def named(self) -> list[ColumnUse]:
        """The columns that it names."""

    @property
    def whole(self) -> bool:
        """Whether it wants the row as a whole, all of its columns."""

    def render(self, values: dict[str, Any]) -> str:
        """Return the text for these columns of a row. Raises `InvalidRow` where the row does not fit it."""


class Template:
    """A compiled prompt template.

    columns: in order of first use. uses: an index into `columns` for every place, in order of the text.
    pattern: the text as a %-format, with one %s for each use.
    """

    whole = False

    def __init__(self, text: str, key: str) -> None:
        """Compile the text; `key` names it in errors. Raises `ConfigError` where it is no template."""
        self.key = key
        self.columns: list[str] = []
        self.uses: list[int] = []
        self.pattern = ""
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ConfigError(f"{key}: {error}; write {{{{ and }}}} for plain braces") from None
        for literal, column, spec, conversion in parsed:
            self.pattern += literal.replace("%", "%%")
            if column is None:
                continue
            if not column or spec or conversion:
                raise ConfigError(
                    f"{key}: {{{column}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}} is no "
                    "column name; write {column}, and {{ and }} for plain braces"
                )
            if column not in self.columns:
                self.columns.append(column)
            self.uses.append(self.columns.index(column))
            self.pattern += "%s"

    @property
    def named(self) -> list[ColumnUse]:
        """The columns that it names."""
        return [ColumnUse(column, self.key) for column in self.columns]

    def render(self, values: dict[str, Any]) -> str:
        """Return the text for the values of `columns`, of any type."""
        texts = [text_of(values[column]) for column in self.columns]
        return self.pattern % tuple(texts[use] for use in self.uses)


def text_of(value: Any) -> str:
    """Return what is put in for a value."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return encode(value).decode()
