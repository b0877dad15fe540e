"""What the XML of a sheet tells before its reader holds it: how large it becomes, and formulas without values.

The reader makes a table of all cells between the first and the last one: a forgotten cell at the far corner of a sheet
is 17 thousand million of them, and no error but the end of the process. So the XML is looked through first, in pieces,
at some 300 MB/s; what a small archive expands to is found out by its own figures.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from rowmill.core.errors import InputError

_CELLS = 1 << 24  # of a table; below it nobody asks how many of them are empty
_EMPTY = 8  # cells of the table for each that is there, at most
_MOST = 1 << 26  # cells in all: some 5 GB for the reader
_BYTES = 1 << 33  # of all that is in the archive, expanded
_PIECE = 1 << 20
_OVERLAP = 1 << 12  # bytes of a piece that are looked at with the next one: a formula may lie across
_HEAD = 1 << 24  # bytes of the parts that list the sheets

_SHEET = re.compile(rb"<(?:\w+:)?sheet\b[^>]*>")
_RELATION = re.compile(rb"<(?:\w+:)?Relationship\b[^>]*>")
_ATTRIBUTE = re.compile(rb"""([\w:]+)\s*=\s*["']([^"']*)["']""")
_NEAR = 26  # columns: a million rows of so many, empty ones, are not too much
_FAR = re.compile(rb'\br="([A-Z]{2,3})[0-9]')  # a cell behind these
_FAR_VALUE = re.compile(rb'<c\b[^>]*?\br="([A-Z]{2,3})[0-9]+"[^>]*(?<!/)>(?!</c>)')  # one that is not empty
_ROW = re.compile(rb'<row\b[^>]*?\br="([0-9]+)"')
_UNSAVED = re.compile(rb"</f>\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>|<f\b[^>]*/>\s*(?:<v\s*/>)?\s*</c>")
_LATER = re.compile(rb'fullCalcOnLoad\s*=\s*"(?:1|true)"')  # a writer that does not calculate leaves it to Excel


class SheetLook(NamedTuple):
    """What was seen of a sheet. unsaved: it has formulas whose values nobody has calculated."""

    unsaved: bool = False


def look(path: Path, sheet: str) -> SheetLook:
    """Look through a sheet of an .xlsx file; of any other file nothing is said, nor of a damaged one.

    Raises `InputError` where the sheet would not fit into memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            expanded = sum(each.file_size for each in archive.infolist())
            if expanded > _BYTES:
                raise InputError(f"{path}: expands to {expanded >> 30} GiB; save the sheet as CSV")
            book = archive.read("xl/workbook.xml")[:_HEAD]
            part = _part(archive, book, sheet)
            if part is None:
                return SheetLook()
            with archive.open(part) as file:
                seen = _look_through(file, _FAR)
            if seen.too_large:  # empty cells have a format at times, in whole columns: they do not count
                with archive.open(part) as file:
                    seen = _look_through(file, _FAR_VALUE)
            if seen.too_large:
                raise InputError(
                    f"{path}: sheet {sheet!r} has {seen.cells:,} cells, up to row {seen.rows:,} and column "
                    f"{_letters(seen.columns)}, which is more than can be held in memory; delete what is far from the "
                    "table, or save the sheet as CSV"
                )
            return SheetLook(seen.unsaved or (seen.formulas and _LATER.search(book) is not None))
    except (OSError, KeyError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error):
        return SheetLook()  # its reader says what is wrong


def _part(archive: zipfile.ZipFile, book: bytes, sheet: str) -> str | None:
    """Return the name of the part that holds a sheet's cells; None where it is not XML."""
    wanted = None
    for tag in _SHEET.findall(book):
        said = dict(_ATTRIBUTE.findall(tag))
        if _text(said.get(b"name", b"")) == sheet:
            wanted = next((value for key, value in said.items() if key.endswith(b":id")), None)
    for tag in _RELATION.findall(archive.read("xl/_rels/workbook.xml.rels")[:_HEAD]):
        said = dict(_ATTRIBUTE.findall(tag))
        if said.get(b"Id") == wanted and wanted is not None:
            target = _text(said.get(b"Target", b""))
            part = target[1:] if target.startswith("/") else f"xl/{target}"
            return part if part.endswith(".xml") else None
    return None


def _text(value: bytes) -> str:
    text = value.decode(errors="replace")
    for sign, written in (("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&apos;"), ("&", "&amp;")):
        text = text.replace(written, sign)
    return text


class _Extent(NamedTuple):
    """What one sheet has. columns: 26 also where there are fewer."""

    cells: int
    rows: int
    columns: int
    formulas: bool
    unsaved: bool  # formulas without a value

    @property
    def too_large(self) -> bool:
        return self.cells > _MOST or (
            self.columns > _NEAR and self.rows * self.columns > max(_CELLS, _EMPTY * self.cells)
        )


def _look_through(file: IO[bytes], far: re.Pattern[bytes]) -> _Extent:
    formulas = unsaved = False
    cells = rows = open_row = 0
    columns = _NEAR
    for piece in _pieces(file):
        cells += piece.count(b"<c ", _OVERLAP if cells else 0)
        value = max(piece.rfind(b"</v>"), piece.rfind(b"</is>"))
        if value >= 0:
            rows = _row(piece, value) or open_row
        open_row = _row(piece, len(piece)) or open_row
        columns = max(columns, *map(_column, set(far.findall(piece))), 0)
        formulas = formulas or b"<f" in piece
        unsaved = unsaved or (formulas and _UNSAVED.search(piece) is not None)
    return _Extent(cells, rows, columns, formulas, unsaved)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Yield a part in pieces, each with the end of the one before."""
    before = b""
    while block := file.read(_PIECE):
        yield before + block
        before = block[-_OVERLAP:]


def _row(piece: bytes, stop: int) -> int:
    """Return the number of the last row that begins before a place; 0 where none does."""
    start = piece.rfind(b"<row ", 0, stop)
    found = _ROW.match(piece, start) if start >= 0 else None
    return int(found[1]) if found else 0


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _letters(column: int) -> str:
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
