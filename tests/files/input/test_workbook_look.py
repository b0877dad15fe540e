"""The first look at a workbook: what would take all memory is one line, whatever wrote the file."""

import resource
import struct
import zipfile
from pathlib import Path

import pytest

from rowmill.core.errors import InputError
from rowmill.files.input import workbook_look
from rowmill.files.input.dialect import Columns
from rowmill.files.input.workbook import SMALLER, Workbook
from rowmill.files.input.workbook_look import BookSeen, look

_NAMES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
)


def ods(path: Path, *rows: str) -> Path:
    """Write a workbook of LibreOffice with one sheet; see `row`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED)
        packed.writestr("META-INF/manifest.xml", "<manifest/>")
        packed.writestr(
            "content.xml",
            f"<office:document-content {_NAMES}><office:body><office:spreadsheet>"
            f'<table:table table:name="Data">{"".join(rows)}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return path


def row(*cells: str | tuple[str, int], times: int = 1) -> str:
    """Return a row of texts, each with how often it is repeated."""
    xml = ""
    for cell in cells:
        text, repeated = cell if isinstance(cell, tuple) else (cell, 1)
        value = f'office:value-type="string"><text:p>{text}</text:p>' if text else ">"
        xml += f'<table:table-cell table:number-columns-repeated="{repeated}" {value}</table:table-cell>'
    return f'<table:table-row table:number-rows-repeated="{times}">{xml}</table:table-row>'


def record(kind: int, data: bytes = b"") -> bytes:
    """Return a record of a .xlsb part."""
    name = bytes([kind & 0x7F | 0x80, kind >> 7]) if kind > 127 else bytes([kind])
    return name + bytes([len(data)]) + data


def wide(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def xlsb(path: Path, *cells: tuple[int, int, str | float]) -> Path:
    """Write a binary workbook of Excel with one sheet: row and column of each cell, and its value, in order."""
    sheet = record(129) + record(145)
    rows = sorted({cell[0] for cell in cells})
    for number in rows:
        sheet += record(0, struct.pack("<I", number) + bytes(21))
        for _, column, value in (cell for cell in cells if cell[0] == number):
            at = struct.pack("<II", column, 0)
            sheet += record(6, at + wide(value)) if isinstance(value, str) else record(5, at + struct.pack("<d", value))
    size = struct.pack("<4I", rows[0], rows[-1], 0, max(cell[1] for cell in cells))
    sheet = sheet.replace(record(145), record(148, size) + record(145), 1) + record(146) + record(130)
    book = record(131) + record(143)
    book += record(156, struct.pack("<II", 0, 1) + wide("rId1") + wide("Data")) + record(144) + record(132)
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" '
        'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" '
        'Target="worksheets/sheet1.bin"/></Relationships>'
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("[Content_Types].xml", "<Types/>")
        packed.writestr("xl/workbook.bin", book)
        packed.writestr("xl/_rels/workbook.bin.rels", relations)
        packed.writestr("xl/worksheets/sheet1.bin", sheet)
    return path


def lines(path: Path) -> bytes:
    return b"".join(Workbook(path, None).blocks())


def refusal(path: Path, sheet: str | None = None) -> str:
    with pytest.raises(InputError) as error:
        look(path, sheet)
    said = str(error.value)
    assert "\n" not in said
    assert said.startswith(f"{path}: ")
    return said


def test_ordinary_workbooks_are_seen_as_they_are(tmp_path: Path) -> None:
    book = ods(tmp_path / "in.ods", row("a", "b"), row("1", "x", times=2), row(("", 16384), times=1048573))
    assert look(book, None) == BookSeen("", Columns(["a", "b"], [], 0), "Data", [], [])
    assert lines(book) == b'{"a":"1","b":"x"}\n' * 2
    book = xlsb(tmp_path / "in.xlsb", (0, 0, "a"), (0, 1, "b"), (1, 0, 1.0), (1, 1, "x"))
    assert look(book, "Data").columns.names == ["a", "b"]
    assert lines(book) == b'{"a":1,"b":"x"}\n'
    assert "has no sheet 'Other'; set input.sheet to one of Data" in refusal(book, "Other")


def test_a_cell_far_away_is_one_line_whatever_wrote_it(tmp_path: Path) -> None:
    far = row(("", 16384), times=1048000), row(("", 16000), "x")
    said = refusal(ods(tmp_path / "in.ods", row("a", "b"), row("1", "2"), *far))
    assert "a sheet of it is too large to be read" in said
    assert said.endswith(f"; {SMALLER}")
    assert SMALLER.startswith("delete what is far from the table")
    said = refusal(xlsb(tmp_path / "in.xlsb", (0, 0, "a"), (1, 0, 1.0), (1048575, 16383, 1.0)))
    assert "too large" in said or "takes more than 1.0 GiB of memory" in said
    assert said.endswith(f"; {SMALLER}")


def test_what_expands_beyond_the_memory_for_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text in millions of cells, in a file of a kilobyte. This process has neither its limit nor its memory."""
    monkeypatch.setattr(workbook_look, "_LEAST", 1 << 28)
    limits, before = resource.getrlimit(resource.RLIMIT_AS), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    repeated = row(("x" * 10_000, 50), times=1_000_000)
    assert "a sheet of it takes more than 0.3 GiB of memory to read; delete" in refusal(
        ods(tmp_path / "in.ods", row("a", "b"), repeated)
    )
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGXCPU)",
            "sheet 'Data' takes more than 120 s to read; delete",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "sheet 'Data' takes more than 1.0 GiB of memory to",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "its reader failed: it was killed by signal 11; save",
        ),
        ("raise MemoryError", "sheet 'Data' takes more than 1.0 GiB of memory to read; delete"),
        ("raise ValueError('odd')", "its reader failed: ValueError: odd; save it anew, or as CSV"),
    ],
)
def test_however_a_look_ends_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    monkeypatch.setattr(workbook_look, "_CHILD", code)
    assert words in refusal(ods(tmp_path / "in.ods", row("a", "b"), row("1", "2")), "Data")
