"""Workbooks, as Excel (.xlsx, .xlsm, .xlsb, .xls) and LibreOffice (.ods) write them: a sheet is a table with a header.

Cells are what a person sees in them: a whole number has no ".0", dates and times are ISO 8601, a formula is the value
that was saved with it, an empty cell and one with an error are an empty text. Rows without any value are no rows. The
reader holds the sheet in memory: a million rows of ten columns are about a gigabyte.
"""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core.errors import InputError
from rowmill.files.input import sheet_xml
from rowmill.files.input.dialect import Columns, columns_of
from rowmill.files.input.objects import object_maker

_ROWS = 1000  # that are encoded together
SMALLER = "delete what is far from the table, with rows and columns that only repeat, or save the sheet as CSV"
_TOO_LARGE = ("Cell limit exceeded", "capacity overflow")  # what the reader says of so many cells
_PANIC = "PanicException"  # of the reader, on damaged files: no Exception, and its class has no address
_WHOLE = 1e21  # whole numbers below are written out

_encoder = msgspec.json.Encoder()


class Workbook:
    """Reads one sheet of one file.

    sheet: its name. others: of the sheets beside it that are shown, where none was asked for. notes: what may be other
    than its cells look, where it was looked at.
    """

    def __init__(self, path: Path, sheet: str | None, *, first: bool = False) -> None:
        """Open it. Raises `InputError`.

        sheet: its name; None for the first one that is shown. first: it was not opened before, so that it is looked
        through before it is taken into memory; only to be done by a process that may die of it (`workbook_look`).
        """
        try:
            import python_calamine
        except ImportError:
            raise InputError(
                f'{path}: is a workbook; pip install "rowmill[xlsx]" to read it, or save the sheet as CSV'
            ) from None
        self._path = path
        self.notes: list[str] = []
        try:
            self._open(python_calamine, sheet, first=first)
        except python_calamine.PasswordError:
            raise InputError(f"{path}: is protected by a password; save it without one") from None
        except (python_calamine.CalamineError, OSError) as error:
            raise _unreadable(path, error) from None
        except BaseException as error:
            if type(error).__name__ != _PANIC:
                raise
            raise _unreadable(path, error) from None
        self.columns = self._header()

    def _open(self, python_calamine: Any, sheet: str | None, *, first: bool) -> None:
        path = self._path
        book = python_calamine.CalamineWorkbook.from_path(path)
        shown = [
            each.name
            for each in book.sheets_metadata
            if each.visible == python_calamine.SheetVisibleEnum.Visible
            and each.typ == python_calamine.SheetTypeEnum.WorkSheet
        ]
        names = book.sheet_names
        if sheet is not None and sheet not in names:
            raise InputError(f"{path}: has no sheet {sheet!r}; set input.sheet to one of {', '.join(names)}")
        chosen = sheet if sheet is not None else next(iter(shown or names), None)
        if chosen is None:
            raise InputError(f"{path}: has no sheets; set input.path to another file")
        if first and sheet_xml.look(path, chosen).unsaved:
            self.notes.append(
                f"{path}: formulas of sheet {chosen!r} have no value that was saved, and are empty or 0; open it in a "
                "spreadsheet program and save it there"
            )
        cells = book.get_sheet_by_name(chosen)
        if first and (merged := [area for area in cells.merged_cell_ranges or () if area[0][0] < area[1][0]]):
            row, column = merged[0][0]
            self.notes.append(
                f"{path}: sheet {chosen!r} has cells that are merged over rows, {len(merged)} of them, as in row "
                f"{row + 1}, column {column + 1}: only the first row of each has the value"
            )
        self._rows = cells.to_python(skip_empty_area=True)
        self.sheet = chosen
        self.others = [name for name in shown if name != chosen] if sheet is None else []

    def blocks(self) -> Iterator[bytes]:
        """Yield the rows as JSON lines, some at a time."""
        names = self.columns.names
        row_of, width = object_maker(tuple(names)), len(names)
        rows = (row for row in self._rows if any(_is_value(cell) for cell in row))
        while some := list(islice(rows, _ROWS)):
            yield _encoder.encode_lines([row_of(*map(_seen, row[:width])) for row in some])

    def _header(self) -> Columns:
        """Take the header off the rows."""
        for place, row in enumerate(self._rows):
            if any(map(_is_value, row)):
                header = [str(_seen(cell)).strip() for cell in row]
                self._rows = self._rows[place + 1 :]
                break
        else:
            raise InputError(f"{self._path}: sheet {self.sheet!r} is empty; its first row must name the columns")
        columns = columns_of(header, self._rows)
        seen: dict[str, int] = {}
        for place, name in enumerate(columns.names, 1):
            if name in seen:
                raise InputError(
                    f"{self._path}: columns {seen[name]} and {place} of sheet {self.sheet!r} are both named {name!r}; "
                    "rename one"
                )
            seen[name] = place
        return columns


def _unreadable(path: Path, error: BaseException) -> InputError:
    said = " ".join(str(error).split())
    if any(words in said for words in _TOO_LARGE):
        return InputError(f"{path}: a sheet of it is too large to be read: {said}; {SMALLER}")
    return InputError(f"{path}: cannot be read as a workbook: {said}; save it anew, or as CSV")


def _is_value(cell: Any) -> bool:
    return cell is not None and cell != "" and not (isinstance(cell, str) and cell.isspace())


def _seen(cell: Any) -> Any:
    """Return a cell as a JSON value that says what a person sees."""
    if isinstance(cell, float):
        return int(Decimal(repr(cell))) if cell.is_integer() and abs(cell) < _WHOLE else cell
    if isinstance(cell, dt.datetime):
        if cell.time() == dt.time():
            return cell.date().isoformat()
        return cell.isoformat()
    if isinstance(cell, dt.date | dt.time):
        return cell.isoformat()
    if isinstance(cell, dt.timedelta):
        return _duration(cell)
    return "" if cell is None else cell


def _duration(length: dt.timedelta) -> str:
    """Return hours, minutes and seconds, as a sheet shows them."""
    seconds = length.total_seconds()
    sign, whole = "-" if seconds < 0 else "", abs(int(seconds))
    return f"{sign}{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
