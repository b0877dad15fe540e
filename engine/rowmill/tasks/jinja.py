"""Prompts as Jinja2 templates (`task.template = "jinja"`), compiled once. A row costs about ten times a plain one.

A template sees the row's columns by their names, and the whole row as `row` (`row["a b"]` for names that are no
identifiers). What differs from plain Jinja2, and why:
- Sandboxed: a template may come with somebody else's recipe. No template can be included. What it makes is bounded.
- A column that a row lacks is an error of that row (StrictUndefined), unless `is defined` or `default` allows for it.
- Values are put in as in `{column}` templates: null as nothing, truth values, lists and objects as JSON. `tojson`
  escapes nothing for HTML.
- Lines that hold only a block tag leave no line behind (trim_blocks, lstrip_blocks, as chat templates have it), and
  the last newline stays.
- What would take the worker's memory or time is an error: see `bounded`.
- Nothing random: a row that is asked again after a crash must be asked the same (no `lipsum`, no `random`).
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes

from rowmill.core.errors import ConfigError, InvalidRow
from rowmill.tasks.bounded import BoundedEnvironment, joined
from rowmill.tasks.numbers import encode
from rowmill.tasks.rows import ColumnUse
from rowmill.tasks.template import text_of

_ROW = "row"


def _finalized(value: Any) -> Any:
    if isinstance(value, str | Undefined):
        return value  # what is undefined raises as it is put in
    try:
        return text_of(value)
    except TypeError:  # an object of Jinja's own, as a loop or a macro
        return str(value)


def _json(value: Any, indent: int | None = None) -> str:
    return msgspec.json.format(encode(value), indent=indent or 0).decode()


def _environment() -> BoundedEnvironment:
    environment = BoundedEnvironment(
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    del environment.globals["lipsum"], environment.filters["random"]
    environment.filters["tojson"] = _json
    return environment


_ENVIRONMENT = _environment()


class JinjaTemplate:
    """A compiled prompt template; see `template.TextTemplate`."""

    def __init__(self, text: str, key: str) -> None:
        """Compile the text; `key` names it in errors. Raises `ConfigError` where it is no template."""
        try:
            tree = _ENVIRONMENT.parse(text)
            template = _ENVIRONMENT.from_string(text)
        except TemplateSyntaxError as error:
            raise ConfigError(f"{key}: line {error.lineno}: {error.message}") from None
        except (TemplateError, RecursionError) as error:
            raise ConfigError(f"{key}: {error}") from None
        if any(True for _ in meta.find_referenced_templates(tree)):
            raise ConfigError(f"{key}: a template cannot include, import or extend another; write it as one text")
        # Without loops a text is as long as the template and its values, and pieces take a third more time.
        self._render = template.render
        self._pieces = template.generate if any(True for _ in tree.find_all(nodes.For)) else None
        self._key = key
        guarded = _guarded(tree)
        # A column wins over a global of its name, as over `range`.
        globals_ = {name.name for name in tree.find_all(nodes.Name)} & _ENVIRONMENT.globals.keys()
        names = sorted(meta.find_undeclared_variables(tree) | globals_)
        self.whole = _ROW in names
        self.named = [
            # A column may stand in a branch that most rows do not take: only a render knows what it needs.
            ColumnUse(name, key, required=False, expected=name not in guarded and name not in _ENVIRONMENT.globals)
            for name in names
            if name != _ROW
        ]

    def render(self, values: dict[str, Any]) -> str:
        """Return the text for these columns of a row. Raises `InvalidRow` with the key, the column and the reason."""
        # A column of that name stands for itself.
        context = {_ROW: values, **values} if self.whole else values
        try:
            return self._render(context) if self._pieces is None else joined(self._pieces(context))
        except UndefinedError as error:
            told = error.message or "something is undefined"
            missing = next((use.column for use in self.named if told == f"{use.column!r} is undefined"), None)
            reason = f"{self._with(values)}{told}" if missing is None else f"the row has no column {missing!r}"
            raise InvalidRow(f"{self._key}: {reason}") from None
        except Exception as error:  # noqa: BLE001 - a template is a program: whatever it raises for a row is the row's
            raise InvalidRow(f"{self._key}: {self._with(values)}{type(error).__name__}: {error}") from None

    def _with(self, values: Mapping[str, Any]) -> str:
        """Name the columns that an error can come from."""
        names = [use.column for use in self.named if use.column in values]
        return f"column{'s' * (len(names) > 1)} {', '.join(map(repr, names))}: " if names else ""


def _guarded(tree: nodes.Template) -> set[str]:
    """Return the names that the template itself allows to be missing."""
    tests = (test for test in tree.find_all(nodes.Test) if test.name in {"defined", "undefined"})
    defaults = (use for use in tree.find_all(nodes.Filter) if use.name in {"default", "d"})
    return {each.node.name for each in (*tests, *defaults) if isinstance(each.node, nodes.Name)}
