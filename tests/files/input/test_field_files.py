"""Files that people have, each of them the same two rows, or refused in one line that says what to do."""

import gzip
import json
from pathlib import Path
from typing import Any, Literal

import openpyxl  # type: ignore[import-untyped]  # it ships no types
import pytest

from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import InputError
from rowmill.files.input.conversion import table
from rowmill.files.input.inputs import Input, find

TEXTS = ["row 000000: a, b; c", "row 000001: é|x"]
ROWS = [{"id": f"i{number}", "text": text} for number, text in enumerate(TEXTS)]
OBJECTS = [json.dumps(row) for row in ROWS]
CSV = "id;text\ni0;row 000000: a, b\ni1;row 000001: café\n"


def delimited(sign: str, quote: str = '"') -> str:
    return "".join(f"{quote}{row['id']}{quote}{sign}{quote}{row['text']}{quote}\n" for row in ROWS)


# Files of the same two rows, and what is set for them.
READ: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "semicolons.csv": ("id;text\n" + delimited(";"), {}),
    "tabs.csv": ("id\ttext\n" + delimited("\t", ""), {}),
    "bars.csv": ("id|text\n" + delimited("|"), {}),
    "excel.csv": ("\ufeffsep=;\r\nid;text\r\n" + delimited(";").replace("\n", "\r\n"), {}),
    "pandas.csv": (",id,text\n" + "".join(f'{n},{row["id"]},"{row["text"]}"\n' for n, row in enumerate(ROWS)), {}),
    "trailing.csv": ("id,text,,\n" + delimited(",").replace("\n", ",,\n"), {}),
    "macintosh.csv": (("id,text\n" + delimited(",")).replace("\n", "\r"), {}),
    "settled.csv": ("id^text\n" + delimited("^"), {"delimiter": "^"}),
    "windows.csv": (("id;text\n" + delimited(";")).encode("cp1252"), {"encoding": "cp1252"}),
    "wide.csv": (("id\ttext\n" + delimited("\t")).encode("utf-16"), {"encoding": "utf-16"}),
    "wide.jsonl": ("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode("utf-16-le"),
                   {"encoding": "utf-16-le"}),
    "array.json": ("[" + ",".join(OBJECTS) + "]", {}),
    "array.jsonl": ("[\n" + ",\n".join(OBJECTS) + "\n]\n", {}),
    "pretty.json": ("\n".join(json.dumps(row, indent=2) for row in ROWS), {}),
    "pretty.txt": (json.dumps(ROWS, indent=1), {}),
    "held.json": (json.dumps({"version": "1", "data": ROWS}), {}),
    "packed.jsonl.gz": (gzip.compress(json.dumps(ROWS, indent=2).encode()), {}),
    "unnamed": (gzip.compress("\n".join(OBJECTS).encode()), {}),
    "pretended.csv": (gzip.compress(("id,text\n" + delimited(",")).encode()), {}),
}  # fmt: skip

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21414\nsize 12345\n"
REFUSED: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "windows.csv": (CSV.encode("cp1252"), {}, "windows.csv: line 3: byte 46 (0xe9) is no UTF-8"),
    "windows.jsonl": ('{"id":1,"text":"row 000000 café"}\n'.encode("latin-1"), {}, 'set input.encoding = "cp1252"'),
    "wide.csv": (CSV.encode("utf-16"), {}, 'wide.csv: is UTF-16; set input.encoding = "utf-16"'),
    "wide.jsonl": (OBJECTS[0].encode("utf-16-be"), {}, 'is UTF-16; set input.encoding = "utf-16-be"'),
    "one.csv": ("text\nplain\na, b\n", {}, "one name, 'text', and rows have more fields, the first 'a, b'"),
    "twice.csv": ("id,text,id\n1,row 000000,2\n", {}, "columns 1 and 3 of the header are both named 'id'"),
    "broken.json": ("[" + OBJECTS[0] + "\n" + OBJECTS[1] + "]", {}, "broken.json: line 2: no JSON as it goes on"),
    "array.json": ("[" + OBJECTS[0] + "]", {"format": "jsonl"}, "is one JSON array; write one object a line first"),
    "page.jsonl": ("<!DOCTYPE html>\n<html>row 000000</html>\n", {}, "is HTML or XML"),
    "page.csv": ("<html><body>\nrow 000000\n", {}, "is HTML or XML"),
    "table.jsonl": ("id,text\n1,row 000000\n", {}, "none of the first lines begins a JSON object"),
    "lines.csv": ("\n".join(OBJECTS), {}, "the header begins as JSON does"),
    "columns.csv": (b"PAR1....", {}, "is a file of format parquet"),
    "zip.jsonl": (b"PK\x03\x04....", {}, "is a zip archive; unpack it first"),
    "none.zip": (b"PK\x05\x06", {}, "is a zip archive; unpack it first"),
    "text.docx": (b"PK\x03\x04....", {}, "is a document; rows are wanted: save its table as CSV"),
    "text.zip": (b"PK\x03\x04....word/document.xml", {}, "is a document; rows are wanted: save its table as CSV"),
    "sheet.numbers": (b"PK\x03\x04....", {}, "is a spreadsheet of Numbers; export it as CSV or Excel"),
    "text.rtf": (b"{\\rtf1\\ansi row}", {}, "is a document or an image; rows are wanted"),
    "text.csv": (b"%PDF-1.4\n", {}, "is a document or an image; rows are wanted"),
    "data.sqlite": (b"SQLite format 3\0....", {}, "is an SQLite database; export the table as CSV"),
    "data.csv": (b"\x89HDF\r\n\x1a\n", {}, "is a table of another program; write it as CSV or Parquet"),
    "data.duckdb": (b"........DUCK", {}, "is a table of another program; write it as CSV or Parquet"),
    "nothing.xlsx": (b"", {}, "is empty; copy or write it anew"),
    "book.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", {}, "cannot be read as a workbook"),
    "page.xls": ("<html><table>row 000000", {}, "is no workbook, whatever its name; set input.format to what it is"),
    "table.xlsx": (CSV, {}, 'set input.format to what it is, as "csv"'),
    "empty.csv": (b"", {}, "is empty; its first line must be a header"),
    "other.txt": (CSV, {}, "is of no known format; set input.format"),
    "text.json": ('["a", "b"]', {}, "none of the first values begins a JSON object"),
    **{
        f"pointer.{suffix}": (POINTER, {}, "is a pointer of Git LFS, and the data is not here; run `git lfs pull`")
        for suffix in ("jsonl", "csv", "json", "parquet", "arrow", "xlsx", "csv.gz", "jsonl.zst", "bin")
    },
    **{
        f"saved.{suffix}": ("\n<!DOCTYPE html><title>4</title>", {}, "is HTML or XML, as an error page that was saved")
        for suffix in ("json", "parquet", "arrow", "csv.gz", "tsv.zst")
    },
    "page.csv.gz": (gzip.compress(b"<?xml version='1.0'?>"), {}, "is HTML or XML"),
    "tar.jsonl": (b"a.jsonl".ljust(257, b"\0") + b"ustar", {}, "is a tar archive; unpack it first"),
    "deep.json": ("[" * 99_999, {}, "too deep to be read"),
    "book.csv": (b"PK\x03\x04....xl/workbook.xml", {}, "is a workbook, as Excel writes it; name it .xlsx, or set"),
}  # fmt: skip


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def opened(path: str, **config: Any) -> Input:
    return find(InputConfig(path=path, **config))


def rows(found: Input, folder: Path) -> list[Any]:
    """Plan the input and return all rows as they are then read, without a column that has no name."""
    folder = folder.with_name(f"plan of {folder.name}")
    folder.mkdir(exist_ok=True)
    shards = list(found.plan(folder / "spool", shard_bytes=1 << 16, shard_rows=100))
    lines = found.first_rows(100)
    assert sum(shard.rows for shard in shards) == len(lines)
    return [{name: value for name, value in json.loads(line).items() if name != "column_1"} for line in lines]


@pytest.mark.parametrize("name", READ)
def test_the_rows_of_any_file_are_those_that_are_in_it(tmp_path: Path, name: str) -> None:
    content, config = READ[name]
    assert rows(opened(write(tmp_path, name, content), **config), tmp_path) == ROWS


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, config, words = REFUSED[name]
    path = write(tmp_path, name, content)
    with pytest.raises(InputError) as error:
        opened(path, **config)
    assert str(error.value).startswith(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
def test_what_stands_for_data_is_told_where_nobody_has_looked_at_the_file_before(
    tmp_path: Path, format_: Literal["parquet", "arrow"]
) -> None:
    path = Path(write(tmp_path, f"in.{format_}", POINTER))
    with pytest.raises(InputError, match=f"in.{format_}: is a pointer of Git LFS"):
        table(format_).check(path)


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [("semicolons.csv", "semicolons"), ("tabs.csv", "tabs"), ("bars.csv", "bars"), ("pandas.csv", "commas"),
     ("settled.csv", "'^'"), ("array.json", None)],
)  # fmt: skip
def test_the_delimiter_that_was_found_is_told(tmp_path: Path, name: str, delimiter: str | None) -> None:
    content, config = READ[name]
    found = opened(write(tmp_path, name, content), **config)
    assert found.delimiter == delimiter
    expected = ["column 1 has no name in the header; it is called column_1"] if name == "pandas.csv" else []
    assert [note.partition(": ")[2] for note in found.notes] == expected


def test_a_workbook_is_its_first_sheet_or_the_one_that_is_named(tmp_path: Path) -> None:
    made = openpyxl.Workbook()
    for row in (["id", "text", None], *[[row["id"], row["text"], None] for row in ROWS], [None], [" "]):
        made.active.append(row)
    other = made.create_sheet("Other")
    other.append(["n"])
    other.append([1])
    made.save(tmp_path / "in.xlsx")
    found = opened(str(tmp_path / "in.xlsx"))
    assert found.format == "xlsx"
    assert rows(found, tmp_path) == ROWS
    assert found.notes == ["sheet 'Sheet' is read, and not 'Other'; input.sheet names another"]
    assert [column.name for column in found.columns()] == ["id", "text"]
    assert rows(opened(str(tmp_path / "in.xlsx"), sheet="Other"), tmp_path) == [{"n": 1}]
    with pytest.raises(InputError, match=r"has no sheet 'No'; set input\.sheet to one of Sheet, Other"):
        opened(str(tmp_path / "in.xlsx"), sheet="No")
    (tmp_path / "noname").write_bytes((tmp_path / "in.xlsx").read_bytes())
    assert rows(opened(str(tmp_path / "noname")), tmp_path) == ROWS


def test_workbooks_of_other_columns_are_refused(tmp_path: Path) -> None:
    for name, column in (("a", "text"), ("b", "texts")):
        made = openpyxl.Workbook()
        made.active.append(["id", column])
        made.save(tmp_path / f"{name}.xlsx")
    with pytest.raises(InputError, match=r"b\.xlsx: only .*a\.xlsx has a column 'text'; name workbooks of the same"):
        opened(f"{tmp_path}/*.xlsx")


def test_a_directory_of_lines_and_documents_is_one_input(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", OBJECTS[0])
    write(tmp_path, "b.jsonl", f"[{OBJECTS[1]}]")
    assert rows(opened(str(tmp_path)), tmp_path / "spool") == ROWS


def test_one_column_with_commas_is_read_where_they_stand_in_quotes_or_part_nothing(tmp_path: Path) -> None:
    texts = ["plain", "a, b", "c"]
    quoted = "text\n" + "".join(f'"{text}"\n' for text in texts)
    bare = "text\n" + "".join(f"{text}\n" for text in texts)
    for name, content, config in (("q.csv", quoted, {}), ("b.csv", bare, {"delimiter": "\t"}), ("t.tsv", bare, {})):
        assert rows(opened(write(tmp_path, name, content), **config), tmp_path) == [{"text": text} for text in texts]
    one_in_many = "text\n" + "plain\n" * 30 + "a, b\n" + "c,,,\n"
    assert len(opened(write(tmp_path, "many.csv", one_in_many)).first_rows(99)) == 32, "a row that is wrong fails alone"


def test_a_broken_row_among_right_ones_is_one_row(tmp_path: Path) -> None:
    for name, content in (
        ("in.csv", CSV.encode() + b"i2;caf\xe9\n"),
        ("in.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode() + b'\n{"id":"\xe9"}'),
    ):
        assert len(opened(write(tmp_path, name, content)).first_rows(9)) == 3
    latin = write(tmp_path, "latin.csv", CSV.encode("latin-1"))
    assert len(opened(latin, encoding="utf-8").first_rows(9)) == 2, "somebody says that it is"


def test_the_encoding_is_looked_for_in_the_first_megabytes(tmp_path: Path) -> None:
    far = b'{"t":"x"}\n' * 300_000
    with pytest.raises(InputError, match=r"line 300001: byte 3000009 \(0xe9\)"):
        opened(write(tmp_path, "in.jsonl", far + b'{"t":"caf\xe9"}\n'))


def test_files_that_hold_no_row_are_told_from_those_that_are_none(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", ""), ("b.json", "[]"), ("c.csv", "id,text\n"), ("d.json", "[\n]\n"), ("e", "")):
        assert rows(opened(write(tmp_path, name, content)), tmp_path / f"of-{name}") == []
    with pytest.raises(InputError, match="is empty; its first line must be a header"):
        opened(write(tmp_path, "f.csv", "\n\n"))


def test_a_file_of_another_machine_is_looked_at_too(tmp_path: Path) -> None:
    import fsspec  # type: ignore[import-untyped]  # it ships no types

    system = fsspec.filesystem("memory")
    system.pipe("/field/in.jsonl", json.dumps(ROWS, indent=2).encode())
    system.pipe("/field/latin.csv", CSV.encode("latin-1"))
    assert rows(opened("memory://field/in.jsonl"), tmp_path) == ROWS
    with pytest.raises(InputError, match=r'latin\.csv: line 3: .* set input\.encoding = "cp1252"'):
        opened("memory://field/latin.csv")
