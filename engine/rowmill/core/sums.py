"""Figures that add up: those of the parts, field by field, make those of the whole."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Self

import msgspec


class Sums(msgspec.Struct):
    """The base of such figures. Its fields are numbers, other sums, or either of them by name, all empty at first."""

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Return all of these together. Where parts have more figures than this type, only its own count."""
        figures = map(attrgetter(*cls.__struct_fields__), (cls(), *parts))
        return cls(*map(_total, zip(*figures, strict=True)))

    def add(self, other: Self) -> None:
        """Add the other's figures to these. Takes some microseconds: not to be called for every row."""
        whole = self.total((self, other))
        for name in self.__struct_fields__:
            setattr(self, name, getattr(whole, name))


def _total(values: Sequence[Any]) -> Any:
    """Return the sum. It shares nothing with the values that may change."""
    match values[0]:
        case Sums() as first:
            return first.total(values)
        case dict():
            names = dict.fromkeys(name for value in values for name in value)
            return {name: _total([value[name] for value in values if name in value]) for name in names}
    return sum(values)
