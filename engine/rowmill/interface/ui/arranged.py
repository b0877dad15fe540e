"""Texts in their places: cells in columns of one width, and lines that begin with a label."""

import textwrap
from collections.abc import Collection, Sequence

LABEL = 11  # characters before the text of a line


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[list[str]]:
    """Pad the cells of every column to one width, those of these columns on their left."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]


def line(label: str, text: str) -> str:
    """Return a line with its label."""
    return f"  {label:<{LABEL - 2}}{text}"


def block(label: str, texts: Sequence[str]) -> list[str]:
    """Return a line for each text, the first of them with the label."""
    return [line("" if place else label, text) for place, text in enumerate(texts)]


def words(text: str, width: int, first: str, further: str) -> list[str]:
    """Break a text between words; `first` and `further` stand before the first line and before the others."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )


def within(line: str, width: int) -> str:
    """Return a line with its label, its rest below its text where it is wider than the terminal; width: 0 for none."""
    return line if not 0 < width < len(line) else "\n".join(words(line, width, "", " " * min(LABEL, width // 3)))
