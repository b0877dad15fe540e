"""Prompts with `{column}` in them, compiled once to a format: rendering a row of texts is one operation.

"{{" and "}}" stand for braces. A text column is put in as it is, a number or truth value as JSON, null as nothing,
an object or a list as compact JSON.
"""

import string
from typing import Any

import msgspec

from engine.errors import ConfigError


class Template:
    """A compiled prompt template.

    columns: in order of first use. uses: an index into `columns` for every place, in order of the text.
    pattern: the text as a %-format, with one %s for each use.
    """

    def __init__(self, text: str, key: str) -> None:
        """Compile the text; `key` names it in errors. Raises `ConfigError` where it is no template."""
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

    def render(self, values: dict[str, Any]) -> str:
        """Return the text for the values of `columns`, of any type."""
        texts = [_text(values[column]) for column in self.columns]
        return self.pattern % tuple(texts[use] for use in self.uses)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return msgspec.json.encode(value).decode()
