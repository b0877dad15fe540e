"""Workbooks: cells as a person sees them, sheets, and what is no workbook."""

import datetime as dt
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]  # it ships no types
import pytest

from rowmill.core.errors import InputError
from rowmill.files.input.workbook import Workbook
from rowmill.files.input.workbook_look import look


def book(folder: Path, **sheets: list[list[Any]]) -> Path:
    """Write a workbook; a sheet whose name begins with "hidden" is not shown."""
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
        if name.startswith("hidden"):
            sheet.sheet_state = "hidden"
    path = folder / "in.xlsx"
    made.save(path)
    return path


def rows(path: Path, sheet: str | None = None) -> list[Any]:
    return [json.loads(line) for line in b"".join(Workbook(path, sheet).blocks()).splitlines()]


def test_cells_are_what_a_person_sees(tmp_path: Path) -> None:
    header = ["whole", "number", "text", "day", "time", "clock", "length", "yes", "empty"]
    first = [
        1, 1.25, "00123", dt.date(2024, 1, 2), dt.datetime.fromisoformat("2024-01-02 03:04:05"), dt.time(6, 7),
        dt.timedelta(hours=30), True, None,
    ]  # fmt: skip
    second = [12345678901234500, -0.5, "a\nb", dt.datetime.fromisoformat("2024-01-02"), None, None, None, False, "x"]
    path = book(tmp_path, Data=[header, first, second])
    assert rows(path) == [
        {
            "whole": 1, "number": 1.25, "text": "00123", "day": "2024-01-02", "time": "2024-01-02T03:04:05",
            "clock": "06:07:00", "length": "30:00:00", "yes": True, "empty": "",
        },
        {
            "whole": 12345678901234500, "number": -0.5, "text": "a\nb", "day": "2024-01-02", "time": "", "clock": "",
            "length": "", "yes": False, "empty": "x",
        },
    ]  # fmt: skip
    assert b'"whole":1,' in b"".join(Workbook(path, None).blocks())


def test_rows_and_columns_without_anything_are_none(tmp_path: Path) -> None:
    path = book(tmp_path, Data=[[], ["a", None, "b", None], [1, None, 2, None], [], [None, "x", 4], [" "], []])
    found = Workbook(path, None)
    assert found.columns.names == ["a", "column_2", "b"]
    assert found.columns.unnamed == [2]
    assert rows(path) == [{"a": 1, "column_2": "", "b": 2}, {"a": "", "column_2": "x", "b": 4}]
    path = book(tmp_path, Data=[["year", 2024], ["x", 1]])
    assert rows(path) == [{"year": "x", "2024": 1}]


def test_a_formula_is_the_value_that_was_saved_with_it(tmp_path: Path) -> None:
    path = book(tmp_path, Data=[["a"], ["=1+1"]])
    with zipfile.ZipFile(path) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet] = (
        parts[sheet]
        .replace(b"<f>1+1</f><v />", b"<f>1+1</f><v>2</v>")
        .replace(b"<f>1+1</f><v></v>", b"<f>1+1</f><v>2</v>")
    )
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in parts.items():
            packed.writestr(name, data)
    assert rows(path) == [{"a": 2}]


def test_the_first_sheet_that_is_shown_is_read_unless_another_is_named(tmp_path: Path) -> None:
    path = book(tmp_path, hidden=[["a"], [0]], One=[["a"], [1]], Two=[["a"], [2]], hidden_too=[["a"], [3]])
    assert rows(path) == [{"a": 1}]
    assert (Workbook(path, None).sheet, Workbook(path, None).others) == ("One", ["Two"])
    assert rows(path, "Two") == [{"a": 2}]
    assert rows(path, "hidden") == [{"a": 0}]
    with pytest.raises(InputError, match=r"in\.xlsx: has no sheet 'two'; set input\.sheet to one of hidden, One, Two"):
        Workbook(path, "two")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([], "sheet 'Data' is empty; its first row must name the columns"),
        ([["a", "b", "a"], [1, 2, 3]], "columns 1 and 3 of sheet 'Data' are both named 'a'; rename one"),
    ],
)
def test_a_sheet_without_a_good_header_is_refused(tmp_path: Path, table: list[list[Any]], words: str) -> None:
    with pytest.raises(InputError) as error:
        Workbook(book(tmp_path, Data=table), None)
    assert words in str(error.value)


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04rest", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600])
def test_what_is_no_workbook_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in.xls").write_bytes(data)
    with pytest.raises(
        InputError, match=r"in\.xls: cannot be read as a workbook: .*; save it anew, or as CSV"
    ) as error:
        Workbook(tmp_path / "in.xls", None)
    assert "\n" not in str(error.value)


def test_without_the_reader_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(InputError, match=r'is a workbook; pip install "rowmill\[xlsx\]" to read it, or save the sheet'):
        Workbook(book(tmp_path, Data=[["a"], [1]]), None)


def test_a_cell_at_the_far_corner_is_refused_before_it_is_made_room_for(tmp_path: Path) -> None:
    """The reader would take 549 GB, and end the process. What only has a format there is no cell."""
    path = book(tmp_path, Data=[["a", "b"], [1, 2]])
    for cell, refused in ((b'<c r="XFD1048576"><v>1</v></c>', True), (b'<c r="XFD1048576" s="0"/>', False)):
        far = changed(path, b"</sheetData>", b'<row r="1048576">' + cell + b"</row></sheetData>")
        if refused:
            with pytest.raises(InputError, match="sheet 'Data' has 5 cells, up to row 1,048,576 and column XFD, which"):
                Workbook(far, None, first=True)
        else:
            assert Workbook(far, None, first=True).columns.names == ["a", "b"]


def test_formulas_without_a_value_and_merged_rows_are_told(tmp_path: Path) -> None:
    made = openpyxl.Workbook()
    for row in (["id", "twice"], [1, "=A2*2"], [2, "=A3*2"]):
        made.active.append(row)
    made.active.merge_cells("A1:B1")
    made.save(tmp_path / "in.xlsx")
    found = Workbook(tmp_path / "in.xlsx", None, first=True)
    (note,) = found.notes
    assert "formulas of sheet 'Sheet' have no value that was saved" in note
    made = openpyxl.load_workbook(book(tmp_path, Sheet=[["id", "text"], [1, "a"], [2, None]]))
    made.active.merge_cells("B2:B3")
    made.save(tmp_path / "in.xlsx")
    (note,) = Workbook(tmp_path / "in.xlsx", None, first=True).notes
    assert "merged over rows, 1 of them, as in row 2, column 2" in note
    calculated = changed(
        book(tmp_path, Data=[["a"], [1]]), b"<v>1</v>", b"<f>1</f><v>1</v>", b'fullCalcOnLoad="1"', b'x="1"'
    )
    assert Workbook(calculated, None, first=True).notes == []


def test_what_makes_the_reader_panic_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It writes its own words about that, too: where a file is looked at first, which is where one is damaged."""
    head = "d0cf11e0a1b11ae1" + "00" * 16 + "3e000300feff09000600" + "00" * 10 + "01000000" + "09000000" + "00" * 4
    head += "00100000" + "feffffff" + "00" * 4 + "feffffff" + "00" * 4 + "08000000"
    path = tmp_path / "in.xls"
    path.write_bytes(bytes.fromhex(head).ljust(512, b"\xff") + bytes(4000))  # its allocation table is cut off
    with pytest.raises(InputError, match=r"cannot be read as a workbook: .*; save it anew"):
        look(path, None)
    assert capfd.readouterr().err == ""


def changed(path: Path, *pairs: bytes) -> Path:
    """Write a workbook anew with other bytes in its parts: what, by what, and so on."""
    to = path.with_name("changed.xlsx")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            for before, after in zip(pairs[::2], pairs[1::2], strict=True):
                data = data.replace(before, after)
            new.writestr(name, data)
    return to
