"""Rows as JSON objects, all of the same names."""

import functools
from collections.abc import Callable
from typing import Any

import msgspec


@functools.lru_cache(maxsize=8)
def object_maker(names: tuple[str, ...]) -> Callable[..., Any]:
    """Return what makes an encodable object of the values of all names.

    A Struct is encoded at up to twice the speed of a dict: its keys are checked and escaped once.
    """
    fields = [f"f{number}" for number in range(len(names))]
    try:
        return msgspec.defstruct(
            "Row",
            [(field, Any) for field in fields],
            rename=dict(zip(fields, names, strict=True)),
            gc=False,
        )
    except ValueError:  # names that JSON has to escape
        return lambda *values: dict(zip(names, values, strict=True))
