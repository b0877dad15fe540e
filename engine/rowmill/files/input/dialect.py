"""What a CSV file's own first rows say of it: the delimiter, and columns without a name.

A delimiter is one that the header has and the rows agree with: text columns are full of commas, in files of semicolons
too, but not the same number of them in each row and in the header. Where nothing tells, it is the one of the name.
"""

import contextlib
import csv
import io
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

SAMPLE = 1 << 16  # bytes from the start of a file that are looked at
_ROWS = 300
_DELIMITERS = (",", ";", "\t", "|")
_ENDED = 0.9  # part of the rows that must end with a comma that the header has not
_AGREE = 0.5  # part of the rows that must have the header's fields
_SEP = re.compile(r'\ufeff?\s*"?sep=(.)"?[\r\n]*\Z', re.IGNORECASE)  # how Excel is told the delimiter

NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}  # what plans call them


class Columns(NamedTuple):
    """The columns of a file.

    names: in order. unnamed: places, from 1, of those that the header does not name. surplus: fields at the end of each
    row that have neither name nor value.
    """

    names: list[str]
    unnamed: list[int]
    surplus: int


def declared(line: str) -> str | None:
    """Return the delimiter that a file's first line declares, as `sep=;`; None where it is no such line."""
    found = _SEP.match(line)
    return found[1] if found else None


def sniffed(sample: str, default: str, *, whole: bool) -> str:
    """Return the delimiter by a file's first text. whole: that is all of the file."""
    lines = sample.splitlines(keepends=True)
    if lines and (told := declared(lines[0])) is not None:
        return told
    ranked = []
    for delimiter in (default, *(each for each in _DELIMITERS if each != default)):
        rows = rows_of(sample, delimiter, whole=whole)
        if not rows or len(rows[0]) == 1:
            continue
        agreeing = sum(_agrees(row, rows[0]) for row in rows[1:])
        share = agreeing / (len(rows) - 1) if len(rows) > 1 else 1.0
        if share >= _AGREE or delimiter == default:
            # A sign with a space behind it, field after field, is one of prose.
            prose = sum(field.startswith(" ") for row in rows for field in row[1:])
            fields = sum(len(row) - 1 for row in rows) or 1
            ranked.append((round(share, 1), prose * 2 < fields, delimiter == default, len(rows[0]), delimiter))
    return max(ranked)[-1] if ranked else default


def rows_of(sample: str, delimiter: str, *, whole: bool) -> list[list[str]]:
    """Return the first rows of a text that are whole, the header first, without blank ones."""
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):  # a field beyond the parser's measure: what came before it tells
        rows.extend(islice(filter(any, csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)), _ROWS))
    if not whole and 1 < len(rows) < _ROWS:
        rows.pop()
    return rows


def columns_of(header: list[str], rows: Sequence[Sequence[Any]]) -> Columns:
    """Return the columns of a header. rows: the first ones. A column without a name is called by its place."""
    names = list(header)
    while len(names) > 1 and not names[-1] and not any(len(row) >= len(names) and row[len(names) - 1] for row in rows):
        names.pop()
    surplus = len(header) - len(names)
    if len(rows) > 1 and not surplus:  # where a comma ends each row, and the header has none
        longest = max(map(len, rows))
        alike = sum(len(row) == longest and not any(row[len(names) :]) for row in rows)
        surplus = longest - len(names) if longest > len(names) and alike >= _ENDED * len(rows) else 0
    unnamed = [place for place, name in enumerate(names, 1) if not name]
    taken = set(names)  # a sheet may have 16,384 columns
    for place in unnamed:
        name = f"column_{place}"
        while name in taken:
            name += "_"
        taken.add(name)
        names[place - 1] = name
    return Columns(names, unnamed, surplus)


def _agrees(row: list[str], header: list[str]) -> bool:
    width = len(header)
    return (
        len(row) == width
        or (len(row) == width + 1 and not row[-1])  # commas at the ends of rows, or of the header
        or (len(row) == width - 1 and not header[-1])
    )
