"""Text in the cells of a terminal: how wide it is, where it is broken, and a little colour.

Colour only repeats what the text says: nothing is lost without it.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from rich.cells import cell_len, get_character_cell_size

Style = Literal["bold", "dim", "red", "green", "yellow"]
_CODES: dict[Style, int] = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}


def painted(text: str, style: Style | None, *, colour: bool) -> str:
    """Return the text in a style, where there is colour."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if colour and style is not None and text else text


def wrapped(text: str, width: int) -> list[str]:
    """Return a line of text in lines of so many columns: a letter of Chinese and an emoji take two."""
    if len(text) * 2 <= width:
        return [text]
    lines, start, columns, space = [], 0, 0, -1
    for place, character in enumerate(text):
        taken = 1 if character < "\u0300" else get_character_cell_size(character)
        if character == " ":
            space = place
        if columns + taken > width and place > start:
            end, after = (space, space + 1) if space > start else (place, place)
            lines.append(text[start:end])
            start = after
            columns = cell_len(text[start : place + 1])
        else:
            columns += taken
    lines.append(text[start:])
    return lines


def filled(pieces: Iterable[tuple[str, Style | None]], width: int, *, gap: str = " ", colour: bool) -> Iterator[str]:
    """Join pieces, each in its style, into as few lines of so many columns as hold them. width: 0 for one line."""
    line, used = "", 0
    for piece, style in pieces:
        for part in wrapped(piece, width) if width else [piece]:
            taken = cell_len(part)
            if used and width and used + len(gap) + taken > width:
                yield line
                line, used = "", 0
            line += f"{gap if used else ''}{painted(part, style, colour=colour)}"
            used += taken + (len(gap) if used else 0)
    yield line
