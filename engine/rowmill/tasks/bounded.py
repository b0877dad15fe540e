"""A sandbox whose templates cannot take the machine with them: what one operation makes, and the text, are bounded.

`{{ "x" * 10 ** 10 }}` is ten gigabytes, and `{{ 10 ** 10 ** 10 }}` no end: each is the failure of its row.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST = 1 << 26  # characters or items; no model reads as much
_MOST_BITS = 1 << 20  # of a number
_SIZED = ("center", "indent", "batch", "slice", "format")  # filters whose arguments say how much they make
_WIDE = re.compile(r"\d{8}|\*")  # in a format: a width beyond any use, or one that comes from elsewhere
_SEQUENCES = (str, bytes, list, tuple)


class TooMuch(ValueError):
    """A template makes more than any request could hold."""

    def __init__(self) -> None:
        super().__init__(f"it makes a value of more than {MOST:,} characters or items")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with bounds."""

    intercepted_binops = frozenset(("*", "**", "+", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in _SIZED:
            self.filters[name] = _checked(self.filters[name])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute what is no larger than the bounds. Raises `TooMuch`."""
        match operator:
            case "*" if _product(left, right) > MOST or _bits(left) + _bits(right) > _MOST_BITS:
                raise TooMuch
            case "**" if isinstance(right, int) and _bits(left) * abs(right) > _MOST_BITS:
                raise TooMuch
            case "+" if _length(left) + _length(right) > MOST:
                raise TooMuch
            case "%" if isinstance(left, str) and _WIDE.search(left):
                raise TooMuch
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063 - as there
        """Call what makes no more than the bounds. Raises `TooMuch`."""
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps those that format
        text = getattr(method, "__self__", None)
        if isinstance(text, str | bytes):
            _check(args, kwargs)
            if method.__name__ in ("format", "format_map") and isinstance(text, str) and _WIDE.search(text):
                raise TooMuch
        return super().call(__context, __obj, *args, **kwargs)


def joined(pieces: Iterable[str]) -> str:
    """Return the text of a template's pieces. Raises `TooMuch`."""
    found = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > MOST:
            raise TooMuch
        found.append(piece)
    return "".join(found)


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        _check(arguments[1:], named)
        if isinstance(arguments[0], str) and function.__name__ == "do_format" and _WIDE.search(arguments[0]):
            raise TooMuch
        return function(*arguments, **named)

    vars(called).update(vars(function))  # what it wants passed to it
    return called


def _check(arguments: Iterable[Any], named: dict[str, Any]) -> None:
    if any(isinstance(each, int) and abs(each) > MOST for each in (*arguments, *named.values())):
        raise TooMuch


def _product(left: Any, right: Any) -> int:
    if isinstance(left, _SEQUENCES) and isinstance(right, int):
        return len(left) * right
    return len(right) * left if isinstance(right, _SEQUENCES) and isinstance(left, int) else 0


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _length(value: Any) -> int:
    return len(value) if isinstance(value, _SEQUENCES) else 0
